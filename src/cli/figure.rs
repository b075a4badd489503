//! `dflow figure`: one of the paper's figures from a run, as SVG and PNG, with its numbers as CSV and Parquet.

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
use crate::report::table::{Cell, Column, Kind};
use crate::report::{self, Format, SetColumn, Table, plot, render};
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
    /// Folder to write `figure<N>.svg`, `.png`, `.csv` and `.parquet` to; default: the run directory.
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
    let (svg, numbers) = if args.number == MOLECULES {
        draw_molecules(&run_dir, &assembly, &records, args)?
    } else {
        draw(&run_dir, &assembly, &records, args)?
    };
    let png = plot::png(&svg, args.resolution as f32).map_err(CliError::failure)?;
    let parquet = report::parquet::to_parquet(&numbers).map_err(CliError::failure)?;
    let csv = render::render(&[numbers], Format::Csv, None);
    let files = [("csv", csv.into_bytes()), ("parquet", parquet), ("svg", svg.into_bytes()), ("png", png)];
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

/// SVG and numbers of a figure of images.
fn draw(
    run_dir: &RunDir,
    assembly: &Assembly,
    records: &[Record],
    args: &FigureArgs,
) -> Result<(String, Table), CliError> {
    let Some(shape) = assembly.image_shape() else {
        let text = format!("figure {} is one of images; this run is of molecules", args.number);
        return Err(CliError::usage(text));
    };
    let scale = args.scale.map_or((IMAGE_WIDTH / shape.width).max(1), |scale| scale as usize);
    let options = Options { samples: args.samples as usize, scale };
    let sets = set_columns(run_dir, records, args.number)?;
    let run = report::Run { sets: &sets, ..report::Run::new(run_dir.plan(), records) };
    let pictures = RunPictures { run_dir, assembly, shape };
    let drawn = figures::draw(args.number, run, &pictures, options).map_err(|error| match error {
        FigureError::NoSuchFigure(_) | FigureError::NotInRun { .. } => CliError::usage(error),
        error => CliError::failure(error),
    })?;
    let svg = drawn.figure.svg().map_err(CliError::failure)?;
    Ok((svg, drawn.numbers))
}

/// The distances between sets that the run has the features for, for the figure that shows them.
fn set_columns(run_dir: &RunDir, records: &[Record], number: u32) -> Result<Vec<SetColumn>, CliError> {
    if number != SWEEP {
        return Ok(Vec::new());
    }
    let options = SetOptions::default();
    sets::columns(run_dir, run_dir.plan(), records, &options).map_err(CliError::usage)
}

/// SVG and numbers of figure 6.
fn draw_molecules(
    run_dir: &RunDir,
    assembly: &Assembly,
    records: &[Record],
    args: &FigureArgs,
) -> Result<(String, Table), CliError> {
    if assembly.image_shape().is_some() {
        return Err(CliError::usage("figure 6 is one of molecules; this run is of images"));
    }
    let mut tasks: Vec<&str> = run_dir.plan().cells.iter().map(|cell| cell.task.as_str()).collect();
    tasks.dedup();
    let svg = molecules::svg(run_dir, assembly, records, &tasks, args.samples)?;
    Ok((svg, molecule_numbers(records)))
}

/// Target and property of every molecule.
fn molecule_numbers(records: &[Record]) -> Table {
    let text = |key: &str| Column::new(key, key, Kind::Text);
    let number = |key: &str| Column::new(key, key, Kind::Number);
    let row = |record: &Record| {
        let texts = [&record.task, &record.method, &record.sample_id].map(Cell::text);
        let numbers = [record.target, record.property]
            .map(|value| value.map_or(Cell::Missing, |value| Cell::Number(value, 3)));
        texts.into_iter().chain(numbers).collect()
    };
    Table {
        id: "figure6".to_owned(),
        title: "Figure 6: targets and properties, in the property's unit".to_owned(),
        columns: vec![text("task"), text("method"), text("sample_id"), number("target"), number("property")],
        rows: records.iter().map(row).collect(),
        ..Table::default()
    }
}
