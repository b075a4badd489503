//! A plan in figures, for `--dry-run` and `status`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Cell, CellHash, Plan, Shard};
use crate::spec::init::InitSpec;
use crate::spec::method::{DflowSpec, MethodSpec, OptimizerSpec, PigdmForm};
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
            calls_per_row: cell.calls_per_row(),
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
        open.map(|cell| Some(cell.calls_per_row?.saturating_mul((cell.planned - cell.done) as u64)))
            .try_fold(0_u64, |sum, calls| Some(sum.saturating_add(calls?)))
    }
}

impl Cell {
    /// Most network calls that one row can take, forward and backward each counted; `None`: not bounded beforehand.
    pub fn calls_per_row(&self) -> Option<u64> {
        calls_per_row(self)
    }
}

/// Every evaluation is a solve and its pull-back; a blended start adds one solve without a gradient. A guided step is a
/// call and its pull-back.
fn calls_per_row(cell: &Cell) -> Option<u64> {
    let dflow = match &cell.solve {
        MethodSpec::Dflow(dflow) => dflow,
        MethodSpec::OtOde(ot_ode) => {
            return Some(2 * u64::from(ot_ode.steps_made()) + u64::from(cell.has_finish()));
        }
        MethodSpec::Pigdm(pigdm) => {
            let finish = matches!(pigdm.form, PigdmForm::Flow(_)) && cell.has_finish();
            return Some(2 * u64::from(pigdm.form.steps_made()) + u64::from(finish));
        }
        MethodSpec::RedDiff(red_diff) => return Some(u64::from(red_diff.steps)),
        MethodSpec::Pinv(_) => return Some(0),
        MethodSpec::Sample(sample) => return Some(nfe(sample.solver)? + u64::from(cell.has_finish())),
        MethodSpec::Ancestral(ancestral) => return Some(u64::from(ancestral.steps) + 1),
        // Every stage once forward, and once for each probe.
        MethodSpec::Likelihood(spec) => return Some(nfe(spec.solver)? * (1 + u64::from(spec.probes))),
    };
    let cap = dflow.stop.iter().filter_map(|rule| match rule {
        StopRule::Evals(cap) => Some(u64::from(*cap)),
        // An outer step may end late by the evaluations of the line search that reached its limit.
        StopRule::OuterSteps(cap) => Some(u64::from(*cap).saturating_mul(evaluations_per_outer_step(dflow))),
        _ => None,
    });
    let finish = u64::from(cell.has_finish());
    let backward = match dflow.init {
        InitSpec::Blend(blend) => nfe(blend.solver.unwrap_or(dflow.solver))?,
        InitSpec::Source | InitSpec::Given(_) => 0,
    };
    let per_evaluation = nfe(dflow.solver)?.saturating_add(finish).saturating_mul(2);
    Some(cap.min()?.saturating_mul(per_evaluation).saturating_add(backward))
}

/// Most evaluations of one outer step: `max_eval` is looked at after a line search, which may take 25 + 1 more.
fn evaluations_per_outer_step(dflow: &DflowSpec) -> u64 {
    let OptimizerSpec::Lbfgs(lbfgs) = &dflow.optimizer;
    let max_eval = lbfgs.max_eval.map_or(u64::from(lbfgs.inner) * 5 / 4, u64::from);
    1 + max_eval + LINE_SEARCH
}

/// Evaluations that one line search may take.
const LINE_SEARCH: u64 = 26;

fn nfe(solver: SolverSpec) -> Option<u64> {
    solver.nfe().map(u64::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::{Goal, Restoration};
    use crate::spec::operator::{Identity, OperatorSpec};

    fn summary(rows: &[(usize, usize, Option<u64>)]) -> Summary {
        let cells = rows.iter().map(|&(planned, done, calls_per_row)| CellSummary {
            task: "task".to_owned(),
            method: "method".to_owned(),
            hash: CellHash::of(&json!(null)),
            planned,
            done,
            calls_per_row,
        });
        let (name, output, devices) = ("a".to_owned(), "b".to_owned(), "cpu".to_owned());
        Summary { name, output, devices, shard: Shard::WHOLE, samples: 1, cells: cells.collect() }
    }

    #[test]
    fn calls_are_counted_for_open_rows_and_unbounded_where_one_cell_is() {
        assert_eq!(summary(&[(10, 4, Some(7)), (10, 10, None)]).calls(), Some(42));
        assert_eq!(summary(&[(10, 4, Some(7)), (10, 9, None)]).calls(), None);
        assert_eq!(summary(&[]).calls(), Some(0));
    }

    #[test]
    fn a_count_beyond_all_bounds_stays_at_the_bound() {
        assert_eq!(summary(&[(3, 0, Some(u64::MAX / 2))]).calls(), Some(u64::MAX));
        assert_eq!(summary(&[(1, 0, Some(u64::MAX)), (1, 0, Some(1))]).calls(), Some(u64::MAX));
    }

    #[test]
    fn the_bound_of_a_row_does_not_wrap() {
        let dflow = json!({"dflow": {
            "solver": {"midpoint": {"nfe": u32::MAX - 1}}, "stop": [{"evals": u32::MAX}]
        }});
        let cell = Cell {
            task: "task".to_owned(),
            method: "method".to_owned(),
            goal: Goal::Restore(Restoration { operator: OperatorSpec::Identity(Identity {}), noise: 0.0 }),
            solve: serde_json::from_value(dflow).unwrap(),
            model: None,
            hash: CellHash::of(&json!(null)),
            determinants: json!(null),
        };
        assert_eq!(calls_per_row(&cell), Some(u64::MAX));
    }
}
