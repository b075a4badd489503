//! Whole runs of the program: the same rows whatever devices, slots, shards and interruptions.

use dflow::store::fs::OsFs;
use dflow::store::{Columns, Layout, read_samples};

use crate::run_test::RunTest;

/// Two tasks, two methods, the shipped prior; few evaluations.
pub(crate) const PIPELINE: &str = "\
name: suite
dataset: { name: mini-images, limit: 4 }
model: mini-images
devices: cpu:1x1
tasks:
  - { name: inpainting, operator: { center_mask: { size: 10 } } }
  - { name: super-resolution-noisy, operator: { bicubic: { factor: 2 } }, noise: 0.05 }
methods:
  - dflow:
      name: d-flow
      regularizer: { chi: 0.01 }
      stop: [ { target_psnr: 30 }, { evals: 5 } ]
  - pinv: {}
save: [ reconstructions ]
output: a
";

/// A directory with [`PIPELINE`] as `p.yaml`.
pub(crate) fn suite() -> RunTest {
    let test = RunTest::new();
    test.file("p.yaml", PIPELINE);
    test
}

#[test]
fn a_run_ends_in_a_complete_table_and_continues_as_nothing_to_do() {
    let test = suite();
    test.run(&["run", "p.yaml"]).succeeds().stdout("complete, 16 ok, 0 failed, 0 missing of 16 rows");
    let before = std::fs::read(test.path("a/samples.parquet")).unwrap();
    test.run(&["verify", "a", "--deep"]).succeeds();
    test.run(&["table", "1", "a"]).succeeds().stdout("d-flow").stdout("pinv").stdout("Not comparable");
    test.run(&["run", "p.yaml"]).succeeds().stdout("16 ok");
    test.run(&["merge", "a"]).succeeds();
    assert_eq!(
        before,
        std::fs::read(test.path("a/samples.parquet")).unwrap(),
        "merging again changes no byte"
    );
}

#[test]
fn a_foreign_samples_file_is_moved_away_and_the_run_goes_on() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    test.file("a/samples.parquet", "precious");
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds().stdout("4 ok").stderr("samples.parquet.damaged-");
    test.run(&["verify", "a", "--deep"]).succeeds();
    let kept = std::fs::read_dir(test.path("a")).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.to_string_lossy().contains("damaged-")).collect();
    assert_eq!(kept.iter().map(std::fs::read).map(Result::unwrap).collect::<Vec<_>>(), [b"precious"]);
}

#[test]
fn more_samples_continue_a_run() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "2"]).succeeds().stdout("8 ok, 0 failed, 0 missing of 8");
    test.run(&["run", "p.yaml"]).succeeds().stdout("16 ok, 0 failed, 0 missing of 16");
    test.run(&["run", "p.yaml", "--output", "b"]).succeeds();
    test.run(&["verify", "a", "--same-as", "b"]).succeeds();
}

#[test]
fn rows_do_not_depend_on_threads_workers_slots_memory_or_shards() {
    let test = suite();
    test.run(&["run", "p.yaml"]).succeeds();
    let mut others: Vec<&[&str]> = vec![
        &["--slots", "1"],
        &["--slots", "16"],
        &["--memory", "recompute"],
        &["--memory", "tape", "--devices", "cpu"],
    ];
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2) {
        others.extend([&["--devices", "cpu:1x2"] as &[&str], &["--devices", "cpu:2x1"]]);
    } else {
        eprintln!("left out: cpu:1x2 and cpu:2x1, which need two cores");
    }
    for (i, options) in others.iter().enumerate() {
        let output = format!("b{i}");
        let mut arguments = vec!["run", "p.yaml", "--output", &output];
        arguments.extend_from_slice(options);
        test.run(&arguments).succeeds();
        test.run(&["verify", "a", "--same-as", &output]).succeeds();
    }
    test.run(&["run", "p.yaml", "--output", "c", "--shard", "1/2"]).succeeds().stdout("8 ok");
    test.run(&["verify", "c"]).fails_with(4);
    test.run(&["run", "p.yaml", "--output", "c", "--shard", "2/2"]).succeeds().stdout("16 ok");
    test.run(&["verify", "a", "--same-as", "c"]).succeeds();
}

#[test]
fn other_settings_under_the_same_names_are_refused_with_what_differs() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    test.run(&["run", "p.yaml", "--limit", "1", "--set", "tasks[1].noise=0.1"])
        .fails_with(2)
        .stderr("task `super-resolution-noisy`, method `d-flow` was run with other settings")
        .stderr("(noise: 0.05 there, 0.1 here); choose another output directory");
    test.run(&["run", "p.yaml", "--limit", "1", "--set", "seed=7"])
        .fails_with(2)
        .stderr("(seed: 0 there, 7 here)");
}

