//! When every device solved what, from the event logs of a run: whether one was idle while samples remained.

mod log;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use super::figures::Drawn;
use super::plot::{Axis, Bar, Figure, LaneGroup, Lanes, Panel};
use super::table::{Cell, Column, Kind, Table};
use crate::store::nodes::Node;

/// Most devices that are drawn; the table has all.
const MOST_DRAWN: usize = 64;

/// One solve on a device.
#[derive(Debug, Clone, PartialEq)]
struct Solve {
    /// Index into [`Timeline::kinds`].
    kind: usize,
    /// Begin and end in seconds since 1970.
    span: [f64; 2],
    /// Whether it came to an end or a checkpoint. If not, it still goes on, or its worker or process was killed: what is
    /// known then is that it went on until that process was last heard of.
    ended: bool,
}

/// What one process did on one device.
#[derive(Debug, Clone, PartialEq)]
struct Stay {
    /// First event of the process, and when it was last heard of.
    span: [f64; 2],
    /// From when on the device could solve (of one that never could: since its process began), and until when there was
    /// something left for it to take.
    served: Option<[f64; 2]>,
    solves: Vec<Solve>,
}

/// Solves of every device of every process, from the lines of all logs.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Names of the tasks' methods.
    kinds: Vec<String>,
    /// By host and device.
    stays: BTreeMap<(String, String), Vec<Stay>>,
    /// Lives of processes by their heartbeats, begin and end, by host and process id.
    lives: BTreeMap<(String, u32), Vec<[f64; 2]>>,
}

/// A device over time: the processes that used it one after another.
#[derive(Debug)]
struct Track<'a> {
    host: &'a str,
    device: &'a str,
    stays: Vec<&'a Stay>,
}

impl Track<'_> {
    fn solves(&self) -> impl Iterator<Item = &Solve> {
        self.stays.iter().flat_map(|stay| &stay.solves)
    }

    fn end(&self) -> f64 {
        self.stays.last().map_or(f64::NEG_INFINITY, |stay| stay.span[1])
    }

    /// Seconds with a sample, and seconds without one while its process still had samples to give.
    fn busy_and_idle(&self) -> (f64, Option<f64>) {
        let busy = union(self.solves().map(|solve| solve.span).collect());
        let served = self.stays.iter().filter_map(|stay| stay.served);
        let idle = served.map(|served| idle_within(&busy, served)).reduce(|a, b| a + b);
        (length(&busy), idle)
    }
}

impl Timeline {
    /// A timeline whose processes left heartbeats: one that lives logs next to nothing while its samples are being solved.
    /// To be read before the logs, so that what is finished in between is not taken for open. Without a heartbeat (it is
    /// gone once another process goes on with the chunk) a process was last heard of at its last line.
    pub fn with_heartbeats(nodes: &[Node]) -> Self {
        let mut timeline = Self::default();
        for node in nodes {
            let life = [node.started_ms, node.written_ms].map(|ms| ms as f64 / 1000.0);
            timeline.lives.entry((node.host.clone(), node.pid)).or_default().push(life);
        }
        timeline
    }

    /// Reads the log of one or more processes, line by line. Lines that are no events (a writer was killed inside one) are
    /// left out; what is open at its end, or when another process begins under the same name, is unfinished.
    ///
    /// # Errors
    /// Those of `lines`.
    pub fn read(&mut self, lines: impl BufRead) -> io::Result<()> {
        log::read(self, lines)
    }

    /// Whether nothing was solved.
    pub fn is_empty(&self) -> bool {
        self.solves().next().is_none()
    }

