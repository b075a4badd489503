//! `dflow merge`: journals and parts into `samples.parquet`.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::store::RunDir;

/// Options of `dflow merge`.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The run directory.
    run: PathBuf,
}

pub(super) fn run(args: &MergeArgs, global: &Global) -> CliResult {
    let run_dir = RunDir::existing(&args.run).map_err(CliError::store)?;
    let merged = run_dir.finish(run_dir.plan()).map_err(CliError::store)?;
    if global.json {
        print_lossy(&serde_json::to_string(&merged).map_err(CliError::failure)?);
    } else {
        print_lossy(&format!(
            "{}: {} ok, {} failed, {} missing of {} rows, {} duplicates dropped",
            args.run.join("samples.parquet").display(),
            merged.ok,
            merged.failed,
            merged.missing,
            merged.planned,
            merged.duplicates
        ));
    }
    Ok(match (merged.is_complete(), merged.failed) {
        (false, _) => exit::INCOMPLETE,
        (true, 0) => exit::OK,
        (true, _) => exit::FAILED_ROWS,
    })
}
