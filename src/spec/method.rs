//! The methods: D-Flow and its baselines.

mod dflow;
mod ot_ode;
mod pigdm;
mod red_diff;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::likelihood::LikelihoodSpec;
use super::model::ModelRef;
use super::solver::SolverSpec;

pub use dflow::{
    BandsSpec, DflowOverride, DflowSpec, InitialHessian, LbfgsSpec, LineSearchLimit, LossSpace, LossSpec,
    LpSpec, NllSpec, NormalizeSpec, NormalizedResult, OptimizerSpec, PerFeatureSpec, RegularizerSpec,
    StandardDeviation, StopTests,
};
pub use ot_ode::{GammaSpec, OtOdeOverride, OtOdeSpec};
pub use pigdm::{DdimInit, DdimSpec, FlowInit, FlowSpec, GuidanceScale, PigdmForm, PigdmOverride, PigdmSpec};
pub use red_diff::{RedDiffInit, RedDiffLoss, RedDiffOverride, RedDiffSpec, Times, UniformTimes, WeightSpec};

/// One method of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MethodSpec {
    /// D-Flow: optimises the source point x₀ through the flow (arXiv 2402.14017, Algorithm 1).
    Dflow(Box<DflowSpec>),
    /// OT-ODE: the flow's ODE with a guidance towards the measurement (arXiv 2310.04432).
    OtOde(OtOdeSpec),
    /// ΠGDM: pseudo-inverse guidance, as a guided flow or as the guided DDIM sampler (Song et al. 2023).
    Pigdm(PigdmSpec),
    /// RED-Diff: optimises the image itself under a regulariser made of denoising residuals (arXiv 2305.04391).
    RedDiff(Box<RedDiffSpec>),
    /// The pseudo-inverse H†y: a sanity row without a prior.
    Pinv(PinvSpec),
    /// x(1) of the drawn noise: an unconditional sample of the prior.
    Sample(SampleSpec),
    /// The ancestral sampler of a diffusion model (EDM, arXiv 2203.17003): an unconditional sample.
    Ancestral(AncestralSpec),
    /// Bits per dimension of H†y under the model: nothing is restored.
    Likelihood(LikelihoodSpec),
}

/// Options of the unconditional sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleSpec {
    /// Name of the row in tables; default `sample`.
    #[serde(default)]
    pub name: Option<String>,
    /// The tasks it is run on; default: all.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
    /// A model of its own; default: the pipeline's.
    #[serde(default)]
    pub model: Option<ModelRef>,
    /// The condition of a conditional model.
    #[serde(default)]
    pub condition: ConditionSpec,
    /// The ODE solver.
    #[serde(default)]
    pub solver: SolverSpec,
}

/// Options of the ancestral sampler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AncestralSpec {
    /// Name of the row in tables; default `ancestral`.
    #[serde(default)]
    pub name: Option<String>,
    /// The tasks it is run on; default: all.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
    /// A model of its own; default: the pipeline's.
    #[serde(default)]
    pub model: Option<ModelRef>,
    /// The condition of a conditional model.
    #[serde(default)]
    pub condition: ConditionSpec,
    /// Steps from noise to data: the network is evaluated once more than that. The model's own number (200 or 1000 for
    /// the public EDMs) is what it was trained with.
    #[schemars(range(min = 1))]
    pub steps: u32,
}

/// Options of the pseudo-inverse row.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinvSpec {
    /// Name of the row in tables; default `pinv`.
    #[serde(default)]
    pub name: Option<String>,
    /// The tasks it is run on; default: all.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
    /// What a mask's hole is filled with; default: zeros, as H†y has them. No effect on other operators.
    #[serde(default)]
    pub fill: Option<HoleFill>,
}

/// Fillings of a hole that need no prior.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoleFill {
    /// The mean of the channel's observed entries.
    ObservedMean,
}

/// What a conditional model is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConditionSpec {
    /// The dataset's own label.
    Label(LabelSource),
    /// One class for every sample.
    Fixed(u32),
    /// Nothing (an unconditional model).
    None,
}

impl Default for ConditionSpec {
    fn default() -> Self {
        Self::Label(LabelSource::Dataset)
    }
}

/// Where a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    /// The sample's label in the dataset (ignored by a model without classes).
    #[default]
    Dataset,
}

/// What methods have in common, as it was written.
struct Common<'a> {
    name: Option<&'a str>,
    tasks: Option<&'a [String]>,
    model: Option<&'a ModelRef>,
    condition: Option<ConditionSpec>,
}

/// [`Common`] of a spec with all these fields.
macro_rules! common {
    ($spec:expr) => {
        Common {
            name: $spec.name.as_deref(),
            tasks: $spec.tasks.as_deref(),
            model: $spec.model.as_ref(),
            condition: Some($spec.condition),
        }
    };
}

