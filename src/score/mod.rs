//! Scoring: metrics of a reconstruction that need a network, and re-scoring of finished runs.
//!
//! [`Ground`] is what scoring needs of a plan (samples and degradations, no model); [`Scorers`] are its networks;
//! [`Rescore`] makes metrics again from the lossless reconstructions of a run, without solving; [`sets`] measures
//! distances between sets from stored features.

mod family;
mod ground;
mod join;
mod rescore;
mod scorers;
pub mod sets;

pub use family::score_image;
pub use ground::{Content, Ground, Sample};
pub use join::fill_from_scores;
pub use rescore::{GoesOn, Rescore, Rescored, complete_references};
pub use scorers::{LpipsValue, Missing, Scorers};
