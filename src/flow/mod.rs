//! Velocity fields and the ODE dx/dt = u_t(x) from noise (t = 0) to data (t = 1).
//!
//! A [`VelocityField`] gives u and its vector–Jacobian product. [`solve`] integrates it on a [`Grid`];
//! [`solve_taped`] and [`pull_back`] give the exact reverse mode of the steps that were taken (discretise, then
//! optimise). Closed-form fields ([`GaussianField`], [`GaussianMixture`]) need no weights; [`NetworkField`] makes a
//! field of a network, a probability path and a parametrisation.

mod adaptive;
mod basis;
mod field;
mod gaussian;
pub mod gaussian_fit;
mod grid;
mod likelihood;
mod mixture;
mod network;
mod pull_back;
mod read_out;
mod solve;
mod tableau;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod theory;
#[cfg(test)]
mod torchdiffeq;

pub use basis::Basis;
pub use field::{Cond, FieldError, InBasis, Rows, Tape, VelocityField};
pub use gaussian::{GaussianError, GaussianField};
pub use grid::{Direction, Grid};
pub use likelihood::{
    Divergence, LogLikelihood, Probes, bits_per_dimension, log_likelihood, log_standard_normal,
};
pub use mixture::{Component, GaussianMixture};
pub use network::{Convention, NetworkField, RawNetwork};
pub use pull_back::{Gradient, pull_back};
pub use read_out::ReadOut;
pub use solve::{Keep, Solution, SolveError, SolveTape, solve, solve_taped};
pub use tableau::Tableau;
