//! How a run stands, from its files alone: rows, heartbeats, and the chunks of its newest submission.
//!
//! [`Snapshot`] is what `dflow status` shows, as data. It is made from [`Progress`], which counts durable rows, and
//! from the heartbeats of the processes that solve ([`crate::store::nodes`]); either may be some seconds old. A
//! [`Reader`] makes one after the other; the queue of the cluster is asked beside it.

mod arrivals;
mod estimate;
pub mod nodes;
mod progress;
mod reader;
mod snapshot;

pub use crate::cluster::{ChunkCounts, FailedChunk, QueueCounts, QueueWatch, Waiting};
pub use nodes::NodeWatch;
pub use progress::{CellState, Progress};
pub use reader::Reader;
pub use snapshot::{History, NodeState, NodeStatus, Now, Snapshot};
