//! `dflow work`: solves one chunk of a submission; what a task of a cluster runs.
//!
//! It exits 0 only if every unit of the chunk is durable, ok or failed. It neither merges nor touches `run.json`:
//! the truth is in the files, and the collecting job looks at all of them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::execute::{Job, SolveArgs, check_models};
use super::pipeline::Resolved;
use super::{CliError, CliResult, Global, print_lossy};
use crate::catalog::Catalog;
use crate::cluster::Submission;
use crate::cluster::task::{Misfit, TaskShape, misfit};
use crate::exit;
use crate::plan::{Plan, Shard, Unit};
use crate::run::{Blame, RunSummary, signal};
use crate::spec::device::{DeviceList, DeviceSpec};
use crate::store::{Part, RunDir};
use crate::ui::text::count;
use crate::worker::device::{self, Device, DeviceError};

/// Variables that number the tasks of an array, in the order in which they are looked at.
const INDEX: [&str; 3] = ["DFLOW_CHUNK", "SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"];

/// Time that is left for the rest of a task when its workers have ended.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// Options of `dflow work`.
#[derive(Debug, Args)]
pub(super) struct WorkArgs {
    /// The submission: `RUN/submit/<id>`.
    submission: PathBuf,
    /// The chunk, from 0; default: the variable DFLOW_CHUNK, SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX.
    #[arg(long, value_name = "I")]
    chunk: Option<usize>,
    /// Devices; default: as submitted.
    #[arg(long, value_name = "LIST")]
    devices: Option<DeviceList>,
    /// Write samples whose workers crash as failed rows also where the devices have not solved any: for the last of several
    /// tries on different machines. Without it they stay to be done, and the exit code is 72.
    #[arg(long)]
    blame_samples: bool,
}

impl WorkArgs {
    fn chunk(&self, submission: &Submission) -> Result<usize, CliError> {
        let from_environment = || {
            let (name, text) = INDEX.iter().find_map(|name| Some((*name, std::env::var(name).ok()?)))?;
            Some(
                text.trim()
                    .parse()
                    .map_err(|_| CliError::usage(format!("{name}={text} is no number of a chunk"))),
            )
        };
        let chunk = self.chunk.map(Ok).or_else(from_environment).ok_or_else(|| {
            CliError::usage(format!(
                "no chunk is named: give --chunk I, or run it as a task ({})",
                INDEX.join(", ")
            ))
        })??;
        let chunks = submission.file().chunks;
        if chunk < chunks {
            return Ok(chunk);
        }
        let (id, last) = (submission.id(), chunks.saturating_sub(1));
        Err(CliError::usage(format!("submission {id} has no chunk {chunk}: its chunks are 0 to {last}")))
    }
}

pub(super) fn run(args: &WorkArgs, global: &Global) -> CliResult {
    // Before anything that takes time: a warning that nobody hears ends the process.
    let stop = signal::listen().map_err(CliError::failure)?;
    let submission = Submission::open(&args.submission).map_err(CliError::usage)?;
    let chunk = args.chunk(&submission)?;
    let (global, resolved) = resolve(&submission, global)?;
    let units = submission.units(&resolved.plan, chunk).map_err(CliError::usage)?;
    let devices = devices(args, &submission)?;
    check_models(&resolved.plan, &devices)?;
    let run_dir = open_run(&submission, chunk)?;
    let todo = open_units(&resolved.plan, &units, &run_dir)?;
    let options = SolveArgs::of_submission(&submission.file().options)?;
    let (planned, run_dir, resolved) = (units.len(), &run_dir, &resolved);
    let task = Some((submission.id().to_owned(), chunk));
    let stop_within = Some(grace(&submission));
    let (options, blame) = (&options, if args.blame_samples { Blame::Always } else { Blame::Proven });
    let is_auto = args.devices.as_ref().unwrap_or(&submission.file().devices).is_auto();
    let job = Job { resolved, run_dir, devices, is_auto, todo, planned, options, task, stop_within, blame };
    let summary = job.execute(&stop, &global)?;
    end(&summary, chunk, planned, &global)
}

/// The pipeline as it was submitted, with the folders of then unless the command line names others.
fn resolve(submission: &Submission, global: &Global) -> Result<(Global, Resolved), CliError> {
    let file = submission.file();
    // Relative paths of the pipeline begin there; on another mount they must be absolute.
    if let Err(error) = std::env::set_current_dir(&file.directory) {
        tracing::warn!("{}: {error}; relative paths begin from here instead", file.directory.display());
    }
    let global = Global {
        home: global.home.clone().or_else(|| file.home.clone()),
        data: global.data.clone().or_else(|| file.data.clone()),
        ..global.clone()
    };
    let document = submission.document().map_err(CliError::usage)?;
    let catalog = Catalog::new(global.home.as_deref(), global.data.as_deref());
    let plan = Plan::resolve(&document, &catalog).map_err(CliError::usage)?;
    Ok((global, Resolved { document, catalog, plan, shard: Shard::WHOLE }))
}

