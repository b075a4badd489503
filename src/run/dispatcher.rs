//! The dispatcher owns the queue and what each worker holds; workers own their solves. Between them are two kinds
//! of channel and no shared state.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select, unbounded};

use super::event::{RunEvent, RunSummary};
use super::signal::StopRequest;
use crate::plan::Unit;
use crate::worker::protocol::{Command, Event};

/// Samples a worker is given beyond its slots, so that a freed slot is used at once.
const LOOKAHEAD: usize = 1;

/// Starts workers; a thread, a child process, or a stand-in in tests.
pub trait Launch {
    /// Starts the worker of one device. It reads commands until the channel closes, and tags its events with `index`.
    ///
    /// # Errors
    /// When the worker cannot be started; the text says why.
    fn launch(
        &self,
        index: usize,
        commands: Receiver<Command>,
        events: Sender<(usize, Event)>,
    ) -> Result<(), String>;
}

/// What bounds a run.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Stop after so many failed samples.
    pub max_failures: Option<usize>,
}

struct Seat {
    device: String,
    commands: Option<Sender<Command>>,
    slots: usize,
    held: BTreeSet<Unit>,
    ended: bool,
}

/// The state of one run.
pub struct Dispatcher<'a> {
    queue: VecDeque<Unit>,
    /// Samples that a broken worker held, once: a second breakdown leaves them undone.
    requeued: BTreeSet<Unit>,
    seats: Vec<Seat>,
    limits: Limits,
    observer: &'a mut dyn FnMut(&RunEvent),
    summary: RunSummary,
    /// Samples given up after a second breakdown.
    lost: usize,
    stopping: bool,
}

impl<'a> Dispatcher<'a> {
    /// A run of `units`, in this order, on `devices`.
    pub fn new(
        units: Vec<Unit>,
        devices: &[String],
        limits: Limits,
        observer: &'a mut dyn FnMut(&RunEvent),
    ) -> Self {
        let seats = devices
            .iter()
            .map(|device| Seat {
                device: device.clone(),
                commands: None,
                slots: 0,
                held: BTreeSet::new(),
                ended: false,
            })
            .collect();
        Self {
            queue: units.into(),
            requeued: BTreeSet::new(),
            seats,
            limits,
            observer,
            summary: RunSummary::default(),
            lost: 0,
            stopping: false,
        }
    }

    /// Runs until every sample is durable, every worker is gone, or a stop is asked for.
    pub fn run(mut self, launch: &dyn Launch, stop: &Receiver<StopRequest>) -> RunSummary {
        let clock = Instant::now();
        let (sender, events) = unbounded();
        for index in 0..self.seats.len() {
            self.start(index, launch, &sender);
        }
        drop(sender);
        let mut stop = stop.clone();
        while self.seats.iter().any(|seat| !seat.ended) {
            select! {
                recv(events) -> message => match message {
                    Ok((index, event)) => self.handle(index, event),
                    // Every worker's sender is gone without a word: none is left.
                    Err(_) => self.all_gone(),
                },
                recv(stop) -> request => match request {
                    Ok(request) => self.stop(&request.to_string()),
                    Err(_) => stop = never(),
                },
                recv(after(Duration::from_secs(3600))) -> _ => {}
            }
        }
        self.summary.left =
            self.lost + self.queue.len() + self.seats.iter().map(|seat| seat.held.len()).sum::<usize>();
        self.summary.seconds = clock.elapsed().as_secs_f64();
        self.summary
    }

    fn start(&mut self, index: usize, launch: &dyn Launch, events: &Sender<(usize, Event)>) {
        let (commands, receiver) = unbounded();
        match launch.launch(index, receiver, events.clone()) {
            Ok(()) => self.seats[index].commands = Some(commands),
            Err(error) => self.broken(index, error),
        }
    }

