//! A whole pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::ClusterSpec;
use super::dataset::DatasetRef;
use super::device::DeviceList;
use super::method::MethodSpec;
use super::metric::{MetricSpec, SaveSpec};
use super::model::ModelRef;
use super::operator::OperatorSpec;
use super::property::PropertySpec;

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
    /// How `dflow submit` runs it on a cluster; what it leaves open is the site file's.
    #[serde(default)]
    pub cluster: Option<ClusterSpec>,
}

/// One task: for images a degradation and its noise, for molecules a property, or nothing but to generate.
///
/// It has one of `operator`, `property` and `generate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Unique name.
    pub name: String,
    /// The degradation H of an image.
    #[serde(default)]
    pub operator: Option<OperatorSpec>,
    /// σ_y of an `operator`: standard deviation of the noise on [−1, 1].
    #[serde(default)]
    pub noise: f64,
    /// The property that a molecule is to have.
    #[serde(default)]
    pub property: Option<PropertySpec>,
    /// Nothing is asked of the sample: the prior alone is looked at.
    #[serde(default)]
    pub generate: Option<GenerateSpec>,
}

/// A task without a condition; it has no options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {}

/// The kinds of task, each with the key that it is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// `operator`: an image is restored.
    Restore,
    /// `property`: a molecule of a wanted property.
    Property,
    /// `generate`: a sample of the prior.
    Generate,
}

impl TaskSpec {
    /// What kind of task it is; `None` unless exactly one of the three keys is there.
    pub fn kind(&self) -> Option<TaskKind> {
        match (&self.operator, &self.property, &self.generate) {
            (Some(_), None, None) => Some(TaskKind::Restore),
            (None, Some(_), None) => Some(TaskKind::Property),
            (None, None, Some(_)) => Some(TaskKind::Generate),
            _ => None,
        }
    }
}

impl TaskKind {
    /// The key that it is written with.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Restore => "operator",
            Self::Property => "property",
            Self::Generate => "generate",
        }
    }
}

fn all_metrics() -> Vec<MetricSpec> {
    MetricSpec::WITHOUT_WEIGHTS.to_vec()
}
