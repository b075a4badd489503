//! What is new of a run, line by line: for pipes and logs.

use std::collections::BTreeSet;

use super::line::one_line;
use super::{NOBODY, is_left, summary};
use crate::status::{ChunkCounts, NodeState, Snapshot};

/// Tells what changed since it was asked last.
#[derive(Debug, Default)]
pub struct Changes {
    last: Option<State>,
    /// Rows whose failure was told.
    failures: BTreeSet<String>,
}

/// What is worth a line when it changes: neither ages nor rates.
#[derive(Debug, PartialEq)]
struct State {
    done: usize,
    failed: usize,
    chunks: Option<ChunkCounts>,
    processes: Vec<(String, NodeState)>,
    trouble: Option<String>,
    is_left: bool,
}

impl State {
    fn of(snapshot: &Snapshot) -> Self {
        let mut chunks = snapshot.chunks.clone();
        if let Some(queue) = chunks.as_mut().and_then(|chunks| chunks.queue.as_mut()) {
            queue.age_seconds = 0.0;
        }
        let process = |node: &crate::status::NodeStatus| (node.node.attempt.clone(), node.state);
        Self {
            done: snapshot.done,
            failed: snapshot.failed,
            chunks,
            processes: snapshot.nodes.iter().map(process).collect(),
            trouble: snapshot.trouble.clone(),
            is_left: is_left(snapshot),
        }
    }
}

impl Changes {
    /// Failures that were not told yet, with their reasons, how the run stands, and whether anybody goes on with it; nothing
    /// if all that is as before.
    pub fn lines(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let state = State::of(snapshot);
        if self.last.as_ref() == Some(&state) {
            return Vec::new();
        }
        let before = self.last.replace(state);
        let mut lines = Vec::new();
        for failure in &snapshot.progress.failures {
            if self.failures.insert(failure.row.clone()) {
                lines.push(one_line(&format!("failed: {}: {}", failure.row, failure.error)));
            }
        }
        lines.push(summary(snapshot));
        if is_left(snapshot) && before.is_none_or(|before| !before.is_left) {
            lines.push(NOBODY.to_owned());
        }
        lines
    }
}
