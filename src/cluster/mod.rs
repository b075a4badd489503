//! A pipeline on a cluster: chunks of samples, batch scripts, and the clients of schedulers.
//!
//! [`chunks`] cuts what is left to do into chunks of a target duration, by the costs of [`cost`]. A [`Submission`] freezes
//! them, with the pipeline and its options, in `submit/<id>/` of the run directory, where [`script`] puts the batch
//! scripts that [`slurm`] submits. An array task then works off one chunk (`dflow work`), and the job after the arrays
//! collects (`dflow collect`): what is done is read off the rows, never off exit codes ([`state`]). [`ChunkReader`] and
//! [`QueueWatch`] show it to whoever watches.
//!
//! No process of ours stays alive between these: everything that has to be known later lies in files.

pub mod cancel;
pub mod chunks;
pub mod commands;
pub mod cost;
pub mod ending;
mod error;
mod frozen;
pub mod kubernetes;
pub mod launch;
mod progress;
mod question;
pub mod queue;
mod queue_watch;
pub mod script;
pub mod site;
pub mod slurm;
pub mod state;
pub mod submission;
pub mod syntax;
pub mod task;
pub mod task_log;

pub use chunks::{Chunk, Sizing, Stretch, cut};
pub use error::ClusterError;
pub use frozen::ChunkFile;
pub use progress::{ChunkCounts, ChunkReader, FailedChunk, QueueCounts, Waiting};
pub use question::Question;
pub use queue_watch::{Answer, QueueWatch};
pub use slurm::Slurm;
pub use submission::{Array, Submission, WorkOptions};
pub use task::TaskShape;
