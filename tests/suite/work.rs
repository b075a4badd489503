//! `dflow work`: what a task of a cluster does with what others have done, left, or keep from ending.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Signal, kill_process, test_kill_process};

use crate::processes::wait_until;
use crate::run::suite;
use crate::run_test::{RunTest, Running};

/// A stop rule that no test lives to see.
const ENDLESS: &str = "methods[0].dflow.stop=[{evals: 4000000}]";

/// Submits the pipeline, one chunk, without a scheduler; the folder of the newest submission.
fn submitted(test: &RunTest, gpus: usize, options: &[&str]) -> PathBuf {
    let directory = test.path("").display().to_string();
    let mount = directory.trim_end_matches('/');
    let devices = if gpus > 0 { "sim" } else { "cpu" };
    let section = format!(
        "gpus: {gpus}\ndevices: {devices}\nwarn: 2\nchunk: 10h\nkubernetes: {{ image: dflow, volumes: {{ data: {mount} }} }}\n"
    );
    test.file("site.yaml", &section);
    let submit = ["submit", "p.yaml", "--k8s", "--force", "--site", "site.yaml"];
    let cost = ["--seconds-per-eval", "1", "--evals-per-row", "10"];
    test.run(&[&submit as &[&str], &cost, options].concat()).succeeds();
    let folders = std::fs::read_dir(test.path("a/submit")).unwrap();
    folders.map(|entry| entry.unwrap().path()).max().expect("a folder per submission")
}

fn work(test: &RunTest, submission: &PathBuf) -> Command {
    let mut command = test.command(&["work", "--chunk", "0", "--devices", "cpu"]);
    command.arg(submission);
    command
}

/// Waits for a solve that is well under way, warns the process, and waits for its end.
fn warned(mut running: Running) {
    running.until("progress", |event| event["evals"].as_u64() > Some(5));
    running.signal(Signal::USR1);
    running.ends_with(75);
}

#[test]
fn what_others_have_solved_is_not_solved_again() {
    let test = suite();
    let submission = submitted(&test, 0, &["--limit", "1"]);
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    let events = RunTest::watch(work(&test, &submission)).ends_with(0);
    assert!(events.iter().all(|event| event["event"] != "started"), "{events:?}");
    // Its code is for the queue: a log that takes no line makes no task fail.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    assert!(work(&test, &submission).stdout(full).status().unwrap().success());
    test.run(&["merge", "a"]).succeeds().stdout("4 ok, 0 failed, 0 missing");
}

#[test]
fn solves_that_a_run_left_go_on_in_a_submission_and_in_the_next_one() {
    let test = suite();
    let options = ["--limit", "1", "--set", ENDLESS];
    warned(test.start(&[&["run", "p.yaml"], &options as &[&str]].concat()));
    for _ in 0..2 {
        let mut task = RunTest::watch(work(&test, &submitted(&test, 0, &options)));
        assert_eq!(task.until("started", |_| true)["resumed"], true);
        warned(task);
    }
}

#[test]
fn a_worker_that_hangs_does_not_keep_the_task_from_ending() {
    let test = suite();
    let options = ["--limit", "1", "--set", ENDLESS];
    let submission = submitted(&test, 2, &options);
    let mut command = test.command(&["work", "--chunk", "0", "--devices", "sim"]);
    command.arg(submission).env("CUDA_VISIBLE_DEVICES", "0,1");
    let mut running = RunTest::watch(command);
    running.until("progress", |_| true);
    let workers = running.children();
    kill_process(workers[0], Signal::STOP).unwrap();
    running.signal(Signal::USR1);
    let broken = running.until("worker_broken", |_| true);
    assert!(broken["error"].as_str().unwrap().contains("did not end within 1 s"), "{broken}");
    running.ends_with(75);
    wait_until("both have ended", || workers.iter().all(|worker| test_kill_process(*worker).is_err()));
}

/// One sample that takes for ever.
const ONE: &str = "\
name: suite
dataset: { name: mini-images, limit: 1 }
model: mini-images
devices: cpu:1x1
tasks:
  - { name: inpainting, operator: { center_mask: { size: 10 } } }
methods:
  - dflow: { name: d-flow, regularizer: { chi: 0.01 }, stop: [ { evals: 4000000 } ] }
output: a
";

#[test]
fn a_sample_is_blamed_for_crashes_on_unproven_devices_only_where_that_is_asked_for() {
    let test = suite();
    test.file("p.yaml", ONE);
    let submission = submitted(&test, 1, &[]);
    let crashes_twice = |options: &[&str], code| {
        let mut command = test.command(&["work", "--chunk", "0", "--devices", "sim"]);
        command.args(options).arg(&submission).env("CUDA_VISIBLE_DEVICES", "0");
        let mut running = RunTest::watch(command);
        for _ in 0..2 {
            running.until("started", |_| true);
            kill_process(running.children()[0], Signal::KILL).unwrap();
            running.until("worker_broken", |_| true);
        }
        let events = running.ends_with(code);
        events.into_iter().filter(|event| event["event"] == "finished").collect::<Vec<_>>()
    };
    assert!(crashes_twice(&[], 72).is_empty(), "another node may solve it");
    let rows = crashes_twice(&["--blame-samples"], 0);
    assert!(rows.len() == 1 && rows[0]["error"].is_string(), "{rows:?}");
}
