//! One array task: the program's scheduler over the samples of its chunk that are not durable yet, and its workers.

use std::time::Duration;

use dflow::cluster::Chunk;
use dflow::plan::Unit;
use dflow::run::{Action, Limits, RunEvent, Scheduler};
use dflow::worker::protocol::{Cause, Command, Event};

use super::disk::Disk;
use super::ledger::Ledger;
use super::service::Service;
use super::worker::{Device, Worker};

/// What all tasks share.
pub struct World {
    /// Times of solves.
    pub service: Service,
    /// What is durable.
    pub ledger: Ledger,
    /// Where rows are written, if they are.
    pub disk: Option<Disk>,
    /// From the start of a process to the first sample: the program, its models, the device.
    pub start_up: Duration,
}

/// Something that happens inside a task.
#[derive(Debug, Clone, Copy)]
pub enum Wake {
    /// The worker of a seat has its models.
    Ready(usize),
    /// The worker of a seat reads its commands.
    Read(usize),
    /// A solve of a seat ends, unless its outlook has changed since.
    Done(usize, u64),
    /// The scheduler waits no longer.
    Tick,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every sample of its chunk is durable.
    Complete,
    /// It stopped before.
    Early,
}

/// A task that runs.
pub struct TaskRun {
    /// Its chunk.
    pub chunk: usize,
    /// Its node.
    pub node: usize,
    scheduler: Scheduler,
    seats: Vec<Seat>,
    /// Samples that have not begun.
    unbegun: usize,
    /// When `unbegun` and the seats were last accounted for.
    at: Duration,
    wakes: Vec<(Duration, Wake)>,
}

struct Seat {
    device: Device,
    worker: Option<Worker>,
    /// Commands to a worker that starts.
    early: Vec<Command>,
    /// Whether it was ready and without a sample at the last account.
    hungry: bool,
}

impl TaskRun {
    /// A task over what is not durable of its chunk; a process that finds nothing to do ends as others do.
    pub fn new(number: usize, node: usize, chunk: &Chunk, devices: &[Device], world: &mut World) -> Self {
        let units: Vec<Unit> = chunk.units.iter().flat_map(|stretch| stretch.units()).collect();
        let left: Vec<Unit> = units.iter().copied().filter(|unit| !world.ledger.is_done(*unit)).collect();
        if let Some(disk) = &mut world.disk {
            assert_eq!(disk.left(number, &units), left, "a task finds what was written, and only that");
        }
        world.ledger.tally.starts += 1;
        let names: Vec<String> = (0..devices.len()).map(|index| format!("mock:{index}")).collect();
        let unbegun = left.len();
        let scheduler = Scheduler::new(left, &names, Limits::default());
        let seat = |device: &Device| Seat { device: *device, worker: None, early: Vec::new(), hungry: false };
        let seats = devices.iter().map(seat).collect();
        Self { chunk: number, node, scheduler, seats, unbegun, at: Duration::ZERO, wakes: Vec::new() }
    }

    /// Takes what is to happen in it.
    pub fn wakes(&mut self) -> Vec<(Duration, Wake)> {
        std::mem::take(&mut self.wakes)
    }

    /// Does the scheduler's first actions.
    pub fn begin(&mut self, now: Duration, world: &World) {
        self.at = now;
        self.act(now, world);
    }

    /// Something happens; returns how the task ended, if it did.
    pub fn wake(&mut self, now: Duration, wake: Wake, world: &mut World) -> Option<End> {
        self.account(now, &mut world.ledger);
        match wake {
            Wake::Ready(index) => {
                let seat = &mut self.seats[index];
                let writer = world.disk.as_mut().map(|disk| disk.writer(self.chunk));
                let worker = seat.worker.insert(Worker::new(seat.device, now, writer));
                let ready = worker.ready();
                let early = std::mem::take(&mut seat.early);
                self.scheduler.handle(now, index, ready);
                early.into_iter().for_each(|command| self.post(now, index, command, &world.service));
            }
            Wake::Read(index) => {
                let World { service, ledger, .. } = world;
                self.visit(now, index, ledger, |worker, ledger| worker.read(service, ledger));
            }
            Wake::Done(index, outlook) => {
                let World { service, ledger, .. } = world;
                let is_current = |worker: &Worker| worker.outlook == outlook;
                if self.seats[index].worker.as_ref().is_some_and(is_current) {
                    self.visit(now, index, ledger, |worker, ledger| worker.finish(service, ledger));
                }
            }
            Wake::Tick => self.scheduler.tick(now),
        }
        self.settle(now, world)
    }

