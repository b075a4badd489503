//! What is to be submitted: everything that can be wrong is found here, before anything is written.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::layers::Layers;
use super::{SubmitArgs, engine, hours};
use crate::cli::pipeline::Resolved;
use crate::cli::run::{open_units, say_missing_weights, say_what_stays_without};
use crate::cli::{CliError, Global, eprintln_lossy, print_lossy};
use crate::cluster::cost::{self, Basis, Cost};
use crate::cluster::ending::{self, Patience};
use crate::cluster::state::{self, Keys, Live};
use crate::cluster::submission::New;
use crate::cluster::{
    Chunk, ClusterError, Sizing, Slurm, Submission, TaskShape, WorkOptions, cut, launch, script,
};
use crate::plan::{Assumptions, Unit};
use crate::spec::cluster::ClusterSpec;
use crate::spec::device::{DeviceList, DeviceSpec};
use crate::store::fs::OsFs;
use crate::store::{Columns, Fence, Found, Key, Layout, Record, RunDir, Start, checkpoint, read_samples};
use crate::ui::text::count;

/// How long another submission is waited for: somebody sits before this one.
const FENCE: Duration = Duration::from_secs(10);

/// A resolved pipeline with what is left of it.
pub(super) struct Prepared {
    pub(super) resolved: Resolved,
    /// Site file and pipeline.
    cluster: ClusterSpec,
    home: Option<std::path::PathBuf>,
    data: Option<std::path::PathBuf>,
    /// Units to submit.
    todo: Vec<Unit>,
    pub(super) left: Left,
    /// Expected cost by cell.
    costs: Vec<Cost>,
    /// What earlier submissions still have in the queue.
    pub(super) live: Live,
    /// Held until what is submitted is recorded.
    _fence: Option<Fence>,
}

/// Resolves the pipeline with all its checks, and finds what is neither durable nor under way.
pub(super) fn prepare(args: &SubmitArgs, slurm: &Slurm, global: &Global) -> Result<Prepared, CliError> {
    let resolved = args.pipeline.resolve(global)?;
    let plan = &resolved.plan;
    let layers = Layers::of(args, &resolved).map_err(CliError::cluster)?;
    let cluster = layers.together(&plan.devices).map_err(CliError::cluster)?;
    if args.slurm {
        check_gpus(&cluster, &plan.devices, args.dry_run)?;
    }
    let root = Path::new(&plan.output);
    let start = Start { plan, document: &resolved.document };
    // Whatever is wrong there is found before anything is written or waited for.
    RunDir::look(root, &start).map_err(CliError::store)?;
    say_what_stays_without(root, plan, global);
    say_missing_weights(&resolved, global)?;
    let fence = if args.dry_run { None } else { Some(fence(root, FENCE)?) };
    let live = if args.slurm && !args.force { in_queue(args, root, slurm)? } else { Live::default() };
    // Only now: what has left the queue until it was asked has its rows by now.
    let Found { finished, run } = RunDir::look(root, &start).map_err(CliError::store)?;
    let mut todo = open_units(&resolved, &finished, args.keep_failed);
    let open = todo.len();
    if !args.force {
        let notes = leave_out_handed_over(root, &resolved, &mut todo).map_err(CliError::cluster)?;
        notes.iter().for_each(|note| eprintln_lossy(note));
    }
    leave_out(&resolved, &mut todo, &live.keys);
    let left = Left::of(&resolved, open, todo.len());
    left.say(global);
    let merged = match run {
        Some(_) => merged(root)?,
        None => Vec::new(),
    };
    if todo.is_empty() && live.keys.is_empty() && merged.len() < finished.rows.len() {
        say_how_to_collect(root, slurm, global).map_err(CliError::cluster)?;
    }
    let measured = cost::measured(&merged);
    let assumptions =
        Assumptions { seconds_per_eval: args.seconds_per_eval, evals_per_row: args.evals_per_row };
    let costs = cost::costs(plan, &measured, assumptions);
    let (home, data) = (global.home.clone(), global.data.clone());
    Ok(Prepared { resolved, cluster, home, data, todo, left, costs, live, _fence: fence })
}

