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
    refused_with("name: suite\n", "name: suite\nname: again\n", &["p.yaml:2:1: `name` is given twice"]);
    refused_with("  - { name: inpainting", "\t- { name: inpainting", &["p.yaml:6:2: tabs disallowed"]);
    refused_with("center_mask", "centre_mask", &["p.yaml:6:37: unknown name", "did you mean `center_mask`?"]);
    refused_with(
        "regularizer: { chi: 0.01 }",
        "regularizer: { chi: .inf }",
        &["p.yaml:11:27: chi must be a finite number that is not negative, got inf"],
    );
    refused_with("tasks:\n", "taks:\n", &["p.yaml:5:1: unknown field `taks`", "did you mean `tasks`?"]);
    refused("", &["p.yaml:1:1: the text ends too early; is the file empty?"]);
    let twice = format!("{PIPELINE}---\n{PIPELINE}");
    refused(&twice, &["a second YAML document begins here, but a file holds one", "into a file of its own"]);
}

#[test]
fn values_that_are_missing_or_too_large_are_named_as_such() {
    refused_with("name: suite", "name:", &["p.yaml:1:5: expected a text, but there is no value"]);
    refused_with("size: 10", "size:", &["a whole number that is not negative, but there is no value"]);
    refused_with(
        "size: 10",
        "size: 99999999999",
        &["p.yaml:6:58: expected a whole number of at most 4294967295, got `99999999999`"],
    );
    refused_with(
        "model: mini-images",
        "model: mini-images\nseed: 18446744073709551616",
        &["p.yaml:4:7: expected a whole number of at most 18446744073709551615"],
    );
}

#[test]
fn values_out_of_range_are_refused_before_any_work() {
    refused_with(
        "size: 10",
        "size: -3",
        &["p.yaml:6:58: expected a whole number that is not negative, got `-3`"],
    );
    refused_with(
        "size: 10",
        "size: 40",
        &["p.yaml:6:58: a hole of 40×40 leaves nothing of an image of 3×32×32"],
    );
    refused_with(
        "factor: 2",
        "factor: 3",
        &["p.yaml:7:", "the factor 3 does not divide the sides of an image of 3×32×32"],
    );
    refused_with(
        "noise: 0.05",
        "noise: -0.05",
        &["noise must be a finite number that is not negative, got -0.05"],
    );
    refused_with(
        "factor: 2",
        "factor: 2, pinv_cutoff: { per_axis: 9 }",
        &["p.yaml:7:", "below the largest singular value"],
    );
    refused_with(
        "      regularizer",
        "      init: { blend: { weight: 0.1, lift: measurement } }\n      regularizer",
        &["2 errors in p.yaml", "the measurement of inpainting has not the image's shape"],
    );
    refused_with("limit: 4", "limit: 0", &["p.yaml:2:38: a limit of 0 leaves no sample"]);
    let solver = |nfe: u32| format!("      solver: {{ midpoint: {{ nfe: {nfe} }} }}\n      regularizer");
    refused_with(
        "      regularizer",
        &solver(5),
        &["p.yaml:11:34: midpoint takes 2 evaluations a step: 5 is no multiple of it, 4 or 6 would be"],
    );
    refused_with("      regularizer", &solver(4294967295), &["nfe must be at most 1000000, got 4294967295"]);
}

#[test]
fn names_must_be_there_once() {
    refused_with(
        "super-resolution-noisy",
        "inpainting",
        &["p.yaml:7:13: there are two tasks of the name `inpainting`"],
    );
    refused_with(
        "  - pinv: {}",
        "  - pinv: { name: d-flow }",
        &["there are two methods of the name `d-flow`: give one of them another `name:`"],
    );
    let tasks = PIPELINE.find("tasks:").unwrap()..PIPELINE.find("methods:").unwrap();
    refused(&PIPELINE.replace(&PIPELINE[tasks], "tasks: []\n"), &["there is no task: nothing to run"]);
}

#[test]
fn every_semantic_error_of_a_file_is_reported_together() {
    let text = PIPELINE
        .replace("size: 10", "size: 40")
        .replace("noise: 0.05", "noise: -1")
        .replace("evals: 5", "evals: 0");
    let words = ["3 errors in p.yaml", "a hole of 40×40", "noise must be", "evals must be at least 1, got 0"];
    refused(&text, &words);
}

#[test]
fn missing_models_and_data_name_the_remedy() {
    refused_with(
        "model: mini-images",
        "model: mini-image",
        &["no model `mini-image` (nearest: `mini-images`)", "`dflow model list` shows what there is"],
    );
    refused_with("model: mini-images", "model: no/such.yaml", &["model file no/such.yaml: No such file"]);
    refused_with(
        "name: mini-images, limit",
        "name: cifar10, limit",
        &["dataset `cifar10` needs files: give the folder that holds `cifar10_jpeg/` (--data"],
    );
    refused_with(
        "name: mini-images, limit",
        "name: imagenet, limit",
        &["unknown dataset `imagenet`: shipped are mini-images, cifar10"],
    );
}

