//! The live view of a run as text: rows by cell, chunks, processes with their devices, failures.

mod cells;
mod changes;
mod line;
mod nodes;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::changes::Changes;
use self::line::{Line, Look, cut};
pub use self::nodes::reading;
use super::text;
use crate::status::{ChunkCounts, NodeState, QueueCounts, Snapshot};

/// Where the view is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    /// Signs of a line.
    pub width: usize,
    /// Lines; none: as many as there are.
    pub height: Option<usize>,
    /// Whether it may have colours.
    pub colour: bool,
    /// Whether longer lines are cut: a terminal would break them, in a file or pipe they are read whole.
    pub is_cut: bool,
}

/// Lines that are kept for cells and for processes, however small a terminal is: blank, heading, one of them, and how many
/// more there are.
const LEAST: usize = 4;
/// Failures that are shown at the most, and lines of a terminal for each of them.
const FAILURES: usize = 5;
const LINES_PER_FAILURE: usize = 10;
/// Notes that are shown at the most, and lines of a terminal for each of them.
const NOTES: usize = 10;
const LINES_PER_NOTE: usize = 8;

/// Of a run that nobody goes on with.
const NOBODY: &str = "nobody works on it: `dflow run` or `dflow submit` continues";

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
    let limit = if canvas.is_cut { canvas.width } else { usize::MAX };
    lines.map(|line| line.render(limit, canvas.colour)).collect()
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
    if let Some(trouble) = snapshot.chunks.as_ref().and_then(queue_trouble) {
        line += &format!(", {trouble}");
    }
    if let Some(trouble) = &snapshot.trouble {
        line += &format!(", {}", stale(trouble));
    }
    line
}

fn stale(trouble: &str) -> String {
    format!("as it was seen last: {trouble}")
}

fn processes(count: usize) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

fn durable(snapshot: &Snapshot) -> String {
    format!("{} of {} rows durable, {} failed", snapshot.done, snapshot.planned, snapshot.failed)
}

/// Throughput and time to completion, as far as they are known.
fn speed(snapshot: &Snapshot) -> Option<String> {
    let rate = |per_hour: f64| {
        if per_hour < 10.0 { format!("{per_hour:.1}/h") } else { format!("{per_hour:.0}/h") }
    };
    // Beyond a century nothing is known.
    let left = snapshot.seconds_left.filter(|left| *left < 3e9).map(Duration::from_secs_f64);
    let left = left.map(|left| format!("about {} left", text::duration(left)));
    let parts: Vec<String> = snapshot.samples_per_hour.map(rate).into_iter().chain(left).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
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
    let who = who_goes_on(snapshot).map(|who| match who {
        GoesOn::Nobody => Line::default().with(Look::Bad, NOBODY),
        GoesOn::Collector(_) => Line::text(who.text()),
    });
    [title, bar].into_iter().chain(chunks).chain(who).collect()
}

/// Who goes on with a run of which rows are missing while nobody solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoesOn {
    Nobody,
    /// A job in the queue.
    Collector(u64),
}

impl GoesOn {
    fn text(self) -> String {
        match self {
            Self::Nobody => NOBODY.to_owned(),
            Self::Collector(job) => format!("job {job} will collect, and may submit again what failed"),
        }
    }
}

/// Who goes on where rows are missing that nobody solves, as far as can be seen: no process lives, and the queue is known to
/// have no chunk. What is not known, or Kubernetes's to tell, is no reason to say so.
fn who_goes_on(snapshot: &Snapshot) -> Option<GoesOn> {
    let is_solved = snapshot.count(NodeState::Alive) > 0;
    if is_solved || snapshot.progress.is_complete() || snapshot.trouble.is_some() {
        return None;
    }
    let Some(chunks) = &snapshot.chunks else { return Some(GoesOn::Nobody) };
    let queue = chunks.queue.as_ref().filter(|_| chunks.trouble.is_none())?;
    let QueueCounts { queued, running, older, collector, .. } = queue;
    (queued + running + older == 0).then(|| collector.map_or(GoesOn::Nobody, GoesOn::Collector))
}

fn chunk_text(chunks: &ChunkCounts) -> String {
    let ChunkCounts { done, open, queue, .. } = chunks;
    let Some(queue) = queue else { return format!("{done} done, {open} open (queue not known)") };
    let QueueCounts { queued, running, failed, newest_failed, cancelled, absent, older, waiting, .. } = queue;
    let waiting = waiting.as_ref().map(|waiting| match waiting.tasks {
        tasks if tasks == *queued => format!(" ({})", waiting.reason),
        tasks => format!(" ({tasks}: {})", waiting.reason),
    });
    let waiting = waiting.unwrap_or_default();
    let why = newest_failed.as_ref().map_or_else(String::new, |chunk| {
        let newest = if *failed > 1 { "newest: " } else { "" };
        format!(" ({newest}{} on {})", chunk.how(), chunk.node)
    });
    let always = format!("{queued} queued{waiting}, {running} running, {done} done, {failed} failed{why}");
    let rare = [(cancelled, "cancelled"), (absent, "not in the queue"), (older, "of older submissions live")];
    let rare = rare.iter().filter(|(count, _)| **count > 0).map(|(count, word)| format!(", {count} {word}"));
    std::iter::once(always).chain(rare).collect()
}

/// Why the queue is not known, or not as it is now.
fn queue_trouble(chunks: &ChunkCounts) -> Option<String> {
    let trouble = chunks.trouble.as_ref()?;
    Some(match &chunks.queue {
        None => format!("the queue could not be asked: {trouble}"),
        Some(queue) => {
            let age = text::duration(Duration::from_secs_f64(queue.age_seconds));
            format!("the queue is as it was {age} ago: {trouble}")
        }
    })
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
    let of_queue = snapshot.chunks.as_ref().and_then(queue_trouble);
    let of_now = snapshot.trouble.as_deref().map(stale).into_iter().chain(of_queue);
    let most = height.map_or(NOTES, |height| (height / LINES_PER_NOTE).clamp(1, NOTES));
    let shown = bounded_notes(of_now.chain(notes(snapshot).cloned()), most);
    lines.extend(shown.into_iter().map(|note| Line::default().with(Look::Dim, note)));
    lines
}

/// What is strange about the files, or worth saying of the chunks.
fn notes(snapshot: &Snapshot) -> impl Iterator<Item = &String> {
    snapshot.notes.iter().chain(snapshot.chunks.iter().flat_map(|chunks| &chunks.notes))
}

/// Lines of at most so many notes, and of how many more there are.
fn bounded_notes(notes: impl Iterator<Item = String>, most: usize) -> Vec<String> {
    let mut notes: Vec<String> = notes.map(|note| format!("note: {note}")).collect();
    let more = notes.len().saturating_sub(most);
    notes.truncate(most);
    notes.extend((more > 0).then(|| format!("note: … and {more} more")));
    notes
}

fn heading(text: impl Into<String>) -> Line {
    Line::default().with(Look::Bold, text)
}
