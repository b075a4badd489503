//! Heartbeats: `nodes/<attempt>.json`, one file per process that solves, replaced as a whole every few seconds.
//!
//! They are for the live view: no result depends on them, and nobody waits for one. So they are renamed into place but
//! not synced, and a reader takes them as they come: missing, old, or of another version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::{Fs, list_if_exists};
use super::layout::Layout;
use super::log::create_dirs;
use super::telemetry::TelemetryRow;

/// Version of the form of a heartbeat.
pub const FORMAT: u32 = 1;
/// A process without a heartbeat for so long is shown as silent, in ms: several beats, and the time in which a shared
/// file system may show an old file.
pub const SILENT_AFTER_MS: u64 = 60_000;
/// A heartbeat of a process that ended or fell silent so long ago is removed, in ms.
const REMOVED_AFTER_MS: u64 = 3_600_000;

/// One process that solves samples of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Version of this form.
    pub dflow_node: u32,
    /// Attempt of the process.
    pub attempt: String,
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// Who started it, where that was Slurm.
    pub slurm: Option<SlurmTask>,
    /// Submission, where it is a task of one.
    pub submission: Option<String>,
    /// Chunk of the submission.
    pub chunk: Option<u32>,
    /// When it started: UTC, ms since 1970.
    pub started_ms: u64,
    /// When this was written, by the clock of its host.
    pub written_ms: u64,
    /// When its file was written, by the clock of the file system, which is one for all hosts; none if that does not tell.
    #[serde(skip)]
    pub modified_ms: Option<u64>,
    /// When it came to an orderly end.
    pub ended_ms: Option<u64>,
    /// Why it stops, or stopped, before its work was done.
    pub stopping: Option<String>,
    /// Samples that it was given, in all.
    pub given: u64,
    /// Samples durable, failed ones included.
    pub finished: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Samples finished lately, and over how many seconds: the throughput.
    pub lately: Rate,
    /// Its workers.
    pub devices: Vec<NodeDevice>,
    /// Its newest failures, the newest last.
    pub failures: Vec<Failure>,
}

/// What Slurm says of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SlurmTask {
    /// Id of the job.
    pub job: String,
    /// Id of the array, if it is a task of one.
    pub array: Option<String>,
    /// Index in the array.
    pub task: Option<String>,
    /// Times that it was started again.
    pub restarts: u32,
}

/// Samples in some seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// Samples.
    pub samples: u64,
    /// Seconds.
    pub seconds: f64,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It loads its models.
    #[default]
    Starting,
    /// It solves.
    Busy,
    /// It has nothing to do.
    Idle,
    /// It broke down and is started again.
    Restarting,
    /// It came to its end.
    Ended,
    /// It broke down for good.
    Broken,
    /// A state of another version.
    #[serde(other)]
    Unknown,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDevice {
    /// Name of its device.
    pub name: String,
    /// What it is doing.
    pub state: DeviceState,
    /// Why it broke down, if it did.
    pub reason: Option<String>,
    /// Samples that it solves at a time, at most.
    pub slots: u64,
    /// Samples that it is solving.
    pub samples: Vec<Held>,
    /// Samples durable, failed ones included.
    pub finished: u64,
    /// Of these, failed.
    pub failed: u64,
    /// The newest reading of its device.
    pub reading: Option<TelemetryRow>,
}

/// A sample that is being solved.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Id of the sample.
    pub sample: String,
    /// Evaluations so far.
    pub evals: u32,
    /// Observed PSNR so far in dB, where there is one.
    pub psnr: Option<f64>,
    /// Seconds since this process took it up.
    pub seconds: f64,
}

/// A sample that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// When: UTC, ms since 1970.
    pub time_ms: u64,
    /// `task/method/sample`.
    pub row: String,
    /// Its device.
    pub device: String,
    /// Why.
    pub error: String,
}

impl Node {
    /// Milliseconds since the heartbeat, by the file system's clock rather than that of its host; 0 if that clock is ahead
    /// of ours.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.modified_ms.unwrap_or(self.written_ms))
    }
}

