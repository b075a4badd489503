//! `dflow submit`: a pipeline as arrays of a Slurm cluster, or as a job of Kubernetes.

mod layers;
mod plan;

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;

use self::plan::{Prepared, prepare};
use super::pipeline::PipelineArgs;
use super::{CliError, CliResult, Global, eprintln_lossy, print_lossy};
use crate::cluster::submission::Engine;
use crate::cluster::{ClusterError, Slurm, Submission, TaskShape, kubernetes, launch, script, syntax};
use crate::exit;
use crate::spec::span::{Span, SpanError};
use crate::store::{RunDir, Start};
use crate::ui::text::count;

/// Options of `dflow submit`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Submit to Slurm, from a machine that has sbatch.
    #[arg(long, required_unless_present = "k8s", conflicts_with = "k8s")]
    slurm: bool,
    /// Write the manifest of an Indexed Job of Kubernetes, into the run directory and to stdout.
    #[arg(long)]
    k8s: bool,
    /// Time that a chunk of samples should take, such as 30m; default: `chunk` of `cluster:`, else 30m.
    #[arg(long, value_name = "TIME", value_parser = parse_chunk)]
    chunk: Option<Span>,
    /// Site file: what `cluster:` of the pipeline leaves open; default: $DFLOW_SITE, else ~/.config/dflow/cluster.yaml.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Print the batch script (or manifest) and what would be submitted; write and submit nothing.
    #[arg(long)]
    dry_run: bool,
    /// Submit also what is in chunks that still wait or run; whatever is then solved twice counts once.
    #[arg(long)]
    force: bool,
    /// For the size of chunks where no rows were measured: seconds of one evaluation, as `dflow model time` says.
    #[arg(long, value_name = "S", value_parser = super::plan::positive)]
    seconds_per_eval: Option<f64>,
    /// With it: evaluations of D-Flow on a sample; default: the stop rules' bound.
    #[arg(long, value_name = "N", value_parser = super::plan::positive, requires = "seconds_per_eval")]
    evals_per_row: Option<f64>,
    /// Samples that a device solves at a time; never changes a number.
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = parse_slots)]
    slots: String,
    /// What is kept of each network call for its pull-back; never changes a number.
    #[arg(long, value_name = "auto|tape|recompute", default_value = "auto",
          value_parser = PossibleValuesParser::new(["auto", "tape", "recompute"]))]
    memory: String,
    /// Leave rows that failed earlier as they are, instead of trying them again.
    #[arg(long)]
    keep_failed: bool,
    /// Seconds between two checkpoints of a running solve.
    #[arg(long, value_name = "S", default_value_t = 60)]
    checkpoint_every: u64,
}

fn parse_chunk(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: SpanError| error.to_string())?;
    if span.seconds() > 0 { Ok(span) } else { Err("a length of time above 0".to_owned()) }
}

fn parse_slots(text: &str) -> Result<String, String> {
    let holds = text == "auto" || text.parse::<usize>().is_ok_and(|slots| slots > 0);
    if holds { Ok(text.to_owned()) } else { Err("write a number of samples ≥ 1, or auto".to_owned()) }
}

impl CliError {
    /// A submission: what the user can mend is wrong input, a refusal of the file system may be this machine's alone,
    /// everything else is a failure.
    pub(super) fn cluster(error: ClusterError) -> Self {
        Self { code: error.exit_code(), text: error.to_string() }
    }
}

pub(super) fn run(args: &SubmitArgs, global: &Global) -> CliResult {
    let slurm = Slurm::on_path();
    if args.slurm && !args.dry_run {
        slurm.check().map_err(no_sbatch)?;
    }
    let prepared = prepare(args, &slurm, global)?;
    if !args.dry_run {
        prepared.restore_collectors(&slurm).map_err(CliError::cluster)?;
    }
    let Some(submission) = prepared.submission(args).map_err(CliError::cluster)? else {
        if global.json {
            print_json(&prepared.left)?;
        }
        return Ok(exit::OK);
    };
    prepared.say(&submission, global);
    match (args.slurm, args.dry_run) {
        (true, true) => show_script(&submission, &slurm, global),
        (true, false) => submit(&prepared, submission, &slurm, global),
        (false, dry_run) => write_manifest(&prepared, &submission, dry_run, global),
    }
}

/// Before anything was looked at: what goes without it, too.
fn no_sbatch(error: ClusterError) -> CliError {
    let is_missing = matches!(error, ClusterError::NoProgram { .. });
    let CliError { code, text } = CliError::cluster(error);
    let text = if is_missing { format!("{text}; --dry-run shows the script without it") } else { text };
    CliError { code, text }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    print_lossy(&serde_json::to_string_pretty(value).map_err(CliError::failure)?);
    Ok(())
}

fn show_script(submission: &Submission, slurm: &Slurm, global: &Global) -> CliResult {
    let chunks: Vec<usize> = (0..submission.file().chunks).collect();
    let arrays = launch::arrays(submission, &chunks, slurm.most_tasks(), 0, "");
    let text = script::job(submission, &arrays).map_err(CliError::cluster)?;
    if let Err(error) = syntax::check(&text, &submission.file().cluster) {
        eprintln_lossy(&format!("note: {error}"));
    }
    if global.json {
        print_json(&serde_json::json!({ "script": text }))?;
    } else {
        print_lossy(&text);
    }
    Ok(exit::OK)
}

