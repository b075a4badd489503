//! Progress and messages for people: consumers of [`RunEvent`](crate::run::event::RunEvent), nothing else.
//!
//! Logs and progress go to stderr, results to stdout. A terminal gets bars; a pipe or a batch log gets plain lines.

pub mod json;
pub mod progress;
pub mod screen;
pub mod status;
pub mod stdout;
pub mod text;

use std::io::IsTerminal;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bars that are redrawn in place.
    Bars,
    /// One line now and then, for batch logs.
    Lines,
    /// One JSON object per event on stdout.
    Json,
    /// Nothing but errors.
    Quiet,
}

impl Style {
    /// The style for this process: as asked for, or by what stderr is.
    pub fn choose(json: bool, quiet: bool) -> Self {
        if json {
            Self::Json
        } else if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            Self::Bars
        } else {
            Self::Lines
        }
    }
}