fn devices(args: &WorkArgs, submission: &Submission) -> Result<Vec<Device>, CliError> {
    let file = submission.file();
    let list = args.devices.as_ref().unwrap_or(&file.devices);
    // Another machine may have more than was asked for, but GPUs that are asked for lie idle beside CPUs on all of them.
    let is_on_cpus = list.devices().iter().all(|device| matches!(device, DeviceSpec::Cpu { .. }));
    let idle = misfit(&file.cluster, list).filter(|misfit| is_on_cpus && misfit.field == "gpus");
    if let Some(Misfit { text, .. }) = idle {
        return Err(CliError::usage(format!("{text}; then cancel the submission and submit again")));
    }
    let devices = device::resolve(list).map_err(|error| match error {
        // The same everywhere.
        DeviceError::NoCuda(_) | DeviceError::GrantedWithoutCuda(_) => CliError::usage(error),
        _ => CliError { code: exit::DEVICES, text: error.to_string() },
    })?;
    let gpus = TaskShape::of(&file.cluster, list).gpus;
    // Only `auto` makes do without: what is granted it uses, or it has refused already.
    if gpus > 0 && devices.iter().all(|device| device.kind.visible().is_none()) {
        let text = format!(
            "`devices: {list}`: the task asks for {} and none is granted (CUDA_VISIBLE_DEVICES is empty or not set); look \
             at the partition's GPUs (sinfo -o '%P %G'), or write `devices: cpu` and `gpus: 0`",
            count(gpus as usize, "GPU")
        );
        return Err(CliError { code: exit::DEVICES, text });
    }
    Ok(devices)
}

/// Time in which every worker has come to its end after a stop was asked for, with some left for what follows: a device
/// that hangs must not keep the task from going back into the queue before its time is over.
fn grace(submission: &Submission) -> Duration {
    let file = submission.file();
    let warn = Duration::from_secs(TaskShape::of(&file.cluster, &file.devices).warn);
    warn.saturating_sub(AFTERWARDS).max(warn / 2)
}

/// The run directory for what this task writes.
fn open_run(submission: &Submission, chunk: usize) -> Result<RunDir, CliError> {
    let checkpoints = submission.chunks().chunk(chunk).map_err(CliError::usage)?.checkpoints.clone();
    let part = Part { tag: submission.tag(chunk), checkpoints };
    let run_dir = RunDir::existing(submission.run_dir()).map_err(CliError::store)?.with_part(part);
    // Hours must not be spent on what cannot be kept.
    run_dir.check_writable().map_err(CliError::store)?;
    Ok(run_dir)
}

/// What neither earlier attempts of the chunk have ended nor anybody else has solved since it was submitted, as far as
/// that is merged, or of no submission. A row of the chunk that failed is done: submitting again tries it again; one that
/// failed elsewhere may be why it was submitted.
fn open_units(plan: &Plan, units: &[Unit], run_dir: &RunDir) -> Result<Vec<Unit>, CliError> {
    let tag = run_dir.part().map_or("", |part| &part.tag);
    let done = run_dir.done_for(tag).map_err(CliError::store)?;
    let is_open = |unit: &&Unit| {
        let (hash, sample) = plan.key(**unit);
        !done.has(&hash.to_string(), sample)
    };
    Ok(units.iter().filter(is_open).copied().collect())
}

fn end(summary: &RunSummary, chunk: usize, planned: usize, global: &Global) -> CliResult {
    if summary.left == 0 {
        if !global.json && !global.quiet {
            print_lossy(&format!("chunk {chunk}: complete, {planned} rows, {} failed now", summary.failed));
        }
        return Ok(exit::OK);
    }
    let left = format!("chunk {chunk}: {} of {planned} rows left", summary.left);
    let code = code_of_left(summary);
    if code == exit::STOPPED_EARLY {
        if !global.json && !global.quiet {
            print_lossy(&left);
        }
        return Ok(code);
    }
    Err(CliError { code, text: format!("{left}: {}", summary.broken.join("; ")) })
}

/// The code of a task that leaves rows to be done: it decides where it goes on.
fn code_of_left(summary: &RunSummary) -> i32 {
    if summary.unwritable {
        exit::UNWRITABLE
    } else if summary.stopped.is_some() {
        exit::STOPPED_EARLY
    } else if summary.suspects > 0 && summary.finished == summary.failed {
        exit::CRASHES
    } else {
        // No worker is left, or nothing would be: another machine's devices may do.
        exit::DEVICES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_goes_on_elsewhere_where_nothing_is_written_or_solved() {
        let left = RunSummary { left: 1, broken: vec!["cuda:0: gone".to_owned()], ..RunSummary::default() };
        assert_eq!(code_of_left(&left), exit::DEVICES);
        let unlucky = RunSummary { finished: 2, failed: 2, suspects: 1, ..left.clone() };
        assert_eq!(code_of_left(&unlucky), exit::CRASHES, "nothing was solved");
        assert_eq!(code_of_left(&RunSummary { failed: 1, ..unlucky }), exit::DEVICES, "the device was lost");
        let stopped = RunSummary { stopped: Some("warned".to_owned()), ..left };
        assert_eq!(code_of_left(&stopped), exit::STOPPED_EARLY, "whatever broke before");
        assert_eq!(code_of_left(&RunSummary { unwritable: true, ..stopped }), exit::UNWRITABLE);
    }
}
