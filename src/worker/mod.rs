//! One worker per device: many independent solves, grouped into whole evaluations.
//!
//! The worker is given samples of cells, holds up to `slots` of them at a time, and evaluates what they ask for
//! together ([`engine`]). A finished sample's slot is used at once for the next one, between evaluations. Its record
//! is durable before it is reported.

pub mod assembly;
pub mod child;
pub mod cuda;
pub mod device;
pub mod engine;
mod pipe;
pub mod process;
pub mod protocol;
mod row;
pub mod throughput;
mod timed;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use serde::{Deserialize, Serialize};

use self::assembly::Assembly;
use self::device::{Device, DeviceKind};
use self::engine::{Engine, MemoryBudget, Slot, panic_text};
use self::process::Processes;
use self::protocol::{Cause, Command, Event, Finished, SlotChoice, SlotTime, Usage, Work};
use self::row::{Due, Writer};
use crate::plan::Unit;
use crate::run::Launch;
use crate::store::{RunDir, StoreError};

/// Time between two looks at whether a prior is ready.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Least time between two progress events of one worker.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// What every worker of a run is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Samples solved at a time; none: by the device's measured throughput.
    pub slots: Option<usize>,
    /// Tape or recompute; none: by the free memory, shared among the workers.
    pub memory: Option<MemoryBudget>,
    /// Least time between two checkpoints of a running solve.
    pub checkpoint_every: Duration,
    /// What there is to do, for all workers together.
    pub work: Work,
}

/// Starts a worker for each device: a thread of this process for CPUs, a child process for the others.
pub struct Workers {
    /// Workers of this process; none: no device is a CPU.
    pub threads: Option<Threads>,
    /// Workers that are processes of their own.
    pub processes: Processes,
}

impl Launch for Workers {
    fn launch(
        &self,
        index: usize,
        commands: Receiver<Command>,
        events: Sender<(usize, Event)>,
    ) -> Result<(), String> {
        match &self.threads {
            Some(threads) if !self.can_kill(index) => threads.launch(index, commands, events),
            _ => self.processes.launch(index, commands, events),
        }
    }

    fn can_kill(&self, index: usize) -> bool {
        self.processes.can_kill(index)
    }

    /// A thread cannot be ended: it goes with this process.
    fn kill(&self, index: usize) {
        self.processes.kill(index);
    }
}

/// Starts one thread per device.
pub struct Threads {
    /// What all workers share: plan, dataset, models.
    pub assembly: Arc<Assembly>,
    /// Where the rows go.
    pub run_dir: Arc<RunDir>,
    /// The devices, in the dispatcher's order.
    pub devices: Vec<Device>,
    /// Settings of every worker.
    pub settings: Settings,
}

impl Launch for Threads {
    fn launch(
        &self,
        index: usize,
        commands: Receiver<Command>,
        events: Sender<(usize, Event)>,
    ) -> Result<(), String> {
        let (assembly, run_dir) = (Arc::clone(&self.assembly), Arc::clone(&self.run_dir));
        let (device, settings) = (self.devices[index].clone(), self.settings.clone());
        let workers = self.devices.len();
        let pool = thread_pool(&device)?;
        let body = move || {
            let say = |event| {
                // A dispatcher that is gone needs no events; the worker ends by its closed commands.
                let _ = events.send((index, event));
            };
            let begin = |say: &dyn Fn(Event)| {
                Worker::start(&assembly, &run_dir, &device, &settings, workers, say)?.work(&commands)
            };
            say(pool.install(|| last_event(|| begin(&say))));
        };
        let thread = std::thread::Builder::new().name(format!("worker-{index}"));
        thread.spawn(body).map(drop).map_err(|error| format!("cannot start a thread: {error}"))
    }
}

