//! Readings of devices and processes, heartbeats and the live view of whole runs. GPUs are those of a stand-in of the
//! driver's library, which is compiled here and loaded by the program in a process of its own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dflow::store::fs::OsFs;
use dflow::store::nodes::{self, Node};
use dflow::store::{Columns, Layout, read_samples, read_telemetry};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::run::{PIPELINE, suite};
use crate::run_test::RunTest;

/// A directory with the stand-in in it.
fn with_gpus() -> (RunTest, PathBuf) {
    let test = RunTest::new();
    let library = test.path("libfake_nvml.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/nvml/fake_nvml.c");
    let mut cc = Command::new("cc");
    let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(
        built.expect("programs are linked with cc as well").success(),
        "tools/nvml/fake_nvml.c does not compile"
    );
    (test, library)
}

/// What `dflow devices --json` tells of the GPUs, under these variables.
fn gpus(variables: &[(&str, &str)]) -> Value {
    let (test, library) = with_gpus();
    let mut command = test.command(&["devices", "cpu", "--json"]);
    for name in ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"] {
        command.env_remove(name);
    }
    let output = command.env("DFLOW_NVML", library).envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn uuids(value: &Value) -> Vec<&str> {
    let gpus = value["gpus"].as_array().unwrap().iter();
    gpus.map(|gpu| gpu["uuid"].as_str().map_or("none", |uuid| &uuid[..9])).collect()
}

#[test]
fn gpus_are_those_that_cuda_shows_in_its_order() {
    for (visible, expected) in [
        ("0,1", vec!["GPU-fake0", "GPU-fake1"]),
        ("1,0", vec!["GPU-fake1", "GPU-fake0"]),
        ("GPU-fake1", vec!["GPU-fake1"]),
        ("GPU-fake1-0000-0000-0000-000000000000,0", vec!["GPU-fake1", "GPU-fake0"]),
        ("1,-1,0", vec!["GPU-fake1"]),
        ("", vec![]),
        ("NoDevFiles", vec![]),
        ("2", vec![]),
    ] {
        let value = gpus(&[("CUDA_VISIBLE_DEVICES", visible)]);
        assert_eq!((uuids(&value), &value["notes"]), (expected, &json!([])), "{visible:?}");
    }
    assert_eq!(uuids(&gpus(&[])), ["GPU-fake0", "GPU-fake1"]);
}

#[test]
fn gpus_are_shown_also_where_they_cannot_be_used() {
    let (test, library) = with_gpus();
    let shown = |arguments: &[&str]| {
        let mut command = test.command(arguments);
        let output = command.env("DFLOW_NVML", &library).env("CUDA_VISIBLE_DEVICES", "0,1").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "there is no such device, or no CUDA in this program");
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    let [results, messages] = shown(&["devices", "cuda:99"]);
    assert!(results.contains("GPU cuda:0: ") && results.contains("GPU-fake1"), "{results}");
    assert!(messages.contains("cuda:99"), "{messages}");
    let value: Value = serde_json::from_str(&shown(&["devices", "cuda:99", "--json"])[0]).unwrap();
    assert_eq!((uuids(&value), &value["devices"]), (vec!["GPU-fake0", "GPU-fake1"], &json!([])));
    assert!(value["error"].as_str().is_some_and(|error| error.contains("cuda:99")), "{value}");
}

