//! Durable rows by cell.

use std::collections::{BTreeMap, BTreeSet};

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
        let index: BTreeMap<String, usize> =
            plan.cells.iter().enumerate().map(|(i, cell)| (cell.hash.to_string(), i)).collect();
        let new = |cell: &crate::plan::Cell| CellState {
            task: cell.task.clone(),
            method: cell.method.clone(),
            planned: samples.len(),
            ..CellState::default()
        };
        let mut cells: Vec<CellState> = plan.cells.iter().map(new).collect();
        for ((hash, sample), status) in &finished.rows {
            let Some(&cell) = index.get(hash).filter(|_| samples.contains(sample.as_str())) else { continue };
            match status {
                Status::Ok => cells[cell].ok += 1,
                Status::Failed => cells[cell].failed += 1,
            }
        }
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
