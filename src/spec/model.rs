//! Models by reference: a model file of the project or the user, or a closed-form prior.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model of a pipeline or of one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelRef {
    /// A model file: a name under `models/` or a path ending in `.yaml`.
    Name(String),
    /// A Gaussian fitted to the dataset's training images at run time.
    Gaussian(GaussianFit),
}

/// A Gaussian prior N(m, S).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaussianFit {
    /// The images it is fitted to.
    pub fit: FitSplit,
}

/// Which split a prior is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitSplit {
    /// The training split.
    Train,
}
