//! `dflow schema`: the generated files.

use std::path::Path;

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::spec::schema::pipeline_schema;
use crate::store::columns_markdown;

/// Options of `dflow schema`.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Write `pipelines/pipeline.schema.json` and `reports/SCHEMA.md` under the working directory instead of printing.
    #[arg(long)]
    write: bool,
}

pub(super) fn run(args: &SchemaArgs, _: &Global) -> CliResult {
    if !args.write {
        print_lossy(&pipeline_schema());
        return Ok(exit::OK);
    }
    for (path, text) in
        [("pipelines/pipeline.schema.json", pipeline_schema()), ("reports/SCHEMA.md", columns_markdown())]
    {
        let write = |path: &Path| -> std::io::Result<()> {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, &text)
        };
        write(Path::new(path)).map_err(|error| CliError::failure(format!("cannot write {path}: {error}")))?;
    }
    Ok(exit::OK)
}
