//! `dflow worker`: one device of a run, as a process of its own. Started by `dflow run`, not by people.

use super::{CliError, CliResult};
use crate::exit;
use crate::worker::child;

pub(super) fn run() -> CliResult {
    child::serve(std::io::stdin(), std::io::stdout().lock()).map_err(CliError::usage)?;
    Ok(exit::OK)
}
