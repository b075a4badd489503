//! The dataset of a pipeline.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A dataset by name (`datasets/<name>.yaml`, or a path ending in `.yaml`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetRef {
    /// Name under `datasets/`, or a path.
    pub name: String,
    /// Use the first so many samples of the manifest.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub limit: Option<u64>,
}
