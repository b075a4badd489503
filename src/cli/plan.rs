//! `dflow plan`: what a pipeline would run, without running it.

mod estimate;

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use self::estimate::EstimateArgs;
pub(super) use self::estimate::positive;
use super::pipeline::{PipelineArgs, Resolved};
use super::run::{open_units, say_missing_weights, say_what_stays_without};
use super::{CliError, CliResult, Global, eprintln_lossy, print_lossy};
use crate::exit;
use crate::plan::{CellHash, Summary, Unit};
use crate::store::{RunDir, Start};
use crate::ui::text;
use crate::worker::device;

/// Options of `dflow plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Count rows that failed earlier as done, as `dflow run --keep-failed` does.
    #[arg(long)]
    keep_failed: bool,
    #[command(flatten)]
    estimate: EstimateArgs,
}

pub(super) fn run(args: &PlanArgs, global: &Global) -> CliResult {
    args.estimate.check()?;
    match args.pipeline.resolve(global) {
        Ok(resolved) => show_with(&resolved, args.keep_failed, &args.estimate, global),
        // What a table will cost is asked before its data and weights are here.
        Err(error) if args.estimate.is_asked_for() => outline(args, global, error),
        Err(error) => Err(error),
    }
}

/// The estimate of a pipeline whose data or weights are not here; `error` says what keeps it from running.
fn outline(args: &PlanArgs, global: &Global, error: CliError) -> CliResult {
    let Ok((plan, shard, described)) = args.pipeline.outline(global) else { return Err(error) };
    let summary = Summary::new(&plan, shard, &BTreeSet::new());
    let Some((text, estimate)) = estimate::of(&args.estimate, &plan, &summary)? else { return Err(error) };
    if global.json {
        let value = json!({ "estimate": estimate, "described": described, "missing": error.text });
        print_lossy(&serde_json::to_string_pretty(&value).map_err(CliError::failure)?);
    } else {
        let what = described.join(", ");
        eprintln_lossy(&format!("note: this cannot run here yet: {}", error.text));
        print_lossy(&format!("{}: an estimate by description of {what}\n\n{text}", plan.name));
    }
    Ok(exit::OK)
}

/// Prints the plan of a resolved pipeline: what a run would do now, or why it would be refused.
pub(super) fn show(resolved: &Resolved, keep_failed: bool, global: &Global) -> CliResult {
    show_with(resolved, keep_failed, &EstimateArgs::default(), global)
}

/// As [`show`], with an estimate of the cost if one is asked for.
fn show_with(resolved: &Resolved, keep_failed: bool, args: &EstimateArgs, global: &Global) -> CliResult {
    let start = Start { plan: &resolved.plan, document: &resolved.document };
    let found = RunDir::look(Path::new(&resolved.plan.output), &start).map_err(CliError::store)?;
    say_what_stays_without(Path::new(&resolved.plan.output), &resolved.plan, global);
    say_missing_weights(resolved, global)?;
    let open: BTreeSet<Unit> = open_units(resolved, &found.finished, keep_failed).into_iter().collect();
    let done = resolved.plan.units(resolved.shard).filter(|unit| !open.contains(unit));
    let done: BTreeSet<(CellHash, String)> =
        done.map(|unit| resolved.plan.key(unit)).map(|(hash, id)| (hash, id.to_owned())).collect();
    let summary = Summary::new(&resolved.plan, resolved.shard, &done);
    let estimate = estimate::of(args, &resolved.plan, &summary)?;
    if global.json {
        let mut value = serde_json::to_value(&summary).map_err(CliError::failure)?;
        if let (Some((_, estimate)), Some(object)) = (estimate, value.as_object_mut()) {
            object.insert("estimate".to_owned(), estimate);
        }
        print_lossy(&serde_json::to_string_pretty(&value).map_err(CliError::failure)?);
        return Ok(exit::OK);
    }
    let estimate = estimate.map_or_else(String::new, |(text, _)| format!("\n\n{text}"));
    print_lossy(&(summary_text(&summary, &device_line(resolved)?) + &estimate));
    Ok(exit::OK)
}

fn device_line(resolved: &Resolved) -> Result<String, CliError> {
    let devices = device::resolve(&resolved.plan.devices).map_err(CliError::usage)?;
    Ok(devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(", "))
}

fn summary_text(summary: &Summary, devices: &str) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["task", "method", "cell", "planned", "done", "calls/row ≤"]);
    for cell in &summary.cells {
        let calls = cell.calls_per_row.map_or_else(|| "unbounded".to_owned(), |calls| calls.to_string());
        table.add_row([
            cell.task.clone(),
            cell.method.clone(),
            cell.hash.short(),
            cell.planned.to_string(),
            cell.done.to_string(),
            calls,
        ]);
    }
    for column in 3..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let calls = summary.calls().map_or_else(
        || "not bounded beforehand".to_owned(),
        |calls| format!("at most {calls} network calls (forward and backward each counted)"),
    );
    format!(
        "{}: {} in shard {}, {}; results in {}\n\n{table}\n\n{} of {} rows done, {} to do: {calls}",
        summary.name,
        text::count(summary.samples, "sample"),
        summary.shard,
        devices,
        summary.output,
        summary.done(),
        summary.planned(),
        summary.remaining(),
    )
}
