//! `dflow table`: one of the paper's tables from a run.

mod explain;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::plan::Plan;
use crate::report::{self, Format, PsnrColumn, SetColumn, render, settings};
use crate::score::fill_from_scores;
use crate::score::sets::{self, SetOptions};
use crate::spec::document::Document;
use crate::store::{Columns, MeanPower, Record, RunDir, read_samples};

/// Options of `dflow table`.
#[derive(Debug, Args)]
pub(super) struct TableArgs {
    /// Number of the table in the paper.
    number: u32,
    /// The run directory; for table 6 a pipeline file to compare with, or nothing.
    run: Option<PathBuf>,
    /// text, md, csv, latex or json.
    #[arg(long, default_value_t = Format::Text)]
    format: Format,
    /// Which PSNR stands beside the paper's (tables 1 and 9): of floats, or of bytes whose differences wrap.
    #[arg(long, value_enum, default_value_t)]
    psnr: Psnr,
    /// Print the resolved configuration of cells instead, such as `d-flow/inpainting`.
    #[arg(long, value_name = "METHOD/TASK")]
    explain: Option<String>,
    /// Take only the samples that every method has on every task (those without any row apart): means over the same samples.
    #[arg(long)]
    common: bool,
    /// Bootstrap samples for a standard deviation of the Fréchet distances (tables 1 and 9).
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(2..))]
    bootstrap: Option<u32>,
    /// Leave out the distances between sets, which take the longest.
    #[arg(long)]
    no_sets: bool,
    /// Leave out the kernel distances, about half of that time.
    #[arg(long)]
    no_kid: bool,
    /// Stored reference statistics (`--write-reference`) instead of the run's own clean images.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Write the statistics of the run's clean images, for other runs of the same images; of several networks to a file each,
    /// named FILE-NETWORK.
    #[arg(long, value_name = "FILE", conflicts_with = "reference")]
    write_reference: Option<PathBuf>,
}

/// `--psnr`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Psnr {
    /// Of floats in [−1, 1], R = 2.
    #[default]
    Float,
    /// Of bytes with differences modulo 256, as TorchMetrics before 1.5.0.
    U8wrap,
}

impl From<Psnr> for PsnrColumn {
    fn from(psnr: Psnr) -> Self {
        match psnr {
            Psnr::Float => Self::Float,
            Psnr::U8wrap => Self::U8Wrap,
        }
    }
}

pub(super) fn run(args: &TableArgs, global: &Global) -> CliResult {
    let format = if global.json { Format::Json } else { args.format };
    let tables = match &args.run {
        None => report::tables(args.number, None),
        Some(path) if args.number == 6 => {
            let document = Document::read(path).map_err(CliError::usage)?;
            Ok(vec![settings::table(Some(&document.spec))])
        }
        Some(path) => {
            let run_dir = RunDir::existing(path).map_err(CliError::store)?;
            if let Some(wanted) = &args.explain {
                print_lossy(&explain::explain(run_dir.plan(), wanted)?);
                return Ok(exit::OK);
            }
            return from_run(args, &run_dir, format);
        }
    };
    print(&tables.map_err(CliError::usage)?, format);
    Ok(exit::OK)
}

fn from_run(args: &TableArgs, run_dir: &RunDir, format: Format) -> CliResult {
    run_dir.finish(run_dir.plan()).map_err(CliError::store)?;
    let mut records =
        read_samples(&**run_dir.fs(), run_dir.layout(), Columns::WithoutTrace).map_err(CliError::store)?;
    fill_from_scores(run_dir, &mut records).map_err(CliError::store)?;
    let mut plan = run_dir.plan().clone();
    if args.common {
        plan.dataset.samples = report::aggregate::common_samples(&plan, &records);
        if plan.dataset.samples.is_empty() {
            return Err(CliError::usage(
                "--common: no sample has an ok row of every method; leave the option out",
            ));
        }
    }
    let sets = set_columns(args, run_dir, &plan, &records)?;
    // A column of one table: readings that cannot be read hide no other.
    let power = MeanPower::read(&**run_dir.fs(), run_dir.layout()).unwrap_or_else(|error| {
        tracing::warn!("no energy: {error}");
        MeanPower::default()
    });
    let run = report::Run {
        sets: &sets,
        psnr: args.psnr.into(),
        power: Some(&power),
        ..report::Run::new(&plan, &records)
    };
    print(&report::tables(args.number, Some(run)).map_err(CliError::usage)?, format);
    Ok(exit::OK)
}

/// The distances between sets, for the tables that show them.
fn set_columns(
    args: &TableArgs,
    run_dir: &RunDir,
    plan: &Plan,
    records: &[Record],
) -> Result<Vec<SetColumn>, CliError> {
    if args.no_sets || !matches!(args.number, 1 | 9) {
        return Ok(Vec::new());
    }
    let options = SetOptions {
        bootstrap: args.bootstrap.map(|resamples| resamples as usize),
        reference: args.reference.clone(),
        write_reference: args.write_reference.clone(),
        no_kernel: args.no_kid,
        ..SetOptions::default()
    };
    sets::columns(run_dir, plan, records, &options).map_err(CliError::usage)
}

fn print(tables: &[report::Table], format: Format) {
    print_lossy(&render::render(tables, format, terminal_width()));
}

/// Columns of the terminal that stdout is, if it is one.
fn terminal_width() -> Option<u16> {
    rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col).filter(|width| *width > 0)
}
