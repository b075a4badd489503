//! A simulated Slurm: nodes that take the next task of an array, and everything that happens to them.

use std::collections::BTreeSet;
use std::time::Duration;

use dflow::cluster::{Chunk, Sizing, cut};
use dflow::plan::Unit;

use super::agenda::Agenda;
use super::disk::Disk;
use super::faults::{DETECTION, Fault, Faults, REPAIR, REQUEUE, TAKEN};
use super::ledger::Ledger;
use super::outcome::{Capacity, Outcome};
use super::service::{CELLS, Service, uniform};
use super::task::{End, TaskRun, Wake, World};
use super::worker::Device;

/// Between two tasks that the controller starts: 16 ms were measured for empty ones.
const DISPATCH: Duration = Duration::from_millis(16);

/// A cluster, a submission, and what goes wrong.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Times of solves.
    pub service: Service,
    /// Devices of the cluster; a multiple of `per_task`.
    pub devices: usize,
    /// Devices of a task.
    pub per_task: usize,
    /// Samples that a device solves at a time.
    pub slots: usize,
    /// What a call costs by itself, in rows.
    pub overhead: f64,
    /// Seconds of a chunk on one device, at most.
    pub chunk: f64,
    /// From the start of a process to the first sample.
    pub start_up: Duration,
    /// What goes wrong.
    pub faults: Faults,
}

impl Setting {
    /// Tasks of four devices (of one, if there is no more), one sample at a time on each, chunks of the usual half hour,
    /// and 20 s to start: the program, its device, and 2 GB of weights from a shared file system.
    pub fn usual(devices: usize) -> Self {
        Self {
            service: Service { seed: 1, speed: 1.0 },
            devices,
            per_task: devices.min(4),
            slots: 1,
            overhead: 0.0,
            chunk: 1800.0,
            start_up: Duration::from_secs(20),
            faults: Faults::NONE,
        }
    }
}

/// Something that happens on the cluster.
enum Happening {
    /// In a task that runs.
    Inside(usize, Wake),
    /// A task may start, again.
    Eligible(usize),
    /// A node takes tasks again.
    NodeUp(usize),
    /// Something goes wrong with a node.
    Fault(usize),
}

struct Node {
    run: Option<usize>,
    up: bool,
    /// When it went away last, and how long it was away before.
    down_at: Duration,
    away: Duration,
    devices: Vec<Device>,
    faults: u64,
}

struct Cluster<'a> {
    setting: Setting,
    chunks: &'a [Chunk],
    world: World,
    agenda: Agenda<Happening>,
    nodes: Vec<Node>,
    /// Nodes that wait for a task.
    free: BTreeSet<usize>,
    /// Tasks that wait for a node.
    queue: BTreeSet<usize>,
    /// Tasks that ever started; none: it has ended.
    runs: Vec<Option<TaskRun>>,
    complete: BTreeSet<usize>,
    next_dispatch: Duration,
}

/// Runs one submission of `units` to its end, without files.
pub fn simulate(setting: &Setting, units: &[Unit]) -> Outcome {
    simulate_on(setting, units, None).0
}

/// As [`simulate`], with rows and checkpoints in the files of `disk`, if there is one.
pub fn simulate_on(setting: &Setting, units: &[Unit], disk: Option<Disk>) -> (Outcome, Option<Disk>) {
    let seconds: Vec<f64> = (0..CELLS).map(|cell| setting.service.expected(cell)).collect();
    let at_once = setting.devices / setting.per_task;
    let sizing = Sizing { target: setting.chunk, workers: setting.per_task, at_once };
    let chunks = cut(units, &seconds, sizing);
    let samples = units.iter().map(|unit| unit.sample + 1).max().unwrap_or(0);
    let ledger = Ledger::new(CELLS, samples);
    let world = World { service: setting.service, ledger, disk, start_up: setting.start_up };
    let mut cluster = Cluster::new(*setting, &chunks, world);
    let makespan = cluster.run();
    let capacity = Capacity {
        speed: cluster.nodes.iter().map(Node::speed).sum(),
        away: cluster.nodes.iter().map(|node| node.speed() * node.away(makespan).as_secs_f64()).sum(),
    };
    let Cluster { world, .. } = cluster;
    (Outcome::new(setting, units, chunks.len(), makespan, capacity, &world.ledger), world.disk)
}

impl Node {
    fn speed(&self) -> f64 {
        self.devices.iter().map(|device| device.speed).sum()
    }

    /// How long it has been away by now.
    fn away(&self, now: Duration) -> Duration {
        self.away + if self.up { Duration::ZERO } else { now.saturating_sub(self.down_at) }
    }
}

impl<'a> Cluster<'a> {
    fn new(setting: Setting, chunks: &'a [Chunk], world: World) -> Self {
        let Setting { per_task, slots, overhead, faults, service, .. } = setting;
        let device = |index| Device { speed: faults.speed(service.seed, index), slots, overhead };
        let node = |node: usize| {
            let devices = (node * per_task..(node + 1) * per_task).map(device).collect();
            Node { run: None, up: true, down_at: Duration::ZERO, away: Duration::ZERO, devices, faults: 0 }
        };
        let nodes: Vec<Node> = (0..setting.devices / per_task).map(node).collect();
        let (free, queue) = ((0..nodes.len()).collect(), (0..chunks.len()).collect());
        let (runs, complete) = (Vec::new(), BTreeSet::new());
        let agenda = Agenda::new();
        Self {
            setting,
            chunks,
            world,
            agenda,
            nodes,
            free,
            queue,
            runs,
            complete,
            next_dispatch: Duration::ZERO,
        }
    }

