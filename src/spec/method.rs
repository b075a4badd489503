//! The methods: D-Flow and its baselines.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::init::InitSpec;
use super::likelihood::LikelihoodSpec;
use super::model::ModelRef;
use super::solver::SolverSpec;
use super::stop::StopRule;

/// One method of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MethodSpec {
    /// D-Flow: optimises the source point x₀ through the flow (arXiv 2402.14017, Algorithm 1).
    Dflow(Box<DflowSpec>),
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

/// Options of D-Flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DflowSpec {
    /// Name of the row in tables; default `dflow`; unique in a pipeline.
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
    /// The ODE solver, forward and (unless `init` says otherwise) backward.
    #[serde(default)]
    pub solver: SolverSpec,
    /// The first source point.
    #[serde(default)]
    pub init: InitSpec,
    /// The data term.
    #[serde(default)]
    pub loss: LossSpec,
    /// The penalty on x₀.
    #[serde(default)]
    pub regularizer: RegularizerSpec,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// What is done to x₀ after every outer step.
    #[serde(default)]
    pub normalize: NormalizeSpec,
    /// Ends a sample's solve; any of them. Must not be empty.
    #[serde(default)]
    pub stop: Vec<StopRule>,
    /// Whole fields replaced for single tasks, by task name.
    #[serde(default)]
    pub per_task: BTreeMap<String, DflowOverride>,
}

/// Fields of [`DflowSpec`] that a task may replace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DflowOverride {
    /// Replaces `condition`.
    #[serde(default)]
    pub condition: Option<ConditionSpec>,
    /// Replaces `solver`.
    #[serde(default)]
    pub solver: Option<SolverSpec>,
    /// Replaces `init`.
    #[serde(default)]
    pub init: Option<InitSpec>,
    /// Replaces `loss`.
    #[serde(default)]
    pub loss: Option<LossSpec>,
    /// Replaces `regularizer`.
    #[serde(default)]
    pub regularizer: Option<RegularizerSpec>,
    /// Replaces `optimizer`.
    #[serde(default)]
    pub optimizer: Option<OptimizerSpec>,
    /// Replaces `stop`.
    #[serde(default)]
    pub stop: Option<Vec<StopRule>>,
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

/// The data term of the objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LossSpec {
    /// −PSNR in dB (R = 2, MSE floored at 1e-12·R²).
    NegPsnr(LossSpace),
    /// Sum of squares ‖a − b‖².
    SquaredError(LossSpace),
    /// The p-norm ‖a − b‖_p (eq. 6), p ≥ 1.
    Lp(LpSpec),
}

impl Default for LossSpec {
    fn default() -> Self {
        Self::NegPsnr(LossSpace::Measurement)
    }
}

/// Options of the L_p loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LpSpec {
    /// The exponent, ≥ 1.
    pub p: f64,
    /// Where it is measured.
    #[serde(default)]
    pub space: LossSpace,
}

/// Which pair (a, b) a loss compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossSpace {
    /// (H x(1), y).
    #[default]
    Measurement,
    /// (H†H x(1), H†y).
    Pinv,
}

/// The penalty on x₀.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RegularizerSpec {
    /// No penalty.
    #[default]
    None,
    /// λ·(½r² − (d−1) ln r), r = ‖x₀‖: the χ_d law's negative log-likelihood (eq. 10 with the sign corrected).
    Chi(f64),
    /// λ·½‖x₀‖².
    Gaussian(f64),
    /// λ·(−log p₁(x(1))) (eq. 9), the divergence by Hutchinson's estimator.
    Nll(NllSpec),
}

/// Options of the likelihood penalty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NllSpec {
    /// λ.
    #[serde(default = "one")]
    pub weight: f64,
    /// Rademacher probes.
    pub probes: u32,
}

const fn one() -> f64 {
    1.0
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerSpec {
    /// L-BFGS with a strong-Wolfe search, as `torch.optim.LBFGS` of torch 2.9.1.
    Lbfgs(LbfgsSpec),
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self::Lbfgs(LbfgsSpec::default())
    }
}

/// What is done to x₀ after every outer step of the optimiser, which keeps its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NormalizeSpec {
    /// Nothing.
    #[default]
    None,
    /// Every column of a molecule's state is shifted and scaled over its atoms to mean 0 and standard deviation 1
    /// (App. B.3).
    PerFeature(PerFeatureSpec),
}

/// Options of [`NormalizeSpec::PerFeature`]; the paper names none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PerFeatureSpec {
    /// Which standard deviation.
    pub std: StandardDeviation,
    /// Which x₀ the result is of.
    pub result: NormalizedResult,
}

/// A standard deviation over n numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StandardDeviation {
    /// Divided by n − 1, as `torch.std`.
    #[default]
    Unbiased,
    /// Divided by n.
    Biased,
}

/// Which source point the result of a normalised solve belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormalizedResult {
    /// The last accepted point as the optimiser left it.
    #[default]
    Accepted,
    /// The last accepted point, normalised once more: one more forward solve.
    Normalized,
}

