//! The options of ΠGDM.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConditionSpec;
use super::ot_ode::{GammaSpec, first_of};
use crate::spec::init::Lift;
use crate::spec::model::ModelRef;

/// Options of ΠGDM (Song et al. 2023, "Pseudoinverse-guided diffusion models").
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PigdmSpec {
    /// Name of the row in tables; default `pigdm`.
    pub name: Option<String>,
    /// The tasks it is run on; default: all.
    pub tasks: Option<Vec<String>>,
    /// A model of its own; default: the pipeline's.
    pub model: Option<ModelRef>,
    /// The condition of a conditional model.
    pub condition: ConditionSpec,
    /// In which form it is run; D-Flow's paper does not say which it compared with.
    pub form: PigdmForm,
    /// Whole fields replaced for single tasks, by task name.
    pub per_task: BTreeMap<String, PigdmOverride>,
}

/// The forms of ΠGDM.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PigdmForm {
    /// The flow's ODE with an adaptive guidance, from noise (as OT-ODE's paper compares with it).
    Flow(FlowSpec),
    /// The original: the guided DDIM sampler of a diffusion model, on times of the same signal-to-noise ratio.
    Ddim(DdimSpec),
}

impl Default for PigdmForm {
    fn default() -> Self {
        Self::Flow(FlowSpec::default())
    }
}

/// Options of the guided flow: Euler steps on the grid k/steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlowSpec {
    /// Steps of the whole grid; those before `start` are not made.
    #[schemars(range(min = 1))]
    pub steps: u32,
    /// Where it starts, in (0, 1): at the first point of the grid that is not before it; default: 1/steps.
    pub start: Option<f64>,
    /// The weight of the guidance.
    pub gamma: GammaSpec,
    /// The first state.
    pub init: FlowInit,
}

impl Default for FlowSpec {
    fn default() -> Self {
        Self { steps: 100, start: None, gamma: GammaSpec::Adaptive, init: FlowInit::Noise }
    }
}

impl FlowSpec {
    /// The first point of the grid that a step is made from.
    pub fn first(&self) -> u32 {
        self.start.map_or(1, |start| first_of(self.steps, start))
    }
}

/// The first state of a guided flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowInit {
    /// z ~ N(0, I).
    #[default]
    Noise,
    /// α·ỹ + σ·z with the measurement ỹ lifted so, as OT-ODE starts.
    Lifted(Lift),
}

/// Options of the guided DDIM sampler, on the diffusion of 1000 steps with β linear from 1e-4 to 0.02.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DdimSpec {
    /// Steps, at most 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub steps: u32,
    /// Share of fresh noise in a step, in [0, 1]: 0 is deterministic, 1 the ancestral sampler.
    pub eta: f64,
    /// The first state.
    pub init: DdimInit,
    /// The factor of the guidance.
    pub scale: GuidanceScale,
    /// Takes the observed pixels of a mask from y in every x̂ and guides the hidden ones alone (the code of RED-diff,
    /// for its boxes). No effect on other operators.
    pub replace_observed: bool,
}

impl Default for DdimSpec {
    fn default() -> Self {
        Self {
            steps: 100,
            eta: 0.0,
            init: DdimInit::Noise,
            scale: GuidanceScale::From,
            replace_observed: false,
        }
    }
}

/// The first state of the DDIM sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DdimInit {
    /// z ~ N(0, I).
    #[default]
    Noise,
    /// √ᾱ·H†y + √(1−ᾱ)·z (the code of RED-diff).
    Pinv,
}

/// The factor of the guidance in a DDIM step from ᾱ_t to ᾱ_s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuidanceScale {
    /// √ᾱ_t (the paper's).
    #[default]
    From,
    /// √ᾱ_t·√ᾱ_s (the code of RED-diff).
    Product,
}

/// Fields of [`PigdmSpec`] that a task may replace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PigdmOverride {
    /// Replaces `condition`.
    pub condition: Option<ConditionSpec>,
    /// Replaces `form`.
    pub form: Option<PigdmForm>,
}

impl PigdmSpec {
    /// The options in force for one task: `per_task` fields replaced, `per_task` itself emptied.
    #[must_use]
    pub fn for_task(&self, task: &str) -> Self {
        let spec = Self { per_task: BTreeMap::new(), ..self.clone() };
        let Some(other) = self.per_task.get(task) else { return spec };
        Self {
            condition: other.condition.unwrap_or(spec.condition),
            form: other.form.unwrap_or(spec.form),
            ..spec
        }
    }
}

impl PigdmForm {
    /// Steps that are made, of one network call and its pull-back each.
    pub fn steps_made(&self) -> u32 {
        match self {
            Self::Flow(flow) => flow.steps.saturating_sub(flow.first()),
            Self::Ddim(ddim) => ddim.steps,
        }
    }
}
