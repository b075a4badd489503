//! The `dflow` program; see `dflow --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dflow::cli::main()
}
