//! Samples whose workers crash, and what they hold when they do.

use super::*;

#[test]
fn a_sample_in_a_crash_is_tried_once_more_alone_and_then_fails() {
    let mut play = Play::new(3, 1);
    assert_eq!(play.tell(0, ready(2)), [solve(0, 0), solve(0, 1), solve(0, 2)]);
    play.tell(0, started(0));
    play.tell(0, started(1));
    play.tell(0, broken(Cause::Crash));
    play.tick(Duration::from_secs(1));
    // What had not begun is not to blame, and comes first.
    assert_eq!(play.tell(0, ready(2)), [solve(0, 2)]);
    play.tell(0, started(2));
    assert_eq!(play.tell(0, finished(unit(2), None)), [solve_again(0, 0)], "alone");
    play.tell(0, started(0));
    assert_eq!(play.tell(0, finished(unit(0), None)), [solve_again(0, 1)]);
    play.tell(0, started(1));
    play.tell(0, broken(Cause::Crash));
    play.tick(Duration::from_secs(1));
    let actions = play.tell(0, ready(2));
    let [Action::Tell(0, Command::Fail { unit: failed, error })] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (*failed, error.as_str()),
        (unit(1), "two workers broke down while they solved it: pulled the plug")
    );
    assert_eq!(play.tell(0, finished(unit(1), Some(error))), [finish(0)]);
    let summary = play.summary();
    assert_eq!((summary.finished, summary.failed, summary.left), (3, 1, 0));
}

#[test]
fn a_suspect_shares_its_worker_with_nothing() {
    let mut play = Play::new(9, 2);
    play.tell(0, ready(1));
    play.tell(0, started(0));
    play.tell(0, broken(Cause::Crash));
    let first = play.tell(1, ready(3));
    assert!(!first.contains(&solve_again(1, 0)), "{first:?}");
    for sample in 1..9 {
        let given = play.tell(1, finished(unit(sample), None));
        assert_eq!(given.contains(&solve_again(1, 0)), sample == 8, "sample {sample}: {given:?}");
    }
}

/// The device is to blame: another one solves what it crashes on, and no row fails.
#[test]
fn what_crashes_on_one_device_is_solved_by_another() {
    let mut play = Play::new(7, 2);
    let mut given = play.tell(0, ready(5));
    given.extend(play.tell(1, ready(2)));
    let (mut left, mut solved) = (given, BTreeSet::new());
    while solved.len() < 7 {
        let mut next = Vec::new();
        let told =
            |seat: usize| move |action: &Action| matches!(action, Action::Tell(other, _) if *other == seat);
        let is_bad = left.iter().any(told(0));
        for action in &left {
            match action {
                Action::Tell(0, Command::Solve { unit, .. }) => {
                    next.extend(play.tell(0, started(unit.sample)));
                }
                Action::Tell(1, Command::Solve { unit, .. }) if solved.insert(unit.sample) => {
                    next.extend(play.tell(1, finished(*unit, None)));
                }
                Action::Tell(_, Command::Fail { unit, error }) => panic!("{unit:?}: {error}"),
                _ => {}
            }
        }
        if is_bad {
            next.extend(play.tell(0, broken(Cause::Crash)));
            next.extend(play.tick(LONGEST_PAUSE));
            next.extend(play.tell(0, ready(5)));
        }
        assert!(!next.is_empty() || solved.len() == 7, "nothing goes on: {solved:?}");
        left = next;
    }
    assert_eq!((play.summary().failed, solved.len()), (0, 7));
}

/// Another one that hangs while it starts keeps it waiting for nothing.
#[test]
fn suspects_do_not_wait_for_a_device_that_does_not_come_up() {
    let mut play = Play::new(1, 2);
    play.tell(0, ready(1));
    play.tell(0, started(0));
    play.tell(0, broken(Cause::Crash));
    play.tick(LONGEST_PAUSE);
    assert_eq!(play.tell(0, ready(1)), [solve_again(0, 0)]);
}

/// The one that has solved others is busy.
#[test]
fn a_device_that_has_just_come_up_takes_suspects() {
    let mut play = Play::new(3, 2);
    assert_eq!(play.tell(0, ready(2)), [solve(0, 0), solve(0, 1)]);
    play.tell(0, finished(unit(0), None));
    play.tell(0, started(1));
    play.tell(0, broken(Cause::Crash));
    play.tick(LONGEST_PAUSE);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 2)]);
    play.tell(0, started(2));
    assert_eq!(play.tell(1, ready(1)), [solve_again(1, 1)]);
}

/// The samples that the worker of seat 0 is told to solve; it begins them all.
pub(super) fn begun(play: &mut Play, given: Vec<Action>) -> Vec<usize> {
    let samples = given.into_iter().map(|action| match action {
        Action::Tell(0, Command::Solve { unit, .. }) => unit.sample,
        other => panic!("{other:?}"),
    });
    let samples: Vec<usize> = samples.collect();
    samples.iter().for_each(|sample| drop(play.tell(0, started(*sample))));
    samples
}

/// Breaks the worker of seat 0 down; what it solves when it has started again.
fn after_crash(play: &mut Play) -> Vec<usize> {
    let given = crash(play, 16);
    begun(play, given)
}

/// The same, not begun.
pub(super) fn crash(play: &mut Play, slots: usize) -> Vec<Action> {
    play.tell(0, broken(Cause::Crash));
    assert_eq!(play.tick(LONGEST_PAUSE), [Action::Launch(0)]);
    play.tell(0, ready(slots))
}

/// Solves these on seat 0; what it is given then.
fn solved(play: &mut Play, samples: &[usize]) -> Vec<Action> {
    samples.iter().flat_map(|sample| play.tell(0, finished(unit(*sample), None))).collect()
}

