//! What a process tells of itself while it solves: a heartbeat made from the events of its run.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::event::RunEvent;
use crate::plan::{Plan, Unit};
use crate::store::TelemetryRow;
use crate::store::nodes::{DeviceState, FORMAT, Failure, Held, Node, NodeDevice, Rate, SlurmTask, now_ms};
use crate::worker::protocol::Finished;

/// Failures that a heartbeat carries.
const FAILURES: usize = 5;
/// The throughput is that of so many samples, or of the last ten minutes if they had more.
const LATELY_SAMPLES: usize = 32;
const LATELY: Duration = Duration::from_secs(600);

/// Who solves.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Attempt of this process.
    pub attempt: String,
    /// Name of this machine.
    pub host: String,
    /// Submission, if the process is a task of one.
    pub submission: Option<String>,
    /// Chunk of the submission.
    pub chunk: Option<u32>,
}

/// A solve that goes on.
#[derive(Debug, Clone, Copy)]
struct Solve {
    evals: u32,
    psnr: Option<f64>,
    since: Instant,
}

/// The heartbeat of this process, as its events make it. It touches no file.
#[derive(Debug)]
pub struct Heart {
    node: Node,
    /// Cells by task and method, and sample ids.
    cells: Vec<(String, String)>,
    samples: Vec<String>,
    /// What each device solves.
    held: BTreeMap<String, BTreeMap<Unit, Solve>>,
    /// When samples were finished lately; the first is when the counting begins.
    lately: VecDeque<Instant>,
}

impl Heart {
    /// A process that begins to solve samples of `plan`.
    pub fn new(identity: Identity, plan: &Plan) -> Self {
        let cells = plan.cells.iter().map(|cell| (cell.task.clone(), cell.method.clone())).collect();
        Self::with_names(identity, cells, plan.dataset.samples.clone())
    }

    fn with_names(identity: Identity, cells: Vec<(String, String)>, samples: Vec<String>) -> Self {
        let Identity { attempt, host, submission, chunk } = identity;
        let node = Node {
            dflow_node: FORMAT,
            attempt,
            host,
            submission,
            chunk,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slurm: slurm_task(|name| std::env::var(name).ok()),
            started_ms: now_ms(),
            ..Node::default()
        };
        Self { node, cells, samples, held: BTreeMap::new(), lately: VecDeque::from([Instant::now()]) }
    }

    /// The attempt that it is of.
    pub fn attempt(&self) -> &str {
        &self.node.attempt
    }

