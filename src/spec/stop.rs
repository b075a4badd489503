//! When a solve ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One stop rule; a solve ends when any of its rules fires.
///
/// `evals` and `time_limit` are tested at every evaluation, the others after each outer step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StopRule {
    /// The observed PSNR (of the loss's pair of images, in dB, R = 2) reaches this value.
    TargetPsnr(f64),
    /// So many evaluations of loss and gradient.
    Evals(u32),
    /// So many outer steps.
    OuterSteps(u32),
    /// Wall time in which the sample holds a slot, in seconds, over all attempts. Not reproducible.
    TimeLimit(f64),
    /// rms(Hx − y) ≤ τ·σ_y.
    NoiseLevel(f64),
    /// The observed PSNR gained less than `min_db` over the last `outer` outer steps.
    Stagnation(Stagnation),
}

/// Options of [`StopRule::Stagnation`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stagnation {
    /// Number of outer steps looked back on.
    pub outer: u32,
    /// Least gain in dB over them.
    pub min_db: f64,
}
