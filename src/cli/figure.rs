//! `dflow figure`: one of the paper's figures from a run, as SVG, PNG and CSV.

mod pictures;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::report::{dataset_of, molecules};
use super::{CliError, CliResult, Global, print_lossy};
use crate::atomic;
use crate::catalog::Catalog;
use crate::exit;
use crate::report::figures::{self, FigureError, Options};
use crate::report::{self, Format, SetColumn, plot, render};
use crate::score::fill_from_scores;
use crate::score::sets::{self, SetOptions};
use crate::store::{Columns, Record, RunDir, read_samples};
use crate::worker::assembly::Assembly;
use pictures::RunPictures;

/// Options of `dflow figure`.
#[derive(Debug, Args)]
pub(super) struct FigureArgs {
    /// Number of the figure in the paper: 2 to 9.
    number: u32,
    /// The run directory.
    run: PathBuf,
    /// Samples that pictures are shown of, at the most.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// px per pixel of an image; default: so that an image is about 96 px wide.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    scale: Option<u32>,
    /// Pixels of the PNG per px.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    resolution: u32,
    /// Folder to write `figure<N>.svg`, `.png` and `.csv` to; default: the run directory.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Width of an image in px, about.
const IMAGE_WIDTH: usize = 96;
/// The figure that shows distances between sets.
const SWEEP: u32 = 7;
/// The figure of molecules.
const MOLECULES: u32 = 6;

pub(super) fn run(args: &FigureArgs, global: &Global) -> CliResult {
    if args.number != MOLECULES && !figures::NUMBERS.contains(&args.number) {
        return Err(CliError::usage(FigureError::NoSuchFigure(args.number)));
    }
    let run_dir = RunDir::existing(&args.run).map_err(CliError::store)?;
    run_dir.finish(run_dir.plan()).map_err(CliError::store)?;
    let catalog = Catalog::new(global.home.as_deref(), global.data.as_deref());
    let dataset = dataset_of(&run_dir)?;
    let assembly = Assembly::new(run_dir.plan().clone(), &dataset, &catalog).map_err(CliError::usage)?;
    let mut records =
        read_samples(&**run_dir.fs(), run_dir.layout(), Columns::WithoutTrace).map_err(CliError::store)?;
    fill_from_scores(&run_dir, &mut records).map_err(CliError::store)?;
    let folder = args.out.clone().unwrap_or_else(|| args.run.clone());
    let file = |kind: &str| folder.join(format!("figure{}.{kind}", args.number));
    let (svg, csv) = if args.number == MOLECULES {
        draw_molecules(&run_dir, &assembly, &records, args)?
    } else {
        draw(&run_dir, &assembly, &records, args)?
    };
    let png = plot::png(&svg, args.resolution as f32).map_err(CliError::failure)?;
    let files = [("csv", csv.into_bytes()), ("svg", svg.into_bytes()), ("png", png)];
    for (kind, bytes) in &files {
        write(&file(kind), bytes)?;
    }
    let paths: Vec<PathBuf> = files.iter().map(|(kind, _)| file(kind)).collect();
    if global.json {
        print_lossy(&json!({ "figure": args.number, "files": paths }).to_string());
    } else {
        let lines: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        print_lossy(&lines.join("\n"));
    }
    Ok(exit::OK)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    atomic::write_bytes(path, bytes)
        .map_err(|error| CliError::failure(format!("cannot write {}: {error}", path.display())))
}

/// SVG and CSV of a figure of images and numbers.
fn draw(
    run_dir: &RunDir,
    assembly: &Assembly,
    records: &[Record],
    args: &FigureArgs,
) -> Result<(String, String), CliError> {
    let Some(shape) = assembly.image_shape() else {
        let text = format!("figure {} is one of images; this run is of molecules", args.number);
        return Err(CliError::usage(text));
    };
    let scale = args.scale.map_or((IMAGE_WIDTH / shape.width).max(1), |scale| scale as usize);
    let options = Options { samples: args.samples as usize, scale };
    let sets = set_columns(run_dir, args.number)?;
    let run = report::Run { sets: &sets, ..report::Run::new(run_dir.plan(), records) };
    let pictures = RunPictures { run_dir, assembly, shape };
    let drawn = figures::draw(args.number, run, &pictures, options).map_err(|error| match error {
        FigureError::NoSuchFigure(_) | FigureError::NotInRun { .. } => CliError::usage(error),
        error => CliError::failure(error),
    })?;
    let svg = drawn.figure.svg().map_err(CliError::failure)?;
    Ok((svg, render::render(&[drawn.numbers], Format::Csv, None)))
}

/// The distances between sets that the run has the features for, for the figure that shows them.
fn set_columns(run_dir: &RunDir, number: u32) -> Result<Vec<SetColumn>, CliError> {
    if number != SWEEP {
        return Ok(Vec::new());
    }
    let options = SetOptions { bootstrap: None, reference: None };
    sets::columns(run_dir, &options).map_err(CliError::usage)
}

/// SVG and CSV of figure 6.
fn draw_molecules(
    run_dir: &RunDir,
    assembly: &Assembly,
    records: &[Record],
    args: &FigureArgs,
) -> Result<(String, String), CliError> {
    if assembly.image_shape().is_some() {
        return Err(CliError::usage("figure 6 is one of molecules; this run is of images"));
    }
    let mut tasks: Vec<&str> = run_dir.plan().cells.iter().map(|cell| cell.task.as_str()).collect();
    tasks.dedup();
    let svg = molecules::svg(run_dir, assembly, records, &tasks, args.samples)?;
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let lines = records.iter().map(|record| {
        let (target, property) = (number(record.target), number(record.property));
        let Record { task, method, sample_id, .. } = record;
        format!("{task},{method},{sample_id},{target},{property}\n")
    });
    Ok((svg, ["task,method,sample_id,target,property\n".to_owned()].into_iter().chain(lines).collect()))
}
