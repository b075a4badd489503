//! What a run does next, as a state machine without clocks, threads or channels: it is told what happened and when,
//! and answers with what is to be done. [`Dispatcher`](super::Dispatcher) drives it with real workers; tests and
//! simulations drive it with a clock of their own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::{RunEvent, RunSummary};
use crate::plan::Unit;
use crate::worker::protocol::{Cause, Command, Event};

/// Samples a worker is given beyond its slots, so that a freed slot is used at once.
const LOOKAHEAD: usize = 1;

/// Nothing that runs is taken for nearer to its end than this part of a typical sample: some take longer than others.
const LEAST_LEFT: f64 = 0.1;

/// Waiting time before the first restart of a worker; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest waiting time before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A worker is not taken for hanging before it is silent for so many times its longest silence: evaluations differ.
const SILENCES: u32 = 20;

/// What bounds a run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Stop after so many failed samples.
    pub max_failures: Option<usize>,
    /// Breakdowns of a worker, without a solved sample between them, after which it is not started again.
    pub max_restarts: u32,
    /// Time after a stop was asked for in which every worker is to end; one that hangs is then ended. None: any.
    pub stop_within: Option<Duration>,
    /// A worker that says nothing for so long, and for many times its longest silence before, hangs and is killed. None: it
    /// is waited for.
    pub silence: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_failures: None, max_restarts: 3, stop_within: None, silence: None }
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

/// Where the worker of a seat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It was launched and has not said yet that it is ready.
    Starting,
    Ready,
    /// It broke down and starts again then.
    Pausing(Duration),
    Ended,
}

/// One device and what its worker holds.
struct Seat {
    device: String,
    state: State,
    slots: usize,
    /// When its worker was ready, and the evaluations it has made since.
    ready_at: Duration,
    evals: u32,
    /// The samples it was given and has not ended.
    held: BTreeMap<Unit, Held>,
    /// Breakdowns since a sample was last solved here.
    breakdowns: u32,
    /// When its worker last said something.
    heard: Duration,
    /// The longest that its worker said nothing while it solved.
    longest: Duration,
    /// Why it was killed; its end is still to be heard of.
    killed: Option<String>,
}

/// How far a sample is that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Waiting,
    /// Asked back, because another worker is idle.
    Recalled,
    Started {
        /// Evaluations so far, those before its worker took it included; none: not said yet.
        evals: Option<u32>,
    },
}

/// Finished samples of each cell, and the sum of their evaluations: what others of the cell may take.
#[derive(Default)]
struct Typical(BTreeMap<usize, (u32, f64)>);

impl Typical {
    fn add(&mut self, cell: usize, evals: u32) {
        let (samples, sum) = self.0.entry(cell).or_default();
        *samples += 1;
        *sum += f64::from(evals);
    }

    /// The part of a sample that is still to be done: 1 where nothing is known.
    fn left(&self, unit: Unit, held: Held) -> f64 {
        let Held::Started { evals: Some(evals) } = held else { return 1.0 };
        let Some((samples, sum)) = self.0.get(&unit.cell).filter(|(_, sum)| *sum > 0.0) else { return 1.0 };
        (1.0 - f64::from(evals) * f64::from(*samples) / sum).max(LEAST_LEFT)
    }
}

impl Seat {
    fn new(device: &str) -> Self {
        let device = device.to_owned();
        let (ready_at, held) = (Duration::ZERO, BTreeMap::new());
        Self {
            device,
            state: State::Starting,
            slots: 0,
            ready_at,
            evals: 0,
            held,
            breakdowns: 0,
            heard: Duration::ZERO,
            longest: Duration::ZERO,
            killed: None,
        }
    }

    fn is_solving(&self) -> bool {
        self.state == State::Ready && self.held.values().any(|held| matches!(held, Held::Started { .. }))
    }

    /// Its worker has said something.
    fn hear(&mut self, now: Duration) {
        if self.is_solving() {
            self.longest = self.longest.max(now.saturating_sub(self.heard));
        }
        self.heard = now;
    }

    /// When its worker is taken for hanging.
    fn hangs_at(&self, limits: &Limits) -> Option<Duration> {
        let silence = limits.silence.filter(|_| self.is_solving() && self.killed.is_none())?;
        Some(self.heard + silence.max(self.longest * SILENCES))
    }