/// Largest peak memory of the process over the rows of a run.
fn peak_memory(memory: &str, nfe: u32) -> u64 {
    let test = suite();
    let solver = format!("      solver: {{ midpoint: {{ nfe: {nfe} }} }}\n      regularizer");
    let text = PIPELINE.replace("      regularizer", &solver).replace("{ evals: 5 }", "{ evals: 2 }");
    test.file("p.yaml", &text);
    test.run(&["run", "p.yaml", "--memory", memory, "--slots", "4"]).succeeds();
    let rows = read_samples(&OsFs, &Layout::new(test.path("a")), Columns::WithoutTrace).unwrap();
    rows.iter().filter_map(|row| row.peak_memory).max().expect("rows have a peak memory")
}

#[test]
fn memory_with_recompute_grows_with_one_network_call_not_with_their_number() {
    let recompute = peak_memory("recompute", 60).saturating_sub(peak_memory("recompute", 6));
    let tape = peak_memory("tape", 60).saturating_sub(peak_memory("tape", 6));
    // 54 more states of 12 kB for each of 4 samples are 2.7 MB; their tapes are some 200 MB.
    assert!(recompute < 20_000_000 && tape > 5 * recompute.max(20_000_000), "{recompute} {tape}");
}

#[test]
fn a_plan_with_a_gaussian_fits_nothing() {
    let test = suite();
    test.file("p.yaml", &PIPELINE.replace("model: mini-images", "model: { gaussian: { fit: train } }"));
    let mut plan = test.command(&["plan", "p.yaml"]);
    let output = plan.env("XDG_CACHE_HOME", test.path("cache")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!test.path("cache").exists());
}

#[test]
fn the_log_of_a_run_names_its_rows() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    let log = std::fs::read_to_string(test.path("a/log.jsonl")).unwrap();
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a line is one object")).collect();
    let finished = |row: &str| events.iter().any(|e| e["event"] == "finished" && e["row"] == row);
    assert!(
        finished("inpainting/d-flow/test/000000") && finished("super-resolution-noisy/pinv/test/000000"),
        "{log}"
    );
    assert_eq!(events.last().unwrap()["event"], "end");
}

#[test]
fn a_watched_status_ends_when_every_row_is_there() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    test.run(&["status", "a", "--watch", "1"]).succeeds().stdout("4 of 4 rows durable");
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_is_done() {
    let test = suite();
    test.run(&["run", "p.yaml", "--dry-run"]).succeeds().stdout("0 of 16 rows done");
    assert!(!test.path("a").exists());
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    test.run(&["plan", "p.yaml"]).succeeds().stdout("4 of 16 rows done");
}

#[test]
fn a_run_of_some_methods_or_tasks_leaves_the_others_to_be_done() {
    let test = suite();
    test.run(&["run", "p.yaml", "--methods", "pinv"]).succeeds().stdout("partial, 8 ok, 0 failed, 8 missing");
    let task = ["run", "p.yaml", "--tasks", "inpainting"];
    test.run(&task).succeeds().stdout("partial, 12 ok, 0 failed, 4 missing");
    test.run(&["run", "p.yaml", "--methods", "d-flw"])
        .fails_with(2)
        .stderr("no `d-flw`; there are d-flow, pinv");
    test.run(&["run", "p.yaml", "--tasks", ""]).fails_with(2).stderr("--tasks");
    // Means over the same samples: the two that both methods have.
    test.run(&["run", "p.yaml", "--output", "c", "--limit", "2"]).succeeds();
    test.run(&["run", "p.yaml", "--output", "c", "--methods", "pinv"]).succeeds();
    test.run(&["table", "1", "c"]).succeeds().stdout("n = 4").stdout("PARTIAL: 4 of 16");
    test.run(&["table", "1", "c", "--common"])
        .succeeds()
        .stdout("n = 2")
        .stdout("2/0/2")
        .stdout("4 rows of other samples or cells are left out");
    let shard = ["run", "p.yaml", "--shard", "1/2", "--methods", "pinv", "--output", "b"];
    test.run(&shard).succeeds().stdout("shard 1/2: 4 left");
    test.run(&["run", "p.yaml"]).succeeds().stdout("complete, 16 ok");
    let whole = suite();
    whole.run(&["run", "p.yaml"]).succeeds();
    whole.run(&["verify", "a", "--same-as", test.path("a").to_str().unwrap()]).succeeds();
}