/// Removes what was handed to Kubernetes, and says of what; a job there is not asked whether it still runs.
fn leave_out_handed_over(
    root: &Path,
    resolved: &Resolved,
    todo: &mut Vec<Unit>,
) -> Result<Vec<String>, ClusterError> {
    let mut notes = Vec::new();
    for (submission, keys) in state::in_kubernetes(root)? {
        let before = todo.len();
        leave_out(resolved, todo, &keys);
        let (left_out, short, id) = (before - todo.len(), submission.short(), submission.id());
        notes.extend((left_out > 0).then(|| {
            format!(
                "note: {} left out: the job dflow-{short} of Kubernetes may still solve {}; if it is over or deleted, \
                 `dflow cancel {} --submission {id}` says so, and --force submits in any case",
                count(left_out, "row"),
                if left_out == 1 { "it" } else { "them" },
                root.display()
            )
        }));
    }
    Ok(notes)
}

fn leave_out(resolved: &Resolved, todo: &mut Vec<Unit>, keys: &Keys) {
    if keys.is_empty() {
        return;
    }
    todo.retain(|unit| {
        let (hash, sample) = resolved.plan.key(*unit);
        !keys.contains(&(hash.to_string(), sample.to_owned()))
    });
}

/// What earlier submissions have in the queue, as soon as the tasks of cancelled ones are gone. A dry run waits for nothing,
/// and needs no Slurm: the script can be looked at from anywhere.
fn in_queue(args: &SubmitArgs, root: &Path, slurm: &Slurm) -> Result<Live, CliError> {
    let said = |error: ClusterError| {
        if matches!(error, ClusterError::Ending { .. }) {
            return CliError::cluster(error);
        }
        let CliError { code, text } = CliError::cluster(error);
        let advice = "what is in the queue is not known; --force submits all that is missing all the same";
        CliError { code, text: format!("{}\n{advice}", text.trim_end()) }
    };
    if !args.dry_run {
        return ending::live(root, slurm, Patience::USUAL, |chunks| {
            eprintln_lossy(&format!(
                "waiting until {} of what was cancelled {} checkpointed and ended, for some two minutes at the most",
                count(chunks, "chunk"),
                if chunks == 1 { "has" } else { "have" }
            ));
        })
        .map_err(said);
    }
    let live = state::live(root, slurm).unwrap_or_else(|error| {
        eprintln_lossy(&format!("note: {}", said(error).text));
        Live::default()
    });
    if !live.ending.jobs.is_empty() {
        eprintln_lossy("note: what was cancelled is still ending; without --dry-run it is waited for");
    }
    Ok(live)
}

/// Keeps other submissions of the run out: they are to find in the queue what this one puts there.
fn fence(root: &Path, patience: Duration) -> Result<Fence, CliError> {
    let held = Fence::of(root, patience).map_err(CliError::store)?;
    held.ok_or_else(|| {
        CliError::failure(format!(
            "another `dflow submit` or `dflow collect` of {} is under way, and nothing was submitted by this one; if anything \
             is missing when it is over, run the same command again",
            root.display()
        ))
    })
}

/// Refuses GPUs that this program could not use, where it is the one that is started on the nodes.
fn check_gpus(cluster: &ClusterSpec, devices: &DeviceList, dry_run: bool) -> Result<(), CliError> {
    let devices = cluster.devices.as_ref().unwrap_or(devices);
    if cfg!(feature = "cuda") || !needs_cuda(cluster, devices) {
        return Ok(());
    }
    let text = "the tasks ask for GPUs, but this program was built without CUDA and could not use them: build it with \
                `cargo build --release --features cuda`, or set `command:` in `cluster:` or in the site file to one that \
                was, or `devices: cpu` and `gpus: 0` there";
    if dry_run {
        eprintln_lossy(&format!("note: {text}"));
        return Ok(());
    }
    Err(CliError::usage(text))
}

/// Whether the program that submits has to solve on GPUs.
fn needs_cuda(cluster: &ClusterSpec, devices: &DeviceList) -> bool {
    let is_cuda = |device: &DeviceSpec| matches!(device, DeviceSpec::Auto | DeviceSpec::Cuda(_));
    cluster.command.is_none()
        && TaskShape::of(cluster, devices).gpus > 0
        && devices.devices().iter().any(is_cuda)
}

/// Everything is durable, but not everything merged: nobody may be there to do it.
fn say_how_to_collect(root: &Path, slurm: &Slurm, global: &Global) -> Result<(), ClusterError> {
    let all = Submission::all(root)?;
    let Some(newest) = all.last() else {
        say(global, &format!("not every row is merged: dflow merge {}", root.display()));
        return Ok(());
    };
    let collecting = all.iter().map(|submission| state::collector_jobs(submission, slurm));
    // A queue that is not known, or not there, has no job to wait for.
    let job = collecting.flat_map(Result::unwrap_or_default).map(|job| job.id).next();
    let text = match job {
        Some(id) => format!("not every row is merged yet: job {id} collects"),
        None => format!(
            "not every row is merged, and no job is there to collect: dflow collect {}",
            newest.dir().display()
        ),
    };
    say(global, &text);
    Ok(())
}

