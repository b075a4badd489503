//! `dflow timeline`: when every device solved what, as a picture and a table.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::atomic;
use crate::exit;
use crate::report::figures::Drawn;
use crate::report::timeline::Timeline;
use crate::report::{Format, parquet, plot, render};
use crate::store::RunDir;

/// Options of `dflow timeline`.
#[derive(Debug, Args)]
pub(super) struct TimelineArgs {
    /// The run directory.
    run: PathBuf,
    /// Folder to write `timeline.svg`, `.png`, `.csv` and `.parquet` to; default: the run directory.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &TimelineArgs, global: &Global) -> CliResult {
    let run_dir = RunDir::existing(&args.run).map_err(CliError::store)?;
    let texts = logs(&run_dir)?;
    let timeline = Timeline::read(texts.iter().map(String::as_str));
    if timeline.is_empty() {
        let text =
            "its logs (log.jsonl, log/) have no solves: nothing was run here yet, or they were removed";
        return Err(CliError::usage(format!("{}: {text}", args.run.display())));
    }
    let Drawn { figure, numbers } = timeline.draw(&run_dir.run().name);
    let svg = figure.svg().map_err(CliError::failure)?;
    let png = plot::png(&svg, 2.0).map_err(CliError::failure)?;
    let columns = parquet::to_parquet(&numbers).map_err(CliError::failure)?;
    let format = if global.json { Format::Json } else { Format::Text };
    let shown = render::render(std::slice::from_ref(&numbers), format, None);
    let csv = render::render(&[numbers], Format::Csv, None);
    let folder = args.out.clone().unwrap_or_else(|| args.run.clone());
    for (kind, bytes) in
        [("csv", csv.into_bytes()), ("parquet", columns), ("svg", svg.into_bytes()), ("png", png)]
    {
        let path = folder.join(format!("timeline.{kind}"));
        let refused = |error| CliError::failure(format!("cannot write {}: {error}", path.display()));
        atomic::write_bytes(&path, &bytes).map_err(refused)?;
    }
    print_lossy(&shown);
    if !global.json {
        print_lossy(&folder.join("timeline.svg").display().to_string());
    }
    Ok(exit::OK)
}

/// The logs of all processes.
fn logs(run_dir: &RunDir) -> Result<Vec<String>, CliError> {
    let (fs, layout) = (run_dir.fs(), run_dir.layout());
    let names = if fs.exists(&layout.logs()).map_err(CliError::failure)? {
        fs.list(&layout.logs()).map_err(CliError::failure)?
    } else {
        Vec::new()
    };
    let own = names.iter().filter(|name| name.ends_with(".jsonl")).map(|name| layout.logs().join(name));
    let mut texts = Vec::new();
    for path in std::iter::once(layout.log()).chain(own) {
        if fs.exists(&path).map_err(CliError::failure)? {
            let bytes = fs.read(&path);
            let bytes = bytes.map_err(|error| CliError::failure(format!("{}: {error}", path.display())))?;
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(texts)
}
