//! `dflow report`: the pictures of a run: a grid per task of images, drawings of its molecules.

pub(super) mod molecules;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{CliError, CliResult, Global, print_lossy};
use crate::atomic;
use crate::catalog::Catalog;
use crate::exit;
use crate::method::Restoration;
use crate::operator::Shape;
use crate::plan::{Plan, Unit};
use crate::report::grid::Grid;
use crate::score::Content;
use crate::spec::dataset::DatasetRef;
use crate::spec::diagnostic::Source;
use crate::spec::document::Document;
use crate::spec::method::{MethodSpec, PinvSpec};
use crate::store::{Columns, Record, RunDir, artifacts, read_samples};
use crate::worker::assembly::Assembly;

/// Options of `dflow report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The run directory.
    run: PathBuf,
    /// The task to draw; default: every task, one file each, or of molecules all in one.
    #[arg(long)]
    task: Option<String>,
    /// Samples drawn at the most.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Pixels of the picture per pixel of an image (drawings of molecules have their own size).
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    scale: u32,
    /// Folder to write `<task>.png` to, or of molecules `molecules.svg` or `<task>.svg`; default: `figures/` in the run
    /// directory.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &ReportArgs, global: &Global) -> CliResult {
    let run_dir = RunDir::existing(&args.run).map_err(CliError::store)?;
    let plan = run_dir.plan();
    let catalog = Catalog::new(global.home.as_deref(), global.data.as_deref());
    let dataset = dataset_of(&run_dir)?;
    let assembly = Assembly::new(plan.clone(), &dataset, &catalog).map_err(CliError::usage)?;
    let records =
        read_samples(&**run_dir.fs(), run_dir.layout(), Columns::WithoutTrace).map_err(CliError::store)?;
    let shape = assembly.image_shape();
    let folder = args.out.clone().unwrap_or_else(|| args.run.join("figures"));
    std::fs::create_dir_all(&folder)
        .map_err(|error| CliError::failure(format!("cannot create {}: {error}", folder.display())))?;
    let mut tasks: Vec<&str> = Vec::new();
    for cell in &plan.cells {
        if !tasks.contains(&cell.task.as_str()) {
            tasks.push(&cell.task);
        }
    }
    if let Some(task) = &args.task {
        tasks.retain(|name| name == task);
        if tasks.is_empty() {
            return Err(CliError::usage(format!("the run {} has no task `{task}`", plan.name)));
        }
    }
    let Some(shape) = shape else {
        let path = folder.join(format!("{}.svg", args.task.as_deref().unwrap_or("molecules")));
        molecules::draw(&run_dir, &assembly, &records, &tasks, args.samples, &path)?;
        let text = path.display().to_string();
        print_lossy(&if global.json { json!([{ "picture": path }]).to_string() } else { text });
        return Ok(exit::OK);
    };
    let mut drawn = Vec::new();
    for task in tasks {
        let png = draw(&run_dir, &assembly, &records, task, shape, args)?;
        let path = folder.join(format!("{task}.png"));
        atomic::write_bytes(&path, &png)
            .map_err(|error| CliError::failure(format!("cannot write {}: {error}", path.display())))?;
        let columns = ["ground truth", "H†y"].into_iter().chain(cells(plan, task).map(|(_, method)| method));
        drawn.push((path, columns.collect::<Vec<_>>()));
    }
    if global.json {
        let list = drawn.iter().map(|(path, columns)| json!({ "picture": path, "columns": columns }));
        print_lossy(&list.collect::<serde_json::Value>().to_string());
    } else {
        let lines =
            drawn.iter().map(|(path, columns)| format!("{}: columns {}", path.display(), columns.join(", ")));
        print_lossy(&lines.collect::<Vec<_>>().join("\n"));
    }
    Ok(exit::OK)
}

/// The dataset that the run's pipeline names.
pub(super) fn dataset_of(run_dir: &RunDir) -> Result<DatasetRef, CliError> {
    let written = &run_dir.run().pipeline;
    let source = Source { name: written.file.clone(), text: written.text.clone() };
    let mut document = Document::parse(source).map_err(CliError::failure)?;
    for set in &written.set {
        document.set(set).map_err(CliError::failure)?;
    }
    Ok(DatasetRef { limit: None, ..document.spec.dataset })
}

/// The cells of a task that have a column of their own; the plain pseudo-inverse is the column H†y already.
fn cells<'a>(plan: &'a Plan, task: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let is_shown = |solve: &MethodSpec| !matches!(solve, MethodSpec::Pinv(PinvSpec { fill: None, .. }));
    plan.cells
        .iter()
        .enumerate()
        .filter(move |(_, cell)| cell.task == task && is_shown(&cell.solve))
        .map(|(i, cell)| (i, cell.method.as_str()))
}

/// One row per sample: ground truth, H†y, then every method; empty where a reconstruction was not kept.
fn draw(
    run_dir: &RunDir,
    assembly: &Assembly,
    records: &[Record],
    task: &str,
    shape: Shape,
    args: &ReportArgs,
) -> Result<Vec<u8>, CliError> {
    let plan = run_dir.plan();
    let mut grid = Grid::new(shape, args.scale).map_err(CliError::failure)?;
    let Some(any) = plan.cells.iter().position(|cell| cell.task == task) else {
        return grid.png().map_err(CliError::failure);
    };
    for sample in 0..plan.dataset.samples.len().min(args.samples as usize) {
        // Every method of a task has the same measurement.
        let unit = Unit { cell: any, sample };
        // A sample that cannot be read leaves grey fields.
        let mut row = match assembly.sample(unit) {
            Ok(truth) => {
                let problem = assembly.problem(unit, &truth).map_err(CliError::failure)?;
                match (truth.content, problem.goal.restoration()) {
                    (Content::Image(truth), Some(Restoration { operator, measurement, .. })) => {
                        vec![Some(truth), Some(operator.pinv(measurement))]
                    }
                    _ => vec![None, None],
                }
            }
            Err(_) => vec![None, None],
        };
        for (cell, _) in cells(plan, task) {
            let unit = Unit { cell, sample };
            let (hash, id) = plan.key(unit);
            let hash = hash.to_string();
            let record = records.iter().find(|record| record.cell_hash == hash && record.sample_id == id);
            let kept = record.map(|record| artifacts::read(&**run_dir.fs(), run_dir.layout(), record));
            row.push(kept.transpose().map_err(CliError::store)?.flatten());
        }
        grid.push_row(row).map_err(CliError::failure)?;
    }
    grid.png().map_err(CliError::failure)
}
