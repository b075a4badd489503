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

/// The device is to blame, not the samples: none of them fails, and the worker is given up.
#[test]
fn where_every_sample_breaks_down_none_is_condemned() {
    let mut play = Play::new(9, 1);
    let mut breakdowns = 0;
    while !play.scheduler.is_over() {
        let given = play.tell(0, ready(6));
        let is_fail = |action: &Action| matches!(action, Action::Tell(_, Command::Fail { .. }));
        assert!(!given.iter().any(is_fail), "{given:?}");
        for action in given {
            if let Action::Tell(0, Command::Solve { unit, .. }) = action {
                play.tell(0, Event::Started { unit, resumed: false });
            }
        }
        play.tell(0, broken(Cause::Crash));
        breakdowns += 1;
        play.tick(LONGEST_PAUSE);
    }
    let summary = play.summary();
    assert_eq!((breakdowns, summary.finished, summary.left), (4, 0, 9));
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

/// In the last of several tries; what was not tried alone is left.
#[test]
fn where_samples_are_to_be_blamed_each_that_crashed_alone_becomes_a_failed_row() {
    for (samples, slots, rows) in [(1, 1, 1), (2, 1, 2), (9, 2, 0), (3, 16, 2)] {
        let mut play = Play::with_limits(samples, 1, Limits { blame: Blame::Always, ..Limits::default() });
        let (mut failed, mut starts) = (BTreeSet::new(), 0);
        while !play.scheduler.is_over() {
            starts += 1;
            let mut given = VecDeque::from(play.tell(0, ready(slots)));
            while let Some(action) = given.pop_front() {
                match action {
                    Action::Tell(0, Command::Solve { unit, .. }) => {
                        given.extend(play.tell(0, Event::Started { unit, resumed: false }));
                    }
                    Action::Tell(0, Command::Fail { unit, error }) => {
                        failed.insert(unit.sample);
                        given.extend(play.tell(0, finished(unit, Some(&error))));
                    }
                    Action::Tell(0, Command::Finish) => drop(play.tell(0, Event::Ended(Usage::default()))),
                    _ => {}
                }
            }
            play.tell(0, broken(Cause::Crash));
            play.tick(LONGEST_PAUSE);
        }
        assert!(starts <= 5, "{samples} samples, {slots} slots: {starts} starts");
        assert_eq!((failed.len(), play.summary().left), (rows, samples - rows), "{samples} by {slots}");
    }
}

/// A worker that cannot even start is given up all the same.
#[test]
fn where_samples_are_to_be_blamed_restarts_without_samples_are_bounded() {
    let mut play = Play::with_limits(3, 1, Limits { blame: Blame::Always, ..Limits::default() });
    let mut breakdowns = 0;
    while !play.scheduler.is_over() {
        play.tell(0, broken(Cause::Crash));
        breakdowns += 1;
        play.tick(LONGEST_PAUSE);
    }
    assert_eq!((breakdowns, play.summary().left), (4, 3));
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

/// Workers that solve what they are given, in rounds, but for what crashes them, by seat, sample, and how many the seat has
/// solved: the samples that become failed rows, and the summary.
fn play_out(
    mut play: Play,
    slots: &[usize],
    crashes: impl Fn(usize, usize, usize) -> bool,
) -> (Vec<usize>, RunSummary) {
    let (mut failed, mut solved) = (Vec::new(), vec![0; slots.len()]);
    let mut left: Vec<Action> = (0..slots.len()).rev().map(Action::Launch).collect();
    for _ in 0..200 {
        let (mut next, mut crashed) = (Vec::new(), BTreeSet::new());
        for action in std::mem::take(&mut left) {
            match action {
                Action::Launch(seat) => next.extend(play.tell(seat, ready(slots[seat]))),
                Action::Tell(seat, Command::Solve { unit, .. }) => {
                    next.extend(play.tell(seat, started(unit.sample)));
                    if crashes(seat, unit.sample, solved[seat]) {
                        crashed.insert(seat);
                    } else if !crashed.contains(&seat) {
                        solved[seat] += 1;
                        next.extend(play.tell(seat, finished(unit, None)));
                    }
                }
                Action::Tell(seat, Command::Fail { unit, error }) => {
                    failed.push(unit.sample);
                    next.extend(play.tell(seat, finished(unit, Some(&error))));
                }
                Action::Tell(seat, Command::Finish) => {
                    next.extend(play.tell(seat, Event::Ended(Usage::default())));
                }
                _ => {}
            }
        }
        for seat in crashed {
            // The dead do not hear what they were told.
            next.retain(|action| !matches!(action, Action::Tell(other, _) if *other == seat));
            next.extend(play.tell(seat, broken(Cause::Crash)));
        }
        next.extend(play.tick(LONGEST_PAUSE));
        left = next;
    }
    assert!(play.scheduler.is_over());
    (failed, play.summary())
}

/// With a sample that crashes every worker beside.
#[test]
fn an_innocent_sample_does_not_fail_on_the_word_of_a_device_that_never_solved_anything() {
    for slots in [[1, 2], [2, 1], [1, 1], [4, 4], [16, 3]] {
        let (failed, summary) = play_out(Play::new(6, 2), &slots, |seat, sample, _| seat == 0 || sample == 4);
        assert_eq!((failed, summary.finished, summary.left), (vec![4], 6, 0), "{slots:?}");
    }
}

#[test]
fn an_innocent_sample_does_not_fail_on_the_word_of_a_device_that_goes_bad() {
    for slots in [[1, 2], [2, 1], [1, 1], [4, 4], [16, 3]] {
        for good in 1..8 {
            let bad = |seat: usize, sample: usize, solved: usize| seat == 0 && solved >= good || sample == 4;
            let (failed, summary) = play_out(Play::new(20, 2), &slots, bad);
            assert_eq!((failed, summary.finished, summary.left), (vec![4], 20, 0), "{slots:?}, {good}");
        }
    }
}

/// Two that solve others say enough.
#[test]
fn a_sample_that_crashes_every_worker_is_not_tried_on_all_of_many() {
    let crashes = std::cell::Cell::new(0);
    let poison = |_: usize, sample: usize, _: usize| {
        crashes.set(crashes.get() + usize::from(sample == 31));
        sample == 31
    };
    let (failed, _) = play_out(Play::new(32, 8), &[1; 8], poison);
    assert_eq!(failed, [31]);
    assert!(crashes.get() <= 4, "{}", crashes.get());
}

/// Sample 0 crashes the worker of seat 0 twice; the other seat is still starting.
fn crashed_alone(limits: Limits) -> Play {
    let mut play = Play::with_limits(1, 2, limits);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 0)]);
    for again in [true, false] {
        play.tell(0, started(0));
        play.tell(0, broken(Cause::Crash));
        assert_eq!(play.tick(LONGEST_PAUSE), [Action::Launch(0)]);
        let expected = if again { vec![solve_again(0, 0)] } else { Vec::new() };
        assert_eq!(play.tell(0, ready(1)), expected, "nobody else has tried it yet");
    }
    play
}