    /// The picture, and a row per device: samples, seconds busy, and seconds idle while its process still had samples to
    /// give.
    pub fn draw(&self, name: &str) -> Drawn {
        let start = self.solves().map(|solve| solve.span[0]).fold(f64::INFINITY, f64::min);
        let end = self.solves().map(|solve| solve.span[1]).fold(start, f64::max);
        let unit = Unit::of(end - start);
        let order: BTreeSet<&String> = self.kinds.iter().collect();
        let place = |solve: &Solve| order.iter().position(|name| **name == self.kinds[solve.kind]);
        let bar = |solve: &Solve| Bar {
            span: solve.span.map(|time| (time - start) / unit.seconds),
            kind: place(solve).unwrap_or(0),
            thin: !solve.ended,
        };
        let tracks = self.tracks();
        let group = |track: &Track<'_>| LaneGroup {
            label: format!("{} {}", track.host, track.device),
            lanes: lanes(track.solves(), bar),
        };
        let groups = tracks.iter().take(MOST_DRAWN).map(group).collect();
        let axis = Axis { range: Some([0.0, (end - start) / unit.seconds]), ..Axis::linear(unit.label) };
        let kinds = order.iter().map(|name| (*name).clone()).collect();
        let panel = Panel::Lanes(Lanes { axis, kinds, groups, width: 860.0 });
        let title = format!("{name}: what every device solved when");
        let figure = Figure { title, panels: vec![panel], columns: 1, notes: self.notes(tracks.len()) };
        Drawn { figure, numbers: table(name, &tracks) }
    }

    fn notes(&self, tracks: usize) -> Vec<String> {
        let mut notes = vec![
            "A bar is one sample in a slot, coloured by its task's method. Idle: seconds without any sample between the \
             worker's start (its process's, if it never came up) and the last sample that its process had to give."
                .to_owned(),
        ];
        if self.solves().any(|solve| !solve.ended) {
            notes.push(
                "A thin bar was not finished: it still runs, or its worker was killed; it is drawn until its process was \
                 last heard of."
                    .to_owned(),
            );
        }
        if tracks > MOST_DRAWN {
            notes.push(format!("{MOST_DRAWN} of {tracks} devices are drawn; the table has all."));
        }
        notes
    }

    fn solves(&self) -> impl Iterator<Item = &Solve> {
        self.stays.values().flatten().flat_map(|stay| &stay.solves)
    }

    /// Every device over time. Processes that name a device alike at the same time (tasks that share a host, each of which
    /// counts its own devices) have different ones.
    fn tracks(&self) -> Vec<Track<'_>> {
        let mut tracks = Vec::new();
        for ((host, device), stays) in &self.stays {
            let mut sorted: Vec<&Stay> = stays.iter().collect();
            sorted.sort_by(|a, b| a.span[0].total_cmp(&b.span[0]));
            let first = tracks.len();
            for stay in sorted {
                match tracks[first..].iter_mut().find(|track: &&mut Track<'_>| track.end() <= stay.span[0]) {
                    Some(track) => track.stays.push(stay),
                    None => tracks.push(Track { host, device, stays: vec![stay] }),
                }
            }
        }
        tracks
    }
}

fn table(name: &str, tracks: &[Track<'_>]) -> Table {
    let count = |number: usize| Cell::Number(number as f64, 0);
    let row = |track: &Track<'_>| {
        let (busy, idle) = track.busy_and_idle();
        vec![
            Cell::text(track.host),
            Cell::text(track.device),
            count(track.stays.len()),
            count(track.solves().count()),
            count(track.solves().filter(|solve| !solve.ended).count()),
            Cell::Number(busy, 2),
            idle.map_or(Cell::Missing, |idle| Cell::Number(idle, 2)),
        ]
    };
    Table {
        id: "timeline".to_owned(),
        title: format!("{name}: devices"),
        columns: vec![
            Column::new("host", "host", Kind::Text),
            Column::new("device", "device", Kind::Text),
            Column::new("processes", "processes", Kind::Number),
            Column::new("solves", "solves", Kind::Number),
            Column::new("unfinished", "unfinished", Kind::Number),
            Column::new("busy_seconds", "busy s", Kind::Number),
            Column::new("idle_seconds", "idle s while samples remained", Kind::Number),
        ],
        rows: tracks.iter().map(row).collect(),
        ..Table::default()
    }
}

/// A unit of time that suits a length.
struct Unit {
    seconds: f64,
    label: &'static str,
}

impl Unit {
    fn of(seconds: f64) -> Self {
        match seconds {
            ..300.0 => Self { seconds: 1.0, label: "seconds" },
            ..18_000.0 => Self { seconds: 60.0, label: "minutes" },
            _ => Self { seconds: 3600.0, label: "hours" },
        }
    }
}

/// Every solve on the first lane that is free.
fn lanes<'a>(solves: impl Iterator<Item = &'a Solve>, bar: impl Fn(&Solve) -> Bar) -> Vec<Vec<Bar>> {
    let mut sorted: Vec<&Solve> = solves.collect();
    sorted.sort_by(|a, b| a.span[0].total_cmp(&b.span[0]));
    let mut lanes: Vec<(f64, Vec<Bar>)> = Vec::new();
    for solve in sorted {
        match lanes.iter_mut().find(|(end, _)| *end <= solve.span[0]) {
            Some((end, lane)) => {
                *end = solve.span[1];
                lane.push(bar(solve));
            }
            None => lanes.push((solve.span[1], vec![bar(solve)])),
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

/// Spans without overlaps, in order.
fn union(mut spans: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    spans.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut joined: Vec<[f64; 2]> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span[0] <= last[1] => last[1] = last[1].max(span[1]),
            _ => joined.push(span),
        }
    }
    joined
}

fn length(spans: &[[f64; 2]]) -> f64 {
    spans.iter().fold(0.0, |sum, [from, to]| sum + (to - from))
}

fn idle_within(busy: &[[f64; 2]], [from, to]: [f64; 2]) -> f64 {
    let inside = busy.iter().map(|span| (span[1].min(to) - span[0].max(from)).max(0.0)).sum::<f64>();
    (to - from - inside).max(0.0)
}
