//! Breakdowns of workers, and the samples that may be to blame for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::seat::{Held, Seat, State};
use super::{Action, Blame, Scheduler};
use crate::plan::Unit;
use crate::run::event::RunEvent;
use crate::worker::protocol::{Cause, Command};

/// Waiting time before the first restart of a worker; it doubles with every further one.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest waiting time before a restart.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Crashes of workers that were solving a sample.
pub(super) struct Crashes {
    count: u32,
    /// What the first of them said.
    first: String,
    /// On which seats.
    seats: BTreeSet<usize>,
}

impl Scheduler {
    /// A worker broke down: what it held is given to the others, and it starts again after a pause if it may.
    pub(super) fn broken(&mut self, index: usize, (cause, error): (Cause, String), may_restart: bool) {
        let seat = &mut self.seats[index];
        let error = seat.killed.take().map_or(error, |killed| killed.why);
        self.is_proven &= cause != Cause::Crash;
        let (held, device) = (std::mem::take(&mut seat.held), seat.device.clone());
        seat.breakdowns = seat.breakdowns.saturating_add(1);
        let pause = (FIRST_PAUSE * 2_u32.saturating_pow(seat.breakdowns - 1)).min(LONGEST_PAUSE);
        let is_given_up = seat.breakdowns > self.limits.max_restarts;
        seat.state = State::Ended;
        self.take_back(held, (cause == Cause::Crash).then_some((index, &*error)));
        let is_last = is_given_up && self.has_last_words();
        let restarts = may_restart && !self.stopping && (!is_given_up || is_last);
        if restarts {
            let seat = &mut self.seats[index];
            (seat.state, seat.only_writes) = (State::Pausing(self.now + pause), is_last);
        }
        self.summary.broken.push(format!("{device}: {error}"));
        self.summary.unwritable |= cause == Cause::Store;
        let restart_in = restarts.then_some(pause.as_secs_f64());
        self.show(RunEvent::WorkerBroken { device, error, restart_in });
        self.share_out();
    }