    fn handle(&mut self, index: usize, event: Event) {
        let device = self.seats[index].device.clone();
        match event {
            Event::Ready { slots, memory, attempt, pid, .. } => {
                self.seats[index].slots = slots;
                (self.observer)(&RunEvent::WorkerReady { device, slots, memory, attempt, pid });
                self.share_out();
            }
            Event::Started { unit, resumed } => (self.observer)(&RunEvent::Started { device, unit, resumed }),
            Event::Progress { unit, evals, psnr } => {
                (self.observer)(&RunEvent::Progress { device, unit, evals, psnr });
            }
            Event::Finished(sample) => {
                self.seats[index].held.remove(&sample.unit);
                self.summary.finished += 1;
                self.summary.failed += usize::from(sample.error.is_some());
                (self.observer)(&RunEvent::Finished { device, sample });
                self.share_out();
                self.check_failures();
            }
            Event::Suspended { unit } => (self.observer)(&RunEvent::Suspended { device, unit }),
            Event::FewerSlots { slots } => (self.observer)(&RunEvent::FewerSlots { device, slots }),
            Event::NoTapes => (self.observer)(&RunEvent::NoTapes { device }),
            Event::Ended(usage) => {
                self.seats[index].ended = true;
                self.summary.usage.push(usage);
                (self.observer)(&RunEvent::WorkerEnded { device, usage });
            }
            Event::Broken { error } => self.broken(index, error),
        }
    }

    /// Gives every worker samples up to its slots, one each in turn, so that the last ones are spread evenly.
    fn share_out(&mut self) {
        if self.stopping {
            return;
        }
        loop {
            let seat = self
                .seats
                .iter_mut()
                .filter(|seat| {
                    !seat.ended && seat.commands.is_some() && seat.held.len() < seat.slots + LOOKAHEAD
                })
                .filter(|seat| seat.slots > 0)
                .min_by_key(|seat| seat.held.len());
            let (Some(seat), Some(unit)) = (seat, self.queue.front().copied()) else { break };
            let sent =
                seat.commands.as_ref().is_some_and(|commands| commands.send(Command::Solve(unit)).is_ok());
            if !sent {
                seat.commands = None; // its end arrives as an event
                continue;
            }
            seat.held.insert(unit);
            self.queue.pop_front();
        }
        // Only now: a worker that breaks down gives its samples back to the others.
        if self.queue.is_empty() && self.seats.iter().all(|seat| seat.held.is_empty()) {
            self.tell_all(&Command::Finish);
        }
    }

    fn check_failures(&mut self) {
        if let Some(limit) = self.limits.max_failures
            && self.summary.failed >= limit
        {
            self.stop(&format!("{} failed samples (--max-failures {limit})", self.summary.failed));
        }
    }

