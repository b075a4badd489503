//! `dflow collect`: what the last job of a submission does.
//!
//! Merges, checks against the plan, writes the tables, and submits again what failed. It may be run at any time, by hand
//! too, and as often as one likes.

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
use crate::cluster::{ClusterError, Question, Slurm, Submission, launch};
use crate::exit;
use crate::plan::{Plan, Shard};
use crate::store::{Depth, Fence, RunDir, Verdict, verify};
use crate::ui::text::count;

/// Times that what is missing is submitted again, where the spec does not say.
const SWEEPS: u32 = 2;

/// How long a submission that is under way is waited for: nobody sits before the job that collects.
const FENCE: Duration = Duration::from_secs(1800);

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
    loop {
        let verdict = gather(&submission, &run_dir, global)?;
        match sweep(&mut submission, &run_dir, &verdict, args.no_resubmit)? {
            Next::Over => return Ok(code(&verdict)),
            Next::Again => print_lossy("rows have come meanwhile"),
        }
    }
}

/// What is to be done after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Over,
    /// Everything once more: rows that were missing are there now.
    Again,
}

/// Merges, checks against the plan, and writes the tables.
fn gather(submission: &Submission, run_dir: &RunDir, global: &Global) -> Result<Verdict, CliError> {
    run_dir.finish(run_dir.plan()).map_err(CliError::store)?;
    complete_references(submission, run_dir, global);
    let verdict =
        verify(&**run_dir.fs(), run_dir.layout(), run_dir.plan(), Depth::Keys).map_err(CliError::store)?;
    match tables::write(run_dir) {
        Ok(text) => print_lossy(&text),
        // The rows are what matters: a table can be made from them at any time.
        Err(error) => eprintln_lossy(&format!("note: no tables: {}", error.text)),
    }
    print_lossy(&verdict_lines(submission.run_dir(), &verdict).join("\n"));
    Ok(verdict)
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
) -> Result<Next, CliError> {
    let missing = missing(submission, run_dir)?;
    if missing == 0 {
        if !verdict.missing.is_empty() {
            print_lossy(&format!("every row of this submission is done; {SUBMIT}"));
        }
        return Ok(Next::Over);
    }
    if submission.file().engine == Engine::Kubernetes {
        print_lossy(&format!("{} of this submission missing; {SUBMIT}", count(missing, "row")));
        return Ok(Next::Over);
    }
    // Who only looks keeps nobody out, and changes nothing.
    let held = if no_resubmit { None } else { fence(submission.run_dir())? };
    if held.is_none() && !no_resubmit {
        print_lossy(&format!(
            "not submitted again, because another `dflow submit` or `dflow collect` is still at it\n{}",
            look_again(submission)
        ));
        return Ok(Next::Over);
    }
    let slurm = Slurm::on_path();
    match queue(submission, &slurm, no_resubmit) {
        Ok(queue) => submit_missing(submission, run_dir, &slurm, &queue, no_resubmit),
        // What may still wait or run must not be submitted a second time.
        Err(error) if is_about_queue(&error) => {
            print_lossy(&format!(
                "not submitted again, because the queue could not be asked: {error}\n{}",
                look_again(submission)
            ));
            Ok(Next::Over)
        }
        Err(error) => Err(CliError::cluster(error)),
    }
}

/// Keeps others from submitting of the run; none where one of them does not come to an end.
fn fence(root: &Path) -> Result<Option<Fence>, CliError> {
    let held = Fence::of(root, Duration::ZERO).map_err(CliError::store)?;
    if held.is_some() {
        return Ok(held);
    }
    eprintln_lossy("waiting until another `dflow submit` or `dflow collect` of this run has ended");
    Fence::of(root, FENCE).map_err(CliError::store)
}

fn is_about_queue(error: &ClusterError) -> bool {
    use ClusterError::{Answer, Busy, NoProgram, Refused};
    matches!(error, Busy { .. } | NoProgram { .. } | Refused { .. } | Answer { .. })
}

