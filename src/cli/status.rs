//! `dflow status`: how a run stands, from its files, and what the queue says beside them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::run::signal::Latch;
use crate::status::{Now, QueueWatch, Reader, Snapshot};
use crate::store::fs::OsFs;
use crate::ui::screen::Screen;
use crate::ui::status::{Canvas, Changes, frame};
use crate::ui::stdout;

/// Columns of a text that no terminal shows.
const WIDTH: usize = 80;
/// How soon a stop is noticed.
const LISTEN_EVERY: Duration = Duration::from_millis(100);

/// Options of `dflow status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The run directory.
    run: PathBuf,
    /// Show it again every S seconds (default 5, at least 4: a shared file system is asked for one listing a second at the
    /// most) until every row is there; Ctrl-C, or that nobody reads it any more, ends it with exit code 130. On a
    /// terminal in place, else lines whenever something changed.
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "5",
          value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

pub(super) fn run(args: &StatusArgs, global: &Global) -> CliResult {
    if args.watch.is_some() && global.json {
        return Err(CliError::usage("--json gives everything once: leave --watch out"));
    }
    let mut reader = Reader::open(Arc::new(OsFs), &args.run, QueueWatch::slurm()).map_err(CliError::store)?;
    let Some(seconds) = args.watch else {
        let snapshot = reader.look(Now::read()).map_err(CliError::store)?;
        if global.json {
            print_lossy(&serde_json::to_string_pretty(&snapshot).map_err(CliError::failure)?);
        } else {
            print_lossy(&frame(&snapshot, canvas(false)).join("\n"));
        }
        return Ok(exit::OK);
    };
    let stop = Latch::listen().map_err(CliError::failure)?;
    let every = Reader::interval(seconds);
    if std::io::stdout().is_terminal() {
        draw(&mut reader, every, &stop)
    } else {
        print_changes(&mut reader, every, &stop)
    }
}

/// Draws the view in place until the run is complete or a stop is asked for.
fn draw(reader: &mut Reader, every: Duration, stop: &Latch) -> CliResult {
    let mut screen = Screen::new(std::io::stdout());
    watch(reader, every, stop, |snapshot| {
        screen.draw(&frame(snapshot, canvas(true))).map(|()| true).map_err(CliError::failure)
    })
}

/// Prints what is new whenever something is.
fn print_changes(reader: &mut Reader, every: Duration, stop: &Latch) -> CliResult {
    let mut changes = Changes::default();
    watch(reader, every, stop, |snapshot| Ok(changes.lines(snapshot).iter().all(|line| stdout::print(line))))
}

/// Looks again and again, until the run is complete, a stop is asked for, or nobody sees it any more, which `show` tells:
/// then nothing is wrong with the run, but whoever waits for its end must not take this for it.
fn watch(
    reader: &mut Reader,
    every: Duration,
    stop: &Latch,
    mut show: impl FnMut(&Snapshot) -> Result<bool, CliError>,
) -> CliResult {
    loop {
        let snapshot = reader.look(Now::read()).map_err(CliError::store)?;
        let is_seen = show(&snapshot)?;
        if snapshot.progress.is_complete() {
            return Ok(exit::OK);
        }
        if !is_seen || !wait(every, stop) {
            return Ok(exit::INTERRUPTED);
        }
    }
}

/// Waits; false if a stop was asked for, or nobody reads any more: a run in which nothing changes prints nothing.
fn wait(every: Duration, stop: &Latch) -> bool {
    let until = Instant::now() + every;
    while Instant::now() < until {
        if stop.is_set() || !stdout::has_reader() {
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
        is_cut: is_terminal,
    }
}
