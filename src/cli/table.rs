//! `dflow table`: one of the paper's tables from a run.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::report::{self, Format, render, settings};
use crate::spec::document::Document;
use crate::store::{Columns, RunDir, read_samples};

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
            run_dir.finish(run_dir.plan()).map_err(CliError::store)?;
            let records = read_samples(&**run_dir.fs(), run_dir.layout(), Columns::WithoutTrace)
                .map_err(CliError::store)?;
            report::tables(args.number, Some(report::Run { plan: run_dir.plan(), records: &records }))
        }
    };
    let width = terminal_width();
    print_lossy(&render::render(&tables.map_err(CliError::usage)?, format, width));
    Ok(exit::OK)
}

/// Columns of the terminal that stdout is, if it is one.
fn terminal_width() -> Option<u16> {
    rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col).filter(|width| *width > 0)
}
