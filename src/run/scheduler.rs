//! What a run does next, as a state machine without clocks, threads or channels: it is told what happened and when,
//! and answers with what is to be done. [`Dispatcher`](super::Dispatcher) drives it with real workers; tests and
//! simulations drive it with a clock of their own.

mod crash;
mod seat;
mod share;
mod typical;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::crash::Crashes;
use self::seat::{Held, Seat, State};
use self::typical::Typical;
pub(super) use self::watch::LOOK_EVERY;
use super::event::{MEASURING, RunEvent, RunSummary};
use crate::plan::Unit;
use crate::worker::protocol::{Command, Event, Finished};

/// What bounds a run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Stop after so many failed samples.
    pub max_failures: Option<usize>,
    /// Breakdowns of a worker, without a solved sample between them, after which it is not started again; unless the last was
    /// a crash on a sample that had crashed other workers.
    pub max_restarts: u32,
    /// Time after a stop was asked for in which every worker is to end; one that hangs is then ended. None: any.
    pub stop_within: Option<Duration>,
    /// A worker that says nothing for so long, and for many times its longest silence before, hangs and is killed, if it
    /// can be; who starts has half an hour. None: it is waited for.
    pub silence: Option<Duration>,
    /// When samples whose workers crash become failed rows.
    pub blame: Blame,
}

/// When a sample that crashes its worker alone becomes a failed row: the device may be to blame as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Where it crashed alone on a device that solves others. Else it is left to other machines.
    Proven,
    /// Also where it did not, once nothing else is left to be tried.
    Last,
    /// The same, and also those of workers that are all given up: other machines have tried before.
    Always,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_failures: None, max_restarts: 3, stop_within: None, silence: None, blame: Blame::Last }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start the worker of this seat, for the first time or again.
    Launch(usize),
    /// Send this to the worker of the seat.
    Tell(usize, Command),
    /// End the worker of this seat, which does not listen.
    Kill(usize),
    /// Show this to whoever watches.
    Show(RunEvent),
}

/// The state of one run.
///
/// Samples whose worker crashed are *suspects*: each half of them is solved once more, with nothing else on its device. Those of
/// a half that crashes as well are solved one by one, and one that crashes alone fails, unless the device is to blame.
pub struct Scheduler {
    queue: VecDeque<Unit>,
    /// Those that are solved together, with nothing else.
    suspects: VecDeque<Vec<Unit>>,
    /// Samples whose worker crashed.
    crashed: BTreeMap<Unit, Crashes>,
    /// Samples that a worker had begun and left: there may be checkpoints of them.
    begun: BTreeSet<Unit>,
    seats: Vec<Seat>,
    typical: Typical,
    limits: Limits,
    now: Duration,
    stopping: bool,
    /// When workers that have not ended yet are ended.
    deadline: Option<Duration>,
    summary: RunSummary,
    actions: Vec<Action>,
}

impl Scheduler {
    /// A run of `units`, in this order, on `devices`. The first actions launch a worker on each.
    pub fn new(units: Vec<Unit>, devices: &[String], limits: Limits) -> Self {
        Self {
            queue: units.into(),
            suspects: VecDeque::new(),
            crashed: BTreeMap::new(),
            begun: BTreeSet::new(),
            seats: devices.iter().map(|device| Seat::new(device)).collect(),
            typical: Typical::default(),
            limits,
            now: Duration::ZERO,
            stopping: false,
            deadline: None,
            summary: RunSummary::default(),
            actions: (0..devices.len()).map(Action::Launch).collect(),
        }
    }

    /// The worker of this seat cannot be ended from outside: it is waited for, whatever it does.
    pub fn spare(&mut self, index: usize) {
        self.seats[index].can_be_killed = false;
    }

    /// What is to be done since this was last asked, in order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether every worker has ended for good.
    pub fn is_over(&self) -> bool {
        self.seats.iter().all(|seat| seat.state == State::Ended)
    }

    /// How the run ended.
    pub fn summary(mut self, elapsed: Duration) -> RunSummary {
        let held: usize = self.seats.iter().map(|seat| seat.held.len()).sum();
        self.summary.suspects = self.suspects.iter().map(Vec::len).sum();
        self.summary.left = self.queue.len() + self.summary.suspects + held;
        self.summary.seconds = elapsed.as_secs_f64();
        self.summary
    }

