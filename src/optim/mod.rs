//! Optimisers as ask/tell machines: they hold plain serde state and never call the objective themselves.
//!
//! [`Lbfgs`] follows `torch.optim.LBFGS` (torch 2.9.1) with its strong-Wolfe line search, evaluation for evaluation;
//! with an initial inverse Hessian by bands of frequency ([`Lbfgs::with_bands`]) it is another, faster one for images.

mod bands;
mod lbfgs;
mod line_search;
mod memory;
mod prefetch;
#[cfg(test)]
mod tests;
mod vector;

pub use lbfgs::{Evaluation, Lbfgs, OuterEnd, OuterReport, Settings, Step};
pub use memory::Pair;
pub use vector::{dot, norm};