/// UTC, ms since 1970.
pub fn now_ms() -> u64 {
    since_1970(SystemTime::now())
}

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Name of the file of a process.
fn path(layout: &Layout, attempt: &str) -> PathBuf {
    layout.nodes().join(format!("{attempt}.json"))
}

/// Replaces the heartbeat of a process.
///
/// # Errors
/// What the file system says; the old heartbeat then stays.
pub fn write(fs: &dyn Fs, layout: &Layout, node: &Node) -> Result<(), StoreError> {
    let text = serde_json::to_vec(node).map_err(|error| StoreError::Encode(error.to_string()))?;
    let dir = layout.nodes();
    create_dirs(fs, &dir)?;
    let temporary = dir.join(format!(".{}.json.tmp", node.attempt));
    let to = path(layout, &node.attempt);
    // The attempt's alone; one that is there was left by an error.
    let _ = fs.remove(&temporary);
    let mut file = fs.create_new(&temporary).map_err(StoreError::io("create", &temporary))?;
    file.append(&text).map_err(StoreError::io("write", &temporary))?;
    fs.rename(&temporary, &to).map_err(StoreError::io("rename to", &to))
}

/// Removes the heartbeat of a process that has nothing to tell any more.
///
/// # Errors
/// What the file system says; a file that is not there is no error.
pub fn remove(fs: &dyn Fs, layout: &Layout, attempt: &str) -> Result<(), StoreError> {
    let path = path(layout, attempt);
    match fs.remove(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the heartbeats of earlier attempts with the tag of this one: of the same chunk, which they no longer solve.
/// That of a copy that lives after all comes again with its next beat.
///
/// # Errors
/// What the file system says.
pub fn remove_older(fs: &dyn Fs, layout: &Layout, attempt: &str) -> Result<(), StoreError> {
    let this = AttemptId::from_text(attempt);
    let Some(tag) = this.tag() else { return Ok(()) };
    let is_older = |other: &String| **other < *attempt && AttemptId::from_text(&**other).tag() == Some(tag);
    let mut older = attempts(fs, layout)?.into_iter().filter(is_older);
    older.try_for_each(|other| remove(fs, layout, &other))
}

/// Attempts that have a file.
fn attempts(fs: &dyn Fs, layout: &Layout) -> Result<BTreeSet<String>, StoreError> {
    let names = list_if_exists(fs, &layout.nodes())?;
    let attempts =
        names.iter().filter(|name| !name.starts_with('.')).filter_map(|name| name.strip_suffix(".json"));
    Ok(attempts.map(str::to_owned).collect())
}

/// Reads heartbeats again and again; those of processes that came to their end only once.
#[derive(Debug, Default)]
pub struct NodeReader {
    /// By attempt.
    ended: BTreeMap<String, Node>,
}

impl NodeReader {
    /// The heartbeats that can be read, by attempt: one listing. A file that vanishes, is torn, or is of another program is
    /// left out: the next reading shows what it became.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn read(&mut self, fs: &dyn Fs, layout: &Layout) -> Result<Vec<Node>, StoreError> {
        let attempts = attempts(fs, layout)?;
        self.ended.retain(|attempt, _| attempts.contains(attempt));
        let mut nodes = Vec::new();
        for attempt in attempts {
            if let Some(node) = self.ended.get(&attempt) {
                nodes.push(node.clone());
            } else if let Some(node) = read_one(fs, layout, &attempt) {
                if node.ended_ms.is_some() {
                    self.ended.insert(attempt, node.clone());
                }
                nodes.push(node);
            }
        }
        Ok(nodes)
    }
}

fn read_one(fs: &dyn Fs, layout: &Layout, attempt: &str) -> Option<Node> {
    let file = fs.open(&path(layout, attempt)).ok()?;
    let bytes = file.read_at(0, file.size().ok()? as usize).ok()?;
    let node: Node = serde_json::from_slice(&bytes).ok()?;
    let is_ours = node.dflow_node != 0 && node.attempt == attempt;
    is_ours.then(|| Node { modified_ms: file.modified().map(since_1970), ..node })
}

/// As [`NodeReader::read`], once.
///
/// # Errors
/// When the folder cannot be listed.
pub fn read_all(fs: &dyn Fs, layout: &Layout) -> Result<Vec<Node>, StoreError> {
    NodeReader::default().read(fs, layout)
}

/// Removes heartbeats of processes that ended or fell silent over an hour ago; a failure is a warning.
pub(super) fn tidy(fs: &dyn Fs, layout: &Layout) {
    if let Err(error) = sweep(fs, layout, now_ms()) {
        tracing::warn!("old heartbeats stay: {error}");
    }
}

fn sweep(fs: &dyn Fs, layout: &Layout, now_ms: u64) -> Result<(), StoreError> {
    let old = |node: &Node| node.age_ms(now_ms) > REMOVED_AFTER_MS;
    read_all(fs, layout)?
        .iter()
        .filter(|node| old(node))
        .try_for_each(|node| remove(fs, layout, &node.attempt))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::fault::{Fault, FaultFs};
    use crate::store::fs::{OsFs, write_atomic};

    fn files() -> (FaultFs, Layout) {
        (FaultFs::new(Path::new("/run")), Layout::new("/run"))
    }

    fn node(attempt: &str, written_ms: u64) -> Node {
        let device = NodeDevice {
            name: "cuda:0".to_owned(),
            state: DeviceState::Busy,
            samples: vec![Held { evals: 3, psnr: Some(f64::MAX), ..Held::default() }],
            reading: Some(TelemetryRow { power: Some(300.5), ..TelemetryRow::default() }),
            ..NodeDevice::default()
        };
        let attempt = attempt.to_owned();
        Node { dflow_node: FORMAT, attempt, written_ms, devices: vec![device], ..Node::default() }
    }

    #[test]
    fn a_heartbeat_is_replaced_and_read_as_written() {
        let (fs, layout) = files();
        write(&fs, &layout, &node("a", 1)).unwrap();
        write(&fs, &layout, &node("a", 2)).unwrap();
        write(&fs, &layout, &node("b", 3)).unwrap();
        assert_eq!(read_all(&fs, &layout).unwrap(), [node("a", 2), node("b", 3)]);
        remove(&fs, &layout, "a").unwrap();
        remove(&fs, &layout, "a").unwrap();
        assert_eq!(read_all(&fs, &layout).unwrap(), [node("b", 3)]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_heartbeat_and_the_next_one_is_written() {
        let (fs, layout) = files();
        write(&fs, &layout, &node("a", 1)).unwrap();
        // The removal of an old temporary file comes first; then create, append, rename.
        for k in 1..=3 {
            fs.inject(k, Fault::ShortWrite);
            assert!(write(&fs, &layout, &node("a", 2)).is_err(), "operation {k}");
            assert_eq!(read_all(&fs, &layout).unwrap(), [node("a", 1)]);
        }
        write(&fs, &layout, &node("a", 2)).unwrap();
        assert_eq!(read_all(&fs, &layout).unwrap(), [node("a", 2)]);
    }

    #[test]
    fn torn_foreign_and_unknown_files_are_left_out_or_read_as_far_as_known() {
        let (fs, layout) = files();
        write(&fs, &layout, &node("a", 1)).unwrap();
        let text = fs.read(&layout.nodes().join("a.json")).unwrap();
        let put = |name: &str, bytes: &[u8]| write_atomic(&fs, &layout.nodes().join(name), bytes).unwrap();
        for cut in 0..text.len() {
            put("torn.json", &text[..cut]);
            assert_eq!(read_all(&fs, &layout).unwrap().len(), 1, "cut at {cut}");
        }
        put("torn.json", b"{}");
        put("other.json", &text); // another's attempt under this name
        put(".b.json.tmp", &text);
        assert_eq!(read_all(&fs, &layout).unwrap().len(), 1);
        let newer = r#"{"dflow_node":7,"attempt":"c","later":{"x":1},"devices":[{"name":"cuda:0","state":"on_fire"}]}"#;
        put("c.json", newer.as_bytes());
        let nodes = read_all(&fs, &layout).unwrap();
        assert_eq!(nodes[1].devices[0].state, DeviceState::Unknown);
        assert_eq!((nodes[1].dflow_node, nodes[1].devices[0].name.as_str()), (7, "cuda:0"));
    }

    #[test]
    fn a_heartbeat_has_an_age_unless_its_clock_is_ahead_of_ours() {
        let beat = node("a", 1_000_000);
        assert_eq!((beat.age_ms(1_060_001), beat.age_ms(0)), (60_001, 0));
    }

    #[test]
    fn only_heartbeats_of_long_ago_are_swept() {
        let (fs, layout) = files();
        write(&fs, &layout, &node("a", 1)).unwrap();
        write(&fs, &layout, &node("b", 10_000)).unwrap();
        sweep(&fs, &layout, REMOVED_AFTER_MS + 2).unwrap();
        assert_eq!(read_all(&fs, &layout).unwrap(), [node("b", 10_000)]);
        assert!(read_all(&fs, &Layout::new("/none")).unwrap().is_empty());
    }

    #[test]
    fn the_heartbeat_of_an_ended_process_is_read_once() {
        let (fs, layout) = files();
        write(&fs, &layout, &node("a", 1)).unwrap();
        write(&fs, &layout, &Node { ended_ms: Some(2), ..node("b", 2) }).unwrap();
        let mut reader = NodeReader::default();
        let first = reader.read(&fs, &layout).unwrap();
        // Nothing rewrites it; were it read again, it would be seen to be torn.
        write_atomic(&fs, &layout.nodes().join("b.json"), b"torn").unwrap();
        write(&fs, &layout, &node("a", 3)).unwrap();
        let second = reader.read(&fs, &layout).unwrap();
        assert_eq!((second[0].written_ms, &second[1]), (3, &first[1]));
        remove(&fs, &layout, "b").unwrap();
        assert_eq!(reader.read(&fs, &layout).unwrap().len(), 1);
    }

    #[test]
    fn an_attempt_removes_the_heartbeats_of_its_chunks_earlier_ones_alone() {
        let (fs, layout) = files();
        let attempt = |time: u32, tag: &str| format!("2026112{time}T000000.000Z-00000000{tag}");
        let kept = [attempt(1, "-c2sff"), attempt(1, ""), attempt(3, "-c1sff")];
        let removed = [attempt(0, "-c1sff"), attempt(1, "-c1sff")];
        for name in kept.iter().chain(&removed) {
            write(&fs, &layout, &node(name, 1)).unwrap();
        }
        remove_older(&fs, &layout, &attempt(1, "")).unwrap();
        assert_eq!(read_all(&fs, &layout).unwrap().len(), 5, "without a tag nothing is of the same chunk");
        remove_older(&fs, &layout, &attempt(2, "-c1sff")).unwrap();
        let left: BTreeSet<String> =
            read_all(&fs, &layout).unwrap().into_iter().map(|node| node.attempt).collect();
        assert_eq!(left, BTreeSet::from(kept));
    }

    #[test]
    fn the_age_of_a_heartbeat_is_told_by_the_clock_of_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        write(&OsFs, &layout, &node("a", now_ms() - 10 * SILENT_AFTER_MS)).unwrap();
        write(&OsFs, &layout, &node("b", now_ms() + 10 * SILENT_AFTER_MS)).unwrap();
        let nodes = read_all(&OsFs, &layout).unwrap();
        let modified = nodes[0].modified_ms.expect("this file system tells");
        // Both were written a moment ago, one after the other.
        assert!(nodes.iter().all(|node| node.age_ms(modified) < SILENT_AFTER_MS), "{nodes:?}");
        let later = modified + 5 * SILENT_AFTER_MS;
        let is_silent = |node: &Node| node.age_ms(later) > SILENT_AFTER_MS;
        assert!(nodes.iter().all(is_silent), "a clock that is ahead hides nothing either");
    }
}
