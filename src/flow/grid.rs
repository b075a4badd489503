//! Solver and direction of an ODE solve.

use serde::{Deserialize, Serialize};

use super::solve::SolveError;
use super::tableau::Tableau;
use crate::spec::solver::{Adaptive, FixedSteps, SolverSpec};

/// Direction of an ODE solve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// t from 0 (noise) to 1 (data).
    Forward,
    /// t from 1 to 0.
    Backward,
}

impl Direction {
    /// The flow time at which a share `elapsed` in [0, 1] of the way is done.
    pub(super) fn time(self, elapsed: f64) -> f64 {
        match self {
            Self::Forward => elapsed,
            Self::Backward => 1.0 - elapsed,
        }
    }

    /// Sign of dt.
    pub(super) fn sign(self) -> f64 {
        match self {
            Self::Forward => 1.0,
            Self::Backward => -1.0,
        }
    }
}

/// Solver and direction of one ODE solve; equal grids can run in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The solver.
    pub solver: SolverSpec,
    /// The direction.
    pub direction: Direction,
}

/// A solver, checked and resolved.
pub(super) enum Stepping {
    /// `steps` equal steps of a tableau.
    Fixed { tableau: &'static Tableau, steps: usize },
    /// Dormand–Prince with step control.
    Adaptive(Adaptive),
}

impl Grid {
    /// From noise to data by `solver`.
    pub const fn forward(solver: SolverSpec) -> Self {
        Self { solver, direction: Direction::Forward }
    }

    /// From data to noise by `solver`.
    pub const fn backward(solver: SolverSpec) -> Self {
        Self { solver, direction: Direction::Backward }
    }

    /// Evaluations of one solve; `None` for an adaptive solver.
    pub fn nfe(&self) -> Option<u32> {
        self.solver.nfe()
    }

    /// The tableau and its number of steps; `None` for an adaptive solver.
    ///
    /// # Errors
    /// When the number of evaluations is no multiple of the tableau's stages.
    pub fn fixed(&self) -> Result<Option<(&'static Tableau, usize)>, SolveError> {
        Ok(match self.stepping()? {
            Stepping::Fixed { tableau, steps } => Some((tableau, steps)),
            Stepping::Adaptive(_) => None,
        })
    }

    /// The tableau and number of steps, or the tolerances.
    pub(super) fn stepping(&self) -> Result<Stepping, SolveError> {
        let fixed = |tableau: &'static Tableau, FixedSteps { nfe }: FixedSteps| {
            let per_step = tableau.stages() as u32;
            if nfe == 0 || nfe % per_step != 0 {
                return Err(SolveError::Nfe { solver: tableau.name, per_step, nfe });
            }
            Ok(Stepping::Fixed { tableau, steps: (nfe / per_step) as usize })
        };
        match self.solver {
            SolverSpec::Euler(steps) => fixed(&Tableau::EULER, steps),
            SolverSpec::Midpoint(steps) => fixed(&Tableau::MIDPOINT, steps),
            SolverSpec::Heun(steps) => fixed(&Tableau::HEUN, steps),
            SolverSpec::Rk4(steps) => fixed(&Tableau::RK4, steps),
            SolverSpec::Dopri5(tolerances) => {
                let usable = |v: f64| v.is_finite() && v > 0.0;
                if usable(tolerances.rtol) && usable(tolerances.atol) {
                    Ok(Stepping::Adaptive(tolerances))
                } else {
                    Err(SolveError::Tolerance { rtol: tolerances.rtol, atol: tolerances.atol })
                }
            }
        }
    }
}