#[test]
fn a_gpu_that_cannot_be_told_from_another_has_no_readings() {
    for (variables, why) in [
        ([("CUDA_VISIBLE_DEVICES", "GPU-fake"), ("X", "")], "no GPU, or more than one"),
        ([("CUDA_VISIBLE_DEVICES", "GPU-9"), ("X", "")], "no GPU, or more than one"),
        ([("CUDA_VISIBLE_DEVICES", "MIG-GPU-1/2/3"), ("X", "")], "does not find the MIG instance"),
        ([("CUDA_VISIBLE_DEVICES", "1"), ("FAKE_NVML_MODELS", "2")], "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
    ] {
        let value = gpus(&variables);
        assert_eq!(
            (uuids(&value), &value["gpus"][0]["power"]),
            (vec!["none"], &Value::Null),
            "{variables:?}"
        );
        assert!(value["notes"][0].as_str().is_some_and(|note| note.contains(why)), "{value}");
    }
    let by_bus =
        [("CUDA_VISIBLE_DEVICES", "1"), ("FAKE_NVML_MODELS", "2"), ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")];
    assert_eq!(uuids(&gpus(&by_bus)), ["GPU-fake1"]);
    let by_uuid = [("CUDA_VISIBLE_DEVICES", "GPU-fake1"), ("FAKE_NVML_MODELS", "2")];
    assert_eq!(uuids(&gpus(&by_uuid)), ["GPU-fake1"]);
}

#[test]
fn a_mig_instance_has_its_own_memory_and_nothing_of_the_whole_gpu() {
    let mig = "MIG-fake-0000-0000-0000-000000000001";
    let value = gpus(&[("CUDA_VISIBLE_DEVICES", mig)]);
    let gpu = &value["gpus"][0];
    assert_eq!((&gpu["uuid"], &gpu["memory_total"]), (&json!(mig), &json!(10_u64 << 30)));
    assert!(gpu["power"].is_null() && gpu["gpu_utilization"].is_null() && value["notes"] == json!([]));
}

/// What the stand-in calls a reading, and the columns that hang on it.
const READINGS: &[(&str, &[&str])] = &[
    ("utilization", &["gpu_utilization", "memory_utilization"]),
    ("memory", &["memory_used", "memory_total"]),
    ("power", &["power"]),
    ("power_limit", &["power_limit"]),
    ("temperature", &["temperature"]),
    ("sm_clock", &["sm_clock"]),
    ("memory_clock", &["memory_clock"]),
    ("ecc", &["ecc_corrected", "ecc_uncorrected"]),
    ("throttle", &["throttle"]),
    ("name", &["name"]),
    ("uuid", &["uuid"]),
];

#[test]
fn every_reading_is_there_in_its_unit() {
    let value = gpus(&[("CUDA_VISIBLE_DEVICES", "1")]);
    let mut gpu = value["gpus"][0].clone();
    assert!(gpu["gpu_utilization"].as_u64().is_some_and(|percent| percent <= 100));
    gpu["gpu_utilization"] = Value::Null;
    let expected = json!({
        "time_ms": 0, "elapsed_seconds": 0.0, "host": "", "device": "cuda:0", "attempt": "", "pid": 0,
        "name": "Fake GPU", "uuid": "GPU-fake1-0000-0000-0000-000000000000",
        "gpu_utilization": null, "memory_utilization": 5,
        "memory_used": 2_u64 << 30, "memory_total": 80_u64 << 30,
        "power": 301.0, "power_limit": 700.0, "temperature": 41, "sm_clock": 1980, "memory_clock": 2619,
        "ecc_corrected": 7, "ecc_uncorrected": 1, "throttle": "sw_power_cap+hw_thermal_slowdown",
        "cpu_cores": null, "resident_memory": null
    });
    assert_eq!(gpu, expected);
}

#[test]
fn a_reading_that_is_not_supported_is_null_and_no_other_is() {
    let all: BTreeSet<&str> = READINGS.iter().flat_map(|(_, columns)| columns.iter().copied()).collect();
    for (reading, columns) in READINGS {
        // By its index a GPU is known only among those of one model; without UUIDs, by nothing else.
        let shown = if *reading == "uuid" { "1" } else { "GPU-fake1-0000-0000-0000-000000000000" };
        let variables = [("CUDA_VISIBLE_DEVICES", shown), ("FAKE_NVML_UNSUPPORTED", reading)];
        let value = gpus(&variables);
        let gpu = &value["gpus"][0];
        let null: BTreeSet<&str> = all.iter().copied().filter(|column| gpu[column].is_null()).collect();
        assert_eq!(null, columns.iter().copied().collect(), "{reading}");
    }
}

#[test]
fn a_lost_gpu_and_a_driver_that_refuses_are_no_errors() {
    let value = gpus(&[("CUDA_VISIBLE_DEVICES", "0"), ("FAKE_NVML_LOST", "0")]);
    let nulls = READINGS.iter().flat_map(|(_, columns)| columns.iter());
    assert!(
        nulls.clone().count() > 10 && nulls.clone().all(|column| value["gpus"][0][column].is_null()),
        "{value}"
    );
    let refused = gpus(&[("FAKE_NVML_INIT_ERROR", "9")]);
    assert!(refused["gpus"] == json!([]) && refused["notes"][0].as_str().unwrap().starts_with("NVML: "));
    let absent = gpus(&[("DFLOW_NVML", "/nowhere.so")]);
    assert!(absent["notes"][0].as_str().unwrap().contains("cannot be loaded"), "{absent}");
}

#[test]
fn one_lost_gpu_leaves_the_others_their_readings_and_is_the_only_reason() {
    let (by_bus, both) = (("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("CUDA_VISIBLE_DEVICES", "0,1"));
    let (lost, none_known) = (("FAKE_NVML_LOST", "1"), vec!["none", "none"]);
    for (variables, expected) in [
        (vec![lost, by_bus], vec!["GPU-fake0", "none"]),
        (vec![lost, by_bus, both], vec!["GPU-fake0", "none"]),
        (vec![lost, ("CUDA_VISIBLE_DEVICES", "GPU-fake0,GPU-fake1")], vec!["GPU-fake0", "none"]),
        // Its model is not known, so that the fastest may be either.
        (vec![lost, both], none_known.clone()),
        // CUDA may count the other as the first, or as the second.
        (vec![("FAKE_NVML_LOST", "0"), by_bus], none_known),
    ] {
        let value = gpus(&variables);
        assert_eq!(uuids(&value), expected, "{variables:?}");
        assert_eq!(
            value["gpus"][0]["power"].as_f64(),
            (expected[0] == "GPU-fake0").then_some(300.0),
            "{value}"
        );
        let notes = value["notes"].as_array().unwrap();
        let note = notes[0].as_str().unwrap();
        assert!(
            notes.len() == 1 && note.starts_with(&format!("NVML cannot read GPU {}: ", variables[0].1)),
            "{value}"
        );
        assert!(!note.contains("models") && !note.contains("CUDA_DEVICE_ORDER"), "{value}");
    }
    for (lost, uuid) in [("1", "GPU-fake0"), ("0", "GPU-fake1")] {
        let value = gpus(&[("FAKE_NVML_LOST", lost), ("CUDA_VISIBLE_DEVICES", uuid)]);
        assert_eq!((uuids(&value), &value["notes"]), (vec![uuid], &json!([])), "{value}");
    }
}

#[test]
fn gpus_that_a_cgroup_denies_are_not_counted() {
    let first = ("FAKE_NVML_DENIED", "0");
    for (variables, expected) in [
        (vec![first], vec!["GPU-fake1"]),
        // Slurm counts from 0 among those of the task.
        (vec![first, ("CUDA_VISIBLE_DEVICES", "0")], vec!["GPU-fake1"]),
        (vec![first, ("CUDA_VISIBLE_DEVICES", "0"), ("FAKE_NVML_MODELS", "2")], vec!["GPU-fake1"]),
        (vec![first, ("CUDA_VISIBLE_DEVICES", "1")], vec![]),
        (vec![first, ("CUDA_VISIBLE_DEVICES", "GPU-fake1")], vec!["GPU-fake1"]),
        (vec![("FAKE_NVML_DENIED", "1"), ("CUDA_VISIBLE_DEVICES", "0")], vec!["GPU-fake0"]),
    ] {
        let value = gpus(&variables);
        assert_eq!((uuids(&value), &value["notes"]), (expected.clone(), &json!([])), "{variables:?}");
        let power = value["gpus"][0]["power"].as_f64();
        assert_eq!(power.is_some(), !expected.is_empty(), "{value}");
    }
    let none = gpus(&[("FAKE_NVML_DENIED", "0,1")]);
    let note = none["notes"][0].as_str().unwrap();
    assert!(none["gpus"] == json!([]) && note.contains("none of the GPUs of this machine"), "{none}");
}

#[test]
fn a_run_leaves_readings_of_every_attempt_and_an_ended_heartbeat() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    let layout = Layout::new(test.path("a"));
    let rows = read_samples(&OsFs, &layout, Columns::WithoutTrace).unwrap();
    let readings = read_telemetry(&OsFs, &layout).unwrap();
    let attempts = |of: &dyn Fn() -> Vec<String>| of().into_iter().collect::<BTreeSet<String>>();
    let of_rows = attempts(&|| rows.iter().map(|row| row.attempt.clone()).collect());
    let of_readings = attempts(&|| readings.iter().map(|row| row.attempt.clone()).collect());
    assert!(of_rows.is_subset(&of_readings), "{of_rows:?} {of_readings:?}");
    assert!(
        readings
            .iter()
            .all(|row| row.device == "cpu:0" && row.resident_memory.is_some() && row.power.is_none())
    );
    let nodes = nodes::read_all(&OsFs, &layout).unwrap();
    assert_eq!(nodes.len(), 1);
    let Node { ended_ms, given, finished, failed, .. } = nodes[0];
    assert!(ended_ms.is_some() && (given, finished, failed) == (4, 4, 0), "{nodes:?}");
    let table = test.run(&["table", "1", "a"]);
    table.succeeds().stdout("device s/sample");
    assert!(!table.results().contains("energy"), "no device told its power");
}

#[test]
fn rows_of_devices_that_tell_their_power_have_an_energy() {
    let (test, library) = with_gpus();
    test.file("p.yaml", PIPELINE);
    let mut run = test.command(&["run", "p.yaml", "--devices", "sim", "--limit", "2"]);
    let output = run.env("DFLOW_NVML", library).env("CUDA_VISIBLE_DEVICES", "1,0").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let readings = read_telemetry(&OsFs, &Layout::new(test.path("a"))).unwrap();
    for (device, uuid, power) in [("sim:0", "GPU-fake1", 301.0), ("sim:1", "GPU-fake0", 300.0)] {
        let own: Vec<_> = readings.iter().filter(|row| row.device == device).collect();
        assert!(!own.is_empty() && own.iter().all(|row| row.power == Some(power)), "{own:?}");
        assert!(own.iter().all(|row| row.uuid.as_ref().is_some_and(|text| text.starts_with(uuid))));
    }
    for format in ["md", "csv", "latex", "json"] {
        test.run(&["table", "1", "a", "--format", format]).succeeds().stdout("energy");
    }
    let text = test.run(&["table", "1", "a"]).succeeds().results();
    let cost = text.split_once("Table 1, cost").expect("a table of cost").1;
    let rule = cost.lines().find(|line| line.starts_with('─')).unwrap().chars().count();
    assert!(cost.contains("energy kJ/sample") && rule <= 140, "{rule} columns: {cost}");
    let json = test.run(&["table", "1", "a", "--json"]).succeeds().json();
    let cost = json.as_array().unwrap().iter().find(|table| table["table"] == "table1-cost").unwrap();
    let [energy, seconds] = ["energy_kilojoules", "device_seconds"].map(|key| cost["rows"][0][key].clone());
    let mean = |cell: &Value| cell["mean"].as_f64().expect("a mean");
    let power = 1000.0 * mean(&energy) / mean(&seconds);
    assert!((299.999..=301.001).contains(&power), "{energy} for {seconds}");
}

#[test]
fn a_run_without_readings_leaves_none() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1", "--telemetry-every", "0"]).succeeds();
    assert!(!test.path("a/telemetry").exists() && !test.path("a/telemetry.parquet").exists());
}

#[test]
fn a_killed_run_is_shown_and_then_continues() {
    let test = suite();
    let mut running = test.start(&["run", "p.yaml", "--checkpoint-every", "0"]);
    running.until("started", |_| true);
    // The first heartbeat comes at once, beside the samples.
    while test.path("a/nodes").read_dir().map_or(0, Iterator::count) == 0 {
        std::thread::yield_now();
    }
    test.run(&["status", "a"]).succeeds().stdout("processes: 1 working").stdout("of 16 rows durable");
    drop(running);
    let value = test.run(&["status", "a", "--json"]).succeeds().json();
    assert_eq!(value["nodes"][0]["state"], "alive", "not a minute ago");
    assert_eq!(value["planned"], 16);
    test.run(&["run", "p.yaml"]).succeeds();
    let value = test.run(&["status", "a", "--json"]).succeeds().json();
    assert_eq!((&value["done"], &value["seconds_left"]), (&json!(16), &Value::Null));
}

#[test]
fn a_watch_into_a_pipe_says_each_state_once() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    let lines = test.run(&["status", "a", "--watch"]).succeeds().results();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.starts_with("suite: 4 of 4 rows durable, 0 failed") && !lines.contains('\x1b'), "{lines}");
    test.run(&["status", "a", "--watch", "--json"]).fails_with(2).stderr("leave --watch out");
    test.run(&["status", "a", "--watch", "0"]).fails_with(2);
}

