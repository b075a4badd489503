//! `dflow run`: runs a pipeline, or continues it.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;

use super::execute::{Job, SolveArgs, check_models};
use super::pipeline::{PipelineArgs, Resolved};
use super::{CliError, CliResult, Global, plan as plan_command, print_lossy};
use crate::exit;
use crate::plan::{Cell, Plan, Shard, Unit};
use crate::run::signal::{self, Latch};
use crate::run::{Blame, RunSummary};
use crate::score::{Ground, Scorers, complete_references};
use crate::store::{Completeness, Finished, Found, RunDir, Start, Status};
use crate::worker::device;

/// Clean images from which on their scoring is worth a line.
const SAID_FROM: usize = 500;

/// Options of `dflow run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    solve: SolveArgs,
    /// Leave rows that failed earlier as they are, instead of trying them again.
    #[arg(long)]
    keep_failed: bool,
    /// Run these methods of the pipeline only; the rows of the others stay to be done.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    methods: Vec<String>,
    /// Run these tasks of the pipeline only.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Show what would run, and what is done already, without running it.
    #[arg(long, conflicts_with_all = ["methods", "tasks"])]
    dry_run: bool,
}

impl RunArgs {
    /// Whether `--methods` and `--tasks` name methods and tasks of the plan.
    fn check_names(&self, plan: &Plan) -> Result<(), CliError> {
        let known = |name: fn(&Cell) -> &String| plan.cells.iter().map(name).collect::<BTreeSet<_>>();
        for (option, wanted, known) in [
            ("--methods", &self.methods, known(|cell| &cell.method)),
            ("--tasks", &self.tasks, known(|cell| &cell.task)),
        ] {
            if let Some(other) = wanted.iter().find(|name| !known.contains(name)) {
                let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
                return Err(CliError::usage(format!(
                    "{option}: there is no `{other}`; there are {}",
                    known.join(", ")
                )));
            }
        }
        Ok(())
    }

    fn wants(&self, plan: &Plan, unit: Unit) -> bool {
        let Cell { method, task, .. } = &plan.cells[unit.cell];
        (self.methods.is_empty() || self.methods.contains(method))
            && (self.tasks.is_empty() || self.tasks.contains(task))
    }
}

pub(super) fn run(args: &RunArgs, global: &Global) -> CliResult {
    // Before anything that takes time: a warning that nobody hears ends the process.
    let stop = signal::listen().map_err(CliError::failure)?;
    let resolved = args.pipeline.resolve(global)?;
    if args.dry_run {
        return plan_command::show(&resolved, args.keep_failed, global);
    }
    let plan = &resolved.plan;
    args.check_names(plan)?;
    let devices = device::resolve(&plan.devices).map_err(CliError::usage)?;
    check_models(plan, &devices)?;
    let root = Path::new(&plan.output).to_owned();
    let start = Start { plan, document: &resolved.document };
    let Found { finished, .. } = RunDir::look(&root, &start).map_err(CliError::store)?;
    say_what_stays_without(&root, plan, global);
    say_missing_weights(&resolved, global)?;
    let run_dir = RunDir::open(&root, &start).map_err(CliError::store)?;
    let mut todo = open_units(&resolved, &finished, args.keep_failed);
    let open = todo.len();
    todo.retain(|unit| args.wants(plan, *unit));
    if !todo.is_empty() {
        // Hours must not be spent on what cannot be kept.
        run_dir.check_writable().map_err(CliError::store)?;
    }
    let left_out = open - todo.len();
    let planned = plan.units(resolved.shard).filter(|unit| args.wants(plan, *unit)).count();
    let (run_dir, resolved) = (&run_dir, &resolved);
    let (options, task, stop_within) = (&args.solve, None, None);
    // Nobody else will try.
    let blame = Blame::Last;
    let is_auto = plan.devices.is_auto();
    let job = Job { resolved, run_dir, devices, is_auto, todo, planned, options, task, stop_within, blame };
    let summary = job.execute(&stop, global)?;
    let merged = run_dir.finish(plan).map_err(CliError::store)?;
    if summary.stopped.is_none() && !score_clean_images(resolved, run_dir, global)? {
        return Ok(exit::STOPPED_EARLY);
    }
    end(resolved, global, (&summary, left_out), &merged)
}