/// Runs a worker to its end, whatever that is.
fn last_event(worker: impl FnOnce() -> Result<Usage, WorkerError>) -> Event {
    match catch_unwind(AssertUnwindSafe(worker)) {
        Ok(Ok(usage)) => Event::Ended(usage),
        Ok(Err(error)) => Event::Broken { cause: error.cause(), error: error.to_string() },
        Err(panic) => {
            let error = format!("the worker panicked: {}", panic_text(&*panic));
            Event::Broken { cause: Cause::Crash, error }
        }
    }
}

/// Why a worker cannot start or go on.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    /// Its device cannot hold the models.
    #[error("{0}")]
    Start(String),
    /// What it has solved cannot be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its device answers no call any more; a new process may have it back.
    #[error("the device does not answer any more: {0}")]
    Lost(String),
}

impl WorkerError {
    fn cause(&self) -> Cause {
        match self {
            Self::Store(StoreError::Io { .. }) => Cause::Store,
            Self::Start(_) | Self::Store(_) => Cause::Start,
            // One of the samples may have brought it about.
            Self::Lost(_) => Cause::Crash,
        }
    }
}

fn thread_pool(device: &Device) -> Result<rayon::ThreadPool, String> {
    let (threads, cores) = match &device.kind {
        DeviceKind::Cpu { threads, cores } => (*threads, cores.clone()),
        DeviceKind::Cuda { .. } => (2, Vec::new()),
        DeviceKind::Sim { .. } => (1, Vec::new()),
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name({
            let name = device.name.clone();
            move |i| format!("{name}/{i}")
        })
        .start_handler(move |i| {
            if let Some(&core) = cores.get(i) {
                device::pin_thread(core);
            }
        })
        .build()
        .map_err(|error| format!("cannot start the threads of {}: {error}", device.name))
}

struct Worker<'a> {
    assembly: &'a Assembly,
    engine: Engine,
    writer: Writer,
    queue: VecDeque<Unit>,
    /// Units whose prior is still being prepared.
    waiting: VecDeque<Unit>,
    slots: usize,
    stopping: bool,
    finishing: bool,
    settings: &'a Settings,
    say: &'a dyn Fn(Event),
    clock: Clock,
}

/// When the worker last did what it does now and then, and where its time went.
struct Clock {
    first_sample: Option<Instant>,
    /// Time without anything to do since then.
    waited: Duration,
    reported: Instant,
    /// Up to when slots are counted.
    counted: Instant,
    slots: SlotTime,
    slots_until_last: SlotTime,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            first_sample: None,
            waited: Duration::ZERO,
            reported: now,
            counted: now,
            slots: SlotTime::default(),
            slots_until_last: SlotTime::default(),
        }
    }

    /// Counts the time since this was called last, in which `running` of `slots` had a sample.
    fn count(&mut self, slots: usize, running: usize) {
        let since = std::mem::replace(&mut self.counted, Instant::now());
        if self.first_sample.is_some() {
            let seconds = (self.counted - since).as_secs_f64();
            self.slots.seconds += seconds * slots as f64;
            self.slots.idle_seconds += seconds * slots.saturating_sub(running) as f64;
        }
    }

    /// A sample begins; until now there was one left.
    fn begin(&mut self) {
        self.first_sample.get_or_insert(self.counted);
        self.slots_until_last = self.slots;
    }
}

