//! Durable rows by cell.

use serde::Serialize;

use crate::cluster::cost::{Basis, Measured, costs};
use crate::plan::{Assumptions, Plan};
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
    /// What the plan and the rows of other cells say that a sample takes in its slot, in s; of a cell without ok rows,
    /// where they say anything.
    #[serde(skip)]
    pub expected_seconds: Option<f64>,
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
        let expected = expected(plan, rows);
        let cells =
            plan.cells.iter().zip(&rows.cells).zip(expected).map(|((cell, counts), expected_seconds)| {
                let CellProgress { ok, failed, wall_seconds, .. } = *counts;
                CellState {
                    task: cell.task.clone(),
                    method: cell.method.clone(),
                    ok: ok as usize,
                    failed: failed as usize,
                    planned: plan.dataset.samples.len(),
                    seconds_per_sample: (ok > 0).then(|| wall_seconds / ok as f64),
                    expected_seconds,
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

/// Seconds of a sample of every cell by the plan and the rows of other cells, where any cell has none of its own.
fn expected(plan: &Plan, rows: &RunProgress) -> Vec<Option<f64>> {
    if rows.cells.iter().all(|counts| counts.ok > 0) {
        return vec![None; plan.cells.len()];
    }
    let measured = plan.cells.iter().zip(&rows.cells).filter(|(_, counts)| counts.ok > 0);
    let measured: Measured = measured
        .map(|(cell, counts)| (cell.hash.to_string(), (counts.ok as usize, counts.wall_seconds)))
        .collect();
    let costs = costs(plan, &measured, Assumptions::default());
    costs.into_iter().map(|cost| (cost.basis != Basis::Assumed).then_some(cost.seconds)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{document, plan};

    #[test]
    fn of_a_cell_without_rows_those_of_its_method_tell_and_else_nothing() {
        let dflow = "{ dflow: { stop: [ { evals: 100 } ] } }";
        let plan = plan(&document(&format!(
            "tasks: [ {{ name: a, operator: {{ center_mask: {{ size: 10 }} }} }}, \
             {{ name: b, operator: {{ center_mask: {{ size: 4 }} }} }} ]\nmethods: [ {dflow}, pinv: {{}} ]\nmodel: toy"
        )));
        let cell = |task: &str, method: &str| {
            plan.cells.iter().position(|cell| cell.task == task && cell.method == method).unwrap()
        };
        let mut rows =
            RunProgress { cells: vec![CellProgress::default(); plan.cells.len()], ..RunProgress::default() };
        rows.cells[cell("a", "pinv")] = CellProgress { ok: 10, wall_seconds: 0.1, ..CellProgress::default() };
        let of =
            |rows: &RunProgress, task| Progress::of(&plan, rows).cells[cell(task, "dflow")].expected_seconds;
        assert_eq!((of(&rows, "a"), of(&rows, "b")), (None, None), "rows of a quick method say nothing");
        rows.cells[cell("a", "dflow")] =
            CellProgress { ok: 2, wall_seconds: 80.0, ..CellProgress::default() };
        assert_eq!(of(&rows, "b"), Some(40.0));
    }
}
