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
    /// Stability, validity and graph of a molecule (its property is always read).
    Molecule,
}

impl MetricSpec {
    /// Every family; those of the other kind of sample are left out of a plan.
    pub const ALL: [Self; 3] = [Self::Psnr, Self::Ssim, Self::Molecule];
}

/// What is kept beside the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaveSpec {
    /// Lossless f32 reconstructions; for eyes PNG, or XYZ and SDF of molecules.
    Reconstructions,
    /// x₀ and x(1) of evaluations 1, 2, 4, 8 … of an optimisation, lossless f32.
    Trajectory,
}