impl<'a> Worker<'a> {
    fn start(
        assembly: &'a Assembly,
        run_dir: &RunDir,
        device: &Device,
        settings: &'a Settings,
        workers: usize,
        say: &'a dyn Fn(Event),
    ) -> Result<Self, WorkerError> {
        // Half of the free memory, shared: the rest is for histories, other processes and the page cache.
        let budget = device::free_memory() / 2 / workers.max(1) as u64;
        let memory = settings.memory.unwrap_or(MemoryBudget::Bytes(budget));
        let mut fields = assembly.fields(device).map_err(WorkerError::Start)?;
        let (slots, choice) = if let Some(slots) = settings.slots {
            (slots, SlotChoice::Asked)
        } else {
            let announce = || say(Event::Measuring);
            throughput::choose(assembly, device, &mut fields, (memory, budget), &settings.work, announce)
        };
        let slots = slots.min(settings.work.units.max(1));
        let engine = Engine::new(fields, memory, slots)
            .with_readers(assembly.readers())
            .with_probe(cuda::probe(&device.kind));
        let writer = Writer::open(assembly, run_dir, device)?;
        say(Event::Ready {
            device: device.name.clone(),
            slots,
            choice,
            memory: assembly.memory_plan(&engine, &settings.work),
            attempt: writer.attempt().to_owned(),
            pid: std::process::id(),
        });
        Ok(Self {
            assembly,
            engine,
            writer,
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
            slots,
            stopping: false,
            finishing: false,
            settings,
            say,
            clock: Clock::new(),
        })
    }

    fn work(mut self, commands: &Receiver<Command>) -> Result<Usage, WorkerError> {
        loop {
            self.listen(commands)?;
            if self.stopping {
                self.suspend_all()?;
                break;
            }
            self.fill()?;
            if self.engine.slots.is_empty() {
                if self.finishing && self.queue.is_empty() && self.waiting.is_empty() {
                    break;
                }
                continue;
            }
            self.round();
            self.harvest()?;
            if let Some(error) = self.engine.lost() {
                return Err(WorkerError::Lost(error.to_owned()));
            }
            self.report();
            self.checkpoint_if_due();
        }
        self.writer.close(!self.engine.slots.is_empty())?;
        Ok(self.usage())
    }

