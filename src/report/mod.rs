//! Tables beside the paper's values, and picture grids.
//!
//! [`tables`] gives what `dflow table N` prints: aggregates over the rows of a run ([`aggregate`]) next to the values
//! of `reports/paper/*.csv` ([`paper`]), as [`table::Table`]s that [`render`] turns into text, Markdown, CSV, LaTeX
//! or JSON. Every table names its profile, n, and what it may not be compared with. Nothing here reads a file.

pub mod aggregate;
pub mod energy;
pub mod figures;
pub mod grid;
pub mod molecule_svg;
pub mod molecules;
pub mod paired;
pub mod paper;
pub mod parquet;
pub mod plot;
pub mod render;
pub mod restoration;
pub mod sets;
pub mod settings;
pub mod table;
pub mod timeline;

use thiserror::Error;

use crate::plan::Plan;
use crate::store::{MeanPower, Record};

pub use render::Format;
pub use sets::{SetColumn, SetScore};
pub use table::Table;

/// Tables that need a run.
const FROM_RUN: [u32; 6] = [1, 4, 5, 7, 8, 9];
/// Tables of domains that are not built yet.
const NOT_BUILT: [u32; 2] = [2, 3];

/// Why a table cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReportError {
    /// The domain is missing.
    #[error(
        "table {0} is not built yet: it needs latent text-to-image models or audio, whose networks, datasets and \
         metrics this version does not have; tables 1 and 4 to 9 are built"
    )]
    NotBuilt(u32),
    /// The paper has no such table.
    #[error("the paper has tables 1 to 9, and no table {0}; tables 1 and 4 to 9 are built")]
    NoSuchTable(u32),
    /// The table is made from rows.
    #[error(
        "table {0} is made from the rows of a run: name the run's directory, such as reports/table1-mini"
    )]
    NeedsRun(u32),
    /// The run holds other tasks.
    #[error(
        "run `{run}` has no task for table {table}, which is about {about}; its tasks are {tasks}: name another run"
    )]
    NoTask {
        /// The table.
        table: u32,
        /// What it is about.
        about: &'static str,
        /// Name of the run.
        run: String,
        /// Names of its tasks.
        tasks: String,
    },
}

/// A run's plan and rows.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The resolved plan (`run.json`).
    pub plan: &'a Plan,
    /// The rows (`samples.parquet`); traces are not needed.
    pub records: &'a [Record],
    /// Distances between sets of images, one column each.
    pub sets: &'a [SetColumn],
    /// Which PSNR stands in the main table.
    pub psnr: PsnrColumn,
    /// Mean power of the devices, where they told it.
    pub power: Option<&'a MeanPower>,
}

impl<'a> Run<'a> {
    /// A run without distances between sets.
    pub const fn new(plan: &'a Plan, records: &'a [Record]) -> Self {
        Self { plan, records, sets: &[], psnr: PsnrColumn::Float, power: None }
    }
}

/// Which PSNR a table of image restoration shows beside the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PsnrColumn {
    /// Of floats.
    #[default]
    Float,
    /// Of bytes whose differences wrap, as TorchMetrics before 1.5.0 gave it: what the paper may have printed.
    U8Wrap,
}

/// The tables that stand for the paper's table `number`. Table 6 needs no run: see [`settings::table`].
pub fn tables(number: u32, run: Option<Run<'_>>) -> Result<Vec<Table>, ReportError> {
    match (number, run) {
        (6, _) => Ok(vec![settings::table(None)]),
        (1, Some(run)) => restoration::tables(&restoration::TABLE_1, run),
        (4, Some(run)) => molecules::table_4(run),
        (5, Some(run)) => molecules::table_5(run),
        (7, Some(run)) => molecules::table_7(run),
        (8, Some(run)) => molecules::table_8(run),
        (9, Some(run)) => restoration::tables(&restoration::TABLE_9, run),
        (n, None) if FROM_RUN.contains(&n) => Err(ReportError::NeedsRun(n)),
        (n, _) if NOT_BUILT.contains(&n) => Err(ReportError::NotBuilt(n)),
        (n, _) => Err(ReportError::NoSuchTable(n)),
    }
}

fn no_task(table: u32, about: &'static str, run: Run<'_>) -> ReportError {
    let mut tasks: Vec<&str> = run.plan.cells.iter().map(|cell| cell.task.as_str()).collect();
    tasks.dedup();
    ReportError::NoTask { table, about, run: run.plan.name.clone(), tasks: tasks.join(", ") }
}

#[cfg(test)]
mod molecule_tests;
#[cfg(test)]
mod tests;
