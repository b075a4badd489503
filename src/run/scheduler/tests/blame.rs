//! Which samples become failed rows because their workers crash, and which do not.

use super::crashes::{begun, crash};
use super::*;

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

/// Who is to write the failed rows is started once, and dies.
#[test]
fn a_worker_that_is_started_for_failed_rows_alone_is_started_once() {
    for writes in [true, false] {
        let limits = Limits { blame: Blame::Always, max_restarts: 1, ..Limits::default() };
        let mut play = Play::with_limits(1, 2, limits);
        assert_eq!(play.tell(0, ready(1)), [solve(0, 0)]);
        play.tell(0, started(0));
        assert_eq!(crash(&mut play, 1), [solve_again(0, 0)]);
        play.tell(0, started(0));
        play.tell(0, broken(Cause::Crash));
        // The other one cannot even start, and is given up later.
        play.tell(1, broken(Cause::Start));
        play.tick(LONGEST_PAUSE);
        play.tell(1, broken(Cause::Start));
        assert_eq!(play.tick(LONGEST_PAUSE), [Action::Launch(1)], "for the row");
        if writes {
            let said = play.tell(1, ready(1));
            assert!(matches!(said[..], [Action::Tell(1, Command::Fail { .. }), _]), "{said:?}");
        } else {
            play.tell(1, broken(Cause::Start));
            assert!(play.scheduler.is_over());
        }
    }
}

/// In place of a sample: a failed row is written.
const WRITES: usize = usize::MAX;

