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

impl SolverSpec {
    /// Network evaluations of one step: the stages of the tableau that are evaluated anew.
    pub const fn evaluations_per_step(self) -> u32 {
        match self {
            Self::Euler(_) => 1,
            Self::Midpoint(_) | Self::Heun(_) => 2,
            Self::Rk4(_) => 4,
            // First same as last: six of the seven stages.
            Self::Dopri5(_) => 6,
        }
    }

    /// Network evaluations of one solve on a fixed grid; `None` for an adaptive solver.
    pub const fn nfe(self) -> Option<u32> {
        match self {
            Self::Euler(grid) | Self::Midpoint(grid) | Self::Heun(grid) | Self::Rk4(grid) => Some(grid.nfe),
            Self::Dopri5(_) => None,
        }
    }

    /// The solver's name in a pipeline file.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Euler(_) => "euler",
            Self::Midpoint(_) => "midpoint",
            Self::Heun(_) => "heun",
            Self::Rk4(_) => "rk4",
            Self::Dopri5(_) => "dopri5",
        }
    }
}
