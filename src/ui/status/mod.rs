//! The live view of a run as text: rows by cell, chunks, processes with their devices, failures.

mod cells;
mod line;
mod nodes;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::line::{Line, Look, cut};
pub use self::nodes::reading;
use super::text;
use crate::status::{ChunkCounts, NodeState, Snapshot};

/// Where the view is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    /// Signs of a line.
    pub width: usize,
    /// Lines; none: as many as there are.
    pub height: Option<usize>,
    /// Whether it may have colours.
    pub colour: bool,
}

/// Lines that are kept for cells and for processes, however small a terminal is.
const LEAST: usize = 3;
/// Failures that are shown at the most, and lines of a terminal for each of them.
const FAILURES: usize = 5;
const LINES_PER_FAILURE: usize = 10;

/// The view, line by line.
pub fn frame(snapshot: &Snapshot, canvas: Canvas) -> Vec<String> {
    let head = head(snapshot, canvas.width);
    let tail = tail(snapshot, canvas.height);
    // One line stays free: the cursor stands there.
    let room = canvas.height.map(|height| height.saturating_sub(1 + head.len() + tail.len()));
    let cells = &snapshot.progress.cells;
    let wanted_by_nodes = nodes::wanted(&snapshot.nodes);
    let for_cells = room
        .map(|room| cells::wanted(cells).min(room.saturating_sub(wanted_by_nodes).max(room / 2)).max(LEAST));
    let cells = cells::lines(cells, canvas.width, for_cells);
    let for_nodes = room.map(|room| room.saturating_sub(cells.len()).max(LEAST));
    let nodes = nodes::lines(&snapshot.nodes, for_nodes);
    let lines = head.into_iter().chain(cells).chain(nodes).chain(tail);
    // Of a tiny terminal the head stays.
    let lines = lines.take(canvas.height.map_or(usize::MAX, |height| height.saturating_sub(1)));
    lines.map(|line| line.render(canvas.width, canvas.colour)).collect()
}

/// How the run stands, in one line: what is printed where nothing can be redrawn.
pub fn summary(snapshot: &Snapshot) -> String {
    let mut line = format!("{}: {}", snapshot.name, durable(snapshot));
    let states = [(NodeState::Alive, "working"), (NodeState::Silent, "silent")];
    for (state, word) in states {
        let count = snapshot.count(state);
        if count > 0 {
            line += &format!(", {} {word}", processes(count));
        }
    }
    if let Some(chunks) = &snapshot.chunks {
        line += &format!(", chunks: {}", chunk_text(chunks));
    }
    if let Some(speed) = speed(snapshot) {
        line += &format!(", {speed}");
    }
    line
}

fn processes(count: usize) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

fn durable(snapshot: &Snapshot) -> String {
    format!("{} of {} rows durable, {} failed", snapshot.done, snapshot.planned, snapshot.failed)
}

/// Throughput and time to completion.
fn speed(snapshot: &Snapshot) -> Option<String> {
    let per_hour = snapshot.samples_per_hour?;
    let rate = if per_hour < 10.0 { format!("{per_hour:.1}/h") } else { format!("{per_hour:.0}/h") };
    // Beyond a century nothing is known.
    let left = snapshot.seconds_left.filter(|left| *left < 3e9).map(Duration::from_secs_f64);
    Some(match left {
        Some(left) => format!("{rate}, about {} left", text::duration(left)),
        None => rate,
    })
}

fn head(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let done = durable(snapshot);
    let name = cut(&snapshot.name, width.saturating_sub(done.len() + 2));
    let title = Line::default().with(Look::Bold, name).ending_at(width, Look::Plain, &done);
    let speed = speed(snapshot).unwrap_or_default();
    let percent = format!(" {:>5.1} %", 100.0 * snapshot.done as f64 / snapshot.planned.max(1) as f64);
    let bar_width = width.saturating_sub(percent.len() + speed.chars().count() + 3);
    let bar = cells::bar(
        Line::default(),
        bar_width,
        [snapshot.done - snapshot.failed, snapshot.failed],
        snapshot.planned,
    );
    let bar = bar.with(Look::Plain, percent).ending_at(width, Look::Plain, &speed);
    let chunks = snapshot.chunks.as_ref().map(|chunks| {
        // The random part of the id tells it from others.
        let id = chunks.submission.rsplit('-').next().unwrap_or_default();
        Line::text(format!("chunks of submission {id}: {}", chunk_text(chunks)))
    });
    [title, bar].into_iter().chain(chunks).collect()
}

fn chunk_text(chunks: &ChunkCounts) -> String {
    let ChunkCounts { queued, running, done, failed, cancelled, unknown, .. } = chunks;
    let always = format!("{queued} queued, {running} running, {done} done, {failed} failed");
    let rare = [
        (cancelled, "cancelled"),
        (unknown, "not in the queue"),
        (&chunks.older, "of older submissions live"),
    ];
    let rare = rare.iter().filter(|(count, _)| **count > 0).map(|(count, word)| format!(", {count} {word}"));
    std::iter::once(always).chain(rare).collect()
}

/// Failures, two lines each, and notes.
fn tail(snapshot: &Snapshot, height: Option<usize>) -> Vec<Line> {
    let mut lines = Vec::new();
    let shown = height.map_or(FAILURES, |height| (height / LINES_PER_FAILURE).clamp(1, FAILURES));
    if !snapshot.failures.is_empty() {
        lines.extend([Line::default(), heading("newest failures")]);
    }
    for failure in snapshot.failures.iter().take(shown) {
        // Of a process whose heartbeat is gone, only the row tells.
        let head = match failure.time_ms {
            0 => format!("  {}", failure.row),
            time => format!("  {}  {} on {}", text::clock(time), failure.row, failure.device),
        };
        lines.push(Line::text(head));
        lines.push(Line::text(" ".repeat(12)).with(Look::Bad, failure.error.clone()));
    }
    let notes = snapshot.notes.iter().chain(snapshot.chunks.iter().flat_map(|chunks| &chunks.notes));
    lines.extend(notes.map(|note| Line::default().with(Look::Dim, format!("note: {note}"))));
    lines
}

fn heading(text: impl Into<String>) -> Line {
    Line::default().with(Look::Bold, text)
}
