//! Metrics that need a network, distances between sets, and `dflow score`.

use serde_json::{Value, json};

use crate::run_test::RunTest;

/// Quick methods of every kind, with features.
const PIPELINE: &str = "\
name: scored
dataset: { name: mini-images, limit: 5 }
model: mini-images
devices: cpu:1x1
tasks:
  - { name: inpainting, operator: { center_mask: { size: 10 } } }
methods:
  - ot_ode: { name: ot-ode, steps: 5 }
  - pinv: {}
metrics: [ psnr, ssim, { lpips: alex }, { features: mini } ]
save: [ reconstructions ]
output: a
";

/// The pipeline, with one line of it replaced.
fn with(from: &str, to: &str) -> RunTest {
    let test = RunTest::new();
    assert!(PIPELINE.contains(from), "{from}");
    test.file("p.yaml", &PIPELINE.replace(from, to));
    test
}

fn main_rows(test: &RunTest, arguments: &[&str]) -> Vec<Value> {
    let tables = test.run(&[&["table", "1", "a", "--json"], arguments].concat()).succeeds().json();
    tables[0]["rows"].as_array().unwrap().clone()
}

#[test]
fn a_run_has_its_distances_and_says_where_weights_are_missing() {
    let test = with("output: a", "output: a");
    test.run(&["run", "p.yaml"]).succeeds().stderr("lpips:alex is left out");
    let rows = main_rows(&test, &[]);
    for row in &rows {
        assert!(row["fd_mini"]["mean"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["lpips"], "no weights");
    }
    test.run(&["table", "1", "a"])
        .succeeds()
        .stdout("FD(mini) ↓")
        .stdout("n = 5")
        .stdout("WARNING: FD(mini)");
    // Again, with another reference of the same images and without the slow half.
    test.run(&["table", "1", "a", "--write-reference", "r.safetensors"]).succeeds();
    let stored = main_rows(&test, &["--reference", "r.safetensors", "--no-kid"]);
    assert_eq!(stored[0]["fd_mini"], rows[0]["fd_mini"]);
    assert!(main_rows(&test, &["--no-sets"])[0].get("fd_mini").is_none());
    let bootstrapped = main_rows(&test, &["--bootstrap", "5"]);
    assert!(bootstrapped[0]["fd_mini"]["standard_error"].as_f64().unwrap() > 0.0);
    test.run(&["table", "1", "a", "--reference", "none"]).fails_with(2).stderr("there is no file none");
    std::fs::write(test.path("half"), &std::fs::read(test.path("r.safetensors")).unwrap()[..3000]).unwrap();
    test.run(&["table", "1", "a", "--reference", "half"]).fails_with(2).stderr("half");
}

#[test]
fn scoring_again_gives_the_runs_own_numbers_beside_its_rows() {
    let test = with("output: a", "output: a");
    test.run(&["run", "p.yaml"]).succeeds();
    let before = std::fs::read(test.path("a/samples.parquet")).unwrap();
    let scored =
        test.run(&["score", "a", "--metrics", "psnr,ssim,features:mini", "--json"]).succeeds().json();
    let expected = [("psnr", 10, 0, 10), ("ssim", 10, 0, 10), ("features:mini", 0, 10, 0)];
    for (found, (metric, scored, known, compared)) in scored.as_array().unwrap().iter().zip(expected) {
        let found =
            [&found["metric"], &found["scored"], &found["known"], &found["compared"], &found["differing"]];
        assert_eq!(found, [&json!(metric), &json!(scored), &json!(known), &json!(compared), &json!(0)]);
    }
    assert_eq!(std::fs::read(test.path("a/samples.parquet")).unwrap(), before, "rows are never written over");
    let again = test.run(&["score", "a", "--recheck", "--json"]).succeeds().json();
    for (found, scored) in again.as_array().unwrap().iter().zip([10, 10, 10]) {
        let found = [&found["scored"], &found["known"], &found["compared"], &found["differing"]];
        assert_eq!(found, [&json!(scored), &json!(0), &json!(10), &json!(0)]);
    }
    // Nothing is left to do; what needs weights that are not there is an error where it is asked for by name.
    let again = test.run(&["score", "a", "--metrics", "psnr", "--json"]).succeeds().json();
    assert_eq!((&again[0]["scored"], &again[0]["known"]), (&json!(0), &json!(10)));
    test.run(&["score", "a", "--metrics", "lpips:alex"]).fails_with(2).stderr("no weights");
    test.run(&["score", "a", "--metrics", "fid"]).fails_with(2).stderr("is no metric");
    test.run(&["score", "a", "--metrics", "features:none"]).fails_with(2).stderr("none");
}

#[test]
fn what_a_run_did_not_measure_is_filled_in_afterwards() {
    let test = with("metrics: [ psnr, ssim, { lpips: alex }, { features: mini } ]", "metrics: [ psnr ]");
    test.run(&["run", "p.yaml"]).succeeds();
    assert!(main_rows(&test, &[])[0].get("ssim_tm13").is_none());
    test.run(&["score", "a", "--metrics", "ssim,features:mini"]).succeeds().stdout("ssim: 10 rows scored");
    let rows = main_rows(&test, &[]);
    assert!(rows[0]["ssim_tm13"]["mean"].as_f64().unwrap() > 0.0);
    assert!(rows[0]["fd_mini"]["mean"].as_f64().unwrap() > 0.0);
    // The same as of a run that measured them at once.
    let whole = with("output: a", "output: a");
    whole.run(&["run", "p.yaml"]).succeeds();
    let at_once = main_rows(&whole, &[]);
    for key in ["ssim_tm13", "fd_mini", "psnr"] {
        assert_eq!(rows[0][key], at_once[0][key], "{key}");
    }
}

#[test]
fn reconstructions_that_were_not_kept_cannot_be_scored() {
    let test = with("save: [ reconstructions ]", "save: []");
    test.run(&["run", "p.yaml", "--limit", "2"]).succeeds();
    test.run(&["score", "a", "--metrics", "psnr"]).succeeds().stdout("4 without a reconstruction");
}

#[test]
fn one_sample_has_no_distance() {
    let test = with("limit: 5", "limit: 1");
    test.run(&["run", "p.yaml"]).succeeds();
    assert_eq!(main_rows(&test, &[])[0]["fd_mini"], "n = 1");
    // More of them do; the clean images are completed with them.
    test.run(&["run", "p.yaml", "--limit", "3"]).succeeds();
    assert!(main_rows(&test, &[])[0]["fd_mini"]["mean"].is_f64());
}

#[test]
fn a_damaged_file_of_features_is_left_out_with_a_word() {
    let test = with("output: a", "output: a");
    test.run(&["run", "p.yaml", "--limit", "3"]).succeeds();
    let before = main_rows(&test, &[]);
    let folder = test.path("a/features/mini");
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.join("20260101T000000.000Z-00000000-000.f32"), &bytes).unwrap();
    assert_eq!(main_rows(&test, &[])[0]["fd_mini"], before[0]["fd_mini"]);
    test.run(&["table", "1", "a"]).succeeds().stderr("20260101T000000");
}

#[test]
fn a_cell_of_a_table_explains_itself() {
    let test = with("output: a", "output: a");
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    let explained = test.run(&["table", "1", "a", "--explain", "ot-ode/inpaint"]).succeeds().json();
    assert_eq!(explained[0]["solve"]["ot_ode"]["steps"], 5);
    assert_eq!(explained[0]["goal"]["restore"]["operator"]["center_mask"]["size"], 10);
    test.run(&["table", "1", "a", "--explain", "d-flow"])
        .fails_with(2)
        .stderr("ot-ode/inpainting, pinv/inpainting");
}

#[test]
fn the_wrapped_psnr_is_shown_on_request() {
    let test = with("output: a", "output: a");
    test.run(&["run", "p.yaml", "--limit", "2"]).succeeds();
    assert!(main_rows(&test, &["--psnr", "u8wrap"])[0]["psnr_u8wrap"]["mean"].is_f64());
    assert!(main_rows(&test, &[])[0].get("psnr_u8wrap").is_none());
}
