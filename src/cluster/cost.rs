//! What one sample of a cell is expected to take: measured where there are rows, else said by the user, else assumed.

use std::collections::BTreeMap;

use crate::plan::{Assumptions, Cell, CellSummary, Plan, Shard, Summary, estimate};
use crate::store::{Record, Status};

/// Network calls of a sample where nothing bounds them.
const ASSUMED_CALLS: f64 = 2000.0;
/// Seconds of a network call where none was measured.
const ASSUMED_SECONDS_PER_CALL: f64 = 0.05;
/// No sample is expected to take less: reading, scoring and writing it count too.
const LEAST_SECONDS: f64 = 0.05;

/// Where an expected cost comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Finished rows of the same cell.
    Measured {
        /// How many.
        rows: usize,
    },
    /// Finished rows of the same method on other tasks, scaled by the budgets.
    OtherTasks {
        /// How many.
        rows: usize,
    },
    /// The user's seconds per evaluation.
    Said,
    /// Nothing but a guess.
    Assumed,
}

/// The expected cost of one sample of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Seconds on one device.
    pub seconds: f64,
    /// Where they come from.
    pub basis: Basis,
}

/// Finished rows and their seconds on the device, by cell hash.
pub type Measured = BTreeMap<String, (usize, f64)>;

/// What the finished rows of a run took.
pub fn measured(records: &[Record]) -> Measured {
    let mut sums = Measured::new();
    for record in records.iter().filter(|record| record.status == Status::Ok) {
        let sum = sums.entry(record.cell_hash.clone()).or_default();
        sum.0 += 1;
        sum.1 += record.device_seconds;
    }
    sums
}

/// The expected cost of one sample of every cell of a plan.
pub fn costs(plan: &Plan, measured: &Measured, assumptions: Assumptions) -> Vec<Cost> {
    let summary = Summary::new(plan, Shard::WHOLE, &std::collections::BTreeSet::new());
    let said = estimate(plan, &summary, assumptions, &|_| None);
    let cells = plan.cells.iter().zip(&summary.cells).zip(said);
    let costs = cells.map(|((cell, figures), said)| {
        let own = measured.get(&cell.hash.to_string()).map(|(rows, seconds)| Cost {
            seconds: seconds / *rows as f64,
            basis: Basis::Measured { rows: *rows },
        });
        let said = || {
            let hours = said.device_hours.filter(|_| said.rows > 0)?;
            Some(Cost { seconds: hours * 3600.0 / said.rows as f64, basis: Basis::Said })
        };
        let others = || from_other_tasks(plan, &summary, measured, cell, figures);
        own.or_else(others).or_else(said).unwrap_or_else(|| assumed(figures))
    });
    costs.map(|cost| Cost { seconds: cost.seconds.max(LEAST_SECONDS), ..cost }).collect()
}

/// The mean over the other tasks of a method, each scaled by how many calls a row may take there and here.
fn from_other_tasks(
    plan: &Plan,
    summary: &Summary,
    measured: &Measured,
    cell: &Cell,
    figures: &CellSummary,
) -> Option<Cost> {
    let (mut rows, mut seconds) = (0, 0.0);
    for (other, bound) in
        plan.cells.iter().zip(&summary.cells).filter(|(other, _)| other.method == cell.method)
    {
        let Some((count, sum)) = measured.get(&other.hash.to_string()) else { continue };
        let scale = match (figures.calls_per_row, bound.calls_per_row) {
            (Some(here), Some(there)) if there > 0 => here as f64 / there as f64,
            _ => 1.0,
        };
        rows += count;
        seconds += sum * scale;
    }
    (rows > 0).then(|| Cost { seconds: seconds / rows as f64, basis: Basis::OtherTasks { rows } })
}

fn assumed(figures: &CellSummary) -> Cost {
    let calls = figures.calls_per_row.map_or(ASSUMED_CALLS, |calls| calls as f64);
    // A method without network calls is known to be quick.
    let basis = if calls == 0.0 { Basis::Said } else { Basis::Assumed };
    Cost { seconds: calls * ASSUMED_SECONDS_PER_CALL, basis }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::submission::tests::plan_of;

    const METHODS: &str = "methods: [ { dflow: { stop: [ { evals: 100 } ], per_task: { b: { stop: [ { evals: 50 } ] } } } }, \
                           pinv: {} ]";

    fn seconds(measured: &Measured, assumptions: Assumptions) -> Vec<Cost> {
        costs(&plan_of(METHODS), measured, assumptions)
    }

    #[test]
    fn rows_of_the_cell_come_first_then_those_of_the_method() {
        let plan = plan_of(METHODS);
        let place = |task: &str, method: &str| {
            plan.cells.iter().position(|cell| cell.task == task && cell.method == method).unwrap()
        };
        let (a, b) = (place("a", "dflow"), place("b", "dflow"));
        let measured = Measured::from([(plan.cells[a].hash.to_string(), (4, 80.0))]);
        let costs = costs(&plan, &measured, Assumptions::default());
        assert_eq!(costs[a], Cost { seconds: 20.0, basis: Basis::Measured { rows: 4 } });
        assert_eq!(costs[b].basis, Basis::OtherTasks { rows: 4 });
        assert!((costs[b].seconds - 10.0).abs() < 0.5, "half the evaluations: {:?}", costs[b]);
        assert_eq!(costs[place("a", "pinv")], Cost { seconds: LEAST_SECONDS, basis: Basis::Said });
    }

    #[test]
    fn without_rows_the_users_figure_counts_and_else_a_guess_that_says_so() {
        let guess = seconds(&Measured::new(), Assumptions::default());
        assert!(guess.iter().any(|cost| cost.basis == Basis::Assumed));
        let said =
            seconds(&Measured::new(), Assumptions { seconds_per_eval: Some(2.0), evals_per_row: None });
        assert!(said.iter().all(|cost| cost.basis == Basis::Said));
        assert!(said.iter().any(|cost| (cost.seconds - 200.0).abs() < 5.0), "{said:?}");
    }
}
