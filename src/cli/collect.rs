//! `dflow collect`: what the last job of a submission does.
//!
//! Merges, checks against the plan, writes the tables, and submits again what failed. It may be run at any time, by hand
//! too, and as often as one likes.

mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::pipeline::Resolved;
use super::run::score_clean_images;
use super::verify::verdict_lines;
use super::{CliError, CliResult, Global, eprintln_lossy, print_lossy};
use crate::catalog::Catalog;
use crate::cluster::queue::Job;
use crate::cluster::state::{self, Keys, Sweep};
use crate::cluster::submission::Engine;
use crate::cluster::task_log::Attempt;
use crate::cluster::{ClusterError, Slurm, Submission, launch};
use crate::exit;
use crate::plan::{Plan, Shard};
use crate::store::{Depth, RunDir, Verdict, verify};
use crate::ui::text::count;

/// Times that what is missing is submitted again, where the spec does not say.
const SWEEPS: u32 = 2;

/// What brings back the rows that are missing.
const SUBMIT: &str = "`dflow submit` of the same pipeline submits what is missing";

/// Options of `dflow collect`.
#[derive(Debug, Args)]
pub(super) struct CollectArgs {
    /// The submission, such as reports/my-run/submit/2026….
    submission: PathBuf,
    /// Do not submit again what failed.
    #[arg(long)]
    no_resubmit: bool,
}

pub(super) fn run(args: &CollectArgs, global: &Global) -> CliResult {
    let mut submission = Submission::open(&args.submission).map_err(CliError::cluster)?;
    let root = submission.run_dir().to_owned();
    let run_dir = RunDir::existing(&root).map_err(CliError::store)?;
    // A node that cannot write leaves it to another, whatever the merge would stumble over.
    run_dir.check_writable().map_err(CliError::store)?;
    run_dir.finish(run_dir.plan()).map_err(CliError::store)?;
    complete_references(&submission, &run_dir, global);
    let verdict =
        verify(&**run_dir.fs(), run_dir.layout(), run_dir.plan(), Depth::Keys).map_err(CliError::store)?;
    match tables::write(&run_dir) {
        Ok(text) => print_lossy(&text),
        // The rows are what matters: a table can be made from them at any time.
        Err(error) => eprintln_lossy(&format!("note: no tables: {}", error.text)),
    }
    print_lossy(&verdict_lines(&root, &verdict).join("\n"));
    sweep(&mut submission, &run_dir, &verdict, args.no_resubmit)?;
    Ok(code(&verdict))
}

fn code(verdict: &Verdict) -> i32 {
    match (verdict.is_complete(), verdict.failed.is_empty()) {
        (false, _) => exit::INCOMPLETE,
        (true, false) => exit::FAILED_ROWS,
        (true, true) => exit::OK,
    }
}

/// Features of the clean images, which the distances of the tables are measured from. Without them the tables lack these.
fn complete_references(submission: &Submission, run_dir: &RunDir, global: &Global) {
    let completed = resolve(submission).and_then(|resolved| score_clean_images(&resolved, run_dir, global));
    if let Err(error) = completed {
        eprintln_lossy(&format!("note: the clean images were not scored: {}", error.text));
    }
}

fn resolve(submission: &Submission) -> Result<Resolved, CliError> {
    let document = submission.document().map_err(CliError::cluster)?;
    let file = submission.file();
    let catalog = Catalog::new(file.home.as_deref(), file.data.as_deref());
    let plan = Plan::resolve(&document, &catalog).map_err(CliError::usage)?;
    Ok(Resolved { document, catalog, plan, shard: Shard::WHOLE })
}

