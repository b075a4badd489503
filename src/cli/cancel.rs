//! `dflow cancel`: takes what was submitted of a run out of the queue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{CliError, CliResult, Global, eprintln_lossy, print_lossy};
use crate::cluster::cancel::{Cancelled, cancel};
use crate::cluster::ending::{self, Patience};
use crate::cluster::submission::Engine;
use crate::cluster::{ClusterError, Slurm, Submission};
use crate::exit;
use crate::ui::text::count;

/// Between two looks at a queue whose collecting job is being ended.
const PAUSE: Duration = Duration::from_secs(2);

/// Options of `dflow cancel`.
#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The run directory.
    run: PathBuf,
    /// This submission only: its id, or the end of it.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    submission: Option<String>,
}

pub(super) fn run(args: &CancelArgs, _: &Global) -> CliResult {
    let mut open = Vec::new();
    let mut damaged = None;
    for dir in chosen(args)? {
        match Submission::without_chunks(&dir) {
            Ok(submission) => open.push(submission),
            Err(error) => damaged = Some(unknown(error, dir)),
        }
    }
    // A damaged one keeps nobody from cancelling the others.
    end(open).map_err(CliError::cluster)?;
    damaged.map_or(Ok(exit::OK), |error| Err(CliError::cluster(error)))
}

/// The folders of the submissions that are meant.
fn chosen(args: &CancelArgs) -> Result<Vec<PathBuf>, CliError> {
    let all = Submission::folders(&args.run).map_err(CliError::cluster)?;
    let is_wanted = |dir: &&PathBuf| args.submission.as_ref().is_none_or(|id| name(dir).ends_with(&**id));
    let run = args.run.display();
    let chosen: Vec<&PathBuf> = all.iter().filter(is_wanted).collect();
    match &chosen[..] {
        [] if all.is_empty() => {
            let text = format!("{run}: nothing was submitted from here: there is no folder submit/");
            Err(CliError::usage(text))
        }
        [] => {
            let ids = listed(&all.iter().collect::<Vec<_>>());
            Err(CliError::usage(format!("{run}: there is no such submission; there are {ids}")))
        }
        [_, _, ..] if args.submission.is_some() => {
            let which = listed(&chosen);
            Err(CliError::usage(format!("{run}: name one of these submissions in full: {which}")))
        }
        _ => Ok(chosen.into_iter().cloned().collect()),
    }
}

fn listed(dirs: &[&PathBuf]) -> String {
    dirs.iter().map(|dir| name(dir)).collect::<Vec<_>>().join(", ")
}

/// The id of the submission in a folder.
fn name(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unknown(source: ClusterError, dir: PathBuf) -> ClusterError {
    ClusterError::Unknown { source: Box::new(source), id: name(&dir), dir }
}

/// Cancels submissions, and waits for what ran: until a task is gone, its last checkpoint may be missing. What goes wrong
/// with one keeps nobody from cancelling the others.
fn end(mut chosen: Vec<Submission>) -> Result<(), ClusterError> {
    let slurm = Slurm::on_path();
    let mut result = Ok(());
    for submission in &mut chosen {
        let said = match submission.file().engine {
            Engine::Slurm => in_slurm(submission, &slurm),
            Engine::Kubernetes => in_kubernetes(submission),
        };
        match said {
            Ok(said) => print_lossy(&said),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result?;
    chosen.retain(|submission| submission.file().engine == Engine::Slurm);
    let left = ending::wait(&chosen, &slurm, Patience::USUAL, |chunks| {
        eprintln_lossy(&format!(
            "waiting until {} checkpointed and ended, for some two minutes at the most",
            have(chunks)
        ));
    })?;
    if left > 0 {
        print_lossy(&format!("{} not ended yet; `dflow submit` waits for that, too", have(left)));
    }
    Ok(())
}

fn have(chunks: usize) -> String {
    format!("{} {}", count(chunks, "chunk"), if chunks == 1 { "has" } else { "have" })
}

fn in_slurm(submission: &mut Submission, slurm: &Slurm) -> Result<String, ClusterError> {
    let Cancelled { queued, running } = cancel(submission, slurm, PAUSE)?;
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

/// Nobody but the user reaches it; what is recorded lets the next submission have its rows.
fn in_kubernetes(submission: &mut Submission) -> Result<String, ClusterError> {
    submission.mark_cancelled()?;
    let namespace = submission.file().cluster.kubernetes.as_ref().and_then(|spec| spec.namespace.as_ref());
    let namespace = namespace.map_or_else(String::new, |name| format!(" -n {name}"));
    Ok(format!(
        "{}: cancelled here; end its pods, too: kubectl{namespace} delete job dflow-{}",
        submission.id(),
        submission.short()
    ))
}