    /// Samples still to be done of those it holds.
    fn left(&self, typical: &Typical) -> f64 {
        self.held.iter().map(|(unit, held)| typical.left(*unit, *held)).sum()
    }

    /// Evaluations per second, once there are some.
    fn speed(&self, now: Duration) -> Option<f64> {
        let seconds = now.saturating_sub(self.ready_at).as_secs_f64();
        (self.evals > 0 && seconds > 0.0).then(|| f64::from(self.evals) / seconds)
    }

    fn has_free_slot(&self) -> bool {
        self.state == State::Ready && self.held.len() < self.slots
    }

    /// Samples held, per slot: who has least is served first.
    fn load(&self) -> (bool, usize) {
        (self.held.len() >= self.slots, self.held.len() * 1024 / self.slots.max(1))
    }
}

/// The state of one run.
///
/// A sample whose worker crashed is a *suspect*: it is solved once more, alone on its device, so that it can take no
/// other with it, and fails if that worker crashes as well.
pub struct Scheduler {
    queue: VecDeque<Unit>,
    suspects: VecDeque<Unit>,
    /// Samples whose worker crashed, with what it said.
    crashed: BTreeMap<Unit, String>,
    /// Samples that are to become failed rows.
    condemned: VecDeque<(Unit, String)>,
    /// Whether a sample was solved since the last crash.
    is_proven: bool,
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
            condemned: VecDeque::new(),
            is_proven: false,
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

    /// What is to be done since this was last asked, in order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether every worker has ended for good.
    pub fn is_over(&self) -> bool {
        self.seats.iter().all(|seat| seat.state == State::Ended)
    }

    /// When [`Self::tick`] has something to do next.
    pub fn wake_at(&self) -> Option<Duration> {
        let pauses = self.seats.iter().filter_map(|seat| match seat.state {
            State::Pausing(until) => Some(until),
            _ => None,
        });
        let hanging = self.seats.iter().filter_map(|seat| seat.hangs_at(&self.limits));
        pauses.chain(hanging).chain(self.deadline).min()
    }

    /// How the run ended.
    pub fn summary(mut self, elapsed: Duration) -> RunSummary {
        let held: usize = self.seats.iter().map(|seat| seat.held.len()).sum();
        self.summary.left = self.queue.len() + self.suspects.len() + self.condemned.len() + held;
        self.summary.seconds = elapsed.as_secs_f64();
        self.summary
    }