#[test]
fn labels_must_be_classes_of_the_model() {
    refused_with(
        "      regularizer",
        "      condition: { fixed: 10 }\n      regularizer",
        &["p.yaml:11:27: label 10 is out of range: the model has classes 0 to 9"],
    );
}

#[test]
fn a_missing_pipeline_and_a_wrong_set_are_usage_errors() {
    let test = suite();
    for (arguments, message) in [
        (&["run", "missing.yaml"] as &[&str], "cannot read the pipeline file missing.yaml"),
        (&["run", "p.yaml", "--set", "tasks[9].noise=1"], "there is no [9]: the list ends at [1]"),
        (&["run", "p.yaml", "--set", "tasks[0].nois=1"], "did you mean `noise`?"),
        (&["run", "p.yaml", "--shard", "3/2"], "\"3/2\" is no shard: write M/N"),
        (&["run", "p.yaml", "--devices", "gpu"], "\"gpu\" is no device; write auto, cpu"),
        (&["run", "p.yaml", "--devices", "cpu,cpu"], "cpu and cpu would share the same cores; write cpu:2"),
        (
            &["run", "p.yaml", "--devices", "cpu:64x64"],
            "`devices: cpu:64x64` needs 4096 cores, but this process",
        ),
        (&["table", "1", "missing"], "missing is no run directory (it has no run.json): name the `output`"),
        (&["table", "2"], "table 2 is not built yet"),
        (&["table", "1"], "name the run's directory"),
    ] {
        test.run(arguments).fails_with(2).stderr(message);
    }
    assert!(!test.path("a").exists());
}

/// A home folder with the shipped mini model, whose weights a test may spoil, with or without their known hash.
fn with_own_weights(hash: Hash, spoil: impl FnOnce(&Path)) -> RunTest {
    let test = suite();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut model = std::fs::read_to_string(models.join("mini-images.yaml")).unwrap();
    if hash == Hash::Unknown {
        let line = model.find("blake3: ").unwrap();
        let end = line + model[line..].find('\n').unwrap();
        model.replace_range(line..=end, "");
    }
    test.file("home/models/mini-images.yaml", &model);
    let weights = test.path("home/models/weights/mini-images.safetensors");
    std::fs::create_dir_all(weights.parent().unwrap()).unwrap();
    std::fs::copy(models.join("weights/mini-images.safetensors"), &weights).unwrap();
    spoil(&weights);
    test
}

/// Whether the model file names the hash of its weights.
#[derive(PartialEq)]
enum Hash {
    Known,
    Unknown,
}

/// Rewrites a file.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Replaces a text by one of the same length.
fn replace(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("it is there");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

/// Runs with spoiled weights, which must be refused with these words.
#[track_caller]
fn refused_weights(hash: Hash, spoil: impl FnOnce(&Path), words: &[&str]) {
    let test = with_own_weights(hash, spoil);
    let run = test.run(&["run", "p.yaml", "--home", "home"]);
    run.fails_with(2);
    for word in words {
        run.stderr(word);
    }
    assert!(!test.path("a").exists(), "nothing is written");
    test.run(&["model", "check", "mini-images", "--home", "home"]).fails_with(2).stderr(words[0]);
    // A list shows what is wrong with each.
    test.run(&["model", "list", "--home", "home"]).succeeds().stdout("mini-images: ").stdout(words[0]);
}

const WEIGHTS: &str = "home/models/weights/mini-images.safetensors";

#[test]
fn other_weights_than_the_known_ones_are_refused() {
    let flip = |path: &Path| {
        edit(path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        });
    };
    let words = [&format!("{WEIGHTS} is not the one that"), "its blake3 is", "correct `blake3` there"];
    refused_weights(Hash::Known, flip, &words);
    let rename = |path: &Path| std::fs::rename(path, path.with_extension("other")).unwrap();
    refused_weights(Hash::Known, rename, &[&format!("weight file {WEIGHTS}: No such file")]);
    with_own_weights(Hash::Known, |_| {})
        .run(&["run", "p.yaml", "--home", "home", "--limit", "1"])
        .succeeds();
}

#[test]
fn truncated_weights_are_refused_with_the_remedy() {
    for hash in [Hash::Known, Hash::Unknown] {
        let half = |path: &Path| edit(path, |bytes| bytes.truncate(bytes.len() / 2));
        let message = format!("weight file {WEIGHTS}: it is no valid safetensors file");
        refused_weights(hash, half, &[&message, "truncated or damaged: fetch or copy it again"]);
    }
}

/// The first value of the second tensor: behind the length of the header, the header, and 64 bytes.
fn first_value(bytes: &[u8]) -> usize {
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    8 + header as usize + 64
}