/// Options of L-BFGS; the defaults are torch's, with the paper's 20 inner iterations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LbfgsSpec {
    /// Iterations of one outer step (`max_iter`).
    pub inner: u32,
    /// Evaluations after which an outer step ends (`max_eval`); default ⌊inner·5/4⌋.
    pub max_eval: Option<u32>,
    /// Pairs (s, y) kept.
    pub history: u32,
    /// First step length of a search.
    pub lr: f64,
    /// Ends when ‖g‖∞ is not above it.
    pub tolerance_grad: f64,
    /// Ends when a step or a change of the loss is below it.
    pub tolerance_change: f64,
    /// Evaluations one line search may take.
    pub line_search: LineSearchLimit,
    /// Treats a non-finite trial as a failed one (bisection) instead of following torch into NaN.
    pub guard_non_finite: bool,
}

impl Default for LbfgsSpec {
    fn default() -> Self {
        Self {
            inner: 20,
            max_eval: None,
            history: 100,
            lr: 1.0,
            tolerance_grad: 1e-7,
            tolerance_change: 1e-9,
            line_search: LineSearchLimit::Fixed,
            guard_non_finite: true,
        }
    }
}

/// How many evaluations one line search may take after its first trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineSearchLimit {
    /// 25, as torch ≤ 2.9.1 (the paper's era).
    #[default]
    Fixed,
    /// What is left of `max_eval` in this outer step, as torch ≥ 2.10.
    Remaining,
}

impl MethodSpec {
    /// The kind's name as it stands in a pipeline file.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dflow(_) => "dflow",
            Self::Pinv(_) => "pinv",
            Self::Sample(_) => "sample",
            Self::Ancestral(_) => "ancestral",
            Self::Likelihood(_) => "likelihood",
        }
    }

    /// The row's name: the given one, or the kind.
    pub fn name(&self) -> &str {
        let given = match self {
            Self::Dflow(spec) => &spec.name,
            Self::Pinv(spec) => &spec.name,
            Self::Sample(spec) => &spec.name,
            Self::Ancestral(spec) => &spec.name,
            Self::Likelihood(spec) => &spec.name,
        };
        given.as_deref().unwrap_or(self.kind())
    }

    /// The tasks that it is limited to; none: it runs on all.
    pub fn tasks(&self) -> Option<&[String]> {
        match self {
            Self::Dflow(spec) => spec.tasks.as_deref(),
            Self::Pinv(spec) => spec.tasks.as_deref(),
            Self::Sample(spec) => spec.tasks.as_deref(),
            Self::Ancestral(spec) => spec.tasks.as_deref(),
            Self::Likelihood(spec) => spec.tasks.as_deref(),
        }
    }

    /// Whether it is run on a task.
    pub fn runs_on(&self, task: &str) -> bool {
        self.tasks().is_none_or(|tasks| tasks.iter().any(|name| name == task))
    }

    /// The method as it is run on one task: `per_task` fields replaced; `per_task` itself, tasks and name emptied.
    #[must_use]
    pub fn for_task(&self, task: &str) -> Self {
        match self {
            Self::Dflow(spec) => {
                Self::Dflow(Box::new(DflowSpec { name: None, tasks: None, ..spec.for_task(task) }))
            }
            Self::Pinv(spec) => Self::Pinv(PinvSpec { name: None, tasks: None, ..spec.clone() }),
            Self::Sample(spec) => Self::Sample(SampleSpec { name: None, tasks: None, ..spec.clone() }),
            Self::Ancestral(spec) => {
                Self::Ancestral(AncestralSpec { name: None, tasks: None, ..spec.clone() })
            }
            Self::Likelihood(spec) => {
                Self::Likelihood(LikelihoodSpec { name: None, tasks: None, ..spec.clone() })
            }
        }
    }

    /// The model that the method names itself.
    pub fn model(&self) -> Option<&ModelRef> {
        match self {
            Self::Dflow(spec) => spec.model.as_ref(),
            Self::Pinv(_) => None,
            Self::Sample(spec) => spec.model.as_ref(),
            Self::Ancestral(spec) => spec.model.as_ref(),
            Self::Likelihood(spec) => spec.model.as_ref(),
        }
    }

    /// The condition that it gives its model.
    pub const fn condition(&self) -> Option<ConditionSpec> {
        match self {
            Self::Dflow(spec) => Some(spec.condition),
            Self::Pinv(_) => None,
            Self::Sample(spec) => Some(spec.condition),
            Self::Ancestral(spec) => Some(spec.condition),
            Self::Likelihood(spec) => Some(spec.condition),
        }
    }

    /// Whether the method evaluates a velocity field.
    pub const fn needs_model(&self) -> bool {
        !matches!(self, Self::Pinv(_))
    }
}

impl DflowSpec {
    /// The options in force for one task: `per_task` fields replaced, `per_task` itself emptied.
    #[must_use]
    pub fn for_task(&self, task: &str) -> Self {
        let mut spec = Self { per_task: BTreeMap::new(), ..self.clone() };
        if let Some(other) = self.per_task.get(task) {
            spec.condition = other.condition.unwrap_or(spec.condition);
            spec.solver = other.solver.unwrap_or(spec.solver);
            if let Some(init) = &other.init {
                spec.init.clone_from(init);
            }
            spec.loss = other.loss.unwrap_or(spec.loss);
            spec.regularizer = other.regularizer.unwrap_or(spec.regularizer);
            spec.optimizer = other.optimizer.unwrap_or(spec.optimizer);
            if let Some(stop) = &other.stop {
                spec.stop.clone_from(stop);
            }
        }
        spec
    }
}