/// Submits again what failed, if that is worth it; says what becomes of the rest.
fn sweep(
    submission: &mut Submission,
    run_dir: &RunDir,
    verdict: &Verdict,
    no_resubmit: bool,
) -> Result<(), CliError> {
    let finished = run_dir.finished().map_err(CliError::store)?;
    let is_durable =
        |hash: &str, sample: &str| finished.rows.contains_key(&(hash.to_owned(), sample.to_owned()));
    let missing = state::missing_rows(submission.chunks(), &is_durable);
    if missing == 0 {
        if !verdict.missing.is_empty() {
            print_lossy(&format!("every row of this submission is done; {SUBMIT}"));
        }
        return Ok(());
    }
    if submission.file().engine == Engine::Kubernetes {
        print_lossy(&format!("{} of this submission missing; {SUBMIT}", count(missing, "row")));
        return Ok(());
    }
    let slurm = Slurm::on_path();
    let (jobs, live) = match queue(submission, &slurm) {
        Ok(queue) => queue,
        // What may still wait or run must not be submitted a second time.
        Err(error) => {
            print_lossy(&format!(
                "not submitted again, because the queue could not be asked: {error}\n`dflow collect {}` looks again; {SUBMIT}",
                submission.dir().display()
            ));
            return Ok(());
        }
    };
    let sweep = Sweep::of(submission, &jobs, &live, &is_durable);
    // It may have been cancelled while this was collecting.
    submission.refresh().map_err(CliError::cluster)?;
    if let Some(reason) = why_not(submission, &sweep, missing, no_resubmit) {
        print_lossy(&format!("{}; {SUBMIT}", said(&sweep, &reason)));
        return Ok(());
    }
    again(submission, &slurm, &sweep, missing).map_err(CliError::cluster)
}

/// The jobs of the submission's chunks, and all that the run has in the queue.
fn queue(submission: &Submission, slurm: &Slurm) -> Result<(BTreeMap<usize, Job>, Keys), ClusterError> {
    let jobs = state::jobs_of_chunks(submission, slurm)?;
    Ok((jobs, state::live(submission.run_dir(), slurm)?.into_all_keys()))
}

/// Why the missing rows are left as they are; none if they are to be tried again.
fn why_not(submission: &Submission, sweep: &Sweep, missing: usize, no_resubmit: bool) -> Option<String> {
    let file = submission.file();
    let sweeps = file.cluster.sweeps.unwrap_or(SWEEPS);
    let before = file.missing.last().copied().unwrap_or(file.units);
    if file.cancelled {
        Some("the submission was cancelled".to_owned())
    } else if no_resubmit {
        Some("not submitted again".to_owned())
    } else if sweep.again.is_empty() {
        Some("nothing failed that another try could mend".to_owned())
    } else if file.missing.len() >= sweeps as usize {
        Some(format!("submitted again {} already", count(sweeps as usize, "time")))
    } else if !sweep.is_worth_it(before, missing) {
        let newest =
            sweep.newest.as_ref().map_or_else(|| format!("see {}", submission.logs().display()), told);
        Some(format!("the last tries made no row and no node is to blame: {newest}"))
    } else {
        None
    }
}

/// Where to read about a try that failed, and what it said last.
fn told(attempt: &Attempt) -> String {
    let log = attempt.log.display();
    let error = attempt.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    format!("see {log} ({} on {}){error}", attempt.ending(), attempt.node)
}

fn said(sweep: &Sweep, reason: &str) -> String {
    let parts = [
        (sweep.again.len(), "failed"),
        (sweep.cancelled.len(), "cancelled"),
        (sweep.live.len(), "still waiting or running"),
    ];
    let parts =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "chunk")));
    format!("{}: {reason}", parts.collect::<Vec<_>>().join(", "))
}

fn again(
    submission: &mut Submission,
    slurm: &Slurm,
    sweep: &Sweep,
    missing: usize,
) -> Result<(), ClusterError> {
    let (seen, mut is_first) = (submission.file().missing.len(), false);
    submission.update(|file| {
        is_first = file.missing.len() == seen;
        file.missing.extend(is_first.then_some(missing));
    })?;
    if !is_first {
        print_lossy("another `dflow collect` is submitting what failed");
        return Ok(());
    }
    let number = submission.file().missing.len() as u32;
    let exclude = launch::left_out(submission, sweep.exclude(submission), slurm)?;
    let arrays = launch::arrays(submission, &sweep.again, slurm.most_tasks(), number, &exclude);
    launch::launch(submission, slurm, arrays, &[])?;
    let nodes = if exclude.is_empty() { String::new() } else { format!(", without {exclude}") };
    print_lossy(&format!(
        "submitted {} again{nodes}; another job will collect",
        count(sweep.again.len(), "chunk")
    ));
    Ok(())
}

/// The path of a file of the run.
fn beside(run_dir: &RunDir, name: &str) -> PathBuf {
    Path::new(run_dir.layout().root()).join(name)
}
