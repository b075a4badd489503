//! What a plan will cost, from what an evaluation was measured to take.

use serde::Serialize;

use super::{Cell, CellSummary, Plan, Summary};
use crate::spec::method::MethodSpec;

/// What is known of a cell's rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeasuredCell {
    /// Rows that were measured.
    pub rows: usize,
    /// Mean network calls of a row, forward and backward each counted; none where the settings were others.
    pub calls_per_row: Option<f64>,
    /// Mean seconds of one call on the device.
    pub seconds_per_call: f64,
}

/// Where the number of calls of a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallsFrom {
    /// Rows of a run with this task and method.
    Measured {
        /// How many.
        rows: usize,
    },
    /// Said by the user, as evaluations of D-Flow.
    Assumed,
    /// The most that the stop rules allow; exact for methods of a fixed number of steps.
    Bound,
}

/// The cost of a cell's rows that are to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellEstimate {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Rows to do.
    pub rows: usize,
    /// Network calls of a row; none where nothing bounds them.
    pub calls_per_row: Option<f64>,
    /// Where they come from.
    pub calls_from: CallsFrom,
    /// Hours on one device; none where the number of calls is not known.
    pub device_hours: Option<f64>,
}

/// What an estimate starts from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Assumptions {
    /// Seconds of one evaluation of D-Flow (solve and pull-back) of one sample on one device, as `dflow model time` and
    /// the rows of a run say; used where a cell was not measured.
    pub seconds_per_eval: Option<f64>,
    /// Evaluations of D-Flow on a sample; used where a cell was not measured.
    pub evals_per_row: Option<f64>,
}

/// The cost of the rows to do, by cell.
///
/// `measured` says what rows of a run took in the place of a cell. A forward and a backward call count alike: an evaluation
/// has as many of one as of the other, so have guided steps, and methods without gradients cost less than said.
pub fn estimate(
    plan: &Plan,
    summary: &Summary,
    assumptions: Assumptions,
    measured: &dyn Fn(&Cell) -> Option<MeasuredCell>,
) -> Vec<CellEstimate> {
    // One evaluation of the pipeline's D-Flow, which the seconds are of.
    let reference = plan.cells.iter().find_map(calls_per_eval);
    let seconds = assumptions.seconds_per_eval.zip(reference).map(|(seconds, calls)| seconds / calls as f64);
    let cells = plan.cells.iter().zip(&summary.cells).map(|(cell, figures)| {
        let measured = measured(cell);
        let (calls_per_row, calls_from) = calls(cell, figures, assumptions, measured);
        // The seconds are those of a network: a closed form costs next to nothing beside it.
        let assumed = if cell.is_closed_form() { Some(0.0) } else { seconds };
        let seconds = measured.map(|measured| measured.seconds_per_call).or(assumed);
        let rows = figures.planned - figures.done;
        let hours =
            |calls: f64| if calls == 0.0 { Some(0.0) } else { Some(calls * seconds? * rows as f64 / 3600.0) };
        CellEstimate {
            task: cell.task.clone(),
            method: cell.method.clone(),
            rows,
            calls_per_row,
            calls_from,
            device_hours: calls_per_row.and_then(hours),
        }
    });
    cells.collect()
}

fn calls(
    cell: &Cell,
    figures: &CellSummary,
    assumptions: Assumptions,
    measured: Option<MeasuredCell>,
) -> (Option<f64>, CallsFrom) {
    if let Some(MeasuredCell { rows, calls_per_row: Some(calls_per_row), .. }) = measured {
        return (Some(calls_per_row), CallsFrom::Measured { rows });
    }
    if let Some((evals, calls)) = assumptions.evals_per_row.zip(calls_per_eval(cell)) {
        return (Some(evals * calls as f64), CallsFrom::Assumed);
    }
    (figures.calls_per_row.map(|calls| calls as f64), CallsFrom::Bound)
}

/// Calls of one evaluation of D-Flow: those of a solve, forward and backward.
fn calls_per_eval(cell: &Cell) -> Option<u64> {
    let MethodSpec::Dflow(dflow) = &cell.solve else { return None };
    Some(2 * (u64::from(dflow.solver.nfe()?) + u64::from(cell.has_finish())))
}

/// Hours on one device of all cells; none where one of them has rows to do and is not known.
pub fn device_hours(cells: &[CellEstimate]) -> Option<f64> {
    let open = cells.iter().filter(|cell| cell.rows > 0);
    open.map(|cell| cell.device_hours).try_fold(0.0, |sum, hours| Some(sum + hours?))
}