    fn stop(&mut self, reason: &str) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.summary.stopped = Some(reason.to_owned());
        (self.observer)(&RunEvent::Stopping { reason: reason.to_owned() });
        self.tell_all(&Command::Stop);
    }

    fn tell_all(&self, command: &Command) {
        for commands in self.seats.iter().filter_map(|seat| seat.commands.as_ref()) {
            // A worker that is gone reports itself by its end.
            let _ = commands.send(command.clone());
        }
    }

    /// A worker broke down: what it held is given to the others, once.
    fn broken(&mut self, index: usize, error: String) {
        let seat = &mut self.seats[index];
        seat.ended = true;
        seat.commands = None;
        for unit in std::mem::take(&mut seat.held) {
            if self.requeued.insert(unit) {
                self.queue.push_back(unit);
            } else {
                self.lost += 1;
            }
        }
        let device = seat.device.clone();
        self.summary.broken.push(format!("{device}: {error}"));
        (self.observer)(&RunEvent::WorkerBroken { device, error });
        self.share_out();
    }

    fn all_gone(&mut self) {
        for index in 0..self.seats.len() {
            if !self.seats[index].ended {
                self.broken(index, "the worker ended without a word".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;
    use crate::worker::protocol::{Finished, MemoryPlan, Usage};

    /// A worker without work: ends every sample at once, or breaks down at the n-th.
    struct Mock {
        slots: usize,
        break_at: Vec<Option<usize>>,
        solved: Arc<Mutex<Vec<(usize, Unit)>>>,
        /// Workers that will break down: those launched later wait for it, so that there is something left to take.
        doomed: Mutex<Vec<thread::JoinHandle<()>>>,
    }

    impl Launch for Mock {
        fn launch(
            &self,
            index: usize,
            commands: Receiver<Command>,
            events: Sender<(usize, Event)>,
        ) -> Result<(), String> {
            let (slots, break_at, solved) = (self.slots, self.break_at[index], Arc::clone(&self.solved));
            let doomed = std::mem::take(&mut *self.doomed.lock().unwrap());
            let worker = thread::spawn(move || {
                doomed.into_iter().for_each(|worker| worker.join().unwrap());
                let say = |event| events.send((index, event)).unwrap();
                say(Event::Ready {
                    device: format!("mock:{index}"),
                    slots,
                    memory: MemoryPlan::default(),
                    attempt: String::new(),
                    pid: 0,
                });
                let mut done = 0;
                for command in commands {
                    match command {
                        Command::Solve(_) if break_at == Some(done) => {
                            return say(Event::Broken { error: "pulled the plug".to_owned() });
                        }
                        Command::Solve(unit) => {
                            done += 1;
                            solved.lock().unwrap().push((index, unit));
                            let error = (unit.sample == 13).then(|| "unlucky".to_owned());
                            let (stop_reason, psnr) = (None, None);
                            say(Event::Finished(Finished {
                                unit,
                                error,
                                stop_reason,
                                evals: 1,
                                seconds: 0.0,
                                psnr,
                            }));
                        }
                        Command::Stop | Command::Finish => break,
                    }
                }
                say(Event::Ended(Usage::default()));
            });
            if break_at.is_some() {
                self.doomed.lock().unwrap().push(worker);
            }
            Ok(())
        }
    }

    fn units(n: usize) -> Vec<Unit> {
        (0..n).map(|sample| Unit { cell: 0, sample }).collect()
    }

    fn run(mock: &Mock, n: usize, limits: Limits) -> (RunSummary, Vec<(usize, Unit)>) {
        let devices: Vec<String> = (0..mock.break_at.len()).map(|i| format!("mock:{i}")).collect();
        let mut observer = |_: &RunEvent| {};
        let summary = Dispatcher::new(units(n), &devices, limits, &mut observer).run(mock, &never());
        let solved = mock.solved.lock().unwrap().clone();
        (summary, solved)
    }

    fn mock(slots: usize, break_at: &[Option<usize>]) -> Mock {
        Mock { slots, break_at: break_at.to_vec(), solved: Arc::default(), doomed: Mutex::default() }
    }

    #[test]
    fn every_sample_is_solved_once_on_any_number_of_workers() {
        for workers in 1..4 {
            let (summary, mut solved) = run(&mock(3, &vec![None; workers]), 40, Limits::default());
            solved.sort_by_key(|(_, unit)| *unit);
            assert_eq!(solved.iter().map(|(_, unit)| *unit).collect::<Vec<_>>(), units(40));
            assert_eq!((summary.finished, summary.failed, summary.left), (40, 1, 0));
            assert_eq!(summary.usage.len(), workers);
        }
    }

    #[test]
    fn a_broken_workers_samples_go_to_the_others() {
        let (summary, mut solved) = run(&mock(2, &[Some(3), None]), 30, Limits::default());
        solved.sort_by_key(|(_, unit)| *unit);
        assert_eq!(solved.iter().map(|(_, unit)| *unit).collect::<Vec<_>>(), units(30));
        assert_eq!(summary.left, 0);
        assert_eq!(summary.broken, ["mock:0: pulled the plug"]);
    }

    #[test]
    fn without_a_worker_left_the_rest_is_counted() {
        let (summary, solved) = run(&mock(2, &[Some(1)]), 10, Limits::default());
        assert_eq!(solved.len(), 1);
        assert_eq!((summary.finished, summary.left), (1, 9));
    }

    #[test]
    fn too_many_failures_stop_the_run() {
        let (summary, _) = run(&mock(1, &[None]), 5000, Limits { max_failures: Some(1) });
        assert_eq!(summary.failed, 1);
        assert!(summary.stopped.is_some_and(|text| text.contains("--max-failures 1")));
        assert_eq!(summary.finished + summary.left, 5000);
    }

    #[test]
    fn an_empty_queue_ends_at_once() {
        assert_eq!(run(&mock(2, &[None, None]), 0, Limits::default()).0.finished, 0);
    }
}
