//! A whole pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::DatasetRef;
use super::device::DeviceList;
use super::method::MethodSpec;
use super::metric::{MetricSpec, SaveSpec};
use super::model::ModelRef;
use super::operator::OperatorSpec;

/// A pipeline: dataset × tasks × methods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// Name of the run, shown in tables.
    pub name: String,
    /// Run seed: with dataset and sample it determines every random draw.
    #[serde(default)]
    pub seed: u64,
    /// The samples.
    pub dataset: DatasetRef,
    /// The model of every method that names none of its own.
    #[serde(default)]
    pub model: Option<ModelRef>,
    /// Where it runs; default: `auto`.
    #[serde(default)]
    pub devices: DeviceList,
    /// The tasks; names are unique.
    pub tasks: Vec<TaskSpec>,
    /// The methods; names are unique.
    pub methods: Vec<MethodSpec>,
    /// Metrics of every row.
    #[serde(default = "all_metrics")]
    pub metrics: Vec<MetricSpec>,
    /// What is kept beside the rows.
    #[serde(default)]
    pub save: Vec<SaveSpec>,
    /// The run directory.
    pub output: String,
}

/// One task: a degradation and its noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Unique name.
    pub name: String,
    /// The degradation H.
    pub operator: OperatorSpec,
    /// σ_y: standard deviation of the noise on [−1, 1].
    #[serde(default)]
    pub noise: f64,
}

fn all_metrics() -> Vec<MetricSpec> {
    vec![MetricSpec::Psnr, MetricSpec::Ssim]
}