    /// The task is asked to stop.
    pub fn stop(&mut self, now: Duration, world: &mut World) -> Option<End> {
        self.account(now, &mut world.ledger);
        self.scheduler.stop(now, "preempted");
        self.settle(now, world)
    }

    /// A worker dies, and says no word.
    pub fn crash_worker(&mut self, now: Duration, index: usize, world: &mut World) -> Option<End> {
        self.account(now, &mut world.ledger);
        if let Some(mut worker) = self.seats[index].worker.take() {
            worker.advance(now, &mut world.ledger);
            self.unbegun += worker.kill(&mut world.ledger);
            let error = "killed by the simulation".to_owned();
            self.scheduler.handle(now, index, Event::Broken { cause: Cause::Crash, error });
        }
        self.settle(now, world)
    }

    /// All of it dies.
    pub fn kill(mut self, now: Duration, world: &mut World) {
        self.account(now, &mut world.ledger);
        for mut worker in self.seats.into_iter().filter_map(|seat| seat.worker) {
            worker.advance(now, &mut world.ledger);
            worker.kill(&mut world.ledger);
        }
    }

    /// Number of its devices.
    pub fn seats(&self) -> usize {
        self.seats.len()
    }

    /// Lets a worker do something, and tells the scheduler what it says.
    fn visit(
        &mut self,
        now: Duration,
        index: usize,
        ledger: &mut Ledger,
        body: impl FnOnce(&mut Worker, &mut Ledger) -> Vec<Event>,
    ) {
        self.report_progress(now);
        let Some(worker) = &mut self.seats[index].worker else { return };
        worker.advance(now, ledger);
        let events = body(worker, ledger);
        if let Some(at) = worker.foresee() {
            self.wakes.push((at, Wake::Done(index, worker.outlook)));
        }
        for event in events {
            self.unbegun -= usize::from(matches!(event, Event::Started { .. }));
            if matches!(event, Event::Ended(_)) {
                self.seats[index].worker = None;
            }
            self.scheduler.handle(now, index, event);
        }
    }

    /// Workers report every evaluation. It is of use only when there is little left to share out, and said only then.
    fn report_progress(&mut self, now: Duration) {
        let slots: usize = self.seats.iter().map(|seat| seat.device.slots).sum();
        if self.unbegun > 4 * slots {
            return;
        }
        let Self { scheduler, seats, .. } = self;
        for (index, seat) in seats.iter().enumerate() {
            let events = seat.worker.iter().flat_map(|worker| worker.progress(now));
            events.for_each(|event| scheduler.handle(now, index, event));
        }
    }

    fn settle(&mut self, now: Duration, world: &World) -> Option<End> {
        self.act(now, world);
        self.seats
            .iter_mut()
            .for_each(|seat| seat.hungry = seat.worker.as_ref().is_some_and(Worker::is_idle));
        self.scheduler.is_over().then(|| {
            let nothing = Scheduler::new(Vec::new(), &[], Limits::default());
            let summary = std::mem::replace(&mut self.scheduler, nothing).summary(now);
            if summary.left == 0 { End::Complete } else { End::Early }
        })
    }

    fn act(&mut self, now: Duration, world: &World) {
        for action in self.scheduler.actions() {
            match action {
                Action::Launch(index) => self.wakes.push((now + world.start_up, Wake::Ready(index))),
                Action::Tell(index, command) => self.post(now, index, command, &world.service),
                Action::Show(RunEvent::WorkerBroken { .. }) => {
                    self.wakes.extend(self.scheduler.wake_at().map(|at| (at, Wake::Tick)));
                }
                // Nothing hangs here.
                Action::Kill(_) | Action::Show(_) => {}
            }
        }
    }

    fn post(&mut self, now: Duration, index: usize, command: Command, service: &Service) {
        let seat = &mut self.seats[index];
        let Some(worker) = &mut seat.worker else { return seat.early.push(command) };
        if let Some(at) = worker.post(now, command, service) {
            self.wakes.push((at, Wake::Read(index)));
        }
    }

    /// Adds up what was idle since the last account though it need not have been.
    fn account(&mut self, now: Duration, ledger: &mut Ledger) {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        let hungry = self.seats.iter().filter(|seat| seat.hungry).count();
        ledger.tally.starved += seconds * hungry.min(self.unbegun) as f64;
        self.at = now;
    }
}
