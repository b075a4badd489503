//! What the scheduler does by itself as time passes: pauses end, and workers that hang are ended.

use std::time::Duration;

use super::seat::{END_WITHIN, Killed, Seat, State};
use super::{Action, Scheduler};
use crate::run::event::RunEvent;
use crate::worker::protocol::{Cause, Usage};

/// Whoever drives a scheduler looks at the time at least so often.
pub(in crate::run) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// More than this between two looks says that nobody looked: the process was stopped, as by `scontrol suspend`, and its
/// workers with it.
const LONGEST_LOOK: Duration = Duration::from_secs(11);

impl Scheduler {
    /// When [`Self::tick`] has something to do next.
    pub fn wake_at(&self) -> Option<Duration> {
        let pauses = self.seats.iter().filter_map(|seat| match seat.state {
            State::Pausing(until) => Some(until),
            _ => None,
        });
        let hanging = self.seats.iter().filter_map(|seat| seat.hangs_at(&self.limits));
        let killed = self.seats.iter().filter_map(Seat::given_up_at);
        pauses.chain(hanging).chain(killed).chain(self.deadline).min()
    }

    /// Time has passed: starts workers again whose pause is over, and ends those that were to end long ago. What workers have
    /// said before is to be told before.
    pub fn tick(&mut self, now: Duration) {
        self.pass(now);
        for index in 0..self.seats.len() {
            if matches!(self.seats[index].state, State::Pausing(until) if until <= now) {
                self.seats[index].launch(now);
                self.actions.push(Action::Launch(index));
            }
        }
        self.give_up_killed();
        self.kill_silent();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            self.end_hanging();
        }
    }

    /// It is later now. Time in which nobody looked is no silence of any worker.
    pub(super) fn pass(&mut self, now: Duration) {
        let lapse = now.saturating_sub(self.now).saturating_sub(LONGEST_LOOK);
        if !lapse.is_zero() {
            self.seats.iter_mut().for_each(|seat| seat.skip(lapse));
        }
        self.now = now;
    }

    /// Their ends then come as those of any worker that breaks down.
    fn kill_silent(&mut self) {
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            if seat.hangs_at(&self.limits).is_some_and(|at| at <= self.now) {
                let minutes = self.now.saturating_sub(seat.heard).as_secs() / 60;
                let doing = if seat.state == State::Starting { "started" } else { "solved" };
                let why = format!("it said nothing for {minutes} min while it {doing}, and was killed");
                seat.killed = Some(Killed { why, until: self.now + END_WITHIN });
                self.actions.push(Action::Kill(index));
            }
        }
    }

    /// A process that does not end has its device still: no other is started on it.
    fn give_up_killed(&mut self) {
        for index in 0..self.seats.len() {
            if self.seats[index].given_up_at().is_some_and(|at| at <= self.now) {
                let seat = &mut self.seats[index];
                let why = seat.killed.take().map(|killed| killed.why).unwrap_or_default();
                let error = format!("{why}, but its process does not end");
                self.broken(index, (Cause::Crash, error), false);
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

    /// There is nothing left for workers that have not even started. Who is asked to end may hang; who is killed holds
    /// nothing that could be lost.
    pub(super) fn end_starting(&mut self) {
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            if seat.state == State::Starting && seat.is_watched(&self.limits) {
                seat.state = State::Ended;
                let (device, usage) = (seat.device.clone(), Usage::default());
                self.actions.push(Action::Kill(index));
                self.show(RunEvent::WorkerEnded { device, usage });
            }
        }
    }

    /// Workers that wait for their restart are not needed any more.
    pub(super) fn end_pauses(&mut self) {
        for seat in &mut self.seats {
            if matches!(seat.state, State::Pausing(_)) {
                seat.state = State::Ended;
            }
        }
    }
}
