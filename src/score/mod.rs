//! Scoring: metrics of a reconstruction that need a network, and re-scoring of finished runs.
//!
//! [`Ground`] is what scoring needs of a plan (samples and degradations, no model); [`Scorers`] are its networks;
//! [`Rescore`] makes metrics again from the lossless reconstructions of a run, without solving.

mod ground;
mod scorers;
pub mod sets;

pub use ground::{Content, Ground, Sample};
pub use scorers::{LpipsValue, Missing, Scorers};