    /// The worker of a seat said something.
    pub fn handle(&mut self, now: Duration, index: usize, event: Event) {
        self.pass(now);
        if self.seats[index].state == State::Ended {
            // Said before it was killed.
            return;
        }
        self.seats[index].hear(now);
        let device = self.seats[index].device.clone();
        match event {
            Event::Ready { slots, choice, memory, attempt, pid, .. } => {
                self.seats[index].ready(now, slots);
                self.show(RunEvent::WorkerReady { device, slots, choice, memory, attempt, pid });
                self.share_out();
            }
            Event::Started { unit, resumed } => {
                if let Some(held) = self.seats[index].held.get_mut(&unit) {
                    *held = Held::Started { evals: None };
                }
                self.show(RunEvent::Started { device, unit, resumed });
            }
            Event::Progress { unit, evals, psnr } => {
                self.went_on(index, unit, evals);
                self.show(RunEvent::Progress { device, unit, evals, psnr });
            }
            Event::Returned { unit } => {
                if self.seats[index].held.remove(&unit).is_some() {
                    self.queue.push_front(unit);
                }
                self.share_out();
            }
            Event::Finished(sample) => self.finished(index, sample),
            Event::Suspended { unit } => self.show(RunEvent::Suspended { device, unit }),
            Event::FewerSlots { slots } => self.show(RunEvent::FewerSlots { device, slots }),
            Event::NoTapes => self.show(RunEvent::NoTapes { device }),
            Event::Measuring => self.show(RunEvent::Preparing { what: format!("{device} {MEASURING}") }),
            Event::Ended(usage) => {
                let seat = &mut self.seats[index];
                seat.state = State::Ended;
                if !self.stopping {
                    let held = std::mem::take(&mut seat.held);
                    self.take_back(held, None);
                }
                self.summary.usage.push(usage);
                self.show(RunEvent::WorkerEnded { device, usage });
                self.share_out();
            }
            Event::Broken { cause, error } => self.broken(index, (cause, error), true),
        }
    }

    /// The record of a sample is durable.
    fn finished(&mut self, index: usize, sample: Finished) {
        let seat = &mut self.seats[index];
        let device = seat.device.clone();
        seat.held.remove(&sample.unit);
        // A failed one, written down perhaps without being solved, says nothing good of the device.
        if sample.error.is_none() {
            (seat.breakdowns, seat.has_solved) = (0, true);
            self.typical.add(sample.unit.cell, sample.evals);
        }
        self.summary.finished += 1;
        self.summary.failed += usize::from(sample.error.is_some());
        // Whatever refused a record before takes them again.
        self.summary.unwritable = false;
        self.show(RunEvent::Finished { device, sample });
        self.share_out();
        self.check_failures();
    }

    /// Asks every worker to checkpoint and end. Asking again changes nothing.
    pub fn stop(&mut self, now: Duration, reason: &str) {
        if self.stopping {
            return;
        }
        self.pass(now);
        self.stopping = true;
        self.deadline = self.limits.stop_within.map(|limit| now + limit);
        self.summary.stopped = Some(reason.to_owned());
        self.show(RunEvent::Stopping { reason: reason.to_owned() });
        self.end_pauses();
        self.end_starting();
        self.tell_all(&Command::Stop);
    }

    fn went_on(&mut self, index: usize, unit: Unit, evals: u32) {
        let seat = &mut self.seats[index];
        let Some(held) = seat.held.get_mut(&unit) else { return };
        if let Held::Started { evals: Some(before) } = *held {
            seat.evals += evals.saturating_sub(before);
        }
        *held = Held::Started { evals: Some(evals) };
    }

    fn show(&mut self, event: RunEvent) {
        self.actions.push(Action::Show(event));
    }

    fn tell_all(&mut self, command: &Command) {
        for (index, seat) in self.seats.iter().enumerate() {
            if matches!(seat.state, State::Starting | State::Ready) {
                self.actions.push(Action::Tell(index, command.clone()));
            }
        }
    }

    fn check_failures(&mut self) {
        if let Some(limit) = self.limits.max_failures
            && self.summary.failed >= limit
        {
            self.stop(self.now, &format!("{} failed samples (--max-failures {limit})", self.summary.failed));
        }
    }
}

#[cfg(test)]
mod tests;