/// How much of what was planned is to be submitted.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Left {
    submitted: usize,
    planned: usize,
    done: usize,
    /// In chunks that wait or run.
    in_queue: usize,
}

impl Left {
    /// Of `open` rows that are not done, `todo` are to be submitted.
    fn of(resolved: &Resolved, open: usize, todo: usize) -> Self {
        let planned = resolved.plan.units(resolved.shard).count();
        Self { submitted: todo, planned, done: planned - open, in_queue: open - todo }
    }

    fn say(self, global: &Global) {
        let Self { submitted, planned, done, in_queue } = self;
        let of = count(planned, "row");
        if submitted == 0 {
            let under_way =
                if in_queue > 0 { format!(", {in_queue} in chunks that wait or run") } else { String::new() };
            say(global, &format!("nothing to submit: {done} of {of} done{under_way}"));
        } else if done + in_queue > 0 {
            eprintln_lossy(&format!(
                "{submitted} of {of} to submit: {done} done, {in_queue} in chunks that wait or run"
            ));
        }
    }
}

/// Prints a result for people; where others read stdout, beside it.
fn say(global: &Global, text: &str) {
    if global.json { eprintln_lossy(text) } else { print_lossy(text) }
}

/// The rows of `samples.parquet`.
fn merged(root: &Path) -> Result<Vec<Record>, CliError> {
    let run_dir = RunDir::existing(root).map_err(CliError::store)?;
    read_samples(&**run_dir.fs(), run_dir.layout(), Columns::WithoutTrace).map_err(CliError::store)
}

impl Prepared {
    /// Starts the jobs that collect which are missing from the queue.
    pub(super) fn restore_collectors(&self, slurm: &Slurm) -> Result<(), ClusterError> {
        for id in launch::restore_collectors(&self.live.arrays, &self.cluster, slurm)? {
            eprintln_lossy(&format!(
                "submission {id} had no job to collect its rows any more: started again"
            ));
        }
        Ok(())
    }

    /// Arrays of earlier submissions that still wait or run.
    pub(super) fn live_jobs(&self) -> Vec<u64> {
        self.live.arrays.values().flatten().copied().collect()
    }

    /// The submission, not yet written; none if nothing is left.
    pub(super) fn submission(&self, args: &SubmitArgs) -> Result<Option<Submission>, ClusterError> {
        if self.todo.is_empty() {
            return Ok(None);
        }
        let plan = &self.resolved.plan;
        let shape = self.shape();
        let sizing = Sizing {
            target: shape.chunk as f64,
            workers: shape.workers as usize,
            at_once: shape.at_once as usize,
        };
        let seconds: Vec<f64> = self.costs.iter().map(|cost| cost.seconds).collect();
        let directory = std::env::current_dir().map_err(here("find the working directory"))?;
        let command = match &self.cluster.command {
            Some(command) => command.clone(),
            None => script::quoted_path(&std::env::current_exe().map_err(here("find this program"))?)?,
        };
        let root = directory.join(&plan.output);
        let new = New {
            document: &self.resolved.document,
            plan,
            engine: engine(args),
            home: self.home.clone(),
            data: self.data.clone(),
            directory,
            options: WorkOptions {
                slots: args.slots.clone(),
                memory: args.memory.clone(),
                keep_failed: args.keep_failed,
                checkpoint_every: args.checkpoint_every,
            },
            cluster: self.cluster.clone(),
            command,
        };
        let mut chunks = cut(&self.todo, &seconds, sizing);
        self.add_checkpoints(&mut chunks);
        Ok(Some(Submission::new(&root, &new, chunks)))
    }

    /// Names the checkpoints that a chunk's solves go on from: its tasks look at no other files than their own.
    fn add_checkpoints(&self, chunks: &mut [Chunk]) {
        let plan = &self.resolved.plan;
        let key = |unit: Unit| {
            let (hash, sample) = plan.key(unit);
            (hash.to_string(), sample.to_owned())
        };
        let todo: HashSet<Key> = self.todo.iter().map(|unit| key(*unit)).collect();
        let layout = Layout::new(&plan.output);
        let holders = checkpoint::holders(&OsFs, &layout, |key| todo.contains(key));
        let holders = holders.unwrap_or_else(|error| {
            eprintln_lossy(&format!("note: solves begin anew, not where they were: {error}"));
            BTreeMap::new()
        });
        if holders.is_empty() {
            return;
        }
        for chunk in chunks {
            let keys = chunk.units.iter().flat_map(|stretch| stretch.units()).map(key);
            let names: BTreeSet<&String> = keys.filter_map(|key| holders.get(&key)).flatten().collect();
            chunk.checkpoints = names.into_iter().cloned().collect();
        }
    }

