//! Every table of the paper that a run has something for, in `tables.md` and as text.

use super::beside;
use crate::cli::{CliError, eprintln_lossy};
use crate::report::{self, Format, ReportError, Table, render};
use crate::score::fill_from_scores;
use crate::score::sets::{self, SetOptions};
use crate::store::{Columns, RunDir, read_samples};

/// The tables that are made of runs.
const NUMBERS: [u32; 6] = [1, 4, 5, 7, 8, 9];

/// Writes `tables.md` into the run directory; returns the tables as text.
pub(super) fn write(run_dir: &RunDir) -> Result<String, CliError> {
    let tables = tables(run_dir)?;
    let render = |format| {
        tables.iter().map(|tables| render::render(tables, format, None)).collect::<Vec<_>>().join("\n\n")
    };
    let path = beside(run_dir, "tables.md");
    crate::atomic::write_bytes(&path, render(Format::Markdown).as_bytes())
        .map_err(|error| CliError::failure(format!("cannot write {}: {error}", path.display())))?;
    Ok(render(Format::Text))
}

fn tables(run_dir: &RunDir) -> Result<Vec<Vec<Table>>, CliError> {
    let plan = run_dir.plan();
    let mut records =
        read_samples(&**run_dir.fs(), run_dir.layout(), Columns::WithoutTrace).map_err(CliError::store)?;
    fill_from_scores(run_dir, &mut records).map_err(CliError::store)?;
    let mut tables = Vec::new();
    for number in NUMBERS {
        let is_about = report::tables(number, Some(report::Run::new(plan, &records)));
        if matches!(is_about, Err(ReportError::NoTask { .. })) {
            continue;
        }
        let sets = match number {
            1 | 9 => sets::columns(run_dir, plan, &records, &SetOptions::default()).unwrap_or_else(|error| {
                eprintln_lossy(&format!("note: table {number} has no distances between sets: {error}"));
                Vec::new()
            }),
            _ => Vec::new(),
        };
        let run = report::Run { sets: &sets, ..report::Run::new(plan, &records) };
        tables.push(report::tables(number, Some(run)).map_err(CliError::usage)?);
    }
    Ok(tables)
}
