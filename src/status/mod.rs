//! How a run stands, from its files alone: rows, heartbeats, and the chunks of its newest submission.
//!
//! [`Snapshot`] is what `dflow status` shows, as data. It is made from [`Progress`], which counts durable rows, and
//! from the heartbeats of the processes that solve ([`crate::store::nodes`]); either may be some seconds old.

mod estimate;
pub mod nodes;
mod progress;
mod snapshot;

pub use crate::cluster::ChunkCounts;
pub use nodes::NodeWatch;
pub use progress::{CellState, Progress};
pub use snapshot::{NodeState, NodeStatus, Now, Snapshot};
