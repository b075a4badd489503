//! Rows by cell, with a bar each.

use super::heading;
use super::line::{Line, Look, cut};
use crate::status::CellState;

/// Signs of a name at the most, and of the shortest bar.
const NAME: usize = 28;
const LEAST_BAR: usize = 8;
/// Cells that are shown where there is no bound.
const SHOWN: usize = 60;

/// Lines that all cells take, with blank line and heading.
pub(super) fn wanted(cells: &[CellState]) -> usize {
    if cells.is_empty() { 0 } else { cells.len() + 2 }
}

/// The cells in at most `room` lines: complete ones are left out first.
pub(super) fn lines(cells: &[CellState], width: usize, room: Option<usize>) -> Vec<Line> {
    if cells.is_empty() {
        return Vec::new();
    }
    let room = room.map_or(SHOWN, |room| room.saturating_sub(2));
    let shown = choose(cells, room);
    let columns = Columns::new(&shown, width);
    let mut lines = vec![Line::default(), columns.heading()];
    let mut task = "";
    for cell in &shown {
        // A task's name stands once.
        let name = if cell.task == task { "" } else { &cell.task };
        task = &cell.task;
        lines.push(columns.line(name, cell));
    }
    if shown.len() < cells.len() {
        let complete = cells.iter().filter(|cell| cell.done() == cell.planned).count();
        let text = format!("… {} of {} cells shown, {complete} complete", shown.len(), cells.len());
        lines.push(Line::default().with(Look::Dim, text));
    }
    lines
}

fn choose(cells: &[CellState], room: usize) -> Vec<&CellState> {
    if cells.len() <= room {
        return cells.iter().collect();
    }
    // One line says how many are left out.
    let room = room.saturating_sub(1);
    let mut ranked: Vec<usize> = (0..cells.len()).collect();
    ranked.sort_by_key(|&i| cells[i].done() == cells[i].planned);
    ranked.truncate(room);
    ranked.sort_unstable();
    ranked.into_iter().map(|i| &cells[i]).collect()
}

/// Where the columns end.
struct Columns {
    task: usize,
    method: usize,
    bar: usize,
    counts: usize,
    failed: usize,
}

impl Columns {
    fn new(cells: &[&CellState], width: usize) -> Self {
        let longest = |name: fn(&CellState) -> &str, heading: &str| {
            let names = cells.iter().map(|cell| name(cell).chars().count());
            names.chain([heading.len()]).max().unwrap_or(0).min(NAME)
        };
        let digits = cells.iter().map(|cell| cell.planned.to_string().len()).max().unwrap_or(1);
        let (counts, failed) = ((2 * digits + 1).max("done".len()), digits.max("failed".len()));
        let mut task = longest(|cell| &cell.task, "task");
        let mut method = longest(|cell| &cell.method, "method");
        // Long names give way to the bar.
        let fixed = counts + failed + 8;
        while task + method + fixed + LEAST_BAR > width && task.max(method) > 8 {
            *(if task >= method { &mut task } else { &mut method }) -= 1;
        }
        let bar = width.saturating_sub(task + method + fixed).clamp(LEAST_BAR, 60);
        Self { task, method, bar, counts, failed }
    }

    fn heading(&self) -> Line {
        let line = heading("task").padded_to(self.task + 2).with(Look::Bold, "method");
        let end = self.task + self.method + self.bar + self.counts + 6;
        line.ending_at(end, Look::Bold, "done").ending_at(end + 2 + self.failed, Look::Bold, "failed")
    }

    fn line(&self, task: &str, cell: &CellState) -> Line {
        let line = Line::text(cut(task, self.task)).padded_to(self.task + 2);
        let line = line.with(Look::Plain, cut(&cell.method, self.method));
        let line = line.padded_to(self.task + self.method + 4);
        let line = bar(line, self.bar, [cell.ok, cell.failed], cell.planned);
        let end = self.task + self.method + self.bar + self.counts + 6;
        let line = line.ending_at(end, Look::Plain, &format!("{}/{}", cell.done(), cell.planned));
        if cell.failed == 0 {
            return line;
        }
        line.ending_at(end + 2 + self.failed, Look::Bad, &cell.failed.to_string())
    }
}

/// A bar of rows that are ok, rows that failed, and the rest. It is full only when all are there.
pub(super) fn bar(line: Line, width: usize, [ok, failed]: [usize; 2], planned: usize) -> Line {
    let part = |rows: usize| (rows * width).checked_div(planned).unwrap_or(0);
    let done = part(ok + failed).min(width);
    // What failed is seen, however little it is.
    let bad = if failed > 0 { part(failed).clamp(1, done.max(1)) } else { 0 };
    let good = done.saturating_sub(bad);
    let rest = width.saturating_sub(good + bad);
    line.with(Look::Good, "█".repeat(good)).with(Look::Bad, "▒".repeat(bad)).with(Look::Dim, "░".repeat(rest))
}
