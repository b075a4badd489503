//! How the flow's ODE is integrated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A solver of dx/dt = u_t(x) between t = 0 (noise) and t = 1 (data).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SolverSpec {
    /// Euler's method: one evaluation a step.
    Euler(FixedSteps),
    /// Explicit midpoint: two evaluations a step (the paper's solver; "6 evaluations" = 3 steps).
    Midpoint(FixedSteps),
    /// Heun's method (explicit trapezoid): two evaluations a step.
    Heun(FixedSteps),
    /// The classical Runge–Kutta method: four evaluations a step.
    Rk4(FixedSteps),
    /// Dormand–Prince 5(4) with step control per row.
    Dopri5(Adaptive),
}

/// A fixed grid, given by its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedSteps {
    /// Network evaluations of one solve; a multiple of the evaluations per step.
    #[schemars(range(min = 1))]
    pub nfe: u32,
}

/// Tolerances of an adaptive solver.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adaptive {
    /// Relative tolerance (> 0).
    #[serde(default = "tolerance")]
    pub rtol: f64,
    /// Absolute tolerance (> 0).
    #[serde(default = "tolerance")]
    pub atol: f64,
}

const fn tolerance() -> f64 {
    1e-5
}

impl Default for SolverSpec {
    fn default() -> Self {
        Self::Midpoint(FixedSteps { nfe: 6 })
    }
}
