//! Workers that hang: while they solve, start, end, or where nobody looked for long.

use super::super::seat::{END_WITHIN, START_WITHIN};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// With workers that are killed when they are silent for ten minutes.
fn watched(samples: usize, devices: usize) -> Play {
    let limits = Limits { silence: Some(10 * MINUTE), ..Limits::default() };
    Play::with_limits(samples, devices, limits)
}

/// One look earlier.
fn just_before(time: Duration) -> Duration {
    time.saturating_sub(LOOK_EVERY)
}

/// The reason of the first breakdown.
fn first_broken(play: Play) -> String {
    play.summary().broken[0].clone()
}

#[test]
fn a_worker_that_hangs_is_killed_and_its_sample_tried_again() {
    let mut play = watched(1, 1);
    play.tell(0, ready(1));
    assert_eq!(play.tick(60 * MINUTE), [], "it solves nothing, and has nothing to say");
    play.tell(0, started(0));
    assert_eq!(play.scheduler.wake_at(), Some(70 * MINUTE));
    play.tick(2 * MINUTE);
    play.tell(0, Event::Progress { unit: unit(0), evals: 1, psnr: None });
    assert_eq!(play.tick(39 * MINUTE), [], "its evaluations take two minutes");
    assert_eq!(play.tick(MINUTE), [Action::Kill(0)]);
    assert_eq!(play.scheduler.wake_at(), Some(play.now + END_WITHIN), "once");
    play.tell(0, broken(Cause::Crash));
    assert_eq!(play.tick(FIRST_PAUSE), [Action::Launch(0)]);
    assert_eq!(play.tell(0, ready(1)), [solve_again(0, 0)]);
    let broken = &play.summary().broken[0];
    assert!(broken.contains("said nothing for 40 min"), "{broken}");
}

/// What a killed worker says as it ends is no sign that its evaluations take so long.
#[test]
fn a_second_hang_on_the_same_device_is_noticed_as_early() {
    let mut play = watched(1, 1);
    for _ in 0..2 {
        assert!(!play.tell(0, ready(1)).is_empty());
        play.tell(0, started(0));
        assert_eq!(play.tick(just_before(10 * MINUTE)), []);
        assert_eq!(play.tick(LOOK_EVERY), [Action::Kill(0)]);
        play.tell(0, progress(0, 1));
        play.tell(0, broken(Cause::Crash));
        assert_eq!(play.tick(LONGEST_PAUSE), [Action::Launch(0)]);
    }
}

#[test]
fn time_in_which_nobody_looked_is_no_silence() {
    let mut play = watched(1, 1);
    play.tell(0, ready(1));
    play.tell(0, started(0));
    // Stopped and continued, with its workers, twice as long as a worker may be silent.
    play.now += 20 * MINUTE;
    play.scheduler.tick(play.now);
    assert_eq!(play.actions(), []);
    assert_eq!(play.tick(9 * MINUTE), [], "it was silent for no more than that");
    play.now += 20 * MINUTE;
    assert_eq!(play.tell(0, progress(0, 1)), []);
    assert_eq!(play.tick(10 * MINUTE), [], "its longest silence was nine minutes");
    let hangs_at = play.scheduler.wake_at().unwrap();
    assert!(hangs_at > play.now + 160 * MINUTE && hangs_at < play.now + 190 * MINUTE, "{hangs_at:?}");
}

#[test]
fn a_worker_that_hangs_after_a_long_stop_is_killed_all_the_same() {
    let mut play = watched(1, 1);
    play.tell(0, ready(1));
    play.tell(0, started(0));
    play.now += 60 * MINUTE;
    play.scheduler.tick(play.now);
    assert_eq!(play.tick(10 * MINUTE), [Action::Kill(0)]);
}

#[test]
fn a_worker_that_hangs_while_it_starts_is_killed_and_started_again() {
    let mut play = watched(2, 1);
    assert_eq!(play.tick(just_before(START_WITHIN)), [], "weights may come slowly");
    assert_eq!(play.tick(LOOK_EVERY), [Action::Kill(0)]);
    play.tell(0, broken(Cause::Crash));
    assert_eq!(play.tick(FIRST_PAUSE), [Action::Launch(0)]);
    assert_eq!(play.tick(just_before(START_WITHIN)), [], "it has as long again");
    assert!(!play.tell(0, ready(1)).is_empty());
    let broken = first_broken(play);
    assert!(broken.contains("said nothing for 30 min while it started"), "{broken}");
}

