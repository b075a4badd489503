//! One device of a run, and what its worker holds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Limits;
use super::typical::Typical;
use crate::plan::Unit;

/// A worker is not taken for hanging before it is silent for so many times its longest silence: evaluations differ.
const SILENCES: u32 = 20;

/// A worker that starts reads weights, perhaps over a slow network, and has nothing to say meanwhile.
pub(super) const START_WITHIN: Duration = Duration::from_secs(1800);

/// A process that was killed and is not gone after so long is held by the kernel, as a dead driver does.
pub(super) const END_WITHIN: Duration = Duration::from_secs(30);

/// Where the worker of a seat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was launched and has not said yet that it is ready.
    Starting,
    Ready,
    /// It broke down and starts again then.
    Pausing(Duration),
    Ended,
}

/// How far a sample is that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Waiting,
    /// Asked back, because another worker is idle.
    Recalled,
    Started {
        /// Evaluations so far, those before its worker took it included; none: not said yet.
        evals: Option<u32>,
    },
}

impl Held {
    pub(super) fn is_started(self) -> bool {
        matches!(self, Self::Started { .. })
    }
}

/// A worker that was killed: its end is still to be heard of.
#[derive(Debug, Clone)]
pub(super) struct Killed {
    pub(super) why: String,
    /// When it is taken for one that does not end.
    pub(super) until: Duration,
}

/// One device and what its worker holds.
pub(super) struct Seat {
    pub(super) device: String,
    pub(super) state: State,
    pub(super) slots: usize,
    /// When its worker was ready, and the evaluations it has made since.
    pub(super) ready_at: Duration,
    pub(super) evals: u32,
    /// The samples it was given and has not ended.
    pub(super) held: BTreeMap<Unit, Held>,
    /// Breakdowns since a sample was last solved here.
    pub(super) breakdowns: u32,
    /// Whether its worker, given up, was started once more to write failed rows, and nothing else.
    pub(super) only_writes: bool,
    /// Whether a sample was ever solved here.
    pub(super) has_solved: bool,
    /// Whether its worker can be ended from outside.
    pub(super) can_be_killed: bool,
    /// When its worker was launched or last said something; later by the time that nobody listened.
    pub(super) heard: Duration,
    /// The longest that its worker said nothing while it solved.
    pub(super) longest: Duration,
    pub(super) killed: Option<Killed>,
}

impl Seat {
    pub(super) fn new(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            state: State::Starting,
            slots: 0,
            ready_at: Duration::ZERO,
            evals: 0,
            held: BTreeMap::new(),
            breakdowns: 0,
            only_writes: false,
            has_solved: false,
            can_be_killed: true,
            heard: Duration::ZERO,
            longest: Duration::ZERO,
            killed: None,
        }
    }

    /// Its worker is started, for the first time or again.
    pub(super) fn launch(&mut self, now: Duration) {
        (self.state, self.heard, self.longest, self.killed) = (State::Starting, now, Duration::ZERO, None);
    }

    /// Its worker takes samples.
    pub(super) fn ready(&mut self, now: Duration, slots: usize) {
        (self.state, self.slots, self.ready_at, self.evals) = (State::Ready, slots, now, 0);
        // How long it was silent while it started says nothing of its evaluations.
        (self.heard, self.longest) = (now, Duration::ZERO);
    }

    /// Its worker has said something. That a killed one comes to its end is no word of its own.
    pub(super) fn hear(&mut self, now: Duration) {
        if self.killed.is_some() {
            return;
        }
        if self.is_solving() {
            self.longest = self.longest.max(now.saturating_sub(self.heard));
        }
        self.heard = now;
    }

    /// Nobody listened for so long: it counts for no silence.
    pub(super) fn skip(&mut self, lapse: Duration) {
        self.heard += lapse;
        if let Some(killed) = &mut self.killed {
            killed.until += lapse;
        }
    }

    fn is_solving(&self) -> bool {
        self.state == State::Ready && self.held.values().any(|held| held.is_started())
    }

    /// Whether its worker is killed when it hangs.
    pub(super) fn is_watched(&self, limits: &Limits) -> bool {
        self.can_be_killed && limits.silence.is_some()
    }

    /// When its worker is taken for hanging.
    pub(super) fn hangs_at(&self, limits: &Limits) -> Option<Duration> {
        let silence = limits.silence.filter(|_| self.is_watched(limits) && self.killed.is_none())?;
        match self.state {
            State::Starting => Some(self.heard + silence.max(START_WITHIN)),
            State::Ready if self.is_solving() => Some(self.heard + silence.max(self.longest * SILENCES)),
            _ => None,
        }
    }

    /// When its worker, killed before, is taken for one that does not end.
    pub(super) fn given_up_at(&self) -> Option<Duration> {
        self.killed.as_ref().filter(|_| self.state != State::Ended).map(|killed| killed.until)
    }

    /// Samples still to be done of those it holds.
    pub(super) fn left(&self, typical: &Typical) -> f64 {
        self.held.iter().map(|(unit, held)| typical.left(*unit, *held)).sum()
    }

    /// Evaluations per second, once there are some.
    pub(super) fn speed(&self, now: Duration) -> Option<f64> {
        let seconds = now.saturating_sub(self.ready_at).as_secs_f64();
        (self.evals > 0 && seconds > 0.0).then(|| f64::from(self.evals) / seconds)
    }

    /// Whether it solves samples, or will when it has started. Who failed to start, and never did, is not waited for.
    pub(super) fn is_to_come(&self) -> bool {
        self.state != State::Ended && !self.only_writes && (self.slots > 0 || self.breakdowns == 0)
    }

    /// Whether it is one that solves samples. One that crashes each of its samples breaks down twice; a third time in a row
    /// says that the device has gone bad.
    pub(super) fn is_believed(&self) -> bool {
        self.has_solved && self.is_to_come() && self.breakdowns <= 2
    }

    /// Whether it can be given samples.
    pub(super) fn takes(&self) -> bool {
        self.state == State::Ready && self.killed.is_none() && !self.only_writes
    }

    /// Whether it can be given samples that are to be with no others.
    pub(super) fn is_free(&self) -> bool {
        self.takes() && self.held.is_empty()
    }

    pub(super) fn has_free_slot(&self) -> bool {
        self.takes() && self.held.len() < self.slots
    }

    /// Samples held, per slot: who has least is served first.
    pub(super) fn load(&self) -> (bool, usize) {
        (self.held.len() >= self.slots, self.held.len() * 1024 / self.slots.max(1))
    }
}