    /// Runs until every chunk is complete; returns when that is.
    fn run(&mut self) -> Duration {
        (0..self.nodes.len()).for_each(|node| self.foresee_fault(Duration::ZERO, node));
        self.dispatch(Duration::ZERO);
        let mut now = Duration::ZERO;
        while self.complete.len() < self.chunks.len() {
            let (at, happening) = self.agenda.next().expect("a task that is not complete waits or runs");
            now = at;
            match happening {
                Happening::Inside(run, wake) => {
                    let task = self.runs[run].as_mut();
                    let end = task.and_then(|task| task.wake(now, wake, &mut self.world));
                    self.go_on(now, run, end);
                }
                Happening::Eligible(chunk) => {
                    self.queue.insert(chunk);
                }
                Happening::NodeUp(node) => self.node_up(now, node),
                Happening::Fault(node) => self.fault(now, node),
            }
            self.dispatch(now);
        }
        self.runs.iter_mut().filter_map(Option::take).for_each(|task| task.kill(now, &mut self.world));
        now
    }

    /// Starts tasks on free nodes.
    fn dispatch(&mut self, now: Duration) {
        while !self.free.is_empty()
            && let Some(chunk) = self.queue.pop_first()
        {
            if self.complete.contains(&chunk) {
                continue;
            }
            let node = self.free.pop_first().expect("looked at above");
            let at = self.next_dispatch.max(now);
            self.next_dispatch = at + DISPATCH;
            let devices = &self.nodes[node].devices;
            let mut task = TaskRun::new(chunk, node, &self.chunks[chunk], devices, &mut self.world);
            task.begin(at, &self.world);
            self.nodes[node].run = Some(self.runs.len());
            self.runs.push(Some(task));
            self.go_on(now, self.runs.len() - 1, None);
        }
    }

    /// Puts on the agenda what is to happen in a task, or ends it.
    fn go_on(&mut self, now: Duration, run: usize, end: Option<End>) {
        let Some(task) = &mut self.runs[run] else { return };
        for (at, wake) in task.wakes() {
            self.agenda.put(at, Happening::Inside(run, wake));
        }
        let (chunk, node) = (task.chunk, task.node);
        match end {
            None => return,
            Some(End::Complete) => drop(self.complete.insert(chunk)),
            Some(End::Early) => self.agenda.put(now + REQUEUE, Happening::Eligible(chunk)),
        }
        self.runs[run] = None;
        self.nodes[node].run = None;
        if self.nodes[node].up {
            self.free.insert(node);
        }
    }

    /// A node is back. What still runs there has lost contact long ago, and is ended.
    fn node_up(&mut self, now: Duration, node: usize) {
        self.nodes[node].away = self.nodes[node].away(now);
        self.nodes[node].up = true;
        self.free.insert(node);
        if let Some(task) = self.nodes[node].run.take().and_then(|run| self.runs[run].take()) {
            task.kill(now, &mut self.world);
        }
    }

    fn foresee_fault(&mut self, now: Duration, node: usize) {
        let Setting { faults, service, .. } = &self.setting;
        let number = self.nodes[node].faults;
        if let Some(wait) = faults.wait(service.seed, node, number) {
            self.agenda.put(now + wait, Happening::Fault(node));
        }
    }

    fn fault(&mut self, now: Duration, node: usize) {
        let seed = self.setting.service.seed;
        let number = self.nodes[node].faults;
        let kind = self.setting.faults.kind(seed, node, number);
        self.nodes[node].faults += 1;
        let run = self.nodes[node].run;
        let away = match kind {
            Fault::Crash => {
                self.kill(now, node, DETECTION);
                REPAIR
            }
            Fault::SuddenPreemption => {
                self.kill(now, node, REQUEUE);
                TAKEN
            }
            Fault::Preemption => {
                let task = run.and_then(|run| self.runs[run].as_mut());
                let end = task.and_then(|task| task.stop(now, &mut self.world));
                self.take_away(now, node);
                run.into_iter().for_each(|run| self.go_on(now, run, end));
                TAKEN
            }
            Fault::Partition => {
                let chunk = run.and_then(|run| self.runs[run].as_ref()).map(|task| task.chunk);
                let again = chunk.map(|chunk| (now + DETECTION, Happening::Eligible(chunk)));
                again.into_iter().for_each(|(at, happening)| self.agenda.put(at, happening));
                self.take_away(now, node);
                REPAIR
            }
            Fault::WorkerCrash => {
                self.crash_worker(now, run, number);
                Duration::ZERO
            }
        };
        if away > Duration::ZERO {
            self.agenda.put(now + away, Happening::NodeUp(node));
        }
        self.foresee_fault(now + away, node);
    }

    fn take_away(&mut self, now: Duration, node: usize) {
        (self.nodes[node].up, self.nodes[node].down_at) = (false, now);
        self.free.remove(&node);
    }

    /// A node's task dies, and may start again after a while.
    fn kill(&mut self, now: Duration, node: usize, after: Duration) {
        self.take_away(now, node);
        if let Some(task) = self.nodes[node].run.take().and_then(|run| self.runs[run].take()) {
            self.agenda.put(now + after, Happening::Eligible(task.chunk));
            task.kill(now, &mut self.world);
        }
    }

    fn crash_worker(&mut self, now: Duration, run: Option<usize>, number: u64) {
        let Some((run, task)) = run.and_then(|run| Some((run, self.runs[run].as_mut()?))) else { return };
        let draw = uniform(&[self.setting.service.seed, 4, run as u64, number]);
        let index = (draw * task.seats() as f64) as usize;
        let end = task.crash_worker(now, index, &mut self.world);
        self.go_on(now, run, end);
    }
}