    /// Time has passed: starts workers again whose pause is over, and ends those that were to end long ago.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
        for index in 0..self.seats.len() {
            if matches!(self.seats[index].state, State::Pausing(until) if until <= now) {
                self.seats[index].state = State::Starting;
                self.actions.push(Action::Launch(index));
            }
        }
        self.kill_silent();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            self.end_hanging();
        }
    }

    /// Their ends then come as those of any worker that breaks down.
    fn kill_silent(&mut self) {
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            if seat.hangs_at(&self.limits).is_some_and(|at| at <= self.now) {
                let minutes = self.now.saturating_sub(seat.heard).as_secs() / 60;
                seat.killed =
                    Some(format!("it said nothing for {minutes} min while it solved, and was killed"));
                self.actions.push(Action::Kill(index));
            }
        }
    }

    /// What they have solved since their last checkpoints is lost; what they hold is still to be done.
    fn end_hanging(&mut self) {
        let limit = self.limits.stop_within.unwrap_or_default().as_secs();
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            if seat.state == State::Ended {
                continue;
            }
            seat.state = State::Ended;
            let device = seat.device.clone();
            let error = format!("it did not end within {limit} s after it was asked to, and was killed");
            self.summary.broken.push(format!("{device}: {error}"));
            self.show(RunEvent::WorkerBroken { device, error, restart_in: None });
            self.actions.push(Action::Kill(index));
        }
    }

    /// The worker of a seat said something.
    pub fn handle(&mut self, now: Duration, index: usize, event: Event) {
        self.now = now;
        if self.seats[index].state == State::Ended {
            // Said before it was killed.
            return;
        }
        self.seats[index].hear(now);
        let device = self.seats[index].device.clone();
        match event {
            Event::Ready { slots, memory, attempt, pid, .. } => {
                let seat = &mut self.seats[index];
                (seat.slots, seat.state, seat.ready_at, seat.evals) = (slots, State::Ready, now, 0);
                self.show(RunEvent::WorkerReady { device, slots, memory, attempt, pid });
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
            Event::Finished(sample) => {
                let seat = &mut self.seats[index];
                seat.held.remove(&sample.unit);
                // A failed one, written down perhaps without being solved, says nothing good of the device.
                if sample.error.is_none() {
                    seat.breakdowns = 0;
                    self.is_proven = true;
                }
                self.summary.finished += 1;
                self.summary.failed += usize::from(sample.error.is_some());
                if sample.error.is_none() {
                    self.typical.add(sample.unit.cell, sample.evals);
                }
                self.show(RunEvent::Finished { device, sample });
                self.share_out();
                self.check_failures();
            }
            Event::Suspended { unit } => self.show(RunEvent::Suspended { device, unit }),
            Event::FewerSlots { slots } => self.show(RunEvent::FewerSlots { device, slots }),
            Event::NoTapes => self.show(RunEvent::NoTapes { device }),
            Event::Ended(usage) => {
                let seat = &mut self.seats[index];
                seat.state = State::Ended;
                if !self.stopping {
                    self.queue.extend(std::mem::take(&mut seat.held).into_keys());
                }
                self.summary.usage.push(usage);
                self.show(RunEvent::WorkerEnded { device, usage });
                self.share_out();
            }
            Event::Broken { cause, error } => self.broken(now, index, cause, error),
        }
    }

    /// Asks every worker to checkpoint and end. Asking again changes nothing.
    pub fn stop(&mut self, now: Duration, reason: &str) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.deadline = self.limits.stop_within.map(|limit| now + limit);
        self.summary.stopped = Some(reason.to_owned());
        self.show(RunEvent::Stopping { reason: reason.to_owned() });
        self.end_pauses();
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

    /// Workers that wait for their restart are not needed any more.
    fn end_pauses(&mut self) {
        for seat in &mut self.seats {
            if matches!(seat.state, State::Pausing(_)) {
                seat.state = State::Ended;
            }
        }
    }

    /// Gives the workers what they have room for.
    fn share_out(&mut self) {
        if self.stopping {
            return;
        }
        self.hand_out_condemned();
        while let Some(index) = self.hungriest() {
            let Some(unit) = self.queue.pop_front() else { break };
            self.give(index, unit);
        }
        if self.queue.is_empty() {
            self.hand_out_suspects();
            self.recall();
        }
        let is_idle = |seat: &Seat| seat.held.is_empty();
        let nothing_waits = self.queue.is_empty() && self.suspects.is_empty() && self.condemned.is_empty();
        // Only now: a worker that breaks down gives its samples back to the others.
        if nothing_waits && self.seats.iter().all(is_idle) {
            self.end_pauses();
            self.tell_all(&Command::Finish);
        }
    }

    /// The worker that should have the next sample of the queue, if any has room. None has more than its share of
    /// what is left: who starts first must not take what the others are to have, nor who fills its slots anew at the
    /// end of the queue what those can do sooner whose samples are nearly done, or who are faster.
    fn hungriest(&self) -> Option<usize> {
        let (shares, lefts) = self.shares();
        let has_room = |(index, seat): &(usize, &Seat)| {
            let is_alone = seat.held.keys().any(|unit| self.crashed.contains_key(unit));
            let has_place = seat.held.len() < seat.slots + LOOKAHEAD;
            let has_share = seat.held.is_empty() || lefts[*index] + 0.5 <= shares[*index];
            seat.state == State::Ready && !is_alone && has_place && has_share
        };
        let seats = self.seats.iter().enumerate().filter(has_room);
        seats.min_by_key(|(_, seat)| seat.load()).map(|(index, _)| index)
    }

    /// The share of every seat in all that is to be done, by its speed as far as that is known; and what it has of it.
    fn shares(&self) -> (Vec<f64>, Vec<f64>) {
        let lefts: Vec<f64> = self.seats.iter().map(|seat| seat.left(&self.typical)).collect();
        let all = self.queue.len() as f64 + lefts.iter().sum::<f64>();
        let known: Vec<f64> = self.seats.iter().filter_map(|seat| seat.speed(self.now)).collect();
        let mean = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
        let speed = |seat: &Seat| match seat.state {
            State::Ended => 0.0,
            _ => seat.speed(self.now).unwrap_or(mean),
        };
        let speeds: Vec<f64> = self.seats.iter().map(speed).collect();
        let sum: f64 = speeds.iter().sum();
        (speeds.iter().map(|speed| all * speed / sum).collect(), lefts)
    }

    fn give(&mut self, index: usize, unit: Unit) {
        self.seats[index].held.insert(unit, Held::Waiting);
        let again = self.crashed.contains_key(&unit);
        self.actions.push(Action::Tell(index, Command::Solve { unit, again }));
    }

    /// A suspect goes to a worker that holds nothing else.
    fn hand_out_suspects(&mut self) {
        let is_free = |seat: &Seat| seat.state == State::Ready && seat.held.is_empty();
        while let Some(index) = self.seats.iter().position(is_free) {
            let Some(unit) = self.suspects.pop_front() else { return };
            self.give(index, unit);
        }
    }

    /// What can only fail is written down by any worker that lives; but, as long as there are others to try, not before one
    /// was solved after the crash: a device on which everything breaks down says nothing about any sample.
    fn hand_out_condemned(&mut self) {
        let others = || self.seats.iter().flat_map(|seat| seat.held.keys()).next().is_some();
        if !self.is_proven && (!self.queue.is_empty() || !self.suspects.is_empty() || others()) {
            return;
        }
        let Some(index) = self.seats.iter().position(|seat| seat.state == State::Ready) else { return };
        for (unit, error) in std::mem::take(&mut self.condemned) {
            self.seats[index].held.insert(unit, Held::Waiting);
            self.actions.push(Action::Tell(index, Command::Fail { unit, error }));
        }
    }

    /// Asks busy workers for samples that they have not begun, as many as others have free slots.
    fn recall(&mut self) {
        let is_open =
            |seat: &&Seat| seat.has_free_slot() && !seat.held.values().any(|held| *held == Held::Waiting);
        let free: usize = self.seats.iter().filter(is_open).map(|seat| seat.slots - seat.held.len()).sum();
        let held = || self.seats.iter().flat_map(|seat| seat.held.values());
        let asked = held().filter(|held| **held == Held::Recalled).count();
        let mut wanted = free.saturating_sub(asked);
        for (index, seat) in self.seats.iter_mut().enumerate() {
            let surplus = seat.held.len().saturating_sub(seat.slots);
            let waiting = seat.held.iter_mut().filter(|(_, held)| **held == Held::Waiting);
            for (unit, held) in waiting.take(surplus.min(wanted)) {
                *held = Held::Recalled;
                wanted -= 1;
                self.actions.push(Action::Tell(index, Command::Recall(*unit)));
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

    /// A worker broke down: what it held is given to the others, and it starts again after a pause.
    fn broken(&mut self, now: Duration, index: usize, cause: Cause, error: String) {
        let seat = &mut self.seats[index];
        let error = seat.killed.take().unwrap_or(error);
        self.is_proven &= cause != Cause::Crash;
        let (held, device) = (std::mem::take(&mut seat.held), seat.device.clone());
        seat.breakdowns += 1;
        let pause = (FIRST_PAUSE * 2_u32.saturating_pow(seat.breakdowns - 1)).min(LONGEST_PAUSE);
        let restarts = !self.stopping && seat.breakdowns <= self.limits.max_restarts;
        seat.state = if restarts { State::Pausing(now + pause) } else { State::Ended };
        let (suspects, innocent): (Vec<_>, Vec<_>) = held
            .into_iter()
            .partition(|(_, held)| cause == Cause::Crash && matches!(held, Held::Started { .. }));
        suspects.into_iter().for_each(|(unit, _)| self.suspect(unit, &error));
        // Backwards, so that they stand in the queue in the order in which they were taken from it.
        innocent.into_iter().rev().for_each(|(unit, _)| self.queue.push_front(unit));
        self.summary.broken.push(format!("{device}: {error}"));
        self.summary.unwritable |= cause == Cause::Store;
        let restart_in = restarts.then_some(pause.as_secs_f64());
        self.show(RunEvent::WorkerBroken { device, error, restart_in });
        self.share_out();
    }

    fn suspect(&mut self, unit: Unit, error: &str) {
        if let Some(first) = self.crashed.get(&unit) {
            let reason = if first == error { String::new() } else { format!(", then: {error}") };
            let text = format!("two workers broke down while they solved it: {first}{reason}");
            self.condemned.push_back((unit, text));
        } else {
            self.crashed.insert(unit, error.to_owned());
            self.suspects.push_back(unit);
        }
    }
}

#[cfg(test)]
mod tests;