    /// Takes note of an event.
    pub fn observe(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Begin { planned, done, devices } => {
                self.node.given = planned.saturating_sub(*done) as u64;
                let new = |name: &String| NodeDevice { name: name.clone(), ..NodeDevice::default() };
                self.node.devices = devices.iter().map(new).collect();
            }
            RunEvent::WorkerReady { device, slots, .. } => {
                let slots = *slots as u64;
                self.change(device, |device| {
                    (device.state, device.slots, device.reason) = (DeviceState::Idle, slots, None);
                });
            }
            RunEvent::Started { device, unit, .. } => self.hold(device, *unit, (0, None)),
            RunEvent::Progress { device, unit, evals, psnr } => self.hold(device, *unit, (*evals, *psnr)),
            RunEvent::Finished { device, sample } => self.finished(device, sample),
            RunEvent::Suspended { device, unit } => self.release(device, *unit),
            RunEvent::WorkerBroken { device, error, restart_in } => {
                self.held.remove(device);
                let state = if restart_in.is_some() { DeviceState::Restarting } else { DeviceState::Broken };
                self.change(device, |device| (device.state, device.reason) = (state, Some(error.clone())));
            }
            RunEvent::WorkerEnded { device, .. } => {
                self.held.remove(device);
                self.change(device, |device| device.state = DeviceState::Ended);
            }
            RunEvent::Stopping { reason } => self.node.stopping = Some(reason.clone()),
            _ => {}
        }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut NodeDevice)) {
        if let Some(device) = self.node.devices.iter_mut().find(|device| device.name == name) {
            change(device);
        }
    }

    fn hold(&mut self, device: &str, unit: Unit, (evals, psnr): (u32, Option<f64>)) {
        let held = self.held.entry(device.to_owned()).or_default();
        let since = held.get(&unit).map_or_else(Instant::now, |solve| solve.since);
        held.insert(unit, Solve { evals, psnr, since });
        self.change(device, |device| device.state = DeviceState::Busy);
    }

    fn release(&mut self, device: &str, unit: Unit) {
        let held = self.held.entry(device.to_owned()).or_default();
        held.remove(&unit);
        if held.is_empty() {
            self.change(device, |device| device.state = DeviceState::Idle);
        }
    }

    fn finished(&mut self, device: &str, sample: &Finished) {
        self.release(device, sample.unit);
        self.lately.push_back(Instant::now());
        let failed = u64::from(sample.error.is_some());
        self.node.finished += 1;
        self.node.failed += failed;
        self.change(device, |device| {
            device.finished += 1;
            device.failed += failed;
        });
        if let Some(error) = &sample.error {
            let (task, method, id) = self.names(sample.unit);
            let (row, device) = (format!("{task}/{method}/{id}"), device.to_owned());
            self.node.failures.push(Failure { time_ms: now_ms(), row, device, error: error.clone() });
            let old = self.node.failures.len().saturating_sub(FAILURES);
            self.node.failures.drain(..old);
        }
    }

    fn names(&self, unit: Unit) -> (&str, &str, &str) {
        let (task, method) = self.cells.get(unit.cell).map_or(("", ""), |(task, method)| (task, method));
        (task, method, self.samples.get(unit.sample).map_or("", String::as_str))
    }

    /// The heartbeat now, with the newest readings of the devices.
    pub fn beat(&mut self, readings: &BTreeMap<String, TelemetryRow>) -> Node {
        let mut node = self.node.clone();
        node.written_ms = now_ms();
        node.lately = self.rate();
        for device in &mut node.devices {
            device.reading = readings.get(&device.name).cloned();
            let held = self.held.get(&device.name).into_iter().flatten();
            device.samples = held
                .map(|(unit, Solve { evals, psnr, since })| {
                    let (task, method, sample) = self.names(*unit);
                    let [task, method, sample] = [task, method, sample].map(str::to_owned);
                    // JSON has no infinities.
                    let psnr = psnr.filter(|psnr| psnr.is_finite());
                    Held { task, method, sample, evals: *evals, psnr, seconds: since.elapsed().as_secs_f64() }
                })
                .collect();
        }
        node
    }

    /// The last heartbeat.
    pub fn end(&mut self, readings: &BTreeMap<String, TelemetryRow>) -> Node {
        let node = self.beat(readings);
        Node { ended_ms: Some(node.written_ms), ..node }
    }

    /// Whether this process was a task of a cluster that did all that it was given, without anything to tell: whoever asks
    /// how its run stands learns that from the rows, and a run has thousands of such tasks.
    pub fn leaves_nothing_to_tell(&self) -> bool {
        let Node { chunk, devices, given, finished, failed, stopping, .. } = &self.node;
        let has_begun = !devices.is_empty();
        let is_broken = devices.iter().any(|device| device.state == DeviceState::Broken);
        let is_whole = finished >= given && *failed == 0 && stopping.is_none();
        chunk.is_some() && has_begun && is_whole && !is_broken
    }

    fn rate(&mut self) -> Rate {
        let is_old = |at: &Instant| at.elapsed() > LATELY;
        while self.lately.len() > LATELY_SAMPLES + 1 && self.lately.front().is_some_and(is_old) {
            self.lately.pop_front();
        }
        let seconds = self.lately.front().map_or(0.0, |at| at.elapsed().as_secs_f64());
        Rate { samples: self.lately.len().saturating_sub(1) as u64, seconds }
    }
}