#[test]
fn a_worker_that_still_starts_when_nothing_is_left_keeps_no_run_from_its_end() {
    let mut play = watched(1, 2);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 0)]);
    assert_eq!(play.tell(0, finished(unit(0), None)), [Action::Kill(1), finish(0)]);
    play.tell(0, Event::Ended(Usage::default()));
    assert!(play.scheduler.is_over());
    assert_eq!(play.tell(1, broken(Cause::Crash)), [], "of being killed");
    let summary = play.summary();
    assert_eq!((summary.left, summary.broken.len(), summary.usage.len()), (0, 0, 1));
}

#[test]
fn a_worker_that_still_starts_keeps_no_run_from_stopping() {
    let mut play = watched(2, 2);
    assert!(!play.tell(0, ready(1)).is_empty());
    play.scheduler.stop(play.now, "asked to");
    assert_eq!(play.actions(), [Action::Kill(1), Action::Tell(0, Command::Stop)]);
    play.tell(0, Event::Ended(Usage::default()));
    assert!(play.scheduler.is_over());
    assert_eq!(play.summary().left, 2);
}

/// The other one is waited for: it is a thread.
#[test]
fn only_workers_that_can_be_killed_are() {
    let mut play = watched(4, 2);
    play.scheduler.spare(0);
    assert_eq!(play.tick(START_WITHIN), [Action::Kill(1)]);
    play.tell(1, broken(Cause::Crash));
    play.tick(FIRST_PAUSE);
    for seat in 0..2 {
        let Some(Action::Tell(_, Command::Solve { unit, .. })) = play.tell(seat, ready(1)).pop() else {
            panic!()
        };
        play.tell(seat, Event::Started { unit, resumed: false });
    }
    assert_eq!(play.tick(10 * MINUTE), [Action::Kill(1)]);
}

/// A driver that is dead keeps its process from ending.
#[test]
fn a_worker_that_does_not_end_when_it_is_killed_is_given_up() {
    let mut play = watched(1, 2);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 0)]);
    play.tell(1, ready(1));
    play.tell(0, started(0));
    assert_eq!(play.tick(10 * MINUTE), [Action::Kill(0)]);
    assert_eq!(play.tick(just_before(END_WITHIN)), []);
    assert_eq!(play.tick(LOOK_EVERY), [solve_again(1, 0)]);
    assert_eq!(play.tell(0, finished(unit(0), None)), [], "too late");
    assert_eq!(play.tell(0, broken(Cause::Crash)), [], "too late");
    assert_eq!(play.tell(1, finished(unit(0), None)), [finish(1)]);
    play.tell(1, Event::Ended(Usage::default()));
    assert!(play.scheduler.is_over(), "its device is left alone");
    let summary = play.summary();
    assert_eq!((summary.finished, summary.left, summary.broken.len()), (1, 0, 1));
    assert!(summary.broken[0].ends_with("its process does not end"), "{:?}", summary.broken);
}

#[test]
fn who_was_killed_is_given_nothing() {
    let mut play = watched(6, 1);
    assert_eq!(play.tell(0, ready(2)), [solve(0, 0), solve(0, 1), solve(0, 2)]);
    play.tell(0, started(0));
    assert_eq!(play.tick(10 * MINUTE), [Action::Kill(0)]);
    assert_eq!(play.tell(0, finished(unit(0), None)), [], "said before it was killed");
}

#[test]
fn a_worker_that_does_not_end_after_a_stop_is_killed_and_its_samples_are_left() {
    let second = Duration::from_secs(1);
    let limits = Limits { stop_within: Some(60 * second), ..Limits::default() };
    let mut play = Play::with_limits(6, 2, limits);
    play.tell(0, ready(1));
    play.tell(1, ready(1));
    play.tick(10 * second);
    assert_eq!(play.scheduler.wake_at(), None, "nothing is asked to end");
    play.scheduler.stop(play.now, "asked to");
    play.actions();
    assert_eq!(play.scheduler.wake_at(), Some(70 * second));
    play.tell(0, Event::Ended(Usage::default()));
    assert_eq!(play.tick(59 * second), []);
    assert_eq!(play.tick(second), [Action::Kill(1)], "the one that has not ended");
    assert!(play.scheduler.is_over());
    assert_eq!(play.tell(1, broken(Cause::Crash)), [], "of being killed");
    let summary = play.summary();
    assert_eq!((summary.left, summary.broken.len(), summary.unwritable), (6, 1, false));
    assert!(summary.broken[0].contains("did not end within 60 s"), "{:?}", summary.broken);
}