#[test]
fn weights_that_are_no_numbers_are_named_with_their_tensor() {
    for (value, name) in [(0x7e00_u16, "NaN"), (0xfc00, "-inf")] {
        let spoil = |path: &Path| {
            edit(path, |bytes| {
                let at = first_value(bytes);
                bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
            });
        };
        let message =
            format!("weight file {WEIGHTS}: tensor `input_blocks.0.0.weight` holds {name} at index 0");
        refused_weights(Hash::Unknown, spoil, &[&message, "use another checkpoint"]);
    }
}

#[test]
fn weights_of_another_shape_are_named_with_both_shapes() {
    let of_shape = |shape: &str| format!("\"shape\":[{shape}],\"data_offsets\":[1920,18304]");
    let transpose =
        |path: &Path| edit(path, |bytes| replace(bytes, &of_shape("64,128"), &of_shape("128,64")));
    let words = [
        &format!("weight file {WEIGHTS} does not fit the network"),
        "input_blocks.1.0.emb_layers.1.weight",
        "128, 64",
        "64, 128",
    ];
    refused_weights(Hash::Unknown, transpose, &words);
}

#[test]
fn tensors_of_another_name_are_named_as_missing_and_as_unknown() {
    let rename = |path: &Path| {
        edit(path, |bytes| replace(bytes, "input_blocks.0.0.weight", "input_blocks.0.0.wEight"));
    };
    let words = [
        &format!("weight file {WEIGHTS} does not fit the network"),
        "input_blocks.0.0.weight",
        "input_blocks.0.0.wEight",
    ];
    refused_weights(Hash::Unknown, rename, &words);
}

#[test]
fn a_file_in_the_place_of_the_run_directory_is_named() {
    let test = suite();
    test.file("a", "a file where the run directory should be");
    test.run(&["run", "p.yaml"])
        .fails_with(2)
        .stderr("a/run.json: Not a directory")
        .stderr("a file is in the way");
    assert_eq!(std::fs::read_to_string(test.path("a")).unwrap(), "a file where the run directory should be");
}

#[test]
fn a_directory_that_may_not_be_written_to_is_named_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let test = suite();
    let folder = test.path("locked");
    std::fs::create_dir(&folder).unwrap();
    let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    if std::fs::write(folder.join("probe"), "").is_ok() {
        eprintln!(
            "left out: this user may write to a directory of mode 555 (root may), so nothing is refused"
        );
        return;
    }
    for output in ["locked", "locked/a"] {
        test.run(&["run", "p.yaml", "--output", output])
            .fails_with(74)
            .stderr(" locked/")
            .stderr("Permission denied (os error 13); choose an `output` directory that you may write to");
    }
    mode(0o755);
    test.run(&["run", "p.yaml", "--output", "locked/a", "--limit", "1"]).succeeds();
}

#[test]
fn a_model_that_needs_a_gpu_is_refused_on_cpus_before_any_work() {
    let test = suite();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let text = std::fs::read_to_string(models.join("mini-images.yaml")).unwrap();
    let weights = format!("weights: {}/weights/", models.display());
    test.file("tf32.yaml", &format!("{}matmul: tf32\n", text.replace("weights: weights/", &weights)));
    test.run(&["run", "p.yaml", "--set", "model=./tf32.yaml"])
        .fails_with(2)
        .stderr("`matmul: tf32` is of GPUs, and cpu:0 is none: use --devices cuda");
    assert!(!test.path("a").exists());
}

/// The program under a limit on file sizes, at which writes fail as they do on a full disk.
fn run_with_room_for(test: &RunTest, blocks: u32) -> std::process::Output {
    // More samples at a time than there is room for: a worker that starts again would else get on with each.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" run p.yaml --slots 8");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_dflow")]).current_dir(test.path(""));
    command.output().expect("there is a shell")
}

#[test]
fn without_room_for_anything_nothing_is_solved() {
    let test = suite();
    test.run(&["run", "p.yaml", "--methods", "pinv"]).succeeds();
    let output = run_with_room_for(&test, 1);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{error}");
    assert!(error.contains(".probe-") && !error.contains("run the same command again"), "{error}");
    test.run(&["run", "p.yaml"]).succeeds();
}

#[test]
fn without_room_for_the_rows_the_run_fails_with_the_file_and_continues_later() {
    let (test, whole) = (suite(), suite());
    whole.run(&["run", "p.yaml", "--output", "b"]).succeeds();
    // Blocks of 512 bytes: no room for run.json, for the reconstructions, for all of them.
    for blocks in [1, 20, 60] {
        let output = run_with_room_for(&test, blocks);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(74), "{blocks} blocks: {error}");
        assert!(error.contains("error: ") && error.contains("File too large"), "{blocks} blocks: {error}");
        if blocks == 1 {
            assert!(!test.path("a/run.json").exists(), "nothing is half-written");
        }
    }
    test.run(&["run", "p.yaml"]).succeeds();
    test.run(&["verify", "a", "--deep"]).succeeds();
    test.run(&["verify", "a", "--same-as", &whole.path("b").display().to_string()]).succeeds();
}
