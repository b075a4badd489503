//! `dflow cancel`: takes what was submitted of a run out of the queue.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::cluster::queue::Phase;
use crate::cluster::submission::Engine;
use crate::cluster::{ClusterError, Slurm, Submission, state};
use crate::exit;
use crate::ui::text::count;

/// Options of `dflow cancel`.
#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The run directory.
    run: PathBuf,
    /// This submission only: its id, or the end of it.
    #[arg(long, value_name = "ID")]
    submission: Option<String>,
}

pub(super) fn run(args: &CancelArgs, _: &Global) -> CliResult {
    let all = Submission::all(&args.run).map_err(CliError::cluster)?;
    let wanted = |submission: &Submission| {
        args.submission
            .as_ref()
            .is_none_or(|id| submission.id() == id || submission.id().ends_with(id.as_str()))
    };
    let ids: Vec<String> = all.iter().map(|submission| submission.id().to_owned()).collect();
    let chosen: Vec<Submission> = all.into_iter().filter(wanted).collect();
    if chosen.is_empty() {
        let run = args.run.display();
        return Err(CliError::usage(if ids.is_empty() {
            format!("{run}: nothing was submitted from here: there is no folder submit/")
        } else {
            format!("{run}: there is no such submission; there are {}", ids.join(", "))
        }));
    }
    for mut submission in chosen {
        let line = match submission.file().engine {
            Engine::Slurm => cancel(&mut submission, &Slurm::on_path()).map_err(CliError::cluster)?,
            Engine::Kubernetes => {
                format!("{}: kubectl delete job dflow-{}", submission.id(), submission.short())
            }
        };
        print_lossy(&line);
    }
    Ok(exit::OK)
}

/// Cancels every job of a submission, the collecting one first: it would submit again what it finds missing.
fn cancel(submission: &mut Submission, slurm: &Slurm) -> Result<String, ClusterError> {
    submission.update(|file| file.cancelled = true)?;
    let chunks = state::jobs_of_chunks(submission, slurm)?;
    let in_phase = |phase: Phase| chunks.values().filter(|job| job.phase == phase).count();
    let (queued, running) = (in_phase(Phase::Queued), in_phase(Phase::Running));
    let collectors = state::collector_jobs(submission, slurm)?;
    let mut jobs: Vec<u64> = chunks.values().filter(|job| job.phase.is_live()).map(|job| job.id).collect();
    jobs.dedup();
    for jobs in [collectors, jobs] {
        if !jobs.is_empty() {
            slurm.cancel(&jobs)?;
        }
    }
    Ok(match queued + running {
        0 => format!("{}: nothing of it waits or runs any more", submission.id()),
        _ => format!(
            "{}: cancelled {} that waited and {running} that ran; running ones checkpoint first. Rows that are done stay: \
             the same `dflow submit` goes on from there",
            submission.id(),
            count(queued, "chunk")
        ),
    })
}
