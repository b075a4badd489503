//! `dflow timeline`: the command, and what the log of a killed run says of it.

use rustix::process::Signal;
use serde_json::Value;

use crate::run::suite;
use crate::run_test::RunTest;

/// A stop rule that no test lives to see.
const ENDLESS: &str = "methods[0].dflow.stop=[{evals: 4000000}]";

/// The row of the only device.
fn device(test: &RunTest) -> Value {
    let tables = test.run(&["timeline", "a", "--json"]).succeeds().json();
    assert_eq!(
        (&tables[0]["table"], tables[0]["rows"].as_array().map(Vec::len)),
        (&"timeline".into(), Some(1))
    );
    tables[0]["rows"][0].clone()
}

#[test]
fn a_run_has_a_picture_and_a_row_for_each_device() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    test.run(&["timeline", "a"]).succeeds().stdout("cpu:0").stdout("a/timeline.svg");
    std::fs::create_dir(test.path("elsewhere")).unwrap();
    test.run(&["timeline", "a", "--out", "elsewhere"]).succeeds().stdout("elsewhere/timeline.svg");
    for kind in ["svg", "png", "csv", "parquet"] {
        let [here, there] = ["a", "elsewhere"]
            .map(|folder| std::fs::read(test.path(folder).join(format!("timeline.{kind}"))).unwrap());
        assert!(!here.is_empty() && here == there, "{kind}");
    }
    let svg = std::fs::read_to_string(test.path("a/timeline.svg")).unwrap();
    assert!(svg.contains("cpu:0") && svg.contains("d-flow") && svg.contains("pinv"), "{svg}");
    let row = device(&test);
    assert_eq!(
        (&row["device"], &row["processes"], &row["solves"]),
        (&"cpu:0".into(), &1.0.into(), &4.0.into())
    );
    assert_eq!(row["unfinished"].as_f64(), Some(0.0));
    test.run(&["timeline", "a", "--out", "p.yaml/x"])
        .fails_with(1)
        .stderr("cannot write p.yaml/x/timeline.csv");
}

#[test]
fn a_run_without_solves_has_none_and_says_why() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    std::fs::remove_file(test.path("a/log.jsonl")).unwrap();
    test.run(&["timeline", "a"]).fails_with(2).stderr("log.jsonl").stderr("have no solves");
    assert!(!test.path("a/timeline.svg").exists());
    test.run(&["timeline", "p.yaml"]).fails_with(2);
}

#[test]
fn a_killed_run_was_busy_until_then_also_without_its_heartbeat() {
    let test = suite();
    let options = ["run", "p.yaml", "--limit", "1", "--methods", "d-flow", "--set", ENDLESS];
    let mut running = test.start(&options);
    let log = || std::fs::read_to_string(test.path("a/log.jsonl")).unwrap();
    running.until("progress", |_| log().contains("\"event\":\"progress\""));
    running.signal(Signal::KILL);
    drop(running);
    // As the next process of its chunk does.
    let _ = std::fs::remove_dir_all(test.path("a/nodes"));
    let row = device(&test);
    assert!(row["unfinished"].as_f64() > Some(0.0), "{row}");
    assert!(row["busy_seconds"].as_f64() > Some(0.0), "{row}");
}