#[test]
fn a_sample_is_not_blamed_before_a_device_that_comes_up_late_has_tried_it() {
    let mut play = crashed_alone(Limits::default());
    assert_eq!(play.tell(1, ready(1)), [solve_again(1, 0)]);
    assert_eq!(play.tell(1, finished(unit(0), None)), [finish(0), finish(1)]);
    assert_eq!(play.summary().failed, 0);
}

#[test]
fn a_sample_is_blamed_where_no_other_device_comes_up() {
    let mut play = crashed_alone(Limits { max_restarts: 3, ..Limits::default() });
    for _ in 0..3 {
        assert_eq!(play.tell(1, broken(Cause::Start)), []);
        play.tick(LONGEST_PAUSE);
    }
    let given = play.tell(1, broken(Cause::Start));
    assert!(matches!(given[..], [Action::Tell(0, Command::Fail { .. })]), "{given:?}");
}

/// Where the device that has solved others is gone.
#[test]
fn what_crashed_only_where_nothing_was_solved_is_left_to_other_machines() {
    let fates = [Blame::Proven, Blame::Last].map(|blame| {
        let mut play = Play::with_limits(2, 2, Limits { blame, max_restarts: 3, ..Limits::default() });
        assert_eq!(play.tell(1, ready(1)), [solve(1, 0)]);
        play.tell(1, finished(unit(0), None));
        for _ in 0..4 {
            play.tell(1, broken(Cause::Store));
            play.tick(LONGEST_PAUSE);
        }
        let mut given = play.tell(0, ready(1));
        for _ in 0..2 {
            assert!(matches!(given[..], [Action::Tell(0, Command::Solve { .. })]), "{given:?}");
            play.tell(0, started(1));
            play.tell(0, broken(Cause::Crash));
            play.tick(LONGEST_PAUSE);
            given = play.tell(0, ready(1));
        }
        matches!(given[..], [Action::Tell(0, Command::Fail { .. })])
    });
    assert_eq!(fates, [false, true]);
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

/// Its row waits until another sample was solved after the second crash.
#[test]
fn a_sample_that_breaks_down_twice_fails_when_others_do_not() {
    let mut play = Play::new(2, 1);
    play.tell(0, ready(1));
    play.tell(0, started(0));
    play.tell(0, broken(Cause::Crash));
    play.tick(LONGEST_PAUSE);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 1)]);
    play.tell(0, started(1));
    assert_eq!(play.tell(0, finished(unit(1), None)), [solve_again(0, 0)]);
    play.tell(0, started(0));
    play.tell(0, broken(Cause::Crash));
    play.tick(LONGEST_PAUSE);
    let [Action::Tell(0, Command::Fail { unit: failed, .. })] = &play.tell(0, ready(1))[..] else { panic!() };
    assert_eq!(*failed, unit(0), "there is no other left to try");
}

