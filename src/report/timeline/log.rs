//! From the lines of a log to what its processes did.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::Deserialize;

use super::{Solve, Stay, Timeline};

/// One line of a log, as far as it matters here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Line {
    time: f64,
    event: String,
    host: String,
    pid: u32,
    device: String,
    row: String,
    /// Of the line with which a process begins.
    devices: Vec<String>,
}

/// A process whose events are being read.
#[derive(Debug)]
struct Process {
    span: [f64; 2],
    /// When it gave a sample to a device last.
    last_start: Option<f64>,
    /// By device.
    seats: BTreeMap<String, Seat>,
}

/// What a device of a process did so far.
#[derive(Debug, Default)]
struct Seat {
    /// When its process began to work.
    begun: Option<f64>,
    /// When it could solve for the first time.
    ready: Option<f64>,
    /// Rows that are being solved, and since when.
    open: BTreeMap<String, f64>,
    solves: Vec<Solve>,
}

pub(super) fn read(timeline: &mut Timeline, lines: impl BufRead) -> io::Result<()> {
    let mut processes: BTreeMap<(String, u32), Process> = BTreeMap::new();
    for line in lines.split(b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(&line?) else { continue };
        let name = (line.host.clone(), line.pid);
        // Numbers of processes come again.
        if line.event == "begin"
            && let Some(process) = processes.remove(&name)
        {
            timeline.close(name.clone(), process);
        }
        let process = processes.entry(name).or_insert_with(|| Process::new(line.time));
        timeline.take(process, line);
    }
    processes.into_iter().for_each(|(name, process)| timeline.close(name, process));
    Ok(())
}

impl Process {
    fn new(time: f64) -> Self {
        Self { span: [time; 2], last_start: None, seats: BTreeMap::new() }
    }
}

impl Timeline {
    fn take(&mut self, process: &mut Process, line: Line) {
        process.span[1] = process.span[1].max(line.time);
        let Line { time, event, device, row, devices, .. } = line;
        match &*event {
            // Also one that never comes up has its place.
            "begin" => {
                for device in devices {
                    process.seats.entry(device).or_default().begun = Some(time);
                }
            }
            "worker_ready" => {
                process.seats.entry(device).or_default().ready.get_or_insert(time);
            }
            "started" => {
                process.last_start = Some(time);
                process.seats.entry(device).or_default().open.insert(row, time);
            }
            "finished" | "suspended" => {
                let Some(seat) = process.seats.get_mut(&device) else { return };
                let Some(from) = seat.open.remove(&row) else { return };
                seat.solves.push(Solve { kind: self.kind(&row), span: [from, time], ended: true });
            }
            "worker_broken" => {
                let Some(seat) = process.seats.get_mut(&device) else { return };
                self.abandon(seat, time);
            }
            _ => {}
        }
    }

    /// Ends what is open on a device: it comes to no end of its own.
    fn abandon(&mut self, seat: &mut Seat, time: f64) {
        for (row, from) in std::mem::take(&mut seat.open) {
            seat.solves.push(Solve { kind: self.kind(&row), span: [from, time.max(from)], ended: false });
        }
    }

    /// Keeps what a process did, once all its events are read.
    fn close(&mut self, name: (String, u32), process: Process) {
        let Process { span: [begin, last], last_start, seats } = process;
        let span = [begin, self.heard_of(&name, last)];
        let (host, _) = name;
        for (device, mut seat) in seats {
            self.abandon(&mut seat, span[1]);
            let served = seat.ready.or(seat.begun).map(|from| [from, last_start.unwrap_or(from).max(from)]);
            let stay = Stay { span, served, solves: seat.solves };
            self.stays.entry((host.clone(), device)).or_default().push(stay);
        }
    }

    /// When a process was last heard of, given its last event. Of the lives under its number, later ones begin after that
    /// event, and earlier ones end before the process begins.
    fn heard_of(&self, name: &(String, u32), last: f64) -> f64 {
        let lives = self.lives.get(name).into_iter().flatten();
        lives.filter(|[begin, _]| *begin <= last).map(|[_, end]| *end).fold(last, f64::max)
    }

    /// The number of the method in `task/method/sample`.
    fn kind(&mut self, row: &str) -> usize {
        let name = row.split('/').nth(1).unwrap_or(row);
        self.kinds.iter().position(|known| known == name).unwrap_or_else(|| {
            self.kinds.push(name.to_owned());
            self.kinds.len() - 1
        })
    }
}
