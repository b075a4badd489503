//! `dflow status`: how a run stands, from its files alone.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::cluster::commands::SearchPath;
use crate::cluster::{self, Slurm};
use crate::exit;
use crate::plan::Plan;
use crate::run::signal::Latch;
use crate::status::{ChunkCounts, NodeWatch, Now, Progress, Snapshot};
use crate::store::{RunDir, Watch, nodes};
use crate::ui::screen::Screen;
use crate::ui::status::{Canvas, frame, summary};

/// Columns of a text that no terminal shows.
const WIDTH: usize = 80;
/// How soon a stop is noticed.
const LISTEN_EVERY: Duration = Duration::from_millis(100);
/// Time between two questions to the controller of the cluster.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Options of `dflow status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The run directory.
    run: PathBuf,
    /// Show it again every S seconds (default 5) until every row is there; ended by Ctrl-C. On a terminal in place,
    /// else a line whenever something changed.
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "5",
          value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

pub(super) fn run(args: &StatusArgs, global: &Global) -> CliResult {
    if args.watch.is_some() && global.json {
        return Err(CliError::usage("--json gives everything once: leave --watch out"));
    }
    let mut reader = Reader::open(args)?;
    let Some(seconds) = args.watch else {
        let snapshot = reader.read()?;
        if global.json {
            print_lossy(&serde_json::to_string_pretty(&snapshot).map_err(CliError::failure)?);
        } else {
            print_lossy(&frame(&snapshot, canvas(false)).join("\n"));
        }
        return Ok(exit::OK);
    };
    let stop = Latch::listen().map_err(CliError::failure)?;
    if std::io::stdout().is_terminal() {
        draw(&mut reader, seconds, &stop)
    } else {
        print_changes(&mut reader, seconds, &stop)
    }
}

/// Draws the view in place until the run is complete or a stop is asked for.
fn draw(reader: &mut Reader, seconds: u64, stop: &Latch) -> CliResult {
    let mut screen = Screen::new(std::io::stdout());
    loop {
        let snapshot = reader.read()?;
        screen.draw(&frame(&snapshot, canvas(true))).map_err(CliError::failure)?;
        if snapshot.progress.is_complete() {
            return Ok(exit::OK);
        }
        if !wait(seconds, stop) {
            return Ok(exit::STOPPED_EARLY);
        }
    }
}

/// Prints one line whenever it says something else than the last one.
fn print_changes(reader: &mut Reader, seconds: u64, stop: &Latch) -> CliResult {
    let mut last = None;
    loop {
        let snapshot = reader.read()?;
        let state = (snapshot.done, snapshot.failed, snapshot.chunks.clone(), states(&snapshot));
        if last.as_ref() != Some(&state) {
            print_lossy(&summary(&snapshot));
            last = Some(state);
        }
        if snapshot.progress.is_complete() {
            return Ok(exit::OK);
        }
        if !wait(seconds, stop) {
            return Ok(exit::STOPPED_EARLY);
        }
    }
}

/// Which processes are in which state.
fn states(snapshot: &Snapshot) -> Vec<(String, crate::status::NodeState)> {
    snapshot.nodes.iter().map(|node| (node.node.attempt.clone(), node.state)).collect()
}

/// Waits; false if a stop was asked for.
fn wait(seconds: u64, stop: &Latch) -> bool {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        if stop.is_set() {
            return false;
        }
        std::thread::sleep(LISTEN_EVERY.min(until.saturating_duration_since(Instant::now())));
    }
    !stop.is_set()
}

/// The terminal as it is now; it may be resized while something is watched.
fn canvas(in_place: bool) -> Canvas {
    let out = std::io::stdout();
    let is_terminal = out.is_terminal();
    let size = is_terminal.then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Canvas {
        width: size.map_or(WIDTH, |size| usize::from(size.ws_col)),
        height: size.filter(|_| in_place).map(|size| usize::from(size.ws_row)),
        colour,
    }
}

/// Reads a run directory again and again.
struct Reader {
    root: PathBuf,
    /// A plan, and what was seen of its rows.
    rows: Option<(Plan, Watch)>,
    nodes: NodeWatch,
    /// What the controller said last, and when.
    chunks: Option<ChunkCounts>,
    asked: Option<Instant>,
}

impl Reader {
    fn open(args: &StatusArgs) -> Result<Self, CliError> {
        RunDir::existing(&args.run).map_err(CliError::store)?;
        Ok(Self {
            root: args.run.clone(),
            rows: None,
            nodes: NodeWatch::default(),
            chunks: None,
            asked: None,
        })
    }

    fn read(&mut self) -> Result<Snapshot, CliError> {
        // A plan may grow while it is watched.
        let run_dir = RunDir::existing(&self.root).map_err(CliError::store)?;
        let plan = run_dir.plan();
        let mut rows = match self.rows.take() {
            Some((known, watch)) if known == *plan => watch,
            _ => Watch::new(Arc::clone(run_dir.fs()), run_dir.layout().clone(), plan),
        };
        let seen = rows.refresh().map_err(CliError::store)?;
        let progress = Progress::of(plan, seen);
        let notes = seen.notes.iter().map(ToString::to_string).collect();
        let nodes = nodes::read_all(&**run_dir.fs(), run_dir.layout()).map_err(CliError::store)?;
        let mut snapshot = Snapshot::new(&plan.name, progress, nodes, &mut self.nodes, Now::read());
        // The controller serves everybody: it is asked now and then.
        if self.asked.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            (self.chunks, self.asked) = (chunks(&self.root, &rows), Some(Instant::now()));
        }
        self.rows = Some((plan.clone(), rows));
        snapshot.chunks.clone_from(&self.chunks);
        snapshot.notes = notes;
        Ok(snapshot)
    }
}

/// Chunks of the newest submission of a run. The controller is not waited for: a queue that cannot be asked is a note.
fn chunks(root: &Path, rows: &Watch) -> Option<ChunkCounts> {
    let slurm = Slurm::with(SearchPath::from_environment(), Vec::new());
    let is_durable = |hash: &str, sample: &str| rows.has_row(hash, sample);
    let counts = cluster::progress(root, &slurm, &is_durable);
    counts.inspect_err(|error| tracing::warn!("chunks are not shown: {error}")).ok().flatten()
}