/// The samples that the worker of seat 0 is told to solve; it begins them all.
fn begun(play: &mut Play, given: Vec<Action>) -> Vec<usize> {
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
    play.tell(0, broken(Cause::Crash));
    assert_eq!(play.tick(LONGEST_PAUSE), [Action::Launch(0)]);
    let given = play.tell(0, ready(16));
    begun(play, given)
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

/// For tasks of a cluster: on another node they may be solved.
#[test]
fn without_proof_of_the_device_no_sample_is_blamed_where_others_will_try() {
    let blamed = |blame| {
        let mut play = Play::with_limits(2, 1, Limits { blame, ..Limits::default() });
        while !play.scheduler.is_over() {
            for action in play.tell(0, ready(1)) {
                match action {
                    Action::Tell(0, Command::Solve { unit, .. }) => {
                        play.tell(0, Event::Started { unit, resumed: false });
                    }
                    Action::Tell(0, Command::Fail { unit, error }) => {
                        play.tell(0, finished(unit, Some(&error)));
                    }
                    Action::Tell(0, Command::Finish) => drop(play.tell(0, Event::Ended(Usage::default()))),
                    _ => {}
                }
            }
            play.tell(0, broken(Cause::Crash));
            play.tick(LONGEST_PAUSE);
        }
        let summary = play.summary();
        (summary.failed, summary.left)
    };
    assert_eq!(blamed(Blame::Proven), (0, 2));
    assert_eq!(blamed(Blame::Last), (2, 0));
}

#[test]
fn a_device_that_has_solved_something_shows_that_a_sample_is_to_blame() {
    let mut play = Play::with_limits(2, 1, Limits { blame: Blame::Proven, ..Limits::default() });
    play.tell(0, ready(1));
    play.tell(0, finished(unit(0), None));
    for _ in 0..2 {
        play.tell(0, started(1));
        play.tell(0, broken(Cause::Crash));
        play.tick(LONGEST_PAUSE);
        let given = play.tell(0, ready(1));
        if let [Action::Tell(0, Command::Fail { unit: failed, .. })] = &given[..] {
            assert_eq!(*failed, unit(1));
            return;
        }
    }
    panic!("it is not blamed");
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
