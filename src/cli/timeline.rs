//! `dflow timeline`: when every device solved what, as a picture and a table.

use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::atomic;
use crate::exit;
use crate::report::figures::Drawn;
use crate::report::timeline::Timeline;
use crate::report::{Format, parquet, plot, render};
use crate::store::RunDir;
use crate::store::fs::{FsRead, list_if_exists};
use crate::store::nodes;

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
    let timeline = read(&run_dir)?;
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

/// Reads the logs of all processes.
fn read(run_dir: &RunDir) -> Result<Timeline, CliError> {
    let (fs, layout) = (run_dir.fs(), run_dir.layout());
    let names = list_if_exists(&**fs, &layout.logs()).map_err(CliError::store)?;
    let own = names.iter().filter(|name| name.ends_with(".jsonl")).map(|name| layout.logs().join(name));
    // For the view alone: a folder of heartbeats that cannot be read costs some ends.
    let beats = nodes::read_all(&**fs, layout).unwrap_or_else(|error| {
        tracing::warn!("what is being solved is shown up to its last event: {error}");
        Vec::new()
    });
    let mut timeline = Timeline::with_heartbeats(&beats);
    for path in std::iter::once(layout.log()).chain(own) {
        let log = match fs.open(&path).and_then(Log::new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            log => log.and_then(|log| timeline.read(BufReader::with_capacity(1 << 18, log))),
        };
        log.map_err(|error| CliError::failure(format!("{}: {error}", path.display())))?;
    }
    Ok(timeline)
}

/// A log as it was when it was opened.
struct Log {
    file: Arc<dyn FsRead>,
    at: u64,
    size: u64,
}

impl Log {
    fn new(file: Arc<dyn FsRead>) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self { file, at: 0, size })
    }
}

impl Read for Log {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = (self.size - self.at).min(out.len() as u64) as usize;
        out[..length].copy_from_slice(&self.file.read_at(self.at, length)?);
        self.at += length as u64;
        Ok(length)
    }
}
