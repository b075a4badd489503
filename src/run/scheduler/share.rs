//! Who is given which samples.

use super::seat::{Held, Seat, State};
use super::{Action, Scheduler};
use crate::plan::Unit;
use crate::worker::protocol::Command;

/// Samples a worker is given beyond its slots, so that a freed slot is used at once.
const LOOKAHEAD: usize = 1;

impl Scheduler {
    /// Gives the workers what they have room for.
    pub(super) fn share_out(&mut self) {
        if self.stopping {
            return;
        }
        self.write_last_words();
        self.convict();
        while let Some(index) = self.hungriest() {
            let Some(unit) = self.queue.pop_front() else { break };
            self.give(index, unit);
        }
        if self.queue.is_empty() {
            self.hand_out_suspects();
            self.recall();
        }
        let is_idle = |seat: &Seat| seat.held.is_empty();
        let nothing_waits = self.queue.is_empty() && self.are_suspects_left();
        // Only now: a worker that breaks down gives its samples back to the others.
        if nothing_waits && self.seats.iter().all(is_idle) {
            self.end_pauses();
            self.end_starting();
            self.tell_all(&Command::Finish);
        }
    }

    /// The worker that should have the next sample of the queue, if any has room. None has more than its share of
    /// what is left: who starts first must not take what the others are to have, nor who fills its slots anew at the
    /// end of the queue what those can do sooner whose samples are nearly done, or who are faster.
    fn hungriest(&self) -> Option<usize> {
        let (shares, lefts) = self.shares();
        let has_room = |(index, seat): &(usize, &Seat)| {
            let has_place = seat.held.len() < seat.slots + LOOKAHEAD;
            let has_share = seat.held.is_empty() || lefts[*index] + 0.5 <= shares[*index];
            seat.takes() && !self.is_apart(seat) && has_place && has_share
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

    pub(super) fn give(&mut self, index: usize, unit: Unit) {
        self.seats[index].held.insert(unit, Held::Waiting);
        let again = self.begun.contains(&unit);
        self.actions.push(Action::Tell(index, Command::Solve { unit, again }));
    }

    /// Asks busy workers for samples that they have not begun, as many as others have free slots.
    fn recall(&mut self) {
        let is_waiting = |seat: &Seat| seat.held.values().any(|held| *held == Held::Waiting);
        let is_open = |seat: &&Seat| seat.has_free_slot() && !is_waiting(seat) && !self.is_apart(seat);
        let free: usize = self.seats.iter().filter(is_open).map(|seat| seat.slots - seat.held.len()).sum();
        let held = || self.seats.iter().flat_map(|seat| seat.held.values());
        let asked = held().filter(|held| **held == Held::Recalled).count();
        let mut wanted = free.saturating_sub(asked);
        for index in 0..self.seats.len() {
            if self.is_apart(&self.seats[index]) {
                continue;
            }
            let seat = &mut self.seats[index];
            let surplus = seat.held.len().saturating_sub(seat.slots);
            let waiting = seat.held.iter_mut().filter(|(_, held)| **held == Held::Waiting);
            for (unit, held) in waiting.take(surplus.min(wanted)) {
                *held = Held::Recalled;
                wanted -= 1;
                self.actions.push(Action::Tell(index, Command::Recall(*unit)));
            }
        }
    }
}