/// Workers that solve what they are given, in rounds, but for what crashes them, by seat, sample, and how many the seat has
/// solved: the samples that become failed rows, and the summary.
fn play_out(
    mut play: Play,
    slots: &[usize],
    crashes: impl Fn(usize, usize, usize) -> bool,
) -> (Vec<usize>, RunSummary) {
    let (mut failed, mut solved, mut suspects) = (Vec::new(), vec![0; slots.len()], BTreeSet::new());
    let mut left: Vec<Action> = (0..slots.len()).rev().map(Action::Launch).collect();
    for _ in 0..200 {
        let (mut next, mut crashed, mut broke) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for action in std::mem::take(&mut left) {
            match action {
                Action::Launch(seat) => next.extend(play.tell(seat, ready(slots[seat]))),
                Action::Tell(seat, Command::Solve { unit, .. }) => {
                    next.extend(play.tell(seat, started(unit.sample)));
                    if crashes(seat, unit.sample, solved[seat]) {
                        crashed.insert(seat);
                        broke.insert(unit);
                    } else if !crashed.contains(&seat) {
                        solved[seat] += 1;
                        next.extend(play.tell(seat, finished(unit, None)));
                    }
                }
                Action::Tell(seat, Command::Fail { .. }) if crashes(seat, WRITES, solved[seat]) => {
                    crashed.insert(seat);
                }
                Action::Tell(seat, Command::Fail { unit, error }) => {
                    failed.push(unit.sample);
                    next.extend(play.tell(seat, finished(unit, Some(&error))));
                }
                Action::Tell(seat, Command::Finish) => {
                    next.extend(play.tell(seat, Event::Ended(Usage::default())));
                }
                Action::Tell(_, Command::Recall(unit)) => assert!(!suspects.contains(&unit), "{unit:?}"),
                _ => {}
            }
        }
        suspects.extend(broke);
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

/// One is good, one goes bad, the others are bad; and some samples crash every worker.
#[test]
fn with_one_good_device_all_is_solved_but_what_crashes_there() {
    for seed in 0..300_usize {
        let draw = |key: usize, of: usize| {
            (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(7 * key as u32) % of
        };
        let (samples, devices) = (1 + draw(1, 37), 2 + draw(2, 3));
        let slots: Vec<usize> = (0..devices).map(|seat| [1, 2, 5, 16][draw(3 + seat, 4)]).collect();
        let (good, fails_after) = (draw(8, devices), 1 + draw(9, 6));
        let poison: BTreeSet<usize> = (0..draw(10, 3)).map(|key| draw(11 + key, samples)).collect();
        let deaths = std::cell::Cell::new(draw(14, 3));
        let crashes = |seat: usize, sample: usize, solved: usize| {
            if sample == WRITES {
                return deaths.replace(deaths.get().saturating_sub(1)) > 0;
            }
            let goes_bad = seat == (good + 1) % devices;
            poison.contains(&sample) || seat != good && (!goes_bad || solved >= fails_after)
        };
        let (mut failed, summary) = play_out(Play::new(samples, devices), &slots, crashes);
        failed.sort_unstable();
        assert_eq!(failed, poison.iter().copied().collect::<Vec<_>>(), "seed {seed}");
        assert_eq!((summary.finished, summary.left), (samples, 0), "seed {seed}");
    }
}

/// A device that is given up could not solve what is left.
#[test]
fn several_samples_that_crash_every_worker_all_fail() {
    for case in 0..96 {
        let (slots, first) = ([[1, 2], [2, 2], [1, 1], [4, 16]][case % 4], case / 4 % 12);
        let poisons = vec![first, first + 1, [13, 15][case / 48]];
        let poison = |_: usize, sample: usize, _: usize| poisons.contains(&sample);
        let (mut failed, summary) = play_out(Play::new(16, 2), &slots, poison);
        failed.sort_unstable();
        assert_eq!((&failed, summary.left), (&poisons, 0), "{slots:?}");
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
    let mut play = crashed_alone(Limits::default());
    let given = play.tell(1, broken(Cause::Start));
    assert!(matches!(given[..], [Action::Tell(0, Command::Fail { .. })]), "{given:?}");
}

/// Where the devices that have solved others are gone. Who still lives is told that nothing is left to do.
#[test]
fn what_crashed_only_where_nothing_was_solved_is_left_to_other_machines() {
    let fates = [Blame::Proven, Blame::Last].map(|blame| {
        let mut play = Play::with_limits(2, 3, Limits { blame, max_restarts: 4, ..Limits::default() });
        assert_eq!(play.tell(2, ready(1)), [solve(2, 0)]);
        play.tell(2, finished(unit(0), None));
        for _ in 0..5 {
            play.tell(2, broken(Cause::Store));
            play.tick(LONGEST_PAUSE);
        }
        assert_eq!(play.tell(0, ready(1)), [solve(0, 1)]);
        for again in [vec![solve_again(0, 1)], Vec::new()] {
            play.tell(0, started(1));
            play.tell(0, broken(Cause::Crash));
            play.tick(LONGEST_PAUSE);
            assert_eq!(play.tell(0, ready(1)), again);
        }
        assert_eq!(play.tell(1, ready(1)), [solve_again(1, 1)]);
        play.tell(1, started(1));
        play.tell(1, broken(Cause::Crash))
    });
    assert_eq!(fates[0], [finish(0)]);
    assert!(matches!(fates[1][..], [Action::Tell(0, Command::Fail { .. })]), "{fates:?}");
}

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

/// What is still solved elsewhere may show that the devices are to blame.
#[test]
fn no_sample_is_blamed_while_others_are_solved_or_wait() {
    let mut play = Play::new(2, 2);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 0)]);
    assert_eq!(play.tell(1, ready(1)), [solve(1, 1)]);
    play.tell(0, started(0));
    play.tell(1, started(1));
    assert_eq!(crash(&mut play, 1), [solve_again(0, 0)]);
    play.tell(0, started(0));
    assert_eq!(crash(&mut play, 1), [], "the other one is to try it");
    assert_eq!(play.tell(1, broken(Cause::Crash)), [solve_again(0, 1)]);
    play.tick(LONGEST_PAUSE);
    assert_eq!(play.tell(1, ready(1)), [solve_again(1, 0)]);
    play.tell(1, started(0));
    play.tell(1, broken(Cause::Crash));
    play.tick(LONGEST_PAUSE);
    assert_eq!(play.tell(1, ready(1)), [], "sample 1 is not done");
    play.tell(0, started(1));
    let said = play.tell(0, finished(unit(1), None));
    assert!(matches!(said[..], [Action::Tell(0, Command::Fail { .. })]), "{said:?}");
}

#[test]
fn no_sample_is_blamed_before_what_another_worker_has_left() {
    let mut play = Play::new(2, 2);
    for _ in 0..3 {
        play.tell(1, broken(Cause::Start));
        play.tick(LONGEST_PAUSE);
    }
    assert_eq!(play.tell(1, ready(1)), [solve(1, 0)]);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 1)]);
    play.tell(0, started(1));
    assert_eq!(crash(&mut play, 1), [solve_again(0, 1)]);
    play.tell(0, started(1));
    assert_eq!(crash(&mut play, 1), []);
    assert_eq!(play.tell(1, broken(Cause::Store)), [solve(0, 0)], "it is given up");
}

