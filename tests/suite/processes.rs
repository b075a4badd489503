//! Workers that are processes of their own, as on GPUs: what breaks in one costs nothing but time.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::run::suite;
use crate::run_test::{RunTest, Running};

/// A stop rule that no test lives to see.
const ENDLESS: &str = "methods[0].dflow.stop=[{evals: 4000000}]";

/// A run on two simulated GPUs.
fn on_two(test: &RunTest, arguments: &[&str]) -> Command {
    let mut command = test.command(arguments);
    command.args(["--devices", "sim", "--output", "b"]).env("CUDA_VISIBLE_DEVICES", "3,1");
    command
}

/// Waits until something holds that must come, however slow the machine.
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what}: not within two minutes");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kill(process: Pid) {
    kill_process(process, Signal::KILL).unwrap();
}

/// The one process among several that runs a device: found by what it is shown.
fn worker_of(running: &Running, entry: &str) -> Pid {
    let wanted = format!("CUDA_VISIBLE_DEVICES={entry}");
    let is_shown = |process: &Pid| {
        let environment = std::fs::read(format!("/proc/{}/environ", process.as_raw_nonzero()));
        environment.is_ok_and(|text| text.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
    };
    running.children().into_iter().find(is_shown).expect("a worker of this device")
}

#[test]
fn rows_of_processes_are_those_of_threads() {
    let test = suite();
    test.run(&["run", "p.yaml", "--devices", "cpu"]).succeeds();
    let events = RunTest::watch(on_two(&test, &["run", "p.yaml"])).ends_with(0);
    let devices = |name: &str| -> Vec<String> {
        let named = events.iter().filter(|event| event["event"] == name);
        let mut devices: Vec<String> = named.map(|event| event["device"].to_string()).collect();
        devices.sort();
        devices.dedup();
        devices
    };
    assert_eq!(devices("worker_ready"), ["\"sim:0\"", "\"sim:1\""]);
    assert_eq!(devices("finished"), ["\"sim:0\"", "\"sim:1\""], "both solve");
    test.run(&["verify", "a", "--same-as", "b"]).succeeds().stdout("16 rows equal bit for bit, 0 different");
}

#[test]
fn a_killed_worker_starts_again_and_its_samples_go_on() {
    let test = suite();
    // Nobody is done before the killed worker is back, a second later, and no other has a slot for its samples.
    let stop = "methods[0].dflow.stop=[{evals: 120}]";
    test.run(&["run", "p.yaml", "--set", stop, "--devices", "cpu"]).succeeds();
    let options = ["run", "p.yaml", "--set", stop, "--checkpoint-every", "0"];
    let mut running = RunTest::watch(on_two(&test, &options));
    running.until("progress", |event| event["device"] == "sim:0" && event["evals"].as_u64() > Some(40));
    kill(worker_of(&running, "3"));
    let broken = running.until("worker_broken", |_| true);
    let error = broken["error"].as_str().unwrap();
    assert!(error.contains("was killed (signal 9)") && broken["restart_in"] == 1.0, "{broken}");
    running.until("worker_ready", |event| event["device"] == "sim:0");
    running.until("started", |event| event["resumed"] == true);
    running.ends_with(0);
    test.run(&["verify", "a", "--same-as", "b"]).succeeds().stdout("16 rows equal bit for bit, 0 different");
}

#[test]
fn a_sample_that_brings_two_workers_down_becomes_a_failed_row() {
    let test = suite();
    let mut command =
        test.command(&["run", "p.yaml", "--limit", "1", "--set", ENDLESS, "--tasks", "inpainting"]);
    command
        .args(["--devices", "sim", "--output", "b", "--methods", "d-flow"])
        .env("CUDA_VISIBLE_DEVICES", "0");
    let mut running = RunTest::watch(command);
    for _ in 0..2 {
        running.until("started", |_| true);
        kill(worker_of(&running, "0"));
        running.until("worker_broken", |_| true);
    }
    let finished = running.until("finished", |_| true);
    let error = finished["error"].as_str().unwrap();
    assert!(error.starts_with("two workers broke down while they solved it: its process ("), "{error}");
    running.ends_with(3);
    test.run(&["verify", "b"]).fails_with(4).stdout("1 failed");
}

#[test]
fn workers_end_with_their_parent_and_leave_checkpoints() {
    let test = suite();
    let options = ["run", "p.yaml", "--limit", "1", "--set", ENDLESS];
    let mut running = RunTest::watch(on_two(&test, &options));
    let seen = running.until("progress", |event| event["evals"].as_u64() > Some(5));
    let workers = running.children();
    assert_eq!(workers.len(), 2);
    running.signal(Signal::KILL);
    drop(running);
    wait_until("the workers end", || workers.iter().all(|worker| test_kill_process(*worker).is_err()));
    let mut again = RunTest::watch(on_two(&test, &options));
    let started = again.until("started", |event| event["row"] == seen["row"]);
    assert_eq!(started["resumed"], true);
}

/// Slurm sends signals to every process of a job.
#[test]
fn signals_to_workers_are_the_parents_affair() {
    let test = suite();
    let options = ["run", "p.yaml", "--limit", "1", "--set", ENDLESS];
    let mut running = RunTest::watch(on_two(&test, &options));
    running.until("progress", |_| true);
    for worker in running.children() {
        for signal in [Signal::TERM, Signal::USR1, Signal::INT] {
            kill_process(worker, signal).unwrap();
        }
    }
    let seen: Value = running.until("progress", |_| true);
    running.until("progress", |event| event["evals"].as_u64() > seen["evals"].as_u64());
    running.signal(Signal::TERM);
    let events = running.ends_with(75);
    assert!(events.iter().all(|event| event["event"] != "worker_broken"), "{events:?}");
    assert_eq!(events.iter().filter(|event| event["event"] == "suspended").count(), 2);
}

#[test]
fn a_warning_after_a_breakdown_is_an_early_stop() {
    let test = suite();
    let options = ["run", "p.yaml", "--limit", "1", "--set", ENDLESS];
    let mut running = RunTest::watch(on_two(&test, &options));
    let device = running.until("progress", |_| true)["device"].clone();
    kill(worker_of(&running, if device == "sim:0" { "3" } else { "1" }));
    running.until("worker_broken", |event| event["device"] == device);
    running.until("worker_ready", |event| event["device"] == device);
    running.signal(Signal::USR1);
    running.ends_with(75);
}

#[test]
fn devices_that_are_not_granted_are_one_clear_error() {
    let test = suite();
    let run = |list: &str, variable: (&str, &str)| {
        let mut command = test.command(&["run", "p.yaml", "--devices", list]);
        let output = command.env(variable.0, variable.1).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(!test.path("a").exists(), "nothing is written");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run("sim", ("CUDA_VISIBLE_DEVICES", "")).contains("no GPU is granted"));
    assert!(run("sim", ("SLURM_JOB_GPUS", "0,1")).contains("Slurm has granted GPUs (SLURM_JOB_GPUS=0,1)"));
    assert!(
        run("auto", ("SLURM_GPUS_ON_NODE", "2")).contains("Slurm has granted GPUs (SLURM_GPUS_ON_NODE=2)")
    );
    if !cfg!(feature = "cuda") {
        let text = run("auto", ("CUDA_VISIBLE_DEVICES", "0,1"));
        assert!(text.contains("2 GPUs are granted") && text.contains("without CUDA"), "{text}");
    }
}
