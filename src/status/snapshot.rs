//! How a run stands at one moment, as data.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::Serialize;

use super::arrivals::Arrivals;
use super::estimate::{throughput, time_left};
use super::nodes::NodeWatch;
use super::progress::Progress;
use crate::cluster::ChunkCounts;
use crate::store::nodes::{Failure, Node};

/// Failures that are shown.
const FAILURES: usize = 5;

/// Whether a process works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It does.
    Alive,
    /// It was not heard of for a minute: it died, or cannot reach the run directory.
    Silent,
    /// It came to an orderly end.
    Ended,
}

impl NodeState {
    pub(super) fn is_alive(self) -> bool {
        self == Self::Alive
    }
}

/// A process that solves, or did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Whether it works.
    pub state: NodeState,
    /// Seconds since its heartbeat.
    pub age_seconds: f64,
    /// Its heartbeat.
    pub node: Node,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Name of the run.
    pub name: String,
    /// Rows planned, all cells.
    pub planned: usize,
    /// Rows that are there.
    pub done: usize,
    /// Of these, failed.
    pub failed: usize,
    /// Rows by cell.
    #[serde(flatten)]
    pub progress: Progress,
    /// Samples per hour; none while nobody solves, or nothing was finished.
    pub samples_per_hour: Option<f64>,
    /// Seconds until every row is there, if it goes on like this; none where nothing is known of what is left.
    pub seconds_left: Option<f64>,
    /// Processes, those that live first.
    pub nodes: Vec<NodeStatus>,
    /// The newest failures, the newest first.
    pub failures: Vec<Failure>,
    /// Chunks of the newest submission, if there is one.
    pub chunks: Option<ChunkCounts>,
    /// What is strange about the files.
    pub notes: Vec<String>,
    /// Why nothing newer can be read just now.
    pub trouble: Option<String>,
}

/// What was seen at earlier looks.
#[derive(Debug, Default)]
pub struct History {
    nodes: NodeWatch,
    arrivals: Arrivals,
}

/// When a snapshot is made, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// UTC, ms since 1970.
    pub ms: u64,
    /// Of this process.
    pub instant: Instant,
}

impl Now {
    /// Reads both.
    pub fn read() -> Self {
        Self { ms: crate::store::nodes::now_ms(), instant: Instant::now() }
    }
}

impl Snapshot {
    /// Puts together what was read.
    pub fn new(name: &str, progress: Progress, nodes: Vec<Node>, before: &mut History, now: Now) -> Self {
        let statuses = nodes.into_iter().map(|node| status(node, &mut before.nodes, now));
        let mut nodes: Vec<NodeStatus> = statuses.collect();
        nodes.sort_by(|a, b| order(a).cmp(&order(b)));
        let failures = failures(&progress, &nodes);
        let is_worked_on = nodes.iter().any(|node| node.state.is_alive());
        before.arrivals.note(progress.done(), is_worked_on, now.instant);
        let rate = throughput(&progress, &nodes, before.arrivals.rate());
        Self {
            name: name.to_owned(),
            planned: progress.planned(),
            done: progress.done(),
            failed: progress.failed(),
            samples_per_hour: rate.map(|rate| 3600.0 * rate),
            seconds_left: time_left(&progress, &nodes, rate),
            progress,
            nodes,
            failures,
            chunks: None,
            notes: Vec::new(),
            trouble: None,
        }
    }

    /// Processes of a state.
    pub fn count(&self, state: NodeState) -> usize {
        self.nodes.iter().filter(|node| node.state == state).count()
    }
}

/// Failures by the rows, with time and device where a heartbeat tells them: those first, the newest first.
fn failures(progress: &Progress, nodes: &[NodeStatus]) -> Vec<Failure> {
    let by_rows: BTreeSet<&str> = progress.failures.iter().map(|failure| &*failure.row).collect();
    // What was solved since by another attempt is no failure any more.
    let stands = |failure: &&Failure| !progress.names_every_failure() || by_rows.contains(&*failure.row);
    let told = nodes.iter().flat_map(|node| &node.node.failures).filter(stands);
    let mut all: Vec<Failure> = told.chain(progress.failures.iter().rev()).cloned().collect();
    all.sort_by_key(|failure| std::cmp::Reverse(failure.time_ms));
    let mut named = BTreeSet::new();
    all.retain(|failure| named.insert(failure.row.clone()));
    all.truncate(FAILURES);
    all
}

fn status(node: Node, watch: &mut NodeWatch, now: Now) -> NodeStatus {
    let age = watch.age(&node, now.ms, now.instant);
    let state = match node.ended_ms {
        Some(_) => NodeState::Ended,
        None if NodeWatch::is_silent(age) => NodeState::Silent,
        None => NodeState::Alive,
    };
    NodeStatus { state, age_seconds: age.as_secs_f64(), node }
}

fn order(status: &NodeStatus) -> (u8, &str, Option<u32>, &str) {
    let rank = match status.state {
        NodeState::Alive => 0,
        NodeState::Silent => 1,
        NodeState::Ended => 2,
    };
    (rank, &status.node.host, status.node.chunk, &status.node.attempt)
}
