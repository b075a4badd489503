//! Durable rows by cell.

use serde::Serialize;

use crate::plan::Plan;
use crate::store::nodes::Failure;
use crate::store::verify::FailedRow;
use crate::store::{CellProgress, RunProgress, Watch};

/// Rows of one cell.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
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
    /// Mean wall time of the ok rows in their slots, in s.
    pub seconds_per_sample: Option<f64>,
}

impl CellState {
    /// Rows that are there.
    pub fn done(&self) -> usize {
        self.ok + self.failed
    }

    /// Rows that are not.
    pub fn left(&self) -> usize {
        self.planned.saturating_sub(self.done())
    }
}

/// Durable rows by cell, in the plan's order.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Progress {
    /// Every cell.
    pub cells: Vec<CellState>,
    /// Rows that failed in every attempt so far, newest last, without time and device. Of many, the newest.
    #[serde(skip)]
    pub failures: Vec<Failure>,
}

impl Progress {
    /// What was read of the rows of a plan.
    pub fn of(plan: &Plan, rows: &RunProgress) -> Self {
        let cells = plan.cells.iter().zip(&rows.cells).map(|(cell, counts)| {
            let CellProgress { ok, failed, wall_seconds, .. } = *counts;
            CellState {
                task: cell.task.clone(),
                method: cell.method.clone(),
                ok: ok as usize,
                failed: failed as usize,
                planned: plan.dataset.samples.len(),
                seconds_per_sample: (ok > 0).then(|| wall_seconds / ok as f64),
            }
        });
        Self { cells: cells.collect(), failures: rows.failures.iter().map(failure).collect() }
    }

    /// Whether `failures` are all there are.
    pub fn names_every_failure(&self) -> bool {
        self.failures.len() < Watch::FAILURES
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

fn failure(row: &FailedRow) -> Failure {
    let FailedRow { task, method, sample_id, error } = row;
    Failure { row: format!("{task}/{method}/{sample_id}"), error: error.clone(), ..Failure::default() }
}
