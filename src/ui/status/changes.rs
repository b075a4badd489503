//! What is new of a run, line by line: for pipes and logs.

use std::collections::BTreeSet;

use super::line::one_line;
use super::{GoesOn, NOTES, bounded_notes, notes, summary, who_goes_on};
use crate::status::{ChunkCounts, NodeState, Snapshot};

/// Tells what changed since it was asked last.
#[derive(Debug, Default)]
pub struct Changes {
    last: Option<State>,
    /// Rows whose failure was told.
    failures: BTreeSet<String>,
    /// Notes that were told.
    notes: BTreeSet<String>,
}

/// What is worth a line when it changes: neither ages nor rates.
#[derive(Debug, PartialEq)]
struct State {
    done: usize,
    failed: usize,
    chunks: Option<ChunkCounts>,
    processes: Vec<(String, NodeState)>,
    notes: Vec<String>,
    trouble: Option<String>,
    goes_on: Option<GoesOn>,
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
            notes: snapshot.notes.clone(),
            trouble: snapshot.trouble.clone(),
            goes_on: who_goes_on(snapshot),
        }
    }
}

impl Changes {
    /// Failures and notes that were not told yet, how the run stands, and whether anybody goes on with it; nothing if all that
    /// is as before.
    pub fn lines(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let state = State::of(snapshot);
        if self.last.as_ref() == Some(&state) {
            return Vec::new();
        }
        let goes_on = state.goes_on;
        let before = self.last.replace(state);
        let mut lines = Vec::new();
        for failure in &snapshot.progress.failures {
            if self.failures.insert(failure.row.clone()) {
                lines.push(one_line(&format!("failed: {}: {}", failure.row, failure.error)));
            }
        }
        let new: Vec<&String> = notes(snapshot).filter(|note| !self.notes.contains(*note)).collect();
        lines.extend(bounded_notes(new.iter().copied().cloned(), NOTES).iter().map(|note| one_line(note)));
        // The others come with what changes next.
        self.notes.extend(new.into_iter().take(NOTES).cloned());
        lines.push(summary(snapshot));
        if before.is_none_or(|before| before.goes_on != goes_on) {
            lines.extend(goes_on.map(GoesOn::text));
        }
        lines
    }
}