    /// Samples of a worker that is gone are still to be done. Where it crashed (its seat, and what it said), those that it was
    /// solving are suspects.
    pub(super) fn take_back(&mut self, held: BTreeMap<Unit, Held>, crash: Option<(usize, &str)>) {
        let started = held.iter().filter(|(_, held)| held.is_started());
        self.begun.extend(started.map(|(unit, _)| *unit));
        let (blamed, innocent): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(_, held)| crash.is_some() && held.is_started());
        // Who was a suspect before stays one.
        let (suspects, others): (Vec<Unit>, Vec<Unit>) =
            innocent.into_iter().map(|(unit, _)| unit).partition(|unit| self.crashed.contains_key(unit));
        // Backwards, so that they stand in the queue in the order in which they were taken from it.
        others.into_iter().rev().for_each(|unit| self.queue.push_front(unit));
        if !suspects.is_empty() {
            self.suspects.push_front(suspects);
        }
        let blamed: Vec<Unit> = blamed.into_iter().map(|(unit, _)| unit).collect();
        if let Some((seat, error)) = crash {
            self.suspect(&blamed, seat, error);
        }
    }

    /// The worker of a seat crashed while it solved these.
    fn suspect(&mut self, units: &[Unit], seat: usize, error: &str) {
        let is_known = units.iter().any(|unit| self.crashed.contains_key(unit));
        for unit in units {
            let new = || Crashes { count: 0, first: error.to_owned(), seats: BTreeSet::new() };
            let crashes = self.crashed.entry(*unit).or_insert_with(new);
            crashes.count += 1;
            crashes.seats.insert(seat);
        }
        let is_evidence = self.seats[seat].has_solved || !self.seats.iter().any(Seat::is_trusted);
        match *units {
            [unit] if is_known && is_evidence => self.condemn(unit, error),
            _ => {
                // Mostly none of them is to blame, and two halves take half as long as so many single ones.
                let size = if is_known { 1 } else { units.len().div_ceil(2).max(1) };
                units.chunks(size).rev().for_each(|group| self.suspects.push_front(group.to_vec()));
            }
        }
    }

    fn condemn(&mut self, unit: Unit, error: &str) {
        let Some(Crashes { count, first, .. }) = self.crashed.get(&unit) else { return };
        let workers = if *count == 2 { "two".to_owned() } else { count.to_string() };
        let reason = if first == error { String::new() } else { format!(", then: {error}") };
        let text = format!("{workers} workers broke down while they solved it: {first}{reason}");
        self.condemned.push_back((unit, text));
    }

    /// Whether the worker of a seat solves suspects: what they break is to be their own.
    pub(super) fn is_apart(&self, seat: &Seat) -> bool {
        seat.held.keys().any(|unit| self.crashed.contains_key(unit))
    }

    /// Suspects go to workers that hold nothing else.
    pub(super) fn hand_out_suspects(&mut self) {
        for index in 0..self.seats.len() {
            if !self.seats[index].is_free() {
                continue;
            }
            let Some(place) = self.suspects.iter().position(|group| self.may_try(index, group)) else {
                continue;
            };
            let Some(mut group) = self.suspects.remove(place) else { continue };
            let rest = group.split_off(group.len().min(self.seats[index].slots.max(1)));
            if !rest.is_empty() {
                self.suspects.insert(place, rest);
            }
            group.into_iter().for_each(|unit| self.give(index, unit));
        }
    }

    /// Not on a device that has never solved anything, as long as there is one that has: it may be to blame itself. Else not
    /// where they crashed, as long as there is another that would take them.
    fn may_try(&self, index: usize, group: &[Unit]) -> bool {
        let has_solved = self.seats[index].has_solved;
        if !has_solved && self.seats.iter().any(Seat::is_trusted) {
            return false;
        }
        let crashed_on = |seat| group.iter().any(|unit| self.crashed[unit].seats.contains(&seat));
        let is_better = |(other, seat): (usize, &Seat)| {
            seat.takes() && seat.has_solved >= has_solved && !crashed_on(other)
        };
        !crashed_on(index) || !self.seats.iter().enumerate().any(is_better)
    }

    /// Whether there are failed rows to be written, and nobody is left to do it: one more start is for them alone.
    fn has_last_words(&self) -> bool {
        let is_over = |seat: &Seat| seat.state == State::Ended;
        let had_them = self.seats.iter().any(|seat| seat.only_writes);
        self.limits.blame == Blame::Always
            && !had_them
            && !self.condemned.is_empty()
            && self.seats.iter().all(is_over)
    }

    /// A worker that was started for them writes the failed rows, and ends.
    pub(super) fn write_last_words(&mut self) {
        let is_free = |seat: &Seat| seat.only_writes && seat.state == State::Ready && seat.held.is_empty();
        let Some(index) = self.seats.iter().position(is_free) else { return };
        self.fail_condemned(index);
        self.actions.push(Action::Tell(index, Command::Finish));
    }

    fn fail_condemned(&mut self, index: usize) {
        for (unit, error) in std::mem::take(&mut self.condemned) {
            self.seats[index].held.insert(unit, Held::Waiting);
            self.actions.push(Action::Tell(index, Command::Fail { unit, error }));
        }
    }

    /// Whether a device has shown that it solves anything, where that is asked for before samples are blamed.
    pub(super) fn may_blame(&self) -> bool {
        self.has_solved || self.limits.blame != Blame::Proven
    }

    /// What can only fail is written down by any worker that lives; but, as long as there are others to try, not before one
    /// was solved after the crash: a device on which everything breaks down says nothing about any sample.
    pub(super) fn hand_out_condemned(&mut self) {
        let others = || self.seats.iter().flat_map(|seat| seat.held.keys()).next().is_some();
        if !self.is_proven && (!self.queue.is_empty() || !self.suspects.is_empty() || others()) {
            return;
        }
        let Some(index) = self.seats.iter().position(Seat::takes).filter(|_| self.may_blame()) else {
            return;
        };
        self.fail_condemned(index);
    }
}