#[test]
fn many_suspects_are_tried_again_in_two_halves() {
    let mut play = Play::new(16, 1);
    let given = play.tell(0, ready(16));
    assert_eq!(begun(&mut play, given).len(), 16);
    let half = after_crash(&mut play);
    assert_eq!(half, (0..8).collect::<Vec<_>>());
    let given = solved(&mut play, &half);
    assert_eq!(begun(&mut play, given), (8..16).collect::<Vec<_>>());
    assert_eq!(solved(&mut play, &(8..16).collect::<Vec<_>>()), [finish(0)]);
}

#[test]
fn the_one_of_many_that_crashes_its_workers_is_found_in_three_breakdowns() {
    let (mut play, poison) = (Play::new(16, 1), 11);
    let given = play.tell(0, ready(16));
    let mut running = begun(&mut play, given);
    let (mut crashes, mut most_alone) = (0, 0);
    let error = loop {
        let given = if running.contains(&poison) {
            crashes += 1;
            play.tell(0, broken(Cause::Crash));
            play.tick(LONGEST_PAUSE);
            play.tell(0, ready(16))
        } else {
            most_alone += usize::from(running.len() == 1);
            solved(&mut play, &running)
        };
        // It waits for a proof of the device, and so comes with the sample that follows.
        let (fails, given): (Vec<_>, Vec<_>) =
            given.into_iter().partition(|action| matches!(action, Action::Tell(_, Command::Fail { .. })));
        if let Some(Action::Tell(_, Command::Fail { unit, error })) = fails.into_iter().next() {
            assert_eq!(unit.sample, poison);
            break error;
        }
        running = begun(&mut play, given);
    };
    assert_eq!(error, "3 workers broke down while they solved it: pulled the plug");
    assert!(crashes == 3 && most_alone <= 7, "{crashes} crashes, {most_alone} alone");
}

/// Whatever the reason for which its worker is gone: there may be a checkpoint of it.
#[test]
fn a_sample_that_was_begun_is_looked_for_again() {
    for cause in [Cause::Store, Cause::Start, Cause::Crash] {
        let mut play = Play::new(2, 2);
        assert_eq!(play.tell(0, ready(1)), [solve(0, 0)]);
        assert_eq!(play.tell(1, ready(1)), [solve(1, 1)]);
        play.tell(0, started(0));
        play.tell(1, started(1));
        play.tell(0, broken(cause));
        let given = play.tell(1, finished(unit(1), None));
        assert_eq!(given, [solve_again(1, 0)], "{cause:?}");
    }
}

#[test]
fn a_disk_that_takes_records_again_is_not_unwritable() {
    let mut play = Play::new(3, 2);
    play.tell(0, ready(1));
    play.tell(1, ready(1));
    play.tell(0, broken(Cause::Store));
    play.tick(FIRST_PAUSE);
    play.tell(0, ready(1));
    play.tell(0, finished(unit(0), None));
    play.scheduler.stop(play.now, "asked to");
    let summary = play.summary();
    assert_eq!((summary.unwritable, summary.broken.len()), (false, 1));
}

/// Of those that are free.
#[test]
fn a_suspect_goes_to_a_device_that_has_solved_something() {
    let mut play = Play::new(2, 3);
    assert_eq!(play.tell(1, ready(1)), [solve(1, 0)]);
    assert_eq!(play.tell(2, ready(1)), [solve(2, 1)]);
    assert_eq!(play.tell(0, ready(1)), []);
    assert_eq!(play.tell(1, finished(unit(0), None)), []);
    play.tell(2, started(1));
    assert_eq!(play.tell(2, broken(Cause::Crash)), [solve_again(1, 1)]);
}

/// Seat 0 has broken down since it solved something.
#[test]
fn a_suspect_goes_to_a_device_that_has_not_broken_down() {
    let mut play = Play::new(4, 3);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 0)]);
    assert_eq!(play.tell(1, ready(1)), [solve(1, 1)]);
    assert_eq!(play.tell(2, ready(1)), [solve(2, 2)]);
    assert_eq!(play.tell(0, finished(unit(0), None)), [solve(0, 3)]);
    assert_eq!(play.tell(0, finished(unit(3), None)), []);
    play.tell(0, broken(Cause::Store));
    play.tick(LONGEST_PAUSE);
    assert_eq!(play.tell(0, ready(1)), []);
    assert_eq!(play.tell(1, finished(unit(1), None)), []);
    play.tell(2, started(2));
    assert_eq!(play.tell(2, broken(Cause::Crash)), [solve_again(1, 2)]);
}

/// A disk that is full says nothing of the sample, whatever it is accused of.
#[test]
fn a_worker_that_cannot_write_what_it_is_to_judge_is_given_up() {
    let mut play = Play::new(3, 2);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 0), solve(0, 1)]);
    play.tell(0, finished(unit(0), None));
    for _ in 0..2 {
        play.tell(0, started(1));
        play.tell(0, broken(Cause::Crash));
        play.tick(LONGEST_PAUSE);
        for action in play.tell(0, ready(1)) {
            if action == solve(0, 2) {
                for action in play.tell(0, finished(unit(2), None)) {
                    assert_eq!(action, solve_again(0, 1));
                }
            }
        }
    }
    for _ in 0..4 {
        assert_eq!(play.tell(1, ready(1)), [solve_again(1, 1)]);
        play.tell(1, started(1));
        play.tell(1, broken(Cause::Store));
        play.tick(LONGEST_PAUSE);
    }
    assert_eq!(play.scheduler.seats[1].state, State::Ended);
}
