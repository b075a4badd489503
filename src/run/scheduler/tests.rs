//! Tests of the scheduler: workers are played by the test, and so is time.

mod blame;
mod crashes;
mod hangs;

use super::crash::{FIRST_PAUSE, LONGEST_PAUSE};
use super::*;
use crate::worker::protocol::{Cause, MemoryPlan, SlotChoice, Usage};

const START: Duration = Duration::ZERO;

fn units(n: usize) -> Vec<Unit> {
    (0..n).map(|sample| Unit { cell: 0, sample }).collect()
}

fn unit(sample: usize) -> Unit {
    Unit { cell: 0, sample }
}

fn ready(slots: usize) -> Event {
    Event::Ready {
        device: String::new(),
        slots,
        choice: SlotChoice::default(),
        memory: MemoryPlan::default(),
        attempt: String::new(),
        pid: 0,
    }
}

fn started(sample: usize) -> Event {
    Event::Started { unit: unit(sample), resumed: false }
}

fn finished(unit: Unit, error: Option<&str>) -> Event {
    let (error, stop_reason, psnr) = (error.map(str::to_owned), None, None);
    Event::Finished(Finished { unit, error, stop_reason, evals: 1, seconds: 0.0, psnr })
}

fn broken(cause: Cause) -> Event {
    Event::Broken { cause, error: "pulled the plug".to_owned() }
}

/// A scheduler and what it said since it was last asked.
struct Play {
    scheduler: Scheduler,
    now: Duration,
}

impl Play {
    fn new(samples: usize, devices: usize) -> Self {
        Self::with_limits(samples, devices, Limits::default())
    }

    fn with_limits(samples: usize, devices: usize, limits: Limits) -> Self {
        let devices: Vec<String> = (0..devices).map(|i| format!("mock:{i}")).collect();
        let mut scheduler = Scheduler::new(units(samples), &devices, limits);
        let launched: Vec<Action> = (0..devices.len()).map(Action::Launch).collect();
        assert_eq!(scheduler.actions(), launched);
        Self { scheduler, now: START }
    }

    /// The commands and launches that follow an event.
    fn tell(&mut self, seat: usize, event: Event) -> Vec<Action> {
        self.scheduler.handle(self.now, seat, event);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        self.scheduler.actions().into_iter().filter(|action| !matches!(action, Action::Show(_))).collect()
    }

    /// Time passes, and is looked at as often as it must be.
    fn tick(&mut self, after: Duration) -> Vec<Action> {
        let (until, mut actions) = (self.now + after, Vec::new());
        while self.now < until {
            self.now = (self.now + LOOK_EVERY).min(until);
            self.scheduler.tick(self.now);
            actions.extend(self.actions());
        }
        actions
    }

    fn summary(self) -> RunSummary {
        self.scheduler.summary(self.now)
    }
}

fn solve(seat: usize, sample: usize) -> Action {
    Action::Tell(seat, Command::Solve { unit: unit(sample), again: false })
}

fn solve_again(seat: usize, sample: usize) -> Action {
    Action::Tell(seat, Command::Solve { unit: unit(sample), again: true })
}

fn finish(seat: usize) -> Action {
    Action::Tell(seat, Command::Finish)
}

#[test]
fn a_worker_gets_its_slots_and_one_more() {
    let mut play = Play::new(9, 1);
    assert_eq!(play.tell(0, ready(2)), [solve(0, 0), solve(0, 1), solve(0, 2)]);
    assert_eq!(play.tell(0, finished(unit(1), None)), [solve(0, 3)]);
}

#[test]
fn who_starts_first_leaves_the_others_their_share() {
    let mut play = Play::new(6, 2);
    assert_eq!(play.tell(0, ready(16)).len(), 3);
    assert_eq!(play.tell(1, ready(16)).len(), 3);
}

#[test]
fn the_end_comes_when_all_is_durable() {
    let mut play = Play::new(2, 2);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 0)]);
    assert_eq!(play.tell(1, ready(1)), [solve(1, 1)]);
    assert_eq!(play.tell(0, finished(unit(0), None)), []);
    assert_eq!(play.tell(1, finished(unit(1), Some("unlucky"))), [finish(0), finish(1)]);
    play.tell(0, Event::Ended(Usage::default()));
    assert!(!play.scheduler.is_over());
    play.tell(1, Event::Ended(Usage::default()));
    assert!(play.scheduler.is_over());
    let summary = play.summary();
    assert_eq!((summary.finished, summary.failed, summary.left, summary.usage.len()), (2, 1, 0, 2));
}

#[test]
fn nothing_to_do_ends_at_once() {
    let mut play = Play::new(0, 1);
    assert_eq!(play.tell(0, ready(1)), [finish(0)]);
}

