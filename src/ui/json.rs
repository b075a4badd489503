//! Events for machines: one JSON object per line, on stdout with `--json` and in the run's `log.jsonl` always.
//!
//! An object has `time` (seconds since 1970), `event` (the event's name) and the event's own fields; a sample is named
//! by `row`: `task/method/sample`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::progress::Names;
use crate::plan::Unit;
use crate::run::event::{RunEvent, RunSummary};

/// An event as one object.
pub fn event(event: &RunEvent, names: &dyn Names) -> Value {
    // Externally tagged: { name: { fields } }.
    let mut fields = Map::new();
    let mut name = Value::Null;
    if let Ok(Value::Object(tagged)) = serde_json::to_value(event) {
        for (key, value) in tagged {
            name = Value::from(key);
            flatten(&mut fields, value, names);
        }
    }
    object(name, fields)
}

/// The end of a run as one object.
pub fn summary(summary: &RunSummary) -> Value {
    let fields = serde_json::to_value(summary).ok().and_then(|value| value.as_object().cloned());
    let mut fields = fields.unwrap_or_default();
    let usage = summary.usage_of_all();
    fields.insert("outside_network_share".to_owned(), json!(usage.outside_share()));
    fields.insert("idle_slot_share".to_owned(), json!(usage.slots.idle_share()));
    fields.insert("idle_slot_share_until_last".to_owned(), json!(usage.slots_until_last.idle_share()));
    object(Value::from("end"), fields)
}

fn object(name: Value, fields: Map<String, Value>) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let head = [("time".to_owned(), json!(now as f64 / 1e3)), ("event".to_owned(), name)];
    Value::Object(head.into_iter().chain(fields).collect())
}

/// The fields of an event, with those of its `sample` beside them and its unit by name.
fn flatten(fields: &mut Map<String, Value>, value: Value, names: &dyn Names) {
    let Value::Object(own) = value else { return };
    for (key, value) in own {
        match &*key {
            "sample" => flatten(fields, value, names),
            "unit" => {
                if let Ok(unit) = serde_json::from_value::<Unit>(value) {
                    fields.insert("row".to_owned(), Value::from(names.row(unit)));
                }
            }
            _ => {
                fields.insert(key, value);
            }
        }
    }
}

/// The log of a run directory: what happened there, by every process that worked in it. It is for people who ask
/// later; no result depends on it.
pub struct EventLog {
    file: File,
    pid: u32,
    host: String,
}

impl EventLog {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// When it cannot be created or written.
    pub fn open(path: &Path, host: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, pid: std::process::id(), host: host.to_owned() })
    }

    /// Appends one object, with host and process; several processes may do so at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, mut event: Value) -> io::Result<()> {
        event["host"] = Value::from(&*self.host);
        event["pid"] = Value::from(self.pid);
        // One write, so that lines of several processes do not mix.
        self.file.write_all(format!("{event}\n").as_bytes())
    }
}

/// Which events get a line of the log. Progress is for the eyes and would make most of it; now and then it gets one all the
/// same, so that the log of a process that was killed says how long it was at work.
#[derive(Debug)]
pub struct Pace {
    begin: Instant,
    /// When a line was written last.
    last: Instant,
}

impl Pace {
    /// Time without a line after which progress gets one: a part of the time before, within these bounds.
    const PART: u32 = 4;
    const BOUNDS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

    /// Of a log that begins.
    pub fn new(begin: Instant) -> Self {
        Self { begin, last: begin }
    }

    /// Whether an event gets a line; the caller then writes it.
    pub fn takes(&mut self, event: &RunEvent, now: Instant) -> bool {
        let [least, most] = Self::BOUNDS;
        let wait = (self.last.saturating_duration_since(self.begin) / Self::PART).clamp(least, most);
        let is_due = now.saturating_duration_since(self.last) >= wait;
        let is_taken = is_due || !matches!(event, RunEvent::Progress { .. });
        if is_taken {
            self.last = now;
        }
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::protocol::Finished;

    struct Numbered;

    impl Names for Numbered {
        fn row(&self, unit: Unit) -> String {
            format!("task-{}/method/{}", unit.cell, unit.sample)
        }
    }

    #[test]
    fn a_finished_sample_is_one_flat_object_with_its_row() {
        let sample = Finished {
            unit: Unit { cell: 2, sample: 7 },
            error: None,
            stop_reason: Some("evals".to_owned()),
            evals: 30,
            seconds: 1.5,
            psnr: Some(31.0),
        };
        let mut value = event(&RunEvent::Finished { device: "cpu:0".to_owned(), sample }, &Numbered);
        assert!(value["time"].as_f64().unwrap() > 1.6e9);
        value["time"] = Value::Null;
        let expected = json!({
            "time": null, "event": "finished", "device": "cpu:0", "row": "task-2/method/7", "error": null,
            "stop_reason": "evals", "evals": 30, "seconds": 1.5, "psnr": 31.0
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn the_log_appends_a_line_per_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        for _ in 0..2 {
            let mut log = EventLog::open(&path, "here").unwrap();
            log.write(summary(&RunSummary::default())).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[1]["event"], &lines[1]["host"]), (&json!("end"), &json!("here")));
    }

    #[test]
    fn progress_has_a_line_now_and_then_and_all_else_always() {
        let unit = Unit { cell: 0, sample: 0 };
        let progress = RunEvent::Progress { device: "cpu:0".to_owned(), unit, evals: 1, psnr: None };
        let other = RunEvent::Suspended { device: "cpu:0".to_owned(), unit };
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut pace = Pace::new(begin);
        assert!(pace.takes(&other, begin) && !pace.takes(&progress, begin));
        let taken: Vec<u64> = (1..=3600).filter(|&second| pace.takes(&progress, at(second))).collect();
        assert_eq!(taken[..10], [1, 2, 3, 4, 5, 7, 9, 12, 15, 19]);
        assert!(taken.windows(2).all(|pair| pair[1] - pair[0] <= 60), "a minute is lost at the most");
        assert!(taken.len() < 90, "{} lines in an hour", taken.len());
        assert!(pace.takes(&other, at(3601)) && !pace.takes(&progress, at(3630)));
    }
}
