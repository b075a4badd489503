//! `dflow status`: how a run stands, from its files, and what the queue says beside them.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
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
    #[arg(required_unless_present = "watch")]
    run: Option<PathBuf>,
    /// Show it again every S seconds (default 5, at least 4: a shared file system is asked for one listing a second at the
    /// most) until every row is there; Ctrl-C, or that nobody reads it any more, ends it with exit code 130. On a
    /// terminal in place, else lines whenever something changed.
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "5", value_parser = parse_watch)]
    watch: Option<Watch>,
}

/// What stands behind `--watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Watch {
    /// Seconds between two looks.
    Every(u64),
    /// The run directory, which is as often written behind the option as before it.
    Run(PathBuf),
}

fn parse_watch(text: &str) -> Result<Watch, String> {
    match text.parse() {
        Ok(0) => Err("write a number of seconds ≥ 1".to_owned()),
        Ok(seconds) => Ok(Watch::Every(seconds)),
        Err(_) => Ok(Watch::Run(PathBuf::from(text))),
    }
}

/// Seconds between two looks, where nothing else is said.
const WATCH_EVERY: u64 = 5;

impl StatusArgs {
    /// The run directory, and the seconds between two looks, if it is watched.
    fn run_and_seconds(&self) -> Result<(&Path, Option<u64>), CliError> {
        match (&self.run, &self.watch) {
            (Some(run), None) => Ok((run, None)),
            (Some(run), Some(Watch::Every(seconds))) => Ok((run, Some(*seconds))),
            (None, Some(Watch::Run(run))) => Ok((run, Some(WATCH_EVERY))),
            (Some(_), Some(Watch::Run(text))) => {
                let text = text.display();
                Err(CliError::usage(format!("--watch {text}: write a number of seconds, as in --watch 5")))
            }
            (None, _) => Err(CliError::usage("which run? write its directory: dflow status RUN --watch")),
        }
    }
}

pub(super) fn run(args: &StatusArgs, global: &Global) -> CliResult {
    if args.watch.is_some() && global.json {
        return Err(CliError::usage("--json gives everything once: leave --watch out"));
    }
    let (run, seconds) = args.run_and_seconds()?;
    let mut reader = Reader::open(Arc::new(OsFs), run, QueueWatch::slurm()).map_err(CliError::store)?;
    let Some(seconds) = seconds else {
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
    let size = size.map(|size| [size.ws_col, size.ws_row].map(usize::from));
    canvas_of(size, colour, in_place)
}

/// What is drawn in place must fit a terminal of so many columns and lines; what is printed once scrolls, whole.
fn canvas_of(terminal: Option<[usize; 2]>, colour: bool, in_place: bool) -> Canvas {
    let width = terminal.map_or(WIDTH, |[width, _]| width);
    let height = terminal.filter(|_| in_place).map(|[_, height]| height);
    Canvas { width, height, colour, is_cut: in_place }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: StatusArgs,
    }

    fn parsed(words: &[&str]) -> Result<(PathBuf, Option<u64>), String> {
        let line = Line::try_parse_from([&["status"], words].concat()).map_err(|error| error.to_string())?;
        let (run, seconds) = line.args.run_and_seconds().map_err(|error| format!("{error:?}"))?;
        Ok((run.to_owned(), seconds))
    }

    #[test]
    fn the_run_may_stand_before_or_behind_the_option() {
        let run = |seconds| Ok((PathBuf::from("a/b"), seconds));
        assert_eq!(parsed(&["a/b"]), run(None));
        for words in [&["a/b", "--watch"][..], &["--watch", "a/b"], &["--watch", "5", "a/b"]] {
            assert_eq!(parsed(words), run(Some(5)), "{words:?}");
        }
        assert_eq!(parsed(&["--watch=7", "a/b"]), run(Some(7)));
        assert_eq!(parsed(&["a/b", "--watch", "7"]), run(Some(7)));
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        assert!(parsed(&["a/b", "--watch", "0"]).unwrap_err().contains("seconds ≥ 1"));
        assert!(parsed(&["a/b", "--watch", "often"]).unwrap_err().contains("--watch often: write a number"));
        for words in [&["--watch"][..], &["--watch", "5"]] {
            assert!(parsed(words).unwrap_err().contains("which run?"), "{words:?}");
        }
        assert!(parsed(&[]).is_err());
    }

    #[test]
    fn lines_are_cut_only_where_they_are_drawn_in_place() {
        let once = canvas_of(Some([100, 30]), true, false);
        assert_eq!(once, Canvas { width: 100, height: None, colour: true, is_cut: false });
        let drawn = canvas_of(Some([100, 30]), true, true);
        assert_eq!(drawn, Canvas { width: 100, height: Some(30), colour: true, is_cut: true });
        assert_eq!(canvas_of(None, false, false).width, WIDTH);
    }
}