    fn shape(&self) -> TaskShape {
        let devices = self.cluster.devices.as_ref().unwrap_or(&self.resolved.plan.devices);
        TaskShape::of(&self.cluster, devices)
    }

    /// Says what the chunks are like, and which costs are only assumed.
    pub(super) fn say(&self, submission: &Submission, global: &Global) {
        if global.quiet {
            return;
        }
        for line in self.notes(submission) {
            eprintln_lossy(&line);
        }
    }

    fn notes(&self, submission: &Submission) -> Vec<String> {
        let shape = self.shape();
        let (device, wall) = hours(submission, shape);
        let chunks = &submission.chunks().chunks;
        let longest = chunks.iter().map(|chunk| chunk.seconds).fold(0.0, f64::max) / f64::from(shape.workers);
        let mut notes = vec![format!(
            "{} in {}, the longest of {:.0} min: {device:.1} device-hours, {wall:.1} hours with {} at once{}",
            count(self.todo.len(), "row"),
            count(chunks.len(), "chunk"),
            longest / 60.0,
            count(shape.at_once as usize, "task"),
            if self.cluster.throttle.is_some() { "" } else { " (assumed)" }
        )];
        notes.extend(self.assumed());
        if let Some(time) =
            self.cluster.time.filter(|time| longest + shape.warn as f64 > time.seconds() as f64)
        {
            notes.push(format!(
                "note: a chunk is longer than the time limit of {time}: its task will checkpoint and go back into the \
                 queue each time; --chunk makes them shorter"
            ));
        }
        notes
    }

    fn assumed(&self) -> Option<String> {
        let plan = &self.resolved.plan;
        let cells = plan.cells.iter().enumerate().zip(&self.costs);
        let is_open = |cell: usize| self.todo.iter().any(|unit| unit.cell == cell);
        let names: Vec<String> = cells
            .filter(|((i, _), cost)| cost.basis == Basis::Assumed && is_open(*i))
            .map(|((_, cell), cost)| {
                format!("{}/{} ({:.0} s a sample)", cell.task, cell.method, cost.seconds)
            })
            .collect();
        (!names.is_empty()).then(|| {
            format!(
                "note: nothing was measured yet for {}: chunks may be far longer or shorter than they should; \
                 `dflow run PIPELINE --limit 2` on one such device measures it, --seconds-per-eval says it",
                names.join(", ")
            )
        })
    }
}

fn here(doing: &'static str) -> impl FnOnce(std::io::Error) -> ClusterError {
    move |source| ClusterError::Io { doing, path: ".".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn beside_another_submission_nothing_is_submitted() {
        let dir = tempfile::tempdir().unwrap();
        let held = fence(dir.path(), Duration::ZERO).expect("nobody is there");
        let Err(CliError { code, text }) = fence(dir.path(), Duration::ZERO) else {
            panic!("there is one at a time")
        };
        assert_eq!(code, exit::FAILURE);
        assert!(
            text.contains("another `dflow submit`") && text.contains("run the same command again"),
            "{text}"
        );
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        drop(held);
        assert!(fence(dir.path(), Duration::ZERO).is_ok());
    }

    #[test]
    fn a_program_without_cuda_is_enough_where_it_solves_on_no_gpu() {
        let command = Some("apptainer exec dflow.sif dflow".to_owned());
        let gpus = |gpus| ClusterSpec { gpus, ..ClusterSpec::default() };
        let contained = ClusterSpec { command, ..gpus(Some(2)) };
        for (spec, devices, needs) in [
            (gpus(None), "auto", true),
            (gpus(Some(2)), "cuda", true),
            (gpus(Some(2)), "cuda:0,cuda:1", true),
            (gpus(Some(0)), "auto", false),
            (gpus(None), "cpu", false),
            (gpus(Some(2)), "sim", false),
            (contained, "cuda", false),
        ] {
            assert_eq!(needs_cuda(&spec, &devices.parse().unwrap()), needs, "{devices}, {:?}", spec.gpus);
        }
    }
}
