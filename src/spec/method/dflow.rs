//! The options of D-Flow.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::ConditionSpec;
use crate::spec::init::InitSpec;
use crate::spec::model::ModelRef;
use crate::spec::solver::SolverSpec;
use crate::spec::stop::StopRule;

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
    /// When the rules of `stop` are tested; default: `outer_step`.
    #[serde(default, deserialize_with = "unless_default")]
    pub stop_tests: Option<StopTests>,
    /// Whole fields replaced for single tasks, by task name.
    #[serde(default)]
    pub per_task: BTreeMap<String, DflowOverride>,
}

/// When stop rules other than `evals` and `time_limit`, which always are at every evaluation, are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopTests {
    /// After each outer step (the paper's algorithm).
    #[default]
    OuterStep,
    /// Before each evaluation, of the point that was accepted last: saves what is left of the outer step.
    Evaluation,
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
    /// Replaces `stop_tests`.
    #[serde(default)]
    pub stop_tests: Option<StopTests>,
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
    /// What a direction's inverse Hessian starts from; default: `scalar`.
    #[serde(deserialize_with = "unless_default")]
    pub initial: Option<InitialHessian>,
}

/// An option that came later is nothing where it is the default, written or not: a cell's hash is that of what it solves.
fn unless_default<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    Ok(Option::deserialize(deserializer)?.filter(|value| *value != T::default()))
}

/// The initial inverse Hessian H₀ of every direction of L-BFGS.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InitialHessian {
    /// yᵀs / yᵀy of the newest pair (torch).
    #[default]
    Scalar,
    /// One factor per band of spatial frequency, learnt from the newest pairs, for images. Fewer evaluations, fewest with
    /// `loss: squared_error`, whose curvature does not change as the PSNR does; each solve ends in another image that fits.
    Bands(BandsSpec),
}

/// Options of [`InitialHessian::Bands`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BandsSpec {
    /// The scalar is used until a point of this observed PSNR, in dB, is accepted and one more direction taken: where H
    /// hides something, what is put there is then decided, as it is by the scalar alone. 0: as soon as there is a pair.
    pub from_psnr: f64,
    /// Pairs that are looked back on.
    pub pairs: u32,
}

impl Default for BandsSpec {
    fn default() -> Self {
        Self { from_psnr: 30.0, pairs: 5 }
    }
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
            initial: None,
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
            if let Some(tests) = other.stop_tests {
                spec.stop_tests = Some(tests).filter(|tests| *tests != StopTests::default());
            }
        }
        spec
    }
}
