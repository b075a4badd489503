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

/// The heartbeat of this process, as its events make it. It touches no file.
#[derive(Debug)]
pub struct Heart {
    node: Node,
    /// Cells by task and method, and sample ids.
    cells: Vec<(String, String)>,
    samples: Vec<String>,
    /// What each device solves.
    held: BTreeMap<String, BTreeMap<Unit, (u32, Option<f64>)>>,
    /// When samples were finished lately; the first is when the counting begins.
    lately: VecDeque<Instant>,
}

impl Heart {
    /// A process that begins to solve samples of `plan`.
    pub fn new(identity: Identity, plan: &Plan) -> Self {
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
        let cells = plan.cells.iter().map(|cell| (cell.task.clone(), cell.method.clone())).collect();
        let samples = plan.dataset.samples.clone();
        Self { node, cells, samples, held: BTreeMap::new(), lately: VecDeque::from([Instant::now()]) }
    }

    /// Takes note of an event.
    pub fn observe(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Begin { planned, done, devices } => {
                self.node.given = (planned - done) as u64;
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
            RunEvent::WorkerBroken { device, error, .. } => {
                self.held.remove(device);
                self.change(device, |device| {
                    (device.state, device.reason) = (DeviceState::Broken, Some(error.clone()));
                });
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

    fn hold(&mut self, device: &str, unit: Unit, state: (u32, Option<f64>)) {
        self.held.entry(device.to_owned()).or_default().insert(unit, state);
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
                .map(|(unit, (evals, psnr))| {
                    let (task, method, sample) = self.names(*unit);
                    let [task, method, sample] = [task, method, sample].map(str::to_owned);
                    // JSON has no infinities.
                    Held { task, method, sample, evals: *evals, psnr: psnr.filter(|psnr| psnr.is_finite()) }
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
