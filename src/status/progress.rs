//! Durable rows by cell.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::plan::Plan;
use crate::store::{Finished, Status};

/// Rows of one cell.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CellState {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Rows that ended by a stop rule.
    pub ok: usize,
    /// Rows that failed.
    pub failed: usize,
    /// Rows planned.
    pub planned: usize,
}

impl CellState {
    /// Rows that are there.
    pub fn done(&self) -> usize {
        self.ok + self.failed
    }
}

/// Durable rows by cell, in the plan's order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// Every cell.
    pub cells: Vec<CellState>,
}

impl Progress {
    /// Counts the rows of the plan, each once.
    pub fn of(plan: &Plan, finished: &Finished) -> Self {
        let samples: BTreeSet<&str> = plan.dataset.samples.iter().map(String::as_str).collect();
        let new = |cell: &crate::plan::Cell| CellState {
            task: cell.task.clone(),
            method: cell.method.clone(),
            planned: samples.len(),
            ..CellState::default()
        };
        let count = |cell: &crate::plan::Cell| {
            let (mut state, rows) = (new(cell), finished.rows.cell(cell.hash));
            for status in samples.iter().filter_map(|sample| rows.get(sample)) {
                *if status == Status::Ok { &mut state.ok } else { &mut state.failed } += 1;
            }
            state
        };
        let cells = plan.cells.iter().map(count).collect();
        Self { cells }
    }

    fn sum(&self, part: impl Fn(&CellState) -> usize) -> usize {
        self.cells.iter().map(part).sum()
    }

    /// Rows that are there.
    pub fn done(&self) -> usize {
        self.sum(CellState::done)
    }

    /// Rows that failed.
    pub fn failed(&self) -> usize {
        self.sum(|cell| cell.failed)
    }

    /// Rows planned.
    pub fn planned(&self) -> usize {
        self.sum(|cell| cell.planned)
    }

    /// Whether no row is missing.
    pub fn is_complete(&self) -> bool {
        self.done() == self.planned()
    }
}
