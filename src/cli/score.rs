//! `dflow score`: metrics of a finished run, made again from its reconstructions and written beside its rows.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{CliError, CliResult, Global, eprintln_lossy, print_lossy};
use crate::catalog::Catalog;
use crate::exit;
use crate::run::signal::Latch;
use crate::score::{Ground, Rescore, Rescored, Scorers, complete_references};
use crate::spec::metric::MetricSpec;
use crate::store::{Columns, RunDir, read_samples};

/// Options of `dflow score`.
#[derive(Debug, Args)]
pub(super) struct ScoreArgs {
    /// The run directory.
    run: PathBuf,
    /// Metrics, such as `psnr,ssim,lpips:alex,features:mini`; default: those of the run's pipeline.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    metrics: Vec<MetricSpec>,
    /// Score also what has been scored before, and compare it bit for bit.
    #[arg(long)]
    recheck: bool,
}

pub(super) fn run(args: &ScoreArgs, global: &Global) -> CliResult {
    let run_dir = RunDir::existing(&args.run).map_err(CliError::store)?;
    run_dir.finish(run_dir.plan()).map_err(CliError::store)?;
    let catalog = Catalog::new(global.home.as_deref(), global.data.as_deref());
    let dataset = super::report::dataset_of(&run_dir)?;
    let ground = Ground::new(run_dir.plan().clone(), &dataset, &catalog).map_err(CliError::usage)?;
    if ground.image_shape().is_none() {
        return Err(CliError::usage(
            "the samples of this run are no images: `dflow data score` scores molecules".to_owned(),
        ));
    }
    let metrics = wanted(args, &run_dir)?;
    let records =
        read_samples(&**run_dir.fs(), run_dir.layout(), Columns::WithoutTrace).map_err(CliError::store)?;
    let stop = Latch::listen().map_err(CliError::failure)?;
    let goes_on = |what: &str, done: usize, open: usize| {
        if !global.quiet && !global.json {
            eprintln_lossy(&format!("{what}: {done} of {open}"));
        }
        !stop.is_set()
    };
    let rescore = Rescore::new(&run_dir, &ground, &records, args.recheck, &goes_on);
    let (mut outcomes, mut missing, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for metric in &metrics {
        let scorers = Scorers::open(std::slice::from_ref(metric), &catalog).map_err(CliError::usage)?;
        missing.extend(scorers.missing().iter().cloned());
        let scored = rescore.metric(metric, &scorers).and_then(|outcome| {
            if let MetricSpec::Features(_) = metric {
                let all: Vec<usize> = (0..ground.plan().dataset.samples.len()).collect();
                complete_references(&run_dir, &ground, &scorers, &all, &goes_on)?;
            }
            Ok(outcome)
        });
        match scored {
            Ok(outcome) => outcomes.extend(outcome),
            Err(error) => errors.push(format!("{metric}: {error}")),
        }
    }
    say(&outcomes, global);
    for missing in &missing {
        eprintln_lossy(&format!("{}: no weights: {}", missing.metric, missing.reason));
    }
    if !errors.is_empty() {
        return Err(CliError::failure(errors.join("\n")));
    }
    if stop.is_set() {
        return Ok(exit::STOPPED_EARLY);
    }
    // What the pipeline names may be without weights here; what was asked for may not.
    if !missing.is_empty() && !args.metrics.is_empty() {
        return Err(CliError::usage("some metrics have no weights here: see above".to_owned()));
    }
    let wrong: usize = outcomes.iter().map(|outcome| outcome.differing.0 + outcome.failed.0).sum();
    Ok(if wrong > 0 { exit::FAILED_ROWS } else { exit::OK })
}

/// The metrics that were asked for, or the pipeline's.
fn wanted(args: &ScoreArgs, run_dir: &RunDir) -> Result<Vec<MetricSpec>, CliError> {
    if let Some(other) = args.metrics.iter().find(|metric| !metric.is_of_images()) {
        return Err(CliError::usage(format!(
            "--metrics: {other} is not a metric of images, which this run has"
        )));
    }
    let metrics = if args.metrics.is_empty() { &run_dir.plan().metrics } else { &args.metrics };
    Ok(metrics.iter().filter(|metric| metric.is_of_images()).cloned().collect())
}

fn say(outcomes: &[Rescored], global: &Global) {
    if global.json {
        let list = outcomes.iter().map(|outcome| {
            json!({
                "metric": outcome.metric.to_string(), "scored": outcome.scored, "known": outcome.known,
                "without_reconstruction": outcome.without, "compared": outcome.compared,
                "differing": outcome.differing.0, "first_differing": outcome.differing.1,
                "failed": outcome.failed.0, "first_failed": outcome.failed.1,
            })
        });
        print_lossy(&list.collect::<serde_json::Value>().to_string());
        return;
    }
    for outcome in outcomes {
        let Rescored { metric, scored, known, without, compared, differing, failed } = outcome;
        let mut line = format!("{metric}: {scored} rows scored, {known} known");
        if *without > 0 {
            line += &format!(", {without} without a reconstruction (`save: [reconstructions]`)");
        }
        if let (count, Some(first)) = failed {
            line += &format!(", {count} FAILED, first {first}");
        }
        line += &match differing {
            (0, _) if *compared > 0 => format!(", {compared} equal those before bit for bit"),
            (0, _) => String::new(),
            (count, first) => format!(
                ", {count} of {compared} DIFFER from those before, first {}",
                first.as_deref().unwrap_or_default()
            ),
        };
        print_lossy(&line);
    }
}
