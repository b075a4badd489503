//! `dflow status`: how far a run is, from its files alone.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::plan::Plan;
use crate::store::{Finished, RunDir, Status};

/// Options of `dflow status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The run directory.
    run: PathBuf,
    /// Show it again every S seconds (default 5) until every row is there; ended by Ctrl-C.
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "5")]
    watch: Option<u64>,
}

/// Rows of one cell.
#[derive(Debug, Default, serde::Serialize)]
struct CellState {
    task: String,
    method: String,
    ok: usize,
    failed: usize,
    planned: usize,
}

pub(super) fn run(args: &StatusArgs, global: &Global) -> CliResult {
    let Some(seconds) = args.watch else { return show(&args.run, global).map(|_| exit::OK) };
    let terminal = std::io::stdout().is_terminal() && !global.json;
    loop {
        if terminal {
            // Clears the screen; the table stays in place.
            print_lossy("\x1b[2J\x1b[H");
        }
        if show(&args.run, global)? {
            return Ok(exit::OK);
        }
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

/// Prints how a run stands; gives whether every planned row is there.
fn show(run: &Path, global: &Global) -> Result<bool, CliError> {
    let run_dir = RunDir::existing(run).map_err(CliError::store)?;
    let plan = run_dir.plan();
    let finished = run_dir.finished().map_err(CliError::store)?;
    let cells = cell_states(plan, &finished);
    if global.json {
        print_lossy(&serde_json::to_string_pretty(&cells).map_err(CliError::failure)?);
    } else {
        print_lossy(&text(plan, &cells));
        finished.notes.iter().for_each(|note| super::eprintln_lossy(&format!("note: {note}")));
    }
    Ok(cells.iter().all(|cell| cell.ok + cell.failed == cell.planned))
}

fn cell_states(plan: &Plan, finished: &Finished) -> Vec<CellState> {
    let states = plan.cells.iter().map(|cell| {
        let mut state = CellState {
            task: cell.task.clone(),
            method: cell.method.clone(),
            planned: plan.dataset.samples.len(),
            ..CellState::default()
        };
        for sample in &plan.dataset.samples {
            match finished.rows.get(&(cell.hash.to_string(), sample.clone())) {
                Some(Status::Ok) => state.ok += 1,
                Some(Status::Failed) => state.failed += 1,
                None => {}
            }
        }
        state
    });
    states.collect()
}

fn text(plan: &Plan, cells: &[CellState]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["task", "method", "ok", "failed", "planned"]);
    for cell in cells {
        table.add_row([
            cell.task.clone(),
            cell.method.clone(),
            cell.ok.to_string(),
            cell.failed.to_string(),
            cell.planned.to_string(),
        ]);
    }
    let sum = |part: fn(&CellState) -> usize| cells.iter().map(part).sum::<usize>();
    let (done, planned) = (sum(|cell| cell.ok + cell.failed), sum(|cell| cell.planned));
    format!("{table}\n\n{}: {done} of {planned} rows durable, {} failed", plan.name, sum(|cell| cell.failed))
}
