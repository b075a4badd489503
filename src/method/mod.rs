//! Methods as ask/tell machines: plain serde state for ONE sample, which asks the worker for evaluations.
//!
//! A method sees no device, file or dataset. It is told answers, and asks; between two asks it can be stored
//! and go on later, bit for bit.

mod ancestral;
#[cfg(test)]
mod baseline_tests;
mod dflow;
mod guided;
mod likelihood;
pub mod loss;
mod nll;
mod normalize;
mod ot_ode;
mod pigdm;
mod problem;
#[cfg(test)]
mod property_tests;
mod red_diff;
pub mod regularizer;
mod sample;
mod solve;
pub mod stop;
#[cfg(test)]
mod tests;

pub use dflow::DflowSolve;
pub use likelihood::{Bits, LikelihoodSolve};
pub use problem::{Draws, Goal, MethodError, Points, Problem, PropertyTarget, Restoration, StepNoise};
pub use solve::{Outcome, PinvSolve, Progress, Snapshot, Solve, TracePoint};
pub use stop::StopReason;

use serde::{Deserialize, Serialize};

pub use crate::flow::{Direction, Grid};

/// What a method asks for next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Ask {
    /// Solve the ODE from `start`; answered by [`Answer::State`] with the end point.
    Solve {
        /// Start of the solve: `dim` numbers.
        start: Vec<f32>,
        /// Solver and direction.
        grid: Grid,
    },
    /// Pull a cotangent of the last solve's end back to its start; answered by [`Answer::Gradient`].
    PullBack {
        /// ∂L/∂x(1): `dim` numbers.
        cotangent: Vec<f32>,
    },
    /// u_t(x); answered by [`Answer::State`].
    Velocity {
        /// Time in [0, 1].
        t: f64,
        /// State: `dim` numbers.
        x: Vec<f32>,
        /// Whether a [`Vjp`](Self::Vjp) at the same point follows: what the call needs for it is worth keeping.
        keep: bool,
    },
    /// (∂u/∂x)ᵀ c at (t, x); answered by [`Answer::Gradient`].
    Vjp {
        /// Time in [0, 1].
        t: f64,
        /// State: `dim` numbers.
        x: Vec<f32>,
        /// Cotangent: `dim` numbers.
        cotangent: Vec<f32>,
    },
    /// The noise prediction E[x₀ | x_t = x]; answered by [`Answer::State`].
    Noise {
        /// Time in [0, 1].
        t: f64,
        /// State: `dim` numbers.
        x: Vec<f32>,
    },
    /// What the loss sees of an end point; answered by [`Answer::Value`].
    ReadOut {
        /// x(1): `dim` numbers.
        x: Vec<f32>,
    },
    /// Its vector–Jacobian product; answered by [`Answer::Gradient`].
    ReadOutVjp {
        /// x(1): `dim` numbers.
        x: Vec<f32>,
        /// Cotangent of what was read.
        cotangent: Vec<f32>,
    },
    /// The solve has ended.
    Done,
}

/// What a method is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The first call.
    Start,
    /// End point of a solve, a velocity, or a noise prediction.
    State(Vec<f32>),
    /// What was read of an end point.
    Value(Vec<f32>),
    /// A gradient.
    Gradient(Vec<f32>),
}
