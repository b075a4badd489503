//! `dflow plan`: what a pipeline would run, without running it.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::pipeline::{PipelineArgs, Resolved};
use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::plan::{CellHash, Summary};
use crate::store;
use crate::ui::text;
use crate::worker::device;

/// Options of `dflow plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
}

pub(super) fn run(args: &PlanArgs, global: &Global) -> CliResult {
    show(&args.pipeline.resolve(global)?, global)
}

/// Prints the plan of a resolved pipeline.
pub(super) fn show(resolved: &Resolved, global: &Global) -> CliResult {
    let finished = store::finished_in(Path::new(&resolved.plan.output)).map_err(CliError::store)?;
    let done: BTreeSet<(CellHash, String)> = resolved
        .plan
        .units(resolved.shard)
        .map(|unit| resolved.plan.key(unit))
        .filter(|(hash, id)| finished.rows.contains_key(&(hash.to_string(), (*id).to_owned())))
        .map(|(hash, id)| (hash, id.to_owned()))
        .collect();
    let summary = Summary::new(&resolved.plan, resolved.shard, &done);
    if global.json {
        let text = serde_json::to_string_pretty(&summary).map_err(CliError::failure)?;
        print_lossy(&text);
        return Ok(exit::OK);
    }
    print_lossy(&summary_text(&summary, &device_line(resolved)?));
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