    /// Takes what the dispatcher says; waits only when there is nothing to do. A closed channel is a stop.
    fn listen(&mut self, commands: &Receiver<Command>) -> Result<(), WorkerError> {
        let has_work = !self.engine.slots.is_empty() || !self.queue.is_empty();
        if !has_work && (!self.finishing || !self.waiting.is_empty()) {
            let patience = if self.waiting.is_empty() { Duration::from_secs(3600) } else { LOOK_AGAIN };
            let asked = Instant::now();
            let answer = commands.recv_timeout(patience);
            if self.clock.first_sample.is_some() {
                self.clock.waited += asked.elapsed();
            }
            match answer {
                Ok(command) => self.take(command)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.stopping = true,
            }
        }
        loop {
            match commands.try_recv() {
                Ok(command) => self.take(command)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    self.stopping = true;
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, command: Command) -> Result<(), WorkerError> {
        match command {
            Command::Solve { unit, again } => {
                if again {
                    self.writer.look_again()?;
                }
                self.queue.push_back(unit);
            }
            Command::Recall(unit) => {
                let before = self.queue.len() + self.waiting.len();
                self.queue.retain(|other| *other != unit);
                self.waiting.retain(|other| *other != unit);
                if self.queue.len() + self.waiting.len() < before {
                    (self.say)(Event::Returned { unit });
                }
            }
            Command::Fail { unit, error } => {
                self.writer.fail(self.assembly, unit, &error)?;
                self.finished(unit, None, Some(error));
            }
            Command::Stop => self.stopping = true,
            Command::Finish => self.finishing = true,
        }
        Ok(())
    }

    /// Fills free slots from the queue. A sample that cannot even begin becomes a failed row.
    fn fill(&mut self) -> Result<(), WorkerError> {
        let (ready, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|unit| self.assembly.is_ready(*unit));
        (self.queue, self.waiting) = (self.queue.drain(..).chain::<VecDeque<Unit>>(ready).collect(), waiting);
        while self.engine.slots.len() < self.slots {
            let Some(unit) = self.queue.pop_front() else { return Ok(()) };
            if !self.assembly.is_ready(unit) {
                self.waiting.push_back(unit);
                continue;
            }
            self.clock.count(self.slots, self.engine.slots.len());
            self.clock.begin();
            let stored = self.writer.stored(self.assembly, unit);
            let resumed = stored.is_some();
            (self.say)(Event::Started { unit, resumed });
            let opened =
                catch_unwind(AssertUnwindSafe(|| self.assembly.open(unit, stored))).unwrap_or_else(|panic| {
                    Err(format!("the sample's set-up panicked: {}", panic_text(&*panic)))
                });
            match opened {
                Ok(slot) => self.engine.slots.push(slot),
                Err(error) => {
                    self.writer.fail(self.assembly, unit, &error)?;
                    self.finished(unit, None, Some(error));
                }
            }
        }
        Ok(())
    }

    fn round(&mut self) {
        let (rows, memory, running) = (self.engine.max_rows(), self.engine.memory(), self.engine.slots.len());
        self.clock.count(self.slots, running);
        self.engine.round();
        self.clock.count(self.slots, running);
        if self.engine.memory() != memory {
            (self.say)(Event::NoTapes);
        }
        if self.engine.max_rows() < rows {
            (self.say)(Event::FewerSlots { slots: self.engine.max_rows() });
        }
    }

    /// Makes the records of finished samples durable, then reports them.
    fn harvest(&mut self) -> Result<(), WorkerError> {
        let (done, running) = std::mem::take(&mut self.engine.slots).into_iter().partition(Slot::is_finished);
        self.engine.slots = running;
        let done: Vec<Slot> = done;
        if done.is_empty() {
            return Ok(());
        }
        let errors = self.writer.finish(self.assembly, &done)?;
        for (slot, error) in done.iter().zip(errors) {
            self.finished(slot.unit, Some(slot), error);
        }
        Ok(())
    }

    fn finished(&self, unit: Unit, slot: Option<&Slot>, error: Option<String>) {
        let progress = slot.map(|slot| slot.solve().progress());
        (self.say)(Event::Finished(Finished {
            unit,
            error,
            stop_reason: slot.and_then(|slot| slot.solve().stop_reason()).map(|reason| reason.to_string()),
            evals: progress.map_or(0, |p| p.evals),
            seconds: slot.map_or(0.0, Slot::seconds),
            psnr: progress.and_then(|p| p.observed_psnr),
        }));
    }

    fn report(&mut self) {
        if self.clock.reported.elapsed() < REPORT_EVERY {
            return;
        }
        self.clock.reported = Instant::now();
        for slot in &self.engine.slots {
            let progress = slot.solve().progress();
            (self.say)(Event::Progress {
                unit: slot.unit,
                evals: progress.evals,
                psnr: progress.observed_psnr,
            });
        }
    }

    /// Stores the solves that have come far enough since they were last stored. Without checkpoints the rows are the
    /// same, only later: a failure is a warning.
    fn checkpoint_if_due(&mut self) {
        let every = self.settings.checkpoint_every;
        if let Err(error) = self.writer.checkpoint(self.assembly, &mut self.engine.slots, Due::After(every)) {
            tracing::warn!("running solves are not checkpointed for now: {error}");
        }
    }

    fn suspend_all(&mut self) -> Result<(), WorkerError> {
        self.writer.checkpoint(self.assembly, &mut self.engine.slots, Due::Now)?;
        for slot in &self.engine.slots {
            (self.say)(Event::Suspended { unit: slot.unit });
        }
        Ok(())
    }

    fn usage(&mut self) -> Usage {
        self.clock.count(self.slots, self.engine.slots.len());
        Usage {
            busy_seconds: self
                .clock
                .first_sample
                .map_or(0.0, |at| at.elapsed().saturating_sub(self.clock.waited).as_secs_f64()),
            network_seconds: self.engine.network_seconds,
            slots: self.clock.slots,
            slots_until_last: self.clock.slots_until_last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_device_is_a_crash_of_its_worker() {
        let last = last_event(|| Err(WorkerError::Lost("Xid 79".to_owned())));
        let error = "the device does not answer any more: Xid 79".to_owned();
        assert_eq!(last, Event::Broken { cause: Cause::Crash, error });
    }
}
