//! What the rows to do will cost: hours on devices, from a measured evaluation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::cli::CliError;
use crate::plan::{
    Assumptions, CallsFrom, Cell, CellEstimate, MeasuredCell, Plan, Summary, device_hours, estimate,
};
use crate::store::{Columns, Record, RunDir, Status, visit_samples};
use crate::ui::text::count;

/// Options of an estimate.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct EstimateArgs {
    /// Estimate the cost: seconds of one evaluation (solve and pull-back) of one sample, as `dflow model time` says.
    #[arg(long, value_name = "S", value_parser = positive)]
    seconds_per_eval: Option<f64>,
    /// For the estimate: evaluations of D-Flow on a sample, where no rows say; default: the stop rules' bound.
    #[arg(long, value_name = "N", value_parser = positive)]
    evals_per_row: Option<f64>,
    /// Estimate the cost from the rows of a run: seconds and calls of its tasks and methods of the same names.
    #[arg(long, value_name = "RUN")]
    measured: Option<PathBuf>,
    /// For the estimate: number of devices.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    on: u32,
}

impl EstimateArgs {
    /// Whether the options go together.
    pub(super) fn check(&self) -> Result<(), CliError> {
        if self.evals_per_row.is_some() && !self.is_asked_for() {
            return Err(CliError::usage("--evals-per-row needs --seconds-per-eval or --measured"));
        }
        Ok(())
    }

    /// Whether there is anything to estimate from.
    pub(super) const fn is_asked_for(&self) -> bool {
        self.seconds_per_eval.is_some() || self.measured.is_some()
    }
}

pub(in crate::cli) fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number is expected".to_owned())?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err("a positive number is expected".to_owned())
    }
}

/// The estimate as text and as JSON; none if it was not asked for.
pub(super) fn of(
    args: &EstimateArgs,
    plan: &Plan,
    summary: &Summary,
) -> Result<Option<(String, Value)>, CliError> {
    if !args.is_asked_for() {
        return Ok(None);
    }
    let rows = args.measured.as_deref().map(|run| measured(run, plan)).transpose()?.unwrap_or_default();
    let assumptions =
        Assumptions { seconds_per_eval: args.seconds_per_eval, evals_per_row: args.evals_per_row };
    let of_cell = |cell: &Cell| {
        let (hash, measured) = rows.get(&(cell.task.clone(), cell.method.clone()))?;
        let is_same = *hash == cell.hash.to_string();
        Some(MeasuredCell { calls_per_row: measured.calls_per_row.filter(|_| is_same), ..*measured })
    };
    let cells = estimate(plan, summary, assumptions, &of_cell);
    let total = device_hours(&cells);
    let json = json!({
        "cells": cells, "device_hours": total, "devices": args.on, "hours": total.map(|hours| hours / f64::from(args.on)),
    });
    Ok(Some((text(&cells, total, args.on), json)))
}

/// Cell hash and cost of what has rows, by task and method.
type Measured = BTreeMap<(String, String), (String, MeasuredCell)>;

/// What a run's finished rows took. It must be one of `plan`'s models and shapes.
fn measured(run: &Path, plan: &Plan) -> Result<Measured, CliError> {
    let run_dir = RunDir::existing(run).map_err(CliError::store)?;
    check_alike(run, run_dir.plan(), plan)?;
    // Rows, calls, seconds.
    let mut sums: BTreeMap<(String, String, String), (usize, u64, f64)> = BTreeMap::new();
    let add = |record: Record| {
        if record.status == Status::Ok {
            let sum = sums.entry((record.task, record.method, record.cell_hash)).or_default();
            sum.0 += 1;
            sum.1 += record.nfe_forward + record.nfe_vjp;
            sum.2 += record.device_seconds;
        }
    };
    visit_samples(&**run_dir.fs(), run_dir.layout(), Columns::WithoutTrace, add).map_err(CliError::store)?;
    let mean = |(rows, calls, seconds): (usize, u64, f64)| MeasuredCell {
        rows,
        calls_per_row: Some(calls as f64 / rows as f64),
        seconds_per_call: seconds / (calls.max(1)) as f64,
    };
    if sums.is_empty() {
        return Err(CliError::usage(format!("--measured {}: no finished rows (dflow merge)", run.display())));
    }
    let by_cell = |((task, method, hash), sum)| ((task, method), (hash, mean(sum)));
    Ok(sums.into_iter().map(by_cell).collect())
}

/// Seconds of another network, or of another size of images, say nothing.
fn check_alike(run: &Path, measured: &Plan, plan: &Plan) -> Result<(), CliError> {
    let other = |what: &str, found: &dyn std::fmt::Display, wanted: &dyn std::fmt::Display| {
        let text = format!("--measured {}: its {what} is {found}, the pipeline's {wanted}", run.display());
        Err(CliError::usage(format!("{text}: measure a few samples of this pipeline")))
    };
    let (found, wanted) = (measured.dataset.shape, plan.dataset.shape);
    if found != wanted {
        return other("shape of a sample", &found, &wanted);
    }
    for cell in &plan.cells {
        let twin = measured.cells.iter().find(|other| other.task == cell.task && other.method == cell.method);
        let models = twin.and_then(|twin| twin.model.as_ref()).zip(cell.model.as_ref());
        if let Some((found, wanted)) = models.filter(|(found, wanted)| found.reference != wanted.reference) {
            return other("model", &found.reference, &wanted.reference);
        }
    }
    Ok(())
}

fn text(cells: &[CellEstimate], total: Option<f64>, devices: u32) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["task", "method", "rows", "calls/row", "", "device-hours"]);
    for cell in cells {
        let from = match cell.calls_from {
            CallsFrom::Measured { rows } => format!("mean of {}", count(rows, "row")),
            CallsFrom::Assumed => "assumed".to_owned(),
            CallsFrom::Bound => "at most".to_owned(),
        };
        table.add_row([
            cell.task.clone(),
            cell.method.clone(),
            cell.rows.to_string(),
            cell.calls_per_row.map_or_else(|| "unbounded".to_owned(), |calls| format!("{calls:.0}")),
            from,
            cell.device_hours.map_or_else(|| "?".to_owned(), |hours| format!("{hours:.2}")),
        ]);
    }
    for column in [2, 3, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let total = match total {
        Some(hours) => format!(
            "{hours:.1} device-hours: {:.1} hours on {devices} device{} (forward and backward calls counted alike)",
            hours / f64::from(devices),
            if devices == 1 { "" } else { "s" }
        ),
        None => "no total: give --evals-per-row for cells without a bound, and --seconds-per-eval for those that were \
                 not measured"
            .to_owned(),
    };
    format!("{table}\n\n{total}")
}
