//! Bad input: one clear error that names cause and remedy, a documented exit code, and nothing half-written.

use std::path::Path;

use crate::run::{PIPELINE, suite};
use crate::run_test::RunTest;

/// Runs a pipeline text that must be refused before any work, with these words in the error.
#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let test = RunTest::new();
    test.file("p.yaml", text);
    let run = test.run(&["run", "p.yaml"]);
    run.fails_with(2);
    for word in words {
        run.stderr(word);
    }
    assert!(!test.path("a").exists(), "nothing is written");
}

#[track_caller]
fn refused_with(from: &str, to: &str, words: &[&str]) {
    assert!(PIPELINE.contains(from), "{from}");
    refused(&PIPELINE.replace(from, to), words);
}

#[test]
fn yaml_errors_name_line_and_column() {
    refused_with("name: suite\n", "name: suite\nname: again\n", &["p.yaml:2:", "name"]);
    refused_with("  - { name: inpainting", "\t- { name: inpainting", &["p.yaml:6", "tab"]);
    refused_with("center_mask", "centre_mask", &["p.yaml:6:", "center_mask"]);
    refused_with("regularizer: { chi: 0.01 }", "regularizer: { chi: .inf }", &["p.yaml:11:", "finite"]);
    refused_with("tasks:\n", "taks:\n", &["taks", "tasks"]);
    refused("", &["p.yaml"]);
}

#[test]
fn values_out_of_range_are_refused_before_any_work() {
    refused_with("size: 10", "size: -3", &["p.yaml:6:"]);
    refused_with("size: 10", "size: 40", &["40", "32"]);
    refused_with("factor: 2", "factor: 3", &["3", "32"]);
    refused_with("noise: 0.05", "noise: -0.05", &["noise"]);
    refused_with(
        "factor: 2",
        "factor: 2, pinv_cutoff: { per_axis: 9 }",
        &["p.yaml:7:", "below the largest singular value"],
    );
    refused_with(
        "      regularizer",
        "      init: { blend: { weight: 0.1, lift: measurement } }\n      regularizer",
        &["lift"],
    );
    refused_with("limit: 4", "limit: 0", &["limit"]);
    refused_with(
        "      regularizer",
        "      solver: { midpoint: { nfe: 5 } }\n      regularizer",
        &["nfe", "5"],
    );
}

#[test]
fn names_must_be_there_once() {
    refused_with("super-resolution-noisy", "inpainting", &["inpainting", "p.yaml:7:"]);
    refused_with("  - pinv: {}", "  - pinv: { name: d-flow }", &["d-flow"]);
    let tasks = PIPELINE.find("tasks:").unwrap()..PIPELINE.find("methods:").unwrap();
    refused(&PIPELINE.replace(&PIPELINE[tasks], "tasks: []\n"), &["tasks"]);
}

#[test]
fn every_semantic_error_of_a_file_is_reported_together() {
    let text = PIPELINE
        .replace("size: 10", "size: 40")
        .replace("noise: 0.05", "noise: -1")
        .replace("evals: 5", "evals: 0");
    refused(&text, &["40", "noise", "evals"]);
}

#[test]
fn missing_models_and_data_name_the_remedy() {
    refused_with("model: mini-images", "model: mini-image", &["mini-image"]);
    refused_with("model: mini-images", "model: no/such.yaml", &["no/such.yaml"]);
    refused_with("name: mini-images, limit", "name: cifar10, limit", &["cifar10", "--data"]);
    refused_with("name: mini-images, limit", "name: imagenet, limit", &["imagenet"]);
}

#[test]
fn labels_must_be_classes_of_the_model() {
    refused_with("      regularizer", "      condition: { fixed: 10 }\n      regularizer", &["10", "0 to 9"]);
}

#[test]
fn a_missing_pipeline_and_a_wrong_set_are_usage_errors() {
    let test = suite();
    test.run(&["run", "missing.yaml"]).fails_with(2).stderr("missing.yaml");
    test.run(&["run", "p.yaml", "--set", "tasks[9].noise=1"]).fails_with(2).stderr("tasks[9].noise=1");
    test.run(&["run", "p.yaml", "--set", "tasks[0].nois=1"]).fails_with(2).stderr("tasks[0].nois=1");
    test.run(&["run", "p.yaml", "--shard", "3/2"]).fails_with(2).stderr("3/2");
    test.run(&["run", "p.yaml", "--devices", "gpu"]).fails_with(2).stderr("gpu");
    test.run(&["run", "p.yaml", "--devices", "cpu:64x64"]).fails_with(2).stderr("cores");
    test.run(&["table", "1", "missing"]).fails_with(2).stderr("missing");
    assert!(!test.path("a").exists());
}

/// A home folder with the shipped mini model, whose weights a test may spoil.
fn with_own_weights(spoil: impl FnOnce(&Path)) -> RunTest {
    let test = suite();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    std::fs::create_dir_all(test.path("home/models/weights")).unwrap();
    std::fs::copy(models.join("mini-images.yaml"), test.path("home/models/mini-images.yaml")).unwrap();
    let weights = test.path("home/models/weights/mini-images.safetensors");
    std::fs::copy(models.join("weights/mini-images.safetensors"), &weights).unwrap();
    spoil(&weights);
    test
}

#[test]
fn spoiled_weights_are_named_and_nothing_is_written() {
    let truncate = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let rename = |path: &Path| std::fs::rename(path, path.with_extension("other")).unwrap();
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
    };
    for spoil in [&truncate as &dyn Fn(&Path), &rename, &flip] {
        let test = with_own_weights(spoil);
        test.run(&["run", "p.yaml", "--home", "home"]).fails_with(2).stderr("mini-images");
        assert!(!test.path("a").exists(), "nothing is written");
    }
    with_own_weights(|_| {}).run(&["run", "p.yaml", "--home", "home", "--limit", "1"]).succeeds();
}

#[test]
fn a_read_only_directory_is_an_error_that_names_it() {
    let test = suite();
    test.file("a", "a file where the run directory should be");
    test.run(&["run", "p.yaml"]).fails_with(1).stderr("a");
}

/// The program under a limit on file sizes, at which writes fail as they do on a full disk.
fn run_with_room_for(test: &RunTest, blocks: u32) -> std::process::Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" run p.yaml");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_dflow")]).current_dir(test.path(""));
    command.output().expect("there is a shell")
}

#[test]
fn without_room_for_the_rows_the_run_fails_with_the_file_and_continues_later() {
    let (test, whole) = (suite(), suite());
    whole.run(&["run", "p.yaml", "--output", "b"]).succeeds();
    // Blocks of 512 bytes: no room for run.json, for the reconstructions, for all of them.
    for blocks in [1, 20, 60] {
        let output = run_with_room_for(&test, blocks);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{blocks} blocks: {error}");
        assert!(error.contains("error: ") && error.contains("File too large"), "{blocks} blocks: {error}");
        if blocks == 1 {
            assert!(!test.path("a/run.json").exists(), "nothing is half-written");
        }
    }
    test.run(&["run", "p.yaml"]).succeeds();
    test.run(&["verify", "a", "--deep"]).succeeds();
    test.run(&["verify", "a", "--same-as", &whole.path("b").display().to_string()]).succeeds();
}