/// The Slurm task that this process is, by the environment.
fn slurm_task(variable: impl Fn(&str) -> Option<String>) -> Option<SlurmTask> {
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    Some(SlurmTask {
        job: variable("SLURM_JOB_ID")?,
        array: variable("SLURM_ARRAY_JOB_ID"),
        task: variable("SLURM_ARRAY_TASK_ID"),
        // Unset on the first run.
        restarts: variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::protocol::{MemoryPlan, SlotChoice, Usage};

    fn heart() -> Heart {
        let identity = Identity { attempt: "a".to_owned(), host: "here".to_owned(), ..Identity::default() };
        let samples = (0..40).map(|i| format!("s{i}")).collect();
        let mut heart = Heart::with_names(identity, vec![("hole".to_owned(), "d-flow".to_owned())], samples);
        let devices = ["cuda:0", "cuda:1"].map(str::to_owned).to_vec();
        heart.observe(&RunEvent::Begin { planned: 40, done: 10, devices });
        heart
    }

    fn ready(device: &str) -> RunEvent {
        let (device, attempt, memory) = (device.to_owned(), String::new(), MemoryPlan::default());
        RunEvent::WorkerReady { device, slots: 4, choice: SlotChoice::default(), memory, attempt, pid: 1 }
    }

    fn unit(sample: usize) -> Unit {
        Unit { cell: 0, sample }
    }

    fn progress(device: &str, sample: usize, evals: u32, psnr: f64) -> RunEvent {
        RunEvent::Progress { device: device.to_owned(), unit: unit(sample), evals, psnr: Some(psnr) }
    }

    fn finished(device: &str, sample: usize, error: Option<&str>) -> RunEvent {
        let sample = Finished {
            unit: unit(sample),
            error: error.map(str::to_owned),
            stop_reason: None,
            evals: 9,
            seconds: 1.0,
            psnr: None,
        };
        RunEvent::Finished { device: device.to_owned(), sample }
    }

    fn states(node: &Node) -> Vec<DeviceState> {
        node.devices.iter().map(|device| device.state).collect()
    }

    #[test]
    fn a_heartbeat_tells_what_each_device_holds() {
        let mut heart = heart();
        assert_eq!(states(&heart.beat(&BTreeMap::new())), [DeviceState::Starting; 2]);
        heart.observe(&ready("cuda:0"));
        heart.observe(&RunEvent::Started { device: "cuda:0".to_owned(), unit: unit(3), resumed: false });
        heart.observe(&progress("cuda:0", 3, 7, 28.5));
        heart.observe(&progress("cuda:0", 4, 1, f64::INFINITY));
        let row = TelemetryRow { power: Some(250.0), ..TelemetryRow::default() };
        let node = heart.beat(&BTreeMap::from([("cuda:0".to_owned(), row.clone())]));
        assert_eq!((node.given, states(&node)), (30, vec![DeviceState::Busy, DeviceState::Starting]));
        let held = |sample: &str, evals, psnr| Held {
            task: "hole".to_owned(),
            method: "d-flow".to_owned(),
            sample: sample.to_owned(),
            evals,
            psnr,
            seconds: 0.0,
        };
        let untimed = node.devices[0].samples.iter().map(|held| Held { seconds: 0.0, ..held.clone() });
        let expected = [held("s3", 7, Some(28.5)), held("s4", 1, None)];
        assert_eq!(untimed.collect::<Vec<_>>(), expected);
        assert_eq!((node.devices[0].slots, &node.devices[0].reading), (4, &Some(row)));
        let text = serde_json::to_string(&node).unwrap();
        assert_eq!(serde_json::from_str::<Node>(&text).unwrap(), node);
    }

    #[test]
    fn only_a_task_that_did_all_without_failures_or_a_stop_has_nothing_to_tell() {
        let after = |chunk, given: usize, events: &[RunEvent]| {
            let mut heart = heart();
            heart.node.chunk = chunk;
            let devices = ["cuda:0", "cuda:1"].map(str::to_owned).to_vec();
            heart.observe(&RunEvent::Begin { planned: given, done: 0, devices });
            events.iter().for_each(|event| heart.observe(event));
            heart.leaves_nothing_to_tell()
        };
        let done = finished("cuda:0", 0, None);
        assert!(after(Some(3), 1, std::slice::from_ref(&done)) && after(Some(3), 0, &[]));
        assert!(!after(None, 1, std::slice::from_ref(&done)), "no task of a cluster");
        assert!(!after(Some(3), 2, std::slice::from_ref(&done)), "one sample is missing");
        assert!(!after(Some(3), 1, &[finished("cuda:0", 0, Some("no luck"))]));
        let stopping = RunEvent::Stopping { reason: "TERM".to_owned() };
        assert!(!after(Some(3), 1, &[done.clone(), stopping]));
        let (device, error) = ("cuda:1".to_owned(), "out of memory".to_owned());
        let broken = RunEvent::WorkerBroken { device, error, restart_in: None };
        assert!(!after(Some(3), 1, &[done, broken]));
        let mut heart = heart();
        (heart.node.chunk, heart.node.devices) = (Some(3), Vec::new());
        heart.node.given = 0;
        assert!(!heart.leaves_nothing_to_tell(), "it ended before it began");
    }

    #[test]
    fn a_sample_is_held_since_it_was_taken_up() {
        let mut heart = heart();
        heart.observe(&progress("cuda:0", 0, 1, 0.0));
        let Some(before) = Instant::now().checked_sub(Duration::from_secs(90)) else { return };
        let solves = heart.held.get_mut("cuda:0").unwrap();
        solves.get_mut(&unit(0)).unwrap().since = before;
        heart.observe(&progress("cuda:0", 0, 2, 0.0));
        let held = heart.beat(&BTreeMap::new()).devices[0].samples[0].clone();
        assert!(held.evals == 2 && held.seconds >= 90.0, "{held:?}");
    }

    #[test]
    fn finished_and_failed_samples_are_counted_and_the_newest_failures_named() {
        let mut heart = heart();
        heart.observe(&ready("cuda:1"));
        heart.observe(&progress("cuda:1", 0, 1, 0.0));
        for sample in 0..8 {
            heart.observe(&finished("cuda:1", sample, (sample > 1).then_some("no luck")));
        }
        let node = heart.beat(&BTreeMap::new());
        assert_eq!(
            (node.finished, node.failed, node.devices[1].finished, node.devices[1].failed),
            (8, 6, 8, 6)
        );
        assert_eq!(states(&node)[1], DeviceState::Idle);
        let rows: Vec<&str> = node.failures.iter().map(|failure| failure.row.as_str()).collect();
        assert_eq!(
            rows,
            ["hole/d-flow/s3", "hole/d-flow/s4", "hole/d-flow/s5", "hole/d-flow/s6", "hole/d-flow/s7"]
        );
        assert_eq!(node.lately.samples, 8);
    }

    #[test]
    fn the_throughput_forgets_what_was_long_ago() {
        let mut heart = heart();
        let long_ago = Instant::now().checked_sub(2 * LATELY);
        let Some(long_ago) = long_ago else { return };
        heart.lately = std::iter::repeat_n(long_ago, 20).collect();
        for sample in 0..LATELY_SAMPLES {
            heart.observe(&finished("cuda:0", sample, None));
        }
        let rate = heart.beat(&BTreeMap::new()).lately;
        assert_eq!(rate.samples, LATELY_SAMPLES as u64);
        assert!(rate.seconds >= 2.0 * LATELY.as_secs_f64(), "counted from the finish before the first");
        heart.observe(&finished("cuda:0", 39, None));
        assert!(heart.beat(&BTreeMap::new()).lately.seconds < LATELY.as_secs_f64());
    }

    #[test]
    fn a_broken_worker_holds_nothing_and_says_why() {
        let mut heart = heart();
        heart.observe(&progress("cuda:0", 0, 1, 0.0));
        let node = heart.beat(&BTreeMap::new());
        assert_eq!(node.devices[0].samples.len(), 1);
        let (device, error) = ("cuda:0".to_owned(), "out of memory".to_owned());
        let broken =
            |restart_in| RunEvent::WorkerBroken { device: device.clone(), error: error.clone(), restart_in };
        heart.observe(&broken(Some(2.0)));
        assert_eq!(states(&heart.beat(&BTreeMap::new()))[0], DeviceState::Restarting);
        heart.observe(&broken(None));
        let (device, usage) = ("cuda:1".to_owned(), Usage::default());
        heart.observe(&RunEvent::WorkerEnded { device, usage });
        heart.observe(&RunEvent::Stopping { reason: "TERM".to_owned() });
        let node = heart.end(&BTreeMap::new());
        assert_eq!(states(&node), [DeviceState::Broken, DeviceState::Ended]);
        assert_eq!(
            (node.devices[0].samples.len(), node.devices[0].reason.as_deref()),
            (0, Some("out of memory"))
        );
        assert_eq!((node.stopping.as_deref(), node.ended_ms), (Some("TERM"), Some(node.written_ms)));
        heart.observe(&ready("cuda:0"));
        assert_eq!(heart.beat(&BTreeMap::new()).devices[0].reason, None, "it was started again");
    }

    #[test]
    fn slurm_is_what_the_environment_says() {
        let variables = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(slurm_task(variables(&[("SLURM_ARRAY_TASK_ID", "3")])), None);
        let first = slurm_task(variables(&[("SLURM_JOB_ID", "70"), ("SLURM_ARRAY_JOB_ID", "")])).unwrap();
        assert_eq!((first.job.as_str(), first.array, first.restarts), ("70", None, 0));
        let again = [
            ("SLURM_JOB_ID", "71"),
            ("SLURM_ARRAY_JOB_ID", "70"),
            ("SLURM_ARRAY_TASK_ID", "3"),
            ("SLURM_RESTART_COUNT", "2"),
        ];
        let again = slurm_task(|name| {
            again.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        let expected = SlurmTask {
            job: "71".to_owned(),
            array: Some("70".to_owned()),
            task: Some("3".to_owned()),
            restarts: 2,
        };
        assert_eq!(again, Some(expected));
    }
}