#[test]
fn an_idle_worker_gets_what_a_busy_one_has_not_begun() {
    let mut play = Play::new(4, 2);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 0), solve(0, 1)]);
    assert_eq!(play.tell(1, ready(1)), [solve(1, 2), solve(1, 3)]);
    play.tell(0, started(0));
    play.tell(1, started(2));
    assert_eq!(play.tell(1, finished(unit(2), None)), []);
    play.tell(1, started(3));
    let recall = Action::Tell(0, Command::Recall(unit(1)));
    assert_eq!(play.tell(1, finished(unit(3), None)), [recall], "once");
    assert_eq!(play.tell(0, Event::Progress { unit: unit(0), evals: 1, psnr: None }), []);
    assert_eq!(play.tell(0, Event::Returned { unit: unit(1) }), [solve(1, 1)]);
}

#[test]
fn a_recall_that_comes_too_late_changes_nothing() {
    let mut play = Play::new(3, 2);
    play.tell(0, ready(1));
    play.tell(1, ready(1));
    play.tell(0, started(0));
    assert_eq!(play.tell(1, finished(unit(2), None)), [Action::Tell(0, Command::Recall(unit(1)))]);
    assert_eq!(play.tell(0, finished(unit(0), None)), []);
    assert_eq!(play.tell(0, started(1)), []);
    assert_eq!(play.tell(0, finished(unit(1), None)), [finish(0), finish(1)]);
    assert_eq!(play.summary().finished, 3);
}

#[test]
fn a_broken_workers_samples_go_to_the_others_in_their_order() {
    let mut play = Play::new(6, 2);
    assert_eq!(play.tell(0, ready(2)), [solve(0, 0), solve(0, 1), solve(0, 2)]);
    assert_eq!(play.tell(0, broken(Cause::Store)), []);
    let given = play.tell(1, ready(5));
    assert_eq!(given, [solve(1, 0), solve(1, 1), solve(1, 2)], "its share, while the other may come back");
    assert!(play.summary().unwritable);
}

#[test]
fn a_worker_starts_again_after_growing_pauses_until_its_limit() {
    let mut play = Play::new(1, 1);
    for pause in [1, 2, 4] {
        assert_eq!(play.tell(0, broken(Cause::Start)), []);
        let pause = Duration::from_secs(pause);
        assert_eq!(play.scheduler.wake_at(), Some(play.now + pause));
        assert_eq!(play.tick(pause / 2), []);
        assert_eq!(play.tick(pause / 2), [Action::Launch(0)]);
    }
    play.tell(0, broken(Cause::Start));
    assert!(play.scheduler.is_over());
    let summary = play.summary();
    assert_eq!((summary.left, summary.broken.len(), summary.unwritable), (1, 4, false));
}

#[test]
fn a_finished_sample_gives_a_worker_its_restarts_back() {
    let mut play = Play::new(20, 1);
    for sample in 0..10 {
        assert!(!play.tell(0, ready(1)).is_empty());
        play.tell(0, finished(unit(sample), None));
        play.tell(0, broken(Cause::Store));
        assert_eq!(play.tick(Duration::from_secs(1)), [Action::Launch(0)], "the first pause, every time");
    }
}

#[test]
fn without_a_worker_left_the_rest_is_counted() {
    let limits = Limits { max_restarts: 0, ..Limits::default() };
    let mut play = Play::with_limits(10, 1, limits);
    play.tell(0, ready(2));
    play.tell(0, started(0));
    play.tell(0, finished(unit(0), None));
    play.tell(0, started(1));
    play.tell(0, broken(Cause::Crash));
    assert!(play.scheduler.is_over());
    let summary = play.summary();
    assert_eq!((summary.finished, summary.left), (1, 9));
}

#[test]
fn a_stop_reaches_every_worker_once_and_ends_pauses() {
    let mut play = Play::new(9, 3);
    play.tell(0, ready(1));
    play.tell(1, broken(Cause::Start));
    play.scheduler.stop(play.now, "asked to");
    let stop = |seat| Action::Tell(seat, Command::Stop);
    assert_eq!(play.actions(), [stop(0), stop(2)], "the one that starts is told as well");
    play.scheduler.stop(play.now, "again");
    assert_eq!(play.actions(), []);
    play.tell(0, Event::Suspended { unit: unit(0) });
    play.tell(0, Event::Ended(Usage::default()));
    assert_eq!(play.tell(2, broken(Cause::Crash)), [], "not started again");
    assert!(play.scheduler.is_over());
    let summary = play.summary();
    assert_eq!((summary.stopped.as_deref(), summary.left), (Some("asked to"), 9));
}

#[test]
fn too_many_failures_stop_the_run() {
    let limits = Limits { max_failures: Some(2), ..Limits::default() };
    let mut play = Play::with_limits(9, 1, limits);
    play.tell(0, ready(1));
    play.tell(0, finished(unit(0), Some("unlucky")));
    assert!(!play.tell(0, finished(unit(1), Some("unlucky"))).is_empty());
    let summary = play.summary();
    assert!(summary.stopped.is_some_and(|text| text.contains("--max-failures 2")));
    assert_eq!(summary.finished + summary.left, 9);
}