fn look_again(submission: &Submission) -> String {
    format!("`dflow collect {}` looks again; {SUBMIT}", submission.dir().display())
}

/// Rows of the submission that are not durable.
fn missing(submission: &Submission, run_dir: &RunDir) -> Result<usize, CliError> {
    let finished = run_dir.finished().map_err(CliError::store)?;
    Ok(state::missing_rows(submission.chunks(), &|hash, sample| finished.has(hash, sample)))
}

/// What is in the queue: the jobs of the submission's chunks, and the keys of all that the run has there.
struct Queue {
    jobs: BTreeMap<usize, Job>,
    live: Keys,
}

fn queue(submission: &mut Submission, slurm: &Slurm, only_looks: bool) -> Result<Queue, ClusterError> {
    // It may have been cancelled, or submitted again, while this was collecting.
    submission.refresh()?;
    let jobs = slurm.jobs(&Question::of_arrays([&*submission]))?;
    if !only_looks {
        submission.settle(&jobs)?;
    }
    let live = state::live(submission.run_dir(), slurm)?.into_all_keys();
    Ok(Queue { jobs: state::by_chunk(submission, &jobs), live })
}

/// With the fence held: what failed by the queue and by the rows, which are read after it, is submitted again if that is
/// worth it. Nothing is left without a job that collects.
fn submit_missing(
    submission: &mut Submission,
    run_dir: &RunDir,
    slurm: &Slurm,
    queue: &Queue,
    no_resubmit: bool,
) -> Result<Next, CliError> {
    let finished = run_dir.finished().map_err(CliError::store)?;
    let is_durable = |hash: &str, sample: &str| finished.has(hash, sample);
    let missing = state::missing_rows(submission.chunks(), &is_durable);
    if missing == 0 {
        return Ok(Next::Again);
    }
    let sweep = Sweep::of(submission, &queue.jobs, &queue.live, &is_durable);
    let running = queue.jobs.values().filter(|job| job.phase.is_live()).map(|job| job.id);
    let running: Vec<u64> = running.collect::<BTreeSet<_>>().into_iter().collect();
    let Some(reason) = why_not(submission, &sweep, missing, no_resubmit) else {
        again(submission, slurm, &sweep, missing, &running).map_err(|error| cut_short(submission, error))?;
        return Ok(Next::Over);
    };
    print_lossy(&format!("{}; {SUBMIT}", said(&sweep, &reason)));
    if running.is_empty() || no_resubmit || submission.is_cancelled() {
        return Ok(Next::Over);
    }
    // The one before may have been killed between its arrays and the job that collects after them.
    let this = std::env::var("SLURM_JOB_ID").ok().and_then(|id| id.parse().ok());
    if launch::ensure_collector(submission, slurm, &running, this).map_err(CliError::cluster)? {
        print_lossy("another job will collect what still waits or runs");
    }
    Ok(Next::Over)
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

/// The error of a sweep that did not get to its end, with what to do: nobody may be there to collect what it submitted.
fn cut_short(submission: &Submission, error: ClusterError) -> CliError {
    let is_cancelled = matches!(error, ClusterError::Cancelled);
    let CliError { code, text } = CliError::cluster(error);
    let advice = format!("when what runs of it is over: {}", look_again(submission));
    let text = if is_cancelled { text } else { format!("{}\n{advice}", text.trim_end()) };
    CliError { code, text }
}

/// Submits chunks again, with a job that collects when they and the arrays that are `running` are over.
fn again(
    submission: &mut Submission,
    slurm: &Slurm,
    sweep: &Sweep,
    missing: usize,
    running: &[u64],
) -> Result<(), ClusterError> {
    let number = submission.file().missing.len() as u32 + 1;
    let exclude = launch::left_out(submission, sweep.exclude(submission), slurm)?;
    let arrays = launch::arrays(submission, &sweep.again, slurm.most_tasks(), number, &exclude);
    launch::launch(submission, slurm, arrays, running, Some(missing))?;
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
