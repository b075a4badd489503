//! Degradation operators H of y = H x + σ_y n.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A linear degradation of an image (`reference`: operators of Pokle et al. 2023, arXiv 2310.04432).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OperatorSpec {
    /// A square hole in the middle.
    CenterMask(CenterMask),
    /// Every pixel is observed with some probability (all channels together), drawn per sample.
    RandomMask(RandomMask),
    /// Bicubic downsampling.
    Bicubic(Bicubic),
    /// Gaussian blur.
    GaussianBlur(GaussianBlur),
    /// H = I: only noise.
    Identity(Identity),
}

/// A square hole of `size` × `size` pixels about the centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CenterMask {
    /// Side of the hole in pixels.
    #[schemars(range(min = 1))]
    pub size: u32,
}

/// Pixels kept at random.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomMask {
    /// Probability that a pixel is observed, in (0, 1).
    pub keep: f64,
}

/// Downsampling by an integer factor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bicubic {
    /// Downsampling factor per axis; divides the image size.
    #[schemars(range(min = 2))]
    pub factor: u32,
    /// Which of the two filters called "bicubic".
    #[serde(default)]
    pub kernel: BicubicKernel,
    /// Absolute cut-off of the pseudo-inverse's singular values.
    #[serde(default)]
    pub pinv_cutoff: PinvCutoff,
}

/// The two filters in use under the name "bicubic".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BicubicKernel {
    /// Anti-aliased Keys kernel, a = −0.5, reflected borders with edge repeat (DDRM, RED-diff).
    #[default]
    Antialiased,
    /// Keys kernel, a = −0.75, without anti-aliasing, clamped borders (`torch.nn.functional.interpolate`).
    Interpolate,
}

/// Gaussian blur with a separable kernel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    /// Taps per axis (odd).
    #[serde(default = "blur_size")]
    pub size: u32,
    /// Standard deviation in pixels ("intensity").
    pub sigma: f64,
    /// What lies outside of the image.
    #[serde(default)]
    pub boundary: Boundary,
    /// Cut-off of the pseudo-inverse's singular values.
    #[serde(default)]
    pub pinv_cutoff: PinvCutoff,
}

const fn blur_size() -> u32 {
    61
}

/// Extension of an image beyond its border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// Mirror without repeating the edge (DPS).
    #[default]
    Reflect,
    /// Zeros (DDRM).
    Zero,
    /// Periodic (PnP-Flow).
    Circular,
}

/// Which singular values count as zero in H†.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinvCutoff {
    /// Only those that are zero to rounding.
    #[default]
    None,
    /// Singular values of the one-dimensional factor below this value (absolute; DDRM uses 3e-2).
    PerAxis(f64),
    /// Products of two one-dimensional singular values below this value (absolute).
    Product(f64),
}

/// No options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {}