/// Workers that answer at once, and break down now and then: whatever the order, nothing is lost or done twice.
#[test]
fn every_sample_ends_once_whatever_breaks() {
    for seed in 0..200_u64 {
        let (samples, devices) = (1 + seed as usize % 37, 1 + seed as usize % 5);
        let limits = Limits { max_restarts: u32::MAX, ..Limits::default() };
        let mut scheduler = Scheduler::new(units(samples), &vec!["mock".to_owned(); devices], limits);
        let (mut random, mut now) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, START);
        let mut chance = |of: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % of == 0
        };
        let mut held: Vec<Vec<(Unit, bool)>> = vec![Vec::new(); devices];
        // Who is dead hears nothing.
        let mut alive = vec![false; devices];
        let mut done = Vec::new();
        let mut events: VecDeque<(usize, Event)> = VecDeque::new();
        while !scheduler.is_over() {
            for action in scheduler.actions() {
                match action {
                    Action::Launch(seat) => {
                        alive[seat] = true;
                        events.push_back((seat, ready(1 + seat)));
                    }
                    Action::Tell(seat, _) if !alive[seat] => {}
                    Action::Tell(seat, Command::Solve { unit, .. }) => held[seat].push((unit, false)),
                    Action::Tell(seat, Command::Fail { unit, error }) => {
                        done.push(unit);
                        events.push_back((seat, finished(unit, Some(&error))));
                    }
                    Action::Tell(seat, Command::Recall(unit)) => {
                        let before = held[seat].len();
                        held[seat].retain(|(other, started)| *other != unit || *started);
                        if held[seat].len() < before {
                            events.push_back((seat, Event::Returned { unit }));
                        }
                    }
                    Action::Tell(seat, Command::Finish) => {
                        events.push_back((seat, Event::Ended(Usage::default())));
                    }
                    Action::Tell(_, Command::Stop) | Action::Kill(_) | Action::Show(_) => {}
                }
            }
            for seat in 0..devices {
                if let Some(slot) = held[seat].iter_mut().take(1 + seat).find(|(_, started)| !started) {
                    slot.1 = true;
                    events.push_back((seat, Event::Started { unit: slot.0, resumed: false }));
                } else if !held[seat].is_empty() && chance(9) {
                    held[seat].clear();
                    alive[seat] = false;
                    let cause = if chance(2) { Cause::Crash } else { Cause::Store };
                    events.push_back((seat, broken(cause)));
                } else if !held[seat].is_empty() && chance(2) {
                    let (unit, _) = held[seat].remove(0);
                    done.push(unit);
                    events.push_back((seat, finished(unit, None)));
                }
            }
            while let Some((seat, event)) = events.pop_front() {
                scheduler.handle(now, seat, event);
            }
            now += Duration::from_secs(1);
            scheduler.tick(now);
        }
        done.sort_unstable();
        assert_eq!(done, units(samples), "seed {seed}");
        let summary = scheduler.summary(now);
        assert_eq!((summary.finished, summary.left), (samples, 0), "seed {seed}");
    }
}

fn progress(sample: usize, evals: u32) -> Event {
    Event::Progress { unit: unit(sample), evals, psnr: None }
}

fn done(sample: usize, evals: u32) -> Event {
    let (error, stop_reason, psnr) = (None, None, None);
    Event::Finished(Finished { unit: unit(sample), error, stop_reason, evals, seconds: 0.0, psnr })
}

#[test]
fn who_fills_its_slots_at_the_end_leaves_samples_to_those_who_are_nearly_done() {
    let mut play = Play::new(8, 2);
    play.tell(0, ready(2));
    play.tell(1, ready(2));
    for (seat, samples) in [(0, [0, 1]), (1, [3, 4])] {
        samples.into_iter().for_each(|sample| drop(play.tell(seat, started(sample))));
    }
    // Six are given; seat 1 has nearly done its two, when seat 0 ends one and would have room for both that are left.
    play.now += Duration::from_secs(100);
    for (seat, sample) in [(0, 1), (1, 3), (1, 4)] {
        play.tell(seat, progress(sample, 0));
        play.tell(seat, progress(sample, 90));
    }
    assert_eq!(play.tell(0, done(0, 100)), [], "it has a running sample and a waiting one");
    assert_eq!(play.tell(1, done(3, 100)), [solve(1, 6)]);
}

#[test]
fn a_slow_worker_has_a_smaller_share_of_the_end() {
    let mut play = Play::new(6, 2);
    assert_eq!(play.tell(0, ready(1)).len(), 2);
    assert_eq!(play.tell(1, ready(1)).len(), 2);
    for (seat, sample) in [(0, 0), (1, 2)] {
        play.tell(seat, started(sample));
        play.tell(seat, progress(sample, 0));
    }
    play.now += Duration::from_secs(100);
    play.tell(0, progress(0, 10));
    play.tell(1, progress(2, 99));
    assert_eq!(play.tell(1, done(2, 100)), [solve(1, 4)]);
    play.tell(1, started(3));
    // Two are left beside what both hold; the slow one is not given another.
    assert_eq!(play.tell(0, progress(0, 11)), []);
    play.now += Duration::from_secs(10);
    assert_eq!(play.tell(1, done(3, 100)), [solve(1, 5)]);
}
