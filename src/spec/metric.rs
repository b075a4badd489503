//! Metrics and artifacts of a row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricSpec {
    /// MSE, PSNR (R = 2) and the 8-bit wrap-around variant, whole image and hole.
    Psnr,
    /// SSIM in both TorchMetrics eras, whole image and hole.
    Ssim,
}

/// What is kept beside the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaveSpec {
    /// Lossless f32 reconstructions, and PNG for eyes.
    Reconstructions,
}
