//! A plan in figures, for `--dry-run` and `status`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Cell, CellHash, Plan, Shard};
use crate::spec::init::InitSpec;
use crate::spec::method::MethodSpec;
use crate::spec::solver::SolverSpec;
use crate::spec::stop::StopRule;

/// What a plan holds, and how much of it is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub name: String,
    /// The run directory.
    pub output: String,
    /// Devices as asked for.
    pub devices: String,
    /// Which part of the run this is.
    pub shard: Shard,
    /// Samples in this shard.
    pub samples: usize,
    /// Its cells.
    pub cells: Vec<CellSummary>,
}

/// One cell in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CellSummary {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Its identity.
    pub hash: CellHash,
    /// Rows planned in this shard.
    pub planned: usize,
    /// Those that are finished.
    pub done: usize,
    /// Most network calls that one row can take, forward and backward each counted; `None`: not bounded
    /// beforehand (no `evals` rule, or an adaptive solver).
    pub calls_per_row: Option<u64>,
}

impl Summary {
    /// The figures of one shard, given the keys (cell hash, sample id) of the rows that exist.
    pub fn new(plan: &Plan, shard: Shard, finished: &BTreeSet<(CellHash, String)>) -> Self {
        let samples: Vec<&String> = plan
            .dataset
            .samples
            .iter()
            .enumerate()
            .filter(|(i, _)| shard.contains(*i))
            .map(|(_, id)| id)
            .collect();
        let cells = plan.cells.iter().map(|cell| CellSummary {
            task: cell.task.clone(),
            method: cell.method.clone(),
            hash: cell.hash,
            planned: samples.len(),
            done: samples.iter().filter(|id| finished.contains(&(cell.hash, (**id).clone()))).count(),
            calls_per_row: calls_per_row(cell),
        });
        Self {
            name: plan.name.clone(),
            output: plan.output.clone(),
            devices: plan.devices.to_string(),
            shard,
            samples: samples.len(),
            cells: cells.collect(),
        }
    }

    /// Rows planned.
    pub fn planned(&self) -> usize {
        self.cells.iter().map(|cell| cell.planned).sum()
    }

    /// Rows finished.
    pub fn done(&self) -> usize {
        self.cells.iter().map(|cell| cell.done).sum()
    }

    /// Rows to do.
    pub fn remaining(&self) -> usize {
        self.planned() - self.done()
    }

    /// Most network calls of the rows to do; `None` where a cell with such rows has no bound.
    pub fn calls(&self) -> Option<u64> {
        let open = self.cells.iter().filter(|cell| cell.planned > cell.done);
        open.map(|cell| Some(cell.calls_per_row? * (cell.planned - cell.done) as u64)).sum()
    }
}

/// Every evaluation is a solve and its pull-back; a blended start adds one solve without a gradient.
fn calls_per_row(cell: &Cell) -> Option<u64> {
    let MethodSpec::Dflow(dflow) = &cell.solve else { return Some(0) };
    let cap = dflow.stop.iter().filter_map(|rule| match rule {
        StopRule::Evals(cap) => Some(u64::from(*cap)),
        _ => None,
    });
    let backward = match dflow.init {
        InitSpec::Blend(blend) => nfe(blend.solver.unwrap_or(dflow.solver))?,
        InitSpec::Source | InitSpec::Given(_) => 0,
    };
    Some(cap.min()? * 2 * nfe(dflow.solver)? + backward)
}

fn nfe(solver: SolverSpec) -> Option<u64> {
    solver.nfe().map(u64::from)
}
