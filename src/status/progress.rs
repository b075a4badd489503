//! Durable rows by cell.

use serde::Serialize;

use crate::plan::{Cell, Plan};
use crate::store::{CellProgress, RunProgress};

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
    /// Of the rows of `plan` that were seen in its run directory.
    pub fn of(plan: &Plan, seen: &RunProgress) -> Self {
        let count = |(cell, rows): (&Cell, &CellProgress)| CellState {
            task: cell.task.clone(),
            method: cell.method.clone(),
            ok: rows.ok as usize,
            failed: rows.failed as usize,
            planned: plan.dataset.samples.len(),
        };
        Self { cells: plan.cells.iter().zip(&seen.cells).map(count).collect() }
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
