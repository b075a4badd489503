//! Runs that are stopped or killed: what is durable stays, running solves go on, and the rows are the same.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::run::suite;
use crate::run_test::rows_of;

/// A stop rule that no test lives to see: a run is certain to be under way.
const ENDLESS: &str = "methods[0].dflow.stop=[{evals: 4000000}]";

/// Two writers in one directory, each killed with SIGKILL ten times at pseudo-random moments, then resumed.
///
/// What a kill hits depends on the machine; that solves go on from checkpoints is for the tests below.
#[test]
fn ten_kills_lose_and_repeat_nothing() {
    let test = suite();
    let evals = "methods[0].dflow.stop[1].evals=12";
    test.run(&["run", "p.yaml", "--set", evals]).succeeds();
    let again = ["run", "p.yaml", "--set", evals, "--output", "b", "--checkpoint-every", "0"];
    for kill in 0..10_u64 {
        let spawn = |shard: &str| {
            let options = [&again as &[&str], &["--shard", shard]].concat();
            test.command(&options).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut writers = [spawn("1/2"), spawn("2/2")];
        // Moments spread over the run, by a fixed rule; the outcome must not depend on them.
        std::thread::sleep(Duration::from_millis(20 + 137 * kill % 500));
        for writer in &mut writers {
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
    }
    test.run(&again).succeeds().stdout("16 ok, 0 failed, 0 missing");
    test.run(&["verify", "b", "--deep"]).succeeds();
    test.run(&["verify", "a", "--same-as", "b"]).succeeds().stdout("16 rows equal bit for bit, 0 different");
}

#[test]
fn a_killed_solve_goes_on_from_its_last_checkpoint() {
    let test = suite();
    let options = ["run", "p.yaml", "--limit", "1", "--set", ENDLESS, "--checkpoint-every", "0"];
    let mut first = test.start(&options);
    // An outer step has 25 evaluations at the most: the state after the second is durable.
    let seen = first.until("progress", |event| event["evals"].as_u64() > Some(75));
    first.signal(Signal::KILL);
    drop(first);
    let mut second = test.start(&options);
    let started = second.until("started", |event| event["row"] == seen["row"]);
    assert_eq!(started["resumed"], true);
    let now = second.until("progress", |event| event["row"] == seen["row"]);
    assert!(now["evals"].as_u64() > Some(50), "{seen} before the kill, {now} after it");
}

#[test]
fn a_stop_signal_checkpoints_and_exits_75_and_the_rest_is_the_same() {
    let test = suite();
    let evals = "methods[0].dflow.stop[1].evals=20";
    test.run(&["run", "p.yaml", "--set", evals]).succeeds();
    let options = ["run", "p.yaml", "--set", evals, "--output", "b"];
    let mut stopped = test.start(&options);
    stopped.until("progress", |_| true);
    stopped.signal(Signal::USR1);
    let reason = stopped.until("stopping", |_| true)["reason"].to_string();
    assert!(reason.contains("USR1"), "{reason}");
    let before = stopped.ends_with(75);
    let suspended = rows_of(&before, "suspended");
    assert!(!suspended.is_empty(), "{before:?}");

    let mut after = test.start(&options).ends_with(0);
    after.retain(|event| event["resumed"] == true);
    assert_eq!(rows_of(&after, "started"), suspended, "what was checkpointed goes on, and nothing else");
    test.run(&["verify", "a", "--same-as", "b"]).succeeds().stdout("16 rows equal bit for bit, 0 different");
}

/// A merge of another process may remove a log whose solves are all done, while its writer begins another.
#[test]
fn a_writer_whose_checkpoints_are_removed_stores_them_anew() {
    let test = suite();
    let options = ["run", "p.yaml", "--limit", "1", "--set", ENDLESS, "--checkpoint-every", "0"];
    let mut first = test.start(&options);
    let seen = first.until("progress", |event| event["evals"].as_u64() > Some(75));
    for entry in std::fs::read_dir(test.path("a/checkpoints")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    first.signal(Signal::USR1);
    first.ends_with(75);
    let mut second = test.start(&options);
    assert_eq!(second.until("started", |event| event["row"] == seen["row"])["resumed"], true);
}

/// The pipeline comes out of a pipe that only this test fills: the program is certain to be reading it.
#[test]
fn a_warning_before_the_first_sample_is_heard() {
    let test = suite();
    let pipeline = std::fs::read(test.path("p.yaml")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, test.path("q.yaml"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let running = test.start(&["run", "q.yaml"]);
    // Opens when the other end is open as well.
    let mut pipe = std::fs::File::options().write(true).open(test.path("q.yaml")).unwrap();
    running.signal(Signal::USR1);
    pipe.write_all(&pipeline).unwrap();
    drop(pipe);
    let events = running.ends_with(75);
    let end = events.last().unwrap();
    assert_eq!((&end["event"], &end["left"]), (&"end".into(), &16.into()), "{end}");
}

#[test]
fn a_request_to_terminate_keeps_the_running_solves() {
    let test = suite();
    let options = ["run", "p.yaml", "--limit", "1", "--set", ENDLESS, "--slots", "4"];
    let mut stopped = test.start(&options);
    // The last row of the plan is done: both endless ones are under way.
    stopped.until("finished", |event| event["row"] == "super-resolution-noisy/pinv/test/000000");
    stopped.until("progress", |_| true);
    stopped.signal(Signal::TERM);
    let events = stopped.ends_with(75);
    let expected = ["inpainting/d-flow/test/000000", "super-resolution-noisy/d-flow/test/000000"];
    assert_eq!(rows_of(&events, "suspended"), expected);
    let end = events.last().unwrap();
    assert_eq!((&end["event"], &end["left"]), (&"end".into(), &2.into()), "{end}");
    test.run(&["verify", "a"]).fails_with(4).stdout("2 missing of 4 planned rows");
}

/// One solve of this run takes hours, and a stop waits for its end: only a second interrupt can end it.
#[test]
fn a_second_interrupt_ends_at_once() {
    let test = suite();
    let solver = "methods[0].dflow.solver={midpoint: {nfe: 1000000}}";
    let options = ["run", "p.yaml", "--limit", "1", "--set", solver, "--memory", "recompute", "--slots", "1"];
    let mut running = test.start(&options);
    running.until("started", |_| true);
    running.signal(Signal::INT);
    running.until("stopping", |_| true);
    running.signal(Signal::INT);
    running.ends_with(130);
}
