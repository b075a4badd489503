//! The options of RED-Diff.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConditionSpec;
use crate::spec::init::Lift;
use crate::spec::model::ModelRef;

/// Options of RED-Diff (Mardani et al. 2023): one Adam step on the image μ per time, from noise to data.
///
/// The public code's settings differ from file to file: lr 0.1 to 0.5, 50 to 1000 steps. D-Flow's paper does not print
/// those of its images; sweep lr over 0.1, 0.25, 0.5 and λ over 0.25, 0.5, 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedDiffSpec {
    /// Name of the row in tables; default `red_diff`.
    pub name: Option<String>,
    /// The tasks it is run on; default: all.
    pub tasks: Option<Vec<String>>,
    /// A model of its own; default: the pipeline's.
    pub model: Option<ModelRef>,
    /// The condition of a conditional model.
    pub condition: ConditionSpec,
    /// Times, of one network call and one Adam step each.
    #[schemars(range(min = 1))]
    pub steps: u32,
    /// Learning rate of Adam.
    pub lr: f64,
    /// λ of the regulariser.
    pub lambda: f64,
    /// How the regulariser depends on the noise-to-signal ratio r = σ/α of its time.
    pub weight: WeightSpec,
    /// The times.
    pub times: Times,
    /// The first μ.
    pub init: RedDiffInit,
    /// How data term and regulariser are summed.
    pub loss: RedDiffLoss,
    /// β₁ and β₂ of Adam, in [0, 1).
    pub betas: [f64; 2],
    /// ε of Adam.
    pub eps: f64,
    /// Standard deviation of the clean image about μ: x_t = α(μ + σ_x0·n) + σε.
    pub sigma_x0: f64,
    /// Whole fields replaced for single tasks, by task name.
    pub per_task: BTreeMap<String, RedDiffOverride>,
}

impl Default for RedDiffSpec {
    fn default() -> Self {
        Self {
            name: None,
            tasks: None,
            model: None,
            condition: ConditionSpec::default(),
            steps: 1000,
            lr: 0.1,
            lambda: 0.25,
            weight: WeightSpec::Linear,
            times: Times::VpMatched,
            init: RedDiffInit::Pinv,
            loss: RedDiffLoss::Mean,
            betas: [0.9, 0.99],
            eps: 1e-8,
            sigma_x0: 0.0,
            per_task: BTreeMap::new(),
        }
    }
}

/// The regulariser's weight w_t = λ·f(r) with r = σ/α.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightSpec {
    /// r.
    #[default]
    Linear,
    /// √r.
    Sqrt,
    /// r².
    Square,
    /// ln(1 + r).
    Log,
    /// min(r, 1).
    Clip,
    /// r^(2/3).
    PowerTwoThirds,
    /// 1.
    Const,
}

/// The times of RED-Diff, from noise to data.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Times {
    /// The flow times at which r is that of equispaced steps of the diffusion of 1000 steps with β linear from 1e-4 to
    /// 0.02: at most 1000.
    #[default]
    VpMatched,
    /// Equispaced flow times.
    Uniform(UniformTimes),
}

/// Options of [`Times::Uniform`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UniformTimes {
    /// The first time, above 0, where r is infinite; default 1/158, where r is the diffusion's largest.
    pub min: f64,
    /// The last time, below 1; default 1 − 1/steps.
    pub max: Option<f64>,
}

impl Default for UniformTimes {
    fn default() -> Self {
        Self { min: 1.0 / 158.0, max: None }
    }
}

impl UniformTimes {
    /// The last time of so many steps.
    pub fn last(&self, steps: u32) -> f64 {
        self.max.unwrap_or_else(|| 1.0 - 1.0 / f64::from(steps))
    }
}

/// The first μ of RED-Diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedDiffInit {
    /// H†y (the public code).
    #[default]
    Pinv,
    /// y where it has the image's shape (blur, identity), H†y elsewhere: under noise the whole H† of a blur is no start.
    Auto,
    /// Hᵀy.
    Adjoint,
    /// 0 (InverseBench).
    Zeros,
}

impl RedDiffInit {
    /// How y is lifted; `None`: it is not looked at.
    pub const fn lift(self) -> Option<Lift> {
        match self {
            Self::Pinv => Some(Lift::Pinv),
            Self::Auto => Some(Lift::Auto),
            Self::Adjoint => Some(Lift::Adjoint),
            Self::Zeros => None,
        }
    }
}

/// How RED-Diff's terms are summed over the m entries of y and the n of μ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedDiffLoss {
    /// ½‖y − Hμ‖²/m + w_t·(ε̂ − ε)ᵀμ/n (the public code).
    #[default]
    Mean,
    /// ‖y − Hμ‖² + w_t·(ε̂ − ε)ᵀμ (D-Flow's eq. 64).
    Sum,
}

/// Fields of [`RedDiffSpec`] that a task may replace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedDiffOverride {
    /// Replaces `condition`.
    pub condition: Option<ConditionSpec>,
    /// Replaces `steps`.
    pub steps: Option<u32>,
    /// Replaces `lr`.
    pub lr: Option<f64>,
    /// Replaces `lambda`.
    pub lambda: Option<f64>,
    /// Replaces `weight`.
    pub weight: Option<WeightSpec>,
    /// Replaces `times`.
    pub times: Option<Times>,
    /// Replaces `init`.
    pub init: Option<RedDiffInit>,
    /// Replaces `loss`.
    pub loss: Option<RedDiffLoss>,
    /// Replaces `betas`.
    pub betas: Option<[f64; 2]>,
    /// Replaces `eps`.
    pub eps: Option<f64>,
    /// Replaces `sigma_x0`.
    pub sigma_x0: Option<f64>,
}

impl RedDiffSpec {
    /// The options in force for one task: `per_task` fields replaced, `per_task` itself emptied.
    #[must_use]
    pub fn for_task(&self, task: &str) -> Self {
        let spec = Self { per_task: BTreeMap::new(), ..self.clone() };
        let Some(other) = self.per_task.get(task) else { return spec };
        Self {
            condition: other.condition.unwrap_or(spec.condition),
            steps: other.steps.unwrap_or(spec.steps),
            lr: other.lr.unwrap_or(spec.lr),
            lambda: other.lambda.unwrap_or(spec.lambda),
            weight: other.weight.unwrap_or(spec.weight),
            times: other.times.unwrap_or(spec.times),
            init: other.init.unwrap_or(spec.init),
            loss: other.loss.unwrap_or(spec.loss),
            betas: other.betas.unwrap_or(spec.betas),
            eps: other.eps.unwrap_or(spec.eps),
            sigma_x0: other.sigma_x0.unwrap_or(spec.sigma_x0),
            ..spec
        }
    }
}
