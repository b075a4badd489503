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
#[derive(Default)]
pub(super) struct Crashes {
    count: u32,
    /// What the first of them said, and the last.
    first: String,
    last: String,
    /// The seats on which a suspect crashed with nothing else: they speak against the sample.
    alone: BTreeSet<usize>,
}

impl Crashes {
    fn add(&mut self, seat: usize, error: &str, is_alone: bool) {
        self.count += 1;
        error.clone_into(&mut self.last);
        if self.count == 1 {
            error.clone_into(&mut self.first);
        }
        if is_alone {
            self.alone.insert(seat);
        }
    }

    /// The reason of the failed row.
    fn text(&self) -> String {
        let workers = if self.count == 2 { "two".to_owned() } else { self.count.to_string() };
        let then = if self.first == self.last { String::new() } else { format!(", then: {}", self.last) };
        format!("{workers} workers broke down while they solved it: {}{then}", self.first)
    }
}

impl Scheduler {
    /// A worker broke down: what it held is given to the others, and it starts again after a pause if it may.
    pub(super) fn broken(&mut self, index: usize, (cause, error): (Cause, String), may_restart: bool) {
        let is_for_sample = cause == Cause::Crash && self.is_said_before(index);
        let seat = &mut self.seats[index];
        let error = seat.killed.take().map_or(error, |killed| killed.why);
        let (held, device) = (std::mem::take(&mut seat.held), seat.device.clone());
        seat.breakdowns = seat.breakdowns.saturating_add(1);
        let pause = (FIRST_PAUSE * 2_u32.saturating_pow(seat.breakdowns - 1)).min(LONGEST_PAUSE);
        let is_given_up = seat.breakdowns > self.limits.max_restarts && !is_for_sample;
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

    /// Whether the worker of a seat solves a sample that crashed alone where others were solved: that it crashes here, too, says
    /// nothing of this device.
    fn is_said_before(&self, index: usize) -> bool {
        let has_solved = |seat: &usize| self.seats[*seat].has_solved;
        let is_accused = |unit| self.crashed.get(unit).is_some_and(|c| c.alone.iter().any(has_solved));
        self.seats[index].held.iter().any(|(unit, held)| held.is_started() && is_accused(unit))
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
        let (accused, group): (Vec<Unit>, Vec<Unit>) =
            suspects.into_iter().partition(|unit| !self.crashed[unit].alone.is_empty());
        self.suspects.extend(accused.into_iter().map(|unit| vec![unit]));
        if !group.is_empty() {
            self.suspects.push_front(group);
        }
        let blamed: Vec<Unit> = blamed.into_iter().map(|(unit, _)| unit).collect();
        if let Some((seat, error)) = crash {
            self.suspect(&blamed, seat, error);
        }
    }

    /// The worker of a seat crashed while it solved these.
    fn suspect(&mut self, units: &[Unit], seat: usize, error: &str) {
        let is_known = units.iter().any(|unit| self.crashed.contains_key(unit));
        let is_alone = is_known && units.len() == 1;
        for unit in units {
            self.crashed.entry(*unit).or_default().add(seat, error, is_alone);
        }
        if is_alone {
            // The others may be innocent, and are many.
            self.suspects.push_back(units.to_vec());
            return;
        }
        // Mostly none of them is to blame, and two halves take half as long as so many single ones.
        let size = if is_known { 1 } else { units.len().div_ceil(2).max(1) };
        units.chunks(size).rev().for_each(|group| self.suspects.push_front(group.to_vec()));
    }

    /// Whether the worker of a seat solves suspects: what they break is to be their own.
    pub(super) fn is_apart(&self, seat: &Seat) -> bool {
        seat.held.keys().any(|unit| self.crashed.contains_key(unit))
    }

    /// Suspects go to workers that hold nothing else, and first to those who have solved something and not broken down since.
    pub(super) fn hand_out_suspects(&mut self) {
        while let Some((index, place)) = self.next_suspects() {
            let Some(mut group) = self.suspects.remove(place) else { return };
            let rest = group.split_off(group.len().min(self.seats[index].slots.max(1)));
            if !rest.is_empty() {
                self.suspects.insert(place, rest);
            }
            group.into_iter().for_each(|unit| self.give(index, unit));
        }
    }

    /// The seat that is to try suspects now, and which.
    fn next_suspects(&self) -> Option<(usize, usize)> {
        let mut free: Vec<usize> =
            (0..self.seats.len()).filter(|index| self.seats[*index].is_free()).collect();
        free.sort_by_key(|index| (!self.seats[*index].has_solved, self.seats[*index].breakdowns));
        free.into_iter().find_map(|index| {
            let says_more = |group: &Vec<Unit>| group.iter().all(|unit| self.may_judge(index, *unit));
            Some((index, self.suspects.iter().position(says_more)?))
        })
    }

    /// Whether what happens to a suspect on this seat, now or when it has started, says more than is known: a second crash there
    /// does not, nor a third device where two that solve others say the same.
    fn may_judge(&self, index: usize, unit: Unit) -> bool {
        let (seat, alone) = (&self.seats[index], &self.crashed[&unit].alone);
        let believed = alone.iter().filter(|seat| self.seats[**seat].is_believed()).count();
        seat.is_to_come() && !alone.contains(&index) && believed < 2
    }

    /// Whether it crashed alone, and no device is left that would say more.
    fn is_judged(&self, unit: Unit) -> bool {
        let is_accused = !self.crashed[&unit].alone.is_empty();
        is_accused && !(0..self.seats.len()).any(|index| self.may_judge(index, unit))
    }

    /// Whether a suspect that crashed alone is to become a failed row, where no device is left that would say more.
    fn may_blame(&self, unit: Unit) -> bool {
        let is_believed = |seat: &usize| self.seats[*seat].is_believed();
        self.limits.blame != Blame::Proven || self.crashed[&unit].alone.iter().any(is_believed)
    }

    /// Whether nothing can become of the suspects here.
    pub(super) fn are_suspects_left(&self) -> bool {
        self.suspects.iter().flatten().all(|unit| self.is_judged(*unit) && !self.may_blame(*unit))
    }

    /// Suspects that are to blame become failed rows, which any worker that lives writes down: those that crashed alone on a
    /// device that has solved another since. One on which everything breaks down says nothing about any sample. When nothing else
    /// is left to be solved, also those about which no device would say more.
    pub(super) fn convict(&mut self) {
        let seats = self.seats.iter().enumerate().filter(|(_, seat)| seat.takes());
        // Whom it keeps from nothing, and who will live to do it.
        let seat = seats.min_by_key(|(_, seat)| (!seat.held.is_empty(), seat.breakdowns));
        let Some((index, _)) = seat else { return };
        let has_solved_since = |seat: &usize| self.seats[*seat].breakdowns == 0;
        let is_proven = |unit: Unit| self.crashed[&unit].alone.iter().any(has_solved_since);
        let is_last = self.queue.is_empty()
            && self.seats.iter().all(|seat| seat.held.is_empty())
            && self.suspects.iter().flatten().all(|unit| self.is_judged(*unit));
        let is_guilty = |unit: &Unit| is_proven(*unit) || is_last && self.may_blame(*unit);
        let guilty = self.suspects.iter().flatten().copied().filter(is_guilty).collect();
        self.fail(index, &guilty);
    }

    /// Whether there are failed rows to be written, and nobody is left to do it: one more start is for them alone.
    fn has_last_words(&self) -> bool {
        let is_over = |seat: &Seat| seat.state == State::Ended;
        let had_them = self.seats.iter().any(|seat| seat.only_writes);
        self.limits.blame == Blame::Always
            && !had_them
            && self.seats.iter().all(is_over)
            && self.suspects.iter().flatten().any(|unit| self.is_judged(*unit))
    }

    /// A worker that was started for them writes the failed rows, and ends.
    pub(super) fn write_last_words(&mut self) {
        let is_free = |seat: &Seat| seat.only_writes && seat.state == State::Ready && seat.held.is_empty();
        let Some(index) = self.seats.iter().position(is_free) else { return };
        let judged = self.suspects.iter().flatten().copied().filter(|unit| self.is_judged(*unit)).collect();
        self.fail(index, &judged);
        self.actions.push(Action::Tell(index, Command::Finish));
    }

    /// The worker of a seat writes these suspects down as failed.
    fn fail(&mut self, index: usize, units: &BTreeSet<Unit>) {
        // Who crashed alone is in a group of its own.
        self.suspects.retain(|group| !group.iter().any(|unit| units.contains(unit)));
        for unit in units {
            self.seats[index].held.insert(*unit, Held::Waiting);
            let error = self.crashed[unit].text();
            self.actions.push(Action::Tell(index, Command::Fail { unit: *unit, error }));
        }
    }
}