#[test]
fn a_watch_follows_what_others_write_until_every_row_is_there() {
    let test = suite();
    test.run(&["run", "p.yaml", "--methods", "pinv"]).succeeds();
    let mut watch = test.command(&["status", "a", "--watch", "1"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("suite: 8 of 16 rows durable"));
    test.run(&["run", "p.yaml"]).succeeds();
    let last = lines.last().expect("the rows that were added");
    assert!(last.starts_with("suite: 16 of 16 rows durable"), "{last}");
    assert!(watch.wait().unwrap().success());
}

#[test]
fn a_watch_that_is_interrupted_does_not_say_that_the_run_is_complete() {
    let test = suite();
    test.run(&["run", "p.yaml", "--methods", "pinv"]).succeeds();
    let mut watch = test.command(&["status", "a", "--watch"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    // It listens before it prints.
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("suite: 8 of 16 rows durable"));
    kill_process(Pid::from_child(&watch), Signal::INT).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(130));
}

#[test]
fn a_watch_ends_when_nobody_reads_it_any_more() {
    let test = suite();
    test.run(&["run", "p.yaml", "--methods", "pinv"]).succeeds();
    let mut watch = test.command(&["status", "a", "--watch", "600"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("suite: 8 of 16 rows durable"));
    // As `head -1` does. Nothing changes any more, so that no write could tell.
    drop(lines);
    let begin = Instant::now();
    let end: Option<ExitStatus> = loop {
        match watch.try_wait().unwrap() {
            None if begin.elapsed() < Duration::from_secs(120) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            end => break end,
        }
    };
    watch.kill().unwrap();
    let output = watch.wait_with_output().unwrap();
    assert_eq!(end.map(|end| end.code()), Some(Some(130)), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
