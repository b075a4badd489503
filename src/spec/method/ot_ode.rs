//! The options of OT-ODE.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConditionSpec;
use crate::spec::init::Lift;
use crate::spec::model::ModelRef;

/// Options of OT-ODE (Pokle et al. 2023): Euler steps on the grid k/steps from `start` to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtOdeSpec {
    /// Name of the row in tables; default `ot_ode`.
    pub name: Option<String>,
    /// The tasks it is run on; default: all.
    pub tasks: Option<Vec<String>>,
    /// A model of its own; default: the pipeline's.
    pub model: Option<ModelRef>,
    /// The condition of a conditional model.
    pub condition: ConditionSpec,
    /// Steps of the whole grid; those before `start` are not made.
    #[schemars(range(min = 1))]
    pub steps: u32,
    /// Where it starts, in (0, 1): at the first point of the grid that is not before it, from α·ỹ + σ·z with the
    /// lifted measurement ỹ. Published: 0.2, and 0.4 for deblurring (PnP-Flow: 0.1 to 0.4).
    pub start: f64,
    /// The weight of the guidance.
    pub gamma: GammaSpec,
    /// How y becomes the image ỹ of the start.
    pub lift: Lift,
    /// Whole fields replaced for single tasks, by task name.
    pub per_task: BTreeMap<String, OtOdeOverride>,
}

impl Default for OtOdeSpec {
    fn default() -> Self {
        Self {
            name: None,
            tasks: None,
            model: None,
            condition: ConditionSpec::default(),
            steps: 100,
            start: 0.2,
            gamma: GammaSpec::One,
            lift: Lift::Auto,
            per_task: BTreeMap::new(),
        }
    }
}

/// The weight γ_t of a guided flow's correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GammaSpec {
    /// 1 (OT-ODE).
    #[default]
    One,
    /// √(α/(α² + σ²)) (ΠGDM as a flow; "gamma_t" of PnP-Flow).
    Adaptive,
}

/// Fields of [`OtOdeSpec`] that a task may replace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtOdeOverride {
    /// Replaces `condition`.
    pub condition: Option<ConditionSpec>,
    /// Replaces `steps`.
    pub steps: Option<u32>,
    /// Replaces `start`.
    pub start: Option<f64>,
    /// Replaces `gamma`.
    pub gamma: Option<GammaSpec>,
    /// Replaces `lift`.
    pub lift: Option<Lift>,
}

impl OtOdeSpec {
    /// The options in force for one task: `per_task` fields replaced, `per_task` itself emptied.
    #[must_use]
    pub fn for_task(&self, task: &str) -> Self {
        let spec = Self { per_task: BTreeMap::new(), ..self.clone() };
        let Some(other) = self.per_task.get(task) else { return spec };
        Self {
            condition: other.condition.unwrap_or(spec.condition),
            steps: other.steps.unwrap_or(spec.steps),
            start: other.start.unwrap_or(spec.start),
            gamma: other.gamma.unwrap_or(spec.gamma),
            lift: other.lift.unwrap_or(spec.lift),
            ..spec
        }
    }

    /// The first point of the grid that a step is made from.
    pub fn first(&self) -> u32 {
        first_of(self.steps, self.start)
    }

    /// Steps that are made, of one network call and its pull-back each.
    pub fn steps_made(&self) -> u32 {
        self.steps.saturating_sub(self.first())
    }
}

/// The index of the first point of the grid k/steps that is not before `start`, and not 0, where α = 0.
pub(super) fn first_of(steps: u32, start: f64) -> u32 {
    // A start that is a point of the grid, such as 0.3 of 100, may lie an ulp above it.
    let index = (start * f64::from(steps) - 1e-9).ceil();
    (index as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_on_the_grid_is_its_point_and_one_between_the_next() {
        for (steps, start, first) in
            [(100, 0.2, 20), (100, 0.3, 30), (10, 0.25, 3), (100, 1e-6, 1), (4, 0.75, 3)]
        {
            assert_eq!(
                OtOdeSpec { steps, start, ..OtOdeSpec::default() }.first(),
                first,
                "{start} of {steps}"
            );
        }
    }
}
