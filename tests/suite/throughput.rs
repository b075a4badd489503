//! Slots and workers by measured throughput: what a run says of it, keeps and finds again.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::run::suite;
use crate::run_test::RunTest;

/// One evaluation of each of twelve samples, on all cores; the events of its log.
fn events(test: &RunTest, cache: &str, arguments: &[&str]) -> Vec<Value> {
    let fixed =
        ["run", "p.yaml", "--methods", "d-flow", "--tasks", "inpainting", "--set", "dataset.limit=12"];
    let _ = std::fs::remove_dir_all(test.path("a"));
    let arguments = [&fixed[..], &["--set", "methods[0].dflow.stop=[{evals: 1}]"][..], arguments].concat();
    test.run_with(&arguments, &[("XDG_CACHE_HOME", cache)]).succeeds();
    let log = std::fs::read_to_string(test.path("a/log.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).expect("a line is one object")).collect()
}

fn find<'a>(events: &'a [Value], name: &str) -> Option<&'a Value> {
    events.iter().find(|event| event["event"] == name)
}

/// The measurement behind the slots of the first worker.
fn slots(events: &[Value]) -> &Value {
    &find(events, "worker_ready").expect("a worker starts")["choice"]["measured"]
}

/// Files of rates by what they are `of`: rows in a call, or workers.
fn files(cache: &Path, of: &str) -> Vec<(PathBuf, Value)> {
    let files = std::fs::read_dir(cache.join("dflow")).unwrap().map(|entry| entry.unwrap().path());
    let rates = files.filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("throughput-"));
    let read = |file: PathBuf| {
        let value: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        (file, value)
    };
    rates.map(read).filter(|(_, value)| value["key"]["of"] == of).collect()
}

/// Writes other rates into a file, as if an idle machine had them.
fn forge((file, mut value): (PathBuf, Value), rates: &Value) {
    value["rows_per_second"] = rates.clone();
    value["was_busy"] = json!(false);
    std::fs::write(file, value.to_string()).unwrap();
}

#[test]
fn rates_are_measured_once_kept_and_decide() {
    let test = suite();
    let folder = test.path("cache");
    let cache = folder.to_str().unwrap();
    let one_thread = ["--devices", "cpu:1x1"];
    let first = events(&test, cache, &one_thread);
    assert_eq!(slots(&first)["earlier"], false, "{first:?}");
    assert_eq!((slots(&first)["rates"][0][0].as_u64(), find(&first, "layout")), (Some(1), None));
    let rows = files(&folder, "rows");
    assert_eq!(rows.len(), 1);

    // A second run finds it; what it says decides.
    forge(rows[0].clone(), &json!([[1, 10.0], [2, 10.2], [4, 30.0], [8, 30.1]]));
    let second = events(&test, cache, &one_thread);
    assert_eq!(slots(&second)["earlier"], true);
    assert_eq!(find(&second, "worker_ready").unwrap()["slots"], 4);

    // One sample, or a number that was given, needs none; nor do more slots than samples do any good.
    for (arguments, count) in [(["--limit", "1"], 1), (["--slots", "3"], 3), (["--slots", "100000"], 12)] {
        let events = events(&test, cache, &[&one_thread[..], &arguments].concat());
        assert_eq!(find(&events, "worker_ready").unwrap()["slots"], count, "{arguments:?}");
        assert!(slots(&events).is_null());
    }

    // What is broken is measured again and replaced.
    std::fs::write(&rows[0].0, "{").unwrap();
    let third = events(&test, cache, &one_thread);
    assert_eq!(slots(&third)["earlier"], false);
    assert_eq!(files(&folder, "rows").len(), 1);
}

#[test]
fn auto_takes_the_faster_layout() {
    let test = suite();
    let folder = test.path("cache");
    let cache = folder.to_str().unwrap();
    let devices = |events: &[Value]| find(events, "begin").unwrap()["devices"].as_array().unwrap().len();
    let first = events(&test, cache, &["--devices", "auto"]);
    let cores = std::thread::available_parallelism().unwrap().get();
    // Twelve samples: four for each of three workers at the most.
    if !(2..=3).contains(&cores) {
        assert_eq!(
            (find(&first, "layout"), devices(&first)),
            (None, 1),
            "nothing to share out, or too few samples"
        );
        return;
    }
    assert_eq!(find(&first, "layout").unwrap()["layouts"]["earlier"], false);
    let workers = || files(&folder, "workers").remove(0);
    for (apart, count) in [(200.0, cores), (100.0, cores), (50.0, 1)] {
        forge(workers(), &json!([[1, 100.0], [cores, apart]]));
        let found = events(&test, cache, &["--devices", "auto"]);
        assert_eq!(
            (&find(&found, "layout").unwrap()["layouts"]["earlier"], devices(&found)),
            (&json!(true), count)
        );
    }
    // Given devices stay as they are, whatever would be faster.
    forge(workers(), &json!([[1, 100.0], [cores, 200.0]]));
    let given = events(&test, cache, &["--devices", "cpu"]);
    assert_eq!((&find(&given, "layout").unwrap()["is_free"], devices(&given)), (&json!(false), 1));
}
