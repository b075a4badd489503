//! Molecules end to end: the shipped prior and classifiers, in small.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::run_test::RunTest;

/// Two properties, D-Flow and unconditional samples, few steps: molecules of poor quality in little time.
const PIPELINE: &str = "
name: small
dataset: { name: qm9-targets, limit: 3 }
model: mini-molecules
devices: cpu:1x1
tasks:
  - { name: alpha, property: { name: alpha, classifier: small-alpha } }
  - { name: gap, property: { name: gap, classifier: small-gap, value: 7 } }
methods:
  - dflow:
      name: d-flow
      condition: none
      solver: { midpoint: { nfe: 8 } }
      init: source
      loss: { squared_error: measurement }
      optimizer: { lbfgs: { inner: 5 } }
      normalize: { per_feature: {} }
      stop: [ { outer_steps: 3 } ]
  - sample: { name: free, condition: none, solver: { midpoint: { nfe: 8 } } }
  - sample: { name: adaptive, tasks: [alpha], condition: none, solver: { dopri5: { rtol: 0.01, atol: 0.01 } } }
save: [ reconstructions ]
output: a
";

fn suite() -> RunTest {
    let test = RunTest::new();
    test.file("p.yaml", PIPELINE);
    test
}

#[test]
fn a_run_ends_in_the_tables_of_molecules_and_their_files() {
    let test = suite();
    test.run(&["run", "p.yaml"]).succeeds().stdout("15 ok, 0 failed, 0 missing");
    test.run(&["verify", "a", "--deep"]).succeeds();
    for number in ["4", "5", "8"] {
        test.run(&["table", number, "a"]).succeeds().stdout("† small classifier").stdout("d-flow");
    }
    let table = test.run(&["table", "4", "a", "--json"]).succeeds().json().to_string();
    assert!(table.contains("1.39") && table.contains("these classifiers"), "{table}");
    test.run(&["table", "7", "a"]).fails_with(2).stderr("unconditional molecules");
    for kind in ["xyz", "sdf"] {
        let text =
            std::fs::read_to_string(test.path(format!("a/artifacts/{kind}/alpha/d-flow/0.{kind}"))).unwrap();
        assert!(text.contains("alpha/d-flow/0 property"), "{text}");
    }
    test.run(&["report", "a"]).succeeds().stdout("molecules.svg");
    let svg = std::fs::read_to_string(test.path("a/figures/molecules.svg")).unwrap();
    assert!(svg.starts_with("<svg") || svg.starts_with("<?xml"), "{}", &svg[..80]);
    test.run(&["draws", "p.yaml", "draws.safetensors"]).succeeds();
}

#[test]
fn rows_of_molecules_do_not_depend_on_threads_workers_slots_memory_or_shards() {
    let test = suite();
    test.run(&["run", "p.yaml"]).succeeds();
    let variants: [&[&str]; 4] = [
        &["--devices", "cpu:2x1", "--slots", "1"],
        &["--devices", "cpu:1x2", "--slots", "7"],
        &["--devices", "cpu:1x1", "--slots", "4", "--memory", "recompute"],
        &["--shard", "1/2"],
    ];
    for (i, variant) in variants.into_iter().enumerate() {
        let output = format!("b{i}");
        let run = |options: &[&str]| {
            let all = [&["run", "p.yaml", "--output", &output] as &[&str], options].concat();
            test.run(&all).succeeds();
        };
        run(variant);
        if variant[0] == "--shard" {
            run(&["--shard", "2/2"]);
        }
        test.run(&["verify", "a", "--same-as", &output])
            .succeeds()
            .stdout("15 rows equal bit for bit, 0 different");
    }
}

#[test]
fn killed_and_stopped_solves_of_molecules_end_in_the_same_rows() {
    let test = suite();
    test.run(&["run", "p.yaml"]).succeeds();
    let again = ["run", "p.yaml", "--output", "b", "--checkpoint-every", "0"];
    for kill in 0..4_u64 {
        let mut writer = test.command(&again).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Moments spread over the run, by a fixed rule; the outcome must not depend on them.
        std::thread::sleep(Duration::from_millis(30 + 90 * kill));
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
    let endless = "methods[0].dflow.stop=[{evals: 4000000}]";
    let mut stopped = test.start(&["run", "p.yaml", "--output", "c", "--set", endless]);
    stopped.until("progress", |_| true);
    stopped.signal(Signal::USR1);
    stopped.ends_with(75);
    test.run(&again).succeeds().stdout("15 ok, 0 failed, 0 missing");
    test.run(&["verify", "a", "--same-as", "b"]).succeeds().stdout("15 rows equal bit for bit, 0 different");
}

#[test]
fn what_is_wrong_with_molecules_is_said_before_any_work() {
    let test = suite();
    for (set, message) in [
        ("tasks[0].property.classifier=small-gap", "reads gap, not alpha"),
        ("tasks[0].property.classifier=small-nothing", "small-nothing"),
        ("model=mini-images", "makes images of 3×32×32"),
        ("dataset.name=mini-images", "`property` is not for images"),
        ("methods[0].dflow.init={blend: 0.1}", "no measurement that could be inverted"),
        ("methods[0].dflow.optimizer={lbfgs: {initial: {bands: {}}}}", "bands of frequency are of images"),
        ("methods[0].dflow.stop_tests=evaluation", "x₀ is normalised between outer steps"),
    ] {
        test.run(&["run", "p.yaml", "--set", set]).fails_with(2).stderr(message);
    }
    assert!(!test.path("a").exists());
    let ancestral = PIPELINE.replace(
        "sample: { name: free, condition: none, solver: { midpoint: { nfe: 8 } } }",
        "ancestral: { steps: 5, condition: none }",
    );
    test.file("q.yaml", &ancestral);
    test.run(&["run", "q.yaml"]).fails_with(2).stderr("predicts the noise");
}

/// The lower bound of Table 4 is what the command measures on the molecules that nothing was trained on.
#[test]
fn classifiers_state_the_error_that_is_measured() {
    let Some(data) = crate::test_data::folder() else { return };
    let data = data.to_str().unwrap();
    let test = RunTest::new();
    for name in ["gap", "small-gap"] {
        let measured = test.run(&["model", "classifier", name, "--data", data, "--json"]).succeeds().json();
        assert_eq!(measured["molecules"], 2000);
        let listed = test.run(&["model", "list", "--data", data, "--json"]).json();
        let stated = listed.as_array().unwrap().iter().find(|model| model["name"] == name).unwrap();
        let (measured, stated) = (measured["mae"].as_f64().unwrap(), stated["mae"].as_f64().unwrap());
        assert!((measured - stated).abs() < 6e-5, "{name}: {measured}, stated {stated}");
    }
}