impl MethodSpec {
    /// The kind's name as it stands in a pipeline file.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dflow(_) => "dflow",
            Self::OtOde(_) => "ot_ode",
            Self::Pigdm(_) => "pigdm",
            Self::RedDiff(_) => "red_diff",
            Self::Pinv(_) => "pinv",
            Self::Sample(_) => "sample",
            Self::Ancestral(_) => "ancestral",
            Self::Likelihood(_) => "likelihood",
        }
    }

    fn common(&self) -> Common<'_> {
        match self {
            Self::Dflow(spec) => common!(spec),
            Self::OtOde(spec) => common!(spec),
            Self::Pigdm(spec) => common!(spec),
            Self::RedDiff(spec) => common!(spec),
            Self::Sample(spec) => common!(spec),
            Self::Ancestral(spec) => common!(spec),
            Self::Likelihood(spec) => common!(spec),
            Self::Pinv(PinvSpec { name, tasks, .. }) => {
                Common { name: name.as_deref(), tasks: tasks.as_deref(), model: None, condition: None }
            }
        }
    }

    /// The row's name: the given one, or the kind.
    pub fn name(&self) -> &str {
        self.common().name.unwrap_or(self.kind())
    }

    /// The tasks that it is limited to; none: it runs on all.
    pub fn tasks(&self) -> Option<&[String]> {
        self.common().tasks
    }

    /// Whether it is run on a task.
    pub fn runs_on(&self, task: &str) -> bool {
        self.tasks().is_none_or(|tasks| tasks.iter().any(|name| name == task))
    }

    /// The model that the method names itself.
    pub fn model(&self) -> Option<&ModelRef> {
        self.common().model
    }

    /// The condition that it gives its model.
    pub fn condition(&self) -> Option<ConditionSpec> {
        self.common().condition
    }

    /// The conditions that replace it on single tasks, by task name.
    pub fn conditions_by_task(&self) -> Vec<(&str, ConditionSpec)> {
        fn of<T>(
            per_task: &BTreeMap<String, T>,
            condition: impl Fn(&T) -> Option<ConditionSpec>,
        ) -> Vec<(&str, ConditionSpec)> {
            per_task.iter().filter_map(|(task, other)| Some((&**task, condition(other)?))).collect()
        }
        match self {
            Self::Dflow(spec) => of(&spec.per_task, |other| other.condition),
            Self::OtOde(spec) => of(&spec.per_task, |other| other.condition),
            Self::Pigdm(spec) => of(&spec.per_task, |other| other.condition),
            Self::RedDiff(spec) => of(&spec.per_task, |other| other.condition),
            Self::Pinv(_) | Self::Sample(_) | Self::Ancestral(_) | Self::Likelihood(_) => Vec::new(),
        }
    }

    /// The method as it is run on one task: `per_task` fields replaced; `per_task` itself, tasks and name emptied.
    #[must_use]
    pub fn for_task(&self, task: &str) -> Self {
        let (name, tasks) = (None, None);
        match self {
            Self::Dflow(spec) => Self::Dflow(Box::new(DflowSpec { name, tasks, ..spec.for_task(task) })),
            Self::OtOde(spec) => Self::OtOde(OtOdeSpec { name, tasks, ..spec.for_task(task) }),
            Self::Pigdm(spec) => Self::Pigdm(PigdmSpec { name, tasks, ..spec.for_task(task) }),
            Self::RedDiff(spec) => {
                Self::RedDiff(Box::new(RedDiffSpec { name, tasks, ..spec.for_task(task) }))
            }
            Self::Pinv(spec) => Self::Pinv(PinvSpec { name, tasks, ..spec.clone() }),
            Self::Sample(spec) => Self::Sample(SampleSpec { name, tasks, ..spec.clone() }),
            Self::Ancestral(spec) => Self::Ancestral(AncestralSpec { name, tasks, ..spec.clone() }),
            Self::Likelihood(spec) => Self::Likelihood(LikelihoodSpec { name, tasks, ..spec.clone() }),
        }
    }

    /// The method without the name of a model of its own.
    #[must_use]
    pub fn without_model(&self) -> Self {
        let mut method = self.clone();
        match &mut method {
            Self::Dflow(spec) => spec.model = None,
            Self::OtOde(spec) => spec.model = None,
            Self::Pigdm(spec) => spec.model = None,
            Self::RedDiff(spec) => spec.model = None,
            Self::Sample(spec) => spec.model = None,
            Self::Ancestral(spec) => spec.model = None,
            Self::Likelihood(spec) => spec.model = None,
            Self::Pinv(_) => {}
        }
        method
    }

    /// How many steps draw noise of their own.
    pub fn steps_drawn(&self) -> u32 {
        match self {
            Self::RedDiff(spec) if spec.sigma_x0 > 0.0 => spec.steps.saturating_mul(2),
            Self::RedDiff(spec) => spec.steps,
            Self::Pigdm(PigdmSpec { form: PigdmForm::Ddim(ddim), .. }) if ddim.eta > 0.0 => ddim.steps,
            _ => 0,
        }
    }

    /// Whether the method evaluates a velocity field.
    pub const fn needs_model(&self) -> bool {
        !matches!(self, Self::Pinv(_))
    }
}