/// Features of the clean images of this shard, which the distances of its cells are measured from; false if it was stopped.
pub(super) fn score_clean_images(
    resolved: &Resolved,
    run_dir: &RunDir,
    global: &Global,
) -> Result<bool, CliError> {
    let Resolved { plan, catalog, document, shard } = resolved;
    let scorers = Scorers::open(&plan.metrics, catalog).map_err(CliError::usage)?;
    if scorers.features().is_empty() {
        return Ok(true);
    }
    let ground = Ground::new(plan.clone(), &document.spec.dataset, catalog).map_err(CliError::usage)?;
    let samples: Vec<usize> = (0..plan.dataset.samples.len()).filter(|i| shard.contains(*i)).collect();
    let stop = Latch::listen().map_err(CliError::failure)?;
    let goes_on = |what: &str, done: usize, open: usize| {
        // A few are done in the time of a sentence.
        if open > SAID_FROM && !global.json && !global.quiet {
            super::eprintln_lossy(&format!("{what}: {done} of {open}"));
        }
        !stop.is_set()
    };
    complete_references(run_dir, &ground, &scorers, &samples, &goes_on).map_err(CliError::failure)?;
    Ok(!stop.is_set())
}

/// Says before any work which metrics have no weights here.
pub(super) fn say_missing_weights(resolved: &Resolved, global: &Global) -> Result<(), CliError> {
    let scorers = Scorers::open(&resolved.plan.metrics, &resolved.catalog).map_err(CliError::usage)?;
    if !global.quiet {
        for missing in scorers.missing() {
            super::eprintln_lossy(&format!(
                "note: metric {} is left out, its weights are not there: {}",
                missing.metric, missing.reason
            ));
        }
    }
    Ok(())
}

/// Says before any work which finished rows lack what the pipeline asks for now.
pub(super) fn say_what_stays_without(root: &Path, plan: &Plan, global: &Global) {
    if !global.quiet {
        let notes = RunDir::stays_without(root, plan);
        notes.iter().for_each(|note| super::eprintln_lossy(&format!("note: {note}")));
    }
}

/// What is left to do, in the plan's order.
pub(super) fn open_units(resolved: &Resolved, finished: &Finished, keep_failed: bool) -> Vec<Unit> {
    let done = |unit: &Unit| {
        let (hash, sample) = resolved.plan.key(*unit);
        match finished.rows.get(&(hash.to_string(), sample.to_owned())) {
            Some(Status::Ok) => true,
            Some(Status::Failed) => keep_failed,
            None => false,
        }
    };
    resolved.plan.units(resolved.shard).filter(|unit| !done(unit)).collect()
}

/// `left_out`: rows of other methods and tasks than those asked for.
fn end(
    resolved: &Resolved,
    global: &Global,
    (summary, left_out): (&RunSummary, usize),
    merged: &Completeness,
) -> CliResult {
    let output = &resolved.plan.output;
    if !global.json && !global.quiet {
        let state = if merged.is_complete() { "complete" } else { "partial" };
        print_lossy(&format!(
            "{output}/samples.parquet: {state}, {} ok, {} failed, {} missing of {} rows",
            merged.ok, merged.failed, merged.missing, merged.planned
        ));
    }
    if resolved.shard != Shard::WHOLE && !global.json && !global.quiet {
        let left = summary.left + left_out;
        let state = if left > 0 { format!("{left} left") } else { "complete".to_owned() };
        print_lossy(&format!("shard {}: {state}", resolved.shard));
    }
    code(summary, merged.failed)
}

/// What broke or was stopped after the last sample has cost nothing: its message stands in the log above. Who asks for a
/// stop is told of that: workers that broke down before may have started again since.
fn code(summary: &RunSummary, failed: u64) -> CliResult {
    match summary.broken.first() {
        _ if summary.left == 0 => {}
        _ if summary.stopped.is_some() => return Ok(exit::STOPPED_EARLY),
        Some(error) => {
            let text = format!("{error}; run the same command again to continue");
            let code = if summary.unwritable { exit::UNWRITABLE } else { exit::FAILURE };
            return Err(CliError { code, text });
        }
        None => {}
    }
    Ok(if failed > 0 { exit::FAILED_ROWS } else { exit::OK })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_no_failure_whatever_broke_before() {
        let whole = RunSummary { broken: vec!["sim:0: gone".to_owned()], ..RunSummary::default() };
        let code_of = |summary: &RunSummary, failed| code(summary, failed).unwrap_or_else(|error| error.code);
        assert_eq!((code_of(&whole, 0), code_of(&whole, 1)), (exit::OK, exit::FAILED_ROWS));
        let broken = RunSummary { left: 1, ..whole };
        assert_eq!(code_of(&broken, 0), exit::FAILURE);
        let full = RunSummary { unwritable: true, ..broken.clone() };
        assert_eq!(code_of(&full, 0), exit::UNWRITABLE);
        for summary in [broken, full] {
            let stopped = RunSummary { stopped: Some("warned".to_owned()), ..summary };
            assert_eq!(code_of(&stopped, 0), exit::STOPPED_EARLY);
        }
    }
}
