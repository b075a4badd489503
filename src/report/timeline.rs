//! When every device solved what, from the event logs of a run: whether one was idle while samples remained.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::figures::Drawn;
use super::plot::{Axis, Bar, Figure, LaneGroup, Lanes, Panel};
use super::table::{Cell, Column, Kind, Table};

/// Most devices that are drawn; the table has all.
const MOST_DRAWN: usize = 64;

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
}

/// A process on a host, and its device.
type Seat = (String, u32, String);

/// One solve on a device, in seconds since 1970.
#[derive(Debug, Clone, PartialEq)]
struct Solve {
    row: String,
    span: [f64; 2],
}

/// What one device did.
#[derive(Debug, Clone, Default)]
struct Track {
    solves: Vec<Solve>,
    /// From when on it could solve, and until when there was something left for it to take.
    served: Option<[f64; 2]>,
}

/// Solves of every device of every process, from the lines of all logs.
#[derive(Debug, Default)]
pub struct Timeline {
    tracks: BTreeMap<Seat, Track>,
}

impl Timeline {
    /// Reads logs; lines that are no events (a writer was killed inside one) are left out.
    pub fn read<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let lines = texts.flat_map(str::lines).filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let mut open: BTreeMap<(Seat, String), f64> = BTreeMap::new();
        let mut last_start: BTreeMap<(String, u32), f64> = BTreeMap::new();
        let mut timeline = Self::default();
        for line in lines {
            let process = (line.host.clone(), line.pid);
            let seat = (line.host, line.pid, line.device);
            match &*line.event {
                "worker_ready" => {
                    let track = timeline.tracks.entry(seat).or_default();
                    track.served.get_or_insert([line.time; 2]);
                }
                "started" => {
                    last_start.insert(process, line.time);
                    open.insert((seat, line.row), line.time);
                }
                "finished" | "suspended" => {
                    let Some(from) = open.remove(&(seat.clone(), line.row.clone())) else { continue };
                    let solve = Solve { row: line.row, span: [from, line.time] };
                    timeline.tracks.entry(seat).or_default().solves.push(solve);
                }
                "worker_broken" => {
                    let lost: Vec<_> = open.keys().filter(|(other, _)| *other == seat).cloned().collect();
                    for key in lost {
                        let from = open.remove(&key).unwrap_or(line.time);
                        let solve = Solve { row: key.1, span: [from, line.time] };
                        timeline.tracks.entry(seat.clone()).or_default().solves.push(solve);
                    }
                }
                _ => {}
            }
        }
        for ((host, pid, _), track) in &mut timeline.tracks {
            if let (Some(served), Some(last)) = (&mut track.served, last_start.get(&(host.clone(), *pid))) {
                served[1] = last.max(served[0]);
            }
        }
        timeline
    }

    /// Whether nothing was solved.
    pub fn is_empty(&self) -> bool {
        self.tracks.values().all(|track| track.solves.is_empty())
    }

    /// The picture, and a row per device: samples, seconds busy, and seconds idle while its process still had samples to
    /// give.
    pub fn draw(&self, name: &str) -> Drawn {
        let start = self.solves().map(|solve| solve.span[0]).fold(f64::INFINITY, f64::min);
        let end = self.solves().map(|solve| solve.span[1]).fold(start, f64::max);
        let unit = Unit::of(end - start);
        let kinds: Vec<String> =
            self.solves().map(|solve| kind(&solve.row)).collect::<BTreeSet<_>>().into_iter().collect();
        let lane = |track: &Track| LaneGroup {
            label: String::new(),
            lanes: lanes(&track.solves, |solve| Bar {
                span: solve.span.map(|time| (time - start) / unit.seconds),
                kind: kinds.iter().position(|name| *name == kind(&solve.row)).unwrap_or(0),
            }),
        };
        let groups = self.tracks.iter().take(MOST_DRAWN);
        let groups = groups.map(|(seat, track)| LaneGroup { label: label(seat), ..lane(track) }).collect();
        let axis = Axis { range: Some([0.0, (end - start) / unit.seconds]), ..Axis::linear(unit.label) };
        let mut notes = vec![
            "A bar is one sample in a slot, coloured by its task's method. Idle: seconds without any sample between the \
             worker's start and the last sample that its process had to give."
                .to_owned(),
        ];
        if self.tracks.len() > MOST_DRAWN {
            notes
                .push(format!("{MOST_DRAWN} of {} devices are drawn; the table has all.", self.tracks.len()));
        }
        let panel = Panel::Lanes(Lanes { axis, kinds: kinds.clone(), groups, width: 860.0 });
        let title = format!("{name}: what every device solved when");
        Drawn { figure: Figure { title, panels: vec![panel], columns: 1, notes }, numbers: self.table(name) }
    }

    fn solves(&self) -> impl Iterator<Item = &Solve> {
        self.tracks.values().flat_map(|track| &track.solves)
    }

    fn table(&self, name: &str) -> Table {
        let number = |value: f64| Cell::Number(value, 2);
        let row = |(seat, track): (&Seat, &Track)| {
            let busy = union(track.solves.iter().map(|solve| solve.span).collect());
            let idle = track.served.map(|served| idle_within(&busy, served));
            vec![
                Cell::text(&seat.0),
                Cell::text(seat.1.to_string()),
                Cell::text(&seat.2),
                Cell::Number(track.solves.len() as f64, 0),
                number(length(&busy)),
                idle.map_or(Cell::Missing, number),
            ]
        };
        Table {
            id: "timeline".to_owned(),
            title: format!("{name}: devices"),
            columns: vec![
                Column::new("host", "host", Kind::Text),
                Column::new("process", "process", Kind::Text),
                Column::new("device", "device", Kind::Text),
                Column::new("solves", "solves", Kind::Number),
                Column::new("busy_seconds", "busy s", Kind::Number),
                Column::new("idle_seconds", "idle s while samples remained", Kind::Number),
            ],
            rows: self.tracks.iter().map(row).collect(),
            ..Table::default()
        }
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

fn label((host, pid, device): &Seat) -> String {
    format!("{host} {pid} {device}")
}

/// The method in `task/method/sample`.
fn kind(row: &str) -> String {
    row.split('/').nth(1).unwrap_or(row).to_owned()
}

/// Every solve on the first lane that is free.
fn lanes(solves: &[Solve], bar: impl Fn(&Solve) -> Bar) -> Vec<Vec<Bar>> {
    let mut sorted: Vec<&Solve> = solves.iter().collect();
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
    spans.iter().map(|[from, to]| to - from).sum()
}

fn idle_within(busy: &[[f64; 2]], [from, to]: [f64; 2]) -> f64 {
    let inside = busy.iter().map(|span| (span[1].min(to) - span[0].max(from)).max(0.0)).sum::<f64>();
    (to - from - inside).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: f64, event: &str, device: &str, row: &str) -> String {
        format!(
            r#"{{"time":{time},"event":"{event}","device":"{device}","row":"{row}","host":"n1","pid":7}}"#
        )
    }

    /// Two devices: `a` works all the time, `b` waits from 3 to 5 while `a` still gets a sample.
    fn log() -> String {
        let events = [
            (0.0, "worker_ready", "a", ""),
            (0.0, "worker_ready", "b", ""),
            (0.0, "started", "a", "t/d-flow/0"),
            (0.0, "started", "a", "t/d-flow/1"),
            (0.0, "started", "b", "t/pinv/2"),
            (3.0, "finished", "b", "t/pinv/2"),
            (4.0, "finished", "a", "t/d-flow/0"),
            (5.0, "started", "a", "t/d-flow/3"),
            (6.0, "finished", "a", "t/d-flow/1"),
            (9.0, "suspended", "a", "t/d-flow/3"),
        ];
        events.map(|(time, event, device, row)| line(time, event, device, row)).join("\n")
    }

    fn number(cell: &Cell) -> f64 {
        if let Cell::Number(value, _) = cell { *value } else { f64::NAN }
    }

    #[test]
    fn busy_and_idle_times_are_those_of_the_log() {
        let text = log();
        let Drawn { numbers, .. } = Timeline::read(std::iter::once(&*text)).draw("small");
        let figures: Vec<Vec<f64>> =
            numbers.rows.iter().map(|row| row[3..].iter().map(number).collect()).collect();
        assert_eq!(figures, [[3.0, 9.0, 0.0], [1.0, 3.0, 2.0]]);
    }

    #[test]
    fn solves_at_the_same_time_have_lanes_of_their_own() {
        let text = log();
        let timeline = Timeline::read(std::iter::once(&*text));
        let track = &timeline.tracks[&("n1".to_owned(), 7, "a".to_owned())];
        let lanes = lanes(&track.solves, |solve| Bar { span: solve.span, kind: 0 });
        let spans: Vec<Vec<[f64; 2]>> =
            lanes.iter().map(|lane| lane.iter().map(|bar| bar.span).collect()).collect();
        assert_eq!(spans, [vec![[0.0, 4.0], [5.0, 9.0]], vec![[0.0, 6.0]]]);
    }

    #[test]
    fn a_torn_line_and_a_lost_worker_leave_the_rest() {
        let broken = line(2.0, "worker_broken", "b", "");
        let text = format!("{}\n{broken}\n{{\"time\": 3, \"ev", line(1.0, "started", "b", "t/m/0"));
        let timeline = Timeline::read(std::iter::once(&*text));
        assert_eq!(timeline.solves().map(|solve| solve.span).collect::<Vec<_>>(), [[1.0, 2.0]]);
        assert!(Timeline::read(std::iter::empty()).is_empty());
    }

    #[test]
    fn the_picture_names_devices_and_methods() {
        let text = log();
        let svg = Timeline::read(std::iter::once(&*text)).draw("small").figure.svg().unwrap();
        for part in ["n1 7 a", "n1 7 b", "d-flow", "pinv", "seconds"] {
            assert!(svg.contains(part), "{part}");
        }
    }
}