/// The run directory with its `run.json`, and the submission's files; nothing is submitted yet.
fn create(prepared: &Prepared, submission: &Submission) -> Result<(), CliError> {
    let resolved = &prepared.resolved;
    let start = Start { plan: &resolved.plan, document: &resolved.document };
    RunDir::open(Path::new(&resolved.plan.output), &start).map_err(CliError::store)?;
    submission.create(&resolved.document).map_err(CliError::cluster)
}

fn submit(prepared: &Prepared, mut submission: Submission, slurm: &Slurm, global: &Global) -> CliResult {
    let chunks: Vec<usize> = (0..submission.file().chunks).collect();
    let arrays = launch::arrays(&submission, &chunks, slurm.most_tasks(), 0, "");
    // What cannot stand in a script is found before anything is written.
    let text = script::job(&submission, &arrays).map_err(CliError::cluster)?;
    syntax::check(&text, &submission.file().cluster).map_err(CliError::cluster)?;
    create(prepared, &submission)?;
    launch::write_scripts(&submission, &arrays).map_err(CliError::cluster)?;
    let launched = launch::check(&submission, slurm)
        .and_then(|()| launch::launch(&mut submission, slurm, arrays, &prepared.live_jobs(), None));
    if let Err(error) = launched {
        return Err(cut_short(submission, error));
    }
    if global.json {
        print_json(submission.file())?;
    } else {
        print_lossy(&summary(&submission, &prepared.resolved.plan.output));
    }
    if let Some(job) = launch::stuck(&submission, slurm) {
        eprintln_lossy(&format!(
            "note: array {} waits and may never start ({}): `scontrol show job {}` says more; if the cluster has no such \
             nodes: dflow cancel {}, mend `cluster:` or the site file, submit again",
            job.id,
            job.reason.trim(),
            job.id,
            prepared.resolved.plan.output
        ));
    }
    Ok(exit::OK)
}

/// The error of a submission that did not get to its end, with what became of it and what to do.
fn cut_short(mut submission: Submission, error: ClusterError) -> CliError {
    if matches!(error, ClusterError::Cancelled) {
        return CliError::cluster(error);
    }
    // Refused, and so surely not in the queue.
    let is_refused = error.is_usage();
    let CliError { code, text } = CliError::cluster(error);
    // Where it cannot be read again, it is as it was known before.
    let _ = submission.refresh();
    let said = what_became(&submission, is_refused);
    if is_refused && submission.file().arrays.iter().all(|array| array.job.is_none()) {
        // Nothing in it is worth keeping; a folder that stays is of no harm.
        let _ = submission.discard();
    }
    CliError { code, text: format!("{}\n{said}", text.trim_end()) }
}

fn what_became(submission: &Submission, is_refused: bool) -> String {
    let file = submission.file();
    let submitted = file.arrays.iter().filter(|array| array.job.is_some()).count();
    let mend = if is_refused { "mend that, then run" } else { "run" };
    let again = "the same command again: it submits what is missing and not in the queue";
    match submitted {
        0 if is_refused => format!("nothing was submitted; {mend} the same command again"),
        0 => format!("nothing is known to be submitted; {mend} {again}"),
        all if all == file.arrays.len() => format!(
            "{} submitted, and will run, but no job that collects after them; {mend} the same command again before they are \
             over, and it starts that job{}; or, when they are over: dflow collect {}",
            count(all, "array"),
            if is_refused { " (`collect:` in `cluster:` or in the site file says how)" } else { "" },
            submission.dir().display()
        ),
        some => {
            let of = count(file.arrays.len(), "array");
            format!("{some} of {of} already submitted, and will run; {mend} {again}")
        }
    }
}

fn summary(submission: &Submission, output: &str) -> String {
    let file = submission.file();
    let ids = |jobs: Vec<Option<u64>>| {
        jobs.into_iter().flatten().map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
    };
    let arrays = ids(file.arrays.iter().map(|array| array.job).collect());
    let collector = ids(file.collectors.iter().map(|job| job.job).collect());
    format!(
        "submitted {} in {}: array {arrays}, then job {collector} collects\n\
         \n  dflow status {output} --watch      # how far it is\
         \n  dflow cancel {output}              # rows that are done stay\
         \n  less {}/*.out\
         \n  the tables will be in {output}/tables.md",
        count(file.units, "row"),
        count(file.chunks, "chunk"),
        submission.logs().display()
    )
}

fn write_manifest(prepared: &Prepared, submission: &Submission, dry_run: bool, global: &Global) -> CliResult {
    let manifest = kubernetes::manifest(submission).map_err(CliError::cluster)?;
    if !dry_run {
        create(prepared, submission)?;
        submission.write_file("job.k8s.yaml", &manifest).map_err(CliError::cluster)?;
        let path = submission.dir().join("job.k8s.yaml");
        eprintln_lossy(&format!(
            "written to {}; its first lines say how to apply and collect it",
            path.display()
        ));
    }
    if global.json {
        print_json(&serde_json::json!({ "manifest": manifest, "submission": submission.file() }))?;
    } else {
        print_lossy(&manifest);
    }
    Ok(exit::OK)
}

/// Hours of all tasks together, and of the whole on as many tasks as run at once, as far as the costs are right.
fn hours(submission: &Submission, shape: TaskShape) -> (f64, f64) {
    let device: f64 = submission.chunks().chunks.iter().map(|chunk| chunk.seconds).sum::<f64>() / 3600.0;
    let tasks = (shape.at_once as usize).min(submission.file().chunks).max(1);
    (device, device / (tasks as f64 * f64::from(shape.workers)))
}

const fn engine(args: &SubmitArgs) -> Engine {
    if args.k8s { Engine::Kubernetes } else { Engine::Slurm }
}