/// It solved a sample, and then goes bad.
#[test]
fn a_device_that_has_gone_bad_leaves_its_samples_to_other_machines() {
    let fates = [Blame::Proven, Blame::Last].map(|blame| {
        let mut play = Play::with_limits(3, 1, Limits { blame, max_restarts: 9, ..Limits::default() });
        let given = play.tell(0, ready(2));
        begun(&mut play, given);
        play.tell(0, finished(unit(0), None));
        play.tell(0, started(2));
        for sample in [1, 2] {
            assert_eq!(crash(&mut play, 2), [solve_again(0, sample)]);
            play.tell(0, started(sample));
        }
        play.tell(0, broken(Cause::Crash));
        if play.scheduler.is_over() {
            return play.summary().suspects;
        }
        play.tick(LONGEST_PAUSE);
        let said = play.tell(0, ready(2));
        assert!(matches!(said[..], [Action::Tell(0, Command::Fail { .. }), ..]), "{said:?}");
        0
    });
    assert_eq!(fates, [2, 0]);
}

#[test]
fn failed_rows_are_written_by_who_has_nothing_else_to_do() {
    let mut play = Play::new(3, 2);
    assert_eq!(play.tell(1, ready(2)), [solve(1, 0), solve(1, 1)]);
    assert_eq!(play.tell(0, ready(1)), [solve(0, 2)]);
    play.tell(0, started(2));
    play.tell(1, started(0));
    play.tell(1, started(1));
    for next in [0, 1] {
        play.tell(1, broken(Cause::Crash));
        play.tick(LONGEST_PAUSE);
        assert_eq!(play.tell(1, ready(2)), [solve_again(1, next)]);
        play.tell(1, started(next));
    }
    let said = play.tell(1, finished(unit(1), None));
    assert!(matches!(said[..], [Action::Tell(1, Command::Fail { .. })]), "{said:?}");
}

/// Both have solved samples before.
#[test]
fn two_devices_that_have_gone_bad_do_not_speak_for_a_third() {
    let mut play = Play::with_limits(7, 3, Limits { max_restarts: 9, ..Limits::default() });
    for (seat, sample) in [(0, 0), (1, 3)] {
        assert_eq!(play.tell(seat, ready(1))[0], solve(seat, sample));
        play.tell(seat, finished(unit(sample), None));
    }
    // All others crash on both; the third device has its troubles, and starts late.
    for _ in 0..6 {
        for seat in [0, 1] {
            let held: Vec<Unit> = play.scheduler.seats[seat].held.keys().copied().collect();
            for unit in held {
                play.tell(seat, Event::Started { unit, resumed: false });
            }
            play.tell(seat, broken(Cause::Crash));
            play.tick(LONGEST_PAUSE);
            let said = play.tell(seat, ready(1));
            assert!(
                !said.iter().any(|action| matches!(action, Action::Tell(_, Command::Fail { .. }))),
                "{said:?}"
            );
        }
    }
    assert!(matches!(play.tell(2, ready(1))[..], [Action::Tell(2, Command::Solve { .. })]));
}

#[test]
fn failed_rows_whose_writer_dies_are_written_when_it_has_started_again() {
    let mut play = Play::new(5, 1);
    let given = play.tell(0, ready(2));
    assert_eq!(begun(&mut play, given)[..2], [0, 1]);
    let mut given = crash(&mut play, 2);
    let mut failing = Vec::new();
    for _ in 0..20 {
        let mut next = Vec::new();
        for action in given {
            match action {
                Action::Tell(0, Command::Solve { unit, .. }) if unit.sample < 2 => {
                    play.tell(0, started(unit.sample));
                    next = crash(&mut play, 2);
                    break;
                }
                Action::Tell(0, Command::Solve { unit, .. }) => {
                    play.tell(0, started(unit.sample));
                    next.extend(play.tell(0, finished(unit, None)));
                }
                Action::Tell(0, Command::Fail { unit, .. }) => failing.push(unit.sample),
                other => panic!("{other:?}"),
            }
        }
        given = next;
        if failing.len() == 2 {
            break;
        }
    }
    play.tell(0, broken(Cause::Store));
    play.tick(LONGEST_PAUSE);
    let again = play.tell(0, ready(2));
    assert!(again.iter().all(|action| matches!(action, Action::Tell(0, Command::Fail { .. }))), "{again:?}");
    assert_eq!(again.len(), 2);
}
