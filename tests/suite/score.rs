//! Metrics that need a network, distances between sets, and `dflow score`.

use dflow::store::attempt::AttemptId;
use dflow::store::fs::OsFs;
use dflow::store::{Columns, FeatureNet, FeatureRow, FeatureWriter, Layout, NetKind, read_samples};
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
    test.run(&["score", "a", "--metrics", "molecule"]).fails_with(2).stderr("is not a metric of images");
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

/// A home whose LPIPS is made of numbers drawn from a seed, on SqueezeNet, and whose features have a second name.
fn home(test: &RunTest, seed: u64) {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for name in ["models/features", "models/weights", "models/lpips"] {
        std::fs::create_dir_all(test.path("home").join(name)).unwrap();
    }
    let features = std::fs::read_to_string(shipped.join("features/mini.yaml")).unwrap();
    for name in ["mini", "twin"] {
        test.file(&format!("home/models/features/{name}.yaml"), &features);
    }
    let weights = "weights/features-mini.safetensors";
    std::fs::copy(shipped.join(weights), test.path("home/models").join(weights)).unwrap();
    test.file(
        "home/models/lpips/squeeze.yaml",
        "trunk: squeeze\nweights: trunk.safetensors\nheads: { weights: heads.safetensors }\n",
    );
    // SqueezeNet 1.1: fires of (inputs, squeezed, expanded twice).
    let mut trunk = vec![("0".to_owned(), [64, 3, 3])];
    let fires = [
        (3, 64, 16, 64),
        (4, 128, 16, 64),
        (6, 128, 32, 128),
        (7, 256, 32, 128),
        (9, 256, 48, 192),
        (10, 384, 48, 192),
        (11, 384, 64, 256),
        (12, 512, 64, 256),
    ];
    for (place, inputs, squeezed, expanded) in fires {
        trunk.push((format!("{place}.squeeze"), [squeezed, inputs, 1]));
        trunk.push((format!("{place}.expand1x1"), [expanded, squeezed, 1]));
        trunk.push((format!("{place}.expand3x3"), [expanded, squeezed, 3]));
    }
    let convolutions = trunk.into_iter().flat_map(|(name, [outputs, inputs, side])| {
        let shape = vec![outputs, inputs, side, side];
        [(format!("{name}.weight"), shape), (format!("{name}.bias"), vec![outputs])]
    });
    let heads = [64, 128, 256, 384, 384, 512, 512].into_iter().enumerate();
    let heads = heads.map(|(i, channels)| (format!("lin{i}.model.1.weight"), vec![1, channels, 1, 1]));
    write_tensors(&test.path("home/models/lpips/trunk.safetensors"), convolutions.collect(), seed);
    write_tensors(&test.path("home/models/lpips/heads.safetensors"), heads.collect(), seed);
}

/// Positive numbers from a linear congruence, scaled so that layers neither vanish nor grow.
fn write_tensors(path: &std::path::Path, tensors: Vec<(String, Vec<usize>)>, seed: u64) {
    let mut state = seed;
    let mut bytes = |shape: &[usize]| -> Vec<u8> {
        let fan_in = shape.iter().skip(1).product::<usize>().max(1);
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 * 2.0 / fan_in as f32
        };
        (0..shape.iter().product()).flat_map(|_| draw().to_le_bytes()).collect()
    };
    let data: Vec<(String, Vec<usize>, Vec<u8>)> =
        tensors.into_iter().map(|(name, shape)| (name, shape.clone(), bytes(&shape))).collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// H†y alone, which needs no prior, with what the home above has.
fn without_prior(metrics: &str) -> RunTest {
    let test = RunTest::new();
    let pipeline = PIPELINE
        .replace("model: mini-images\n", "")
        .replace("  - ot_ode: { name: ot-ode, steps: 5 }\n", "")
        .replace("[ psnr, ssim, { lpips: alex }, { features: mini } ]", metrics);
    test.file("p.yaml", &pipeline);
    home(&test, 1);
    test
}

#[test]
fn lpips_of_two_networks_is_never_mixed_and_one_scoring_makes_it_whole() {
    let test = without_prior("[ { lpips: squeeze } ]");
    test.run(&["run", "p.yaml", "--limit", "2", "--home", "home"]).succeeds();
    let first = main_rows(&test, &[])[0]["lpips"]["mean"].as_f64().unwrap();
    home(&test, 2);
    test.run(&["run", "p.yaml", "--home", "home"]).succeeds();
    assert_eq!(main_rows(&test, &[])[0]["lpips"], "mixed weights");
    test.run(&["table", "1", "a"]).succeeds().stdout("several networks, which are never mixed");
    let scored = test.run(&["score", "a", "--home", "home", "--json"]).succeeds().json();
    let found = [&scored[0]["scored"], &scored[0]["compared"], &scored[0]["differing"]];
    assert_eq!(found, [&json!(5), &json!(3), &json!(0)], "two rows are the other network's");
    let whole = main_rows(&test, &[])[0]["lpips"]["mean"].as_f64().unwrap();
    assert!(whole > 0.0 && whole != first, "{whole}, of the first network {first}");
    // What was scored after the run is compared with itself by a recheck, and not written again.
    let parts = || std::fs::read_dir(test.path("a/scores/lpips-squeeze")).unwrap().count();
    let before = parts();
    let again = test.run(&["score", "a", "--home", "home", "--recheck", "--json"]).succeeds().json();
    assert_eq!([&again[0]["compared"], &again[0]["differing"]], [&json!(5), &json!(0)]);
    assert_eq!(parts(), before);
}

#[test]
fn lpips_of_some_rows_is_not_mixed_with_a_later_scoring_of_the_rest() {
    let test = without_prior("[ { lpips: squeeze } ]");
    test.run(&["run", "p.yaml", "--limit", "1", "--home", "home"]).succeeds();
    let trunk = test.path("home/models/lpips/trunk.safetensors");
    std::fs::remove_file(&trunk).unwrap();
    test.run(&["run", "p.yaml", "--limit", "3", "--home", "home"])
        .succeeds()
        .stderr("lpips:squeeze is left out");
    home(&test, 2);
    test.run(&["score", "a", "--home", "home"]).succeeds().stdout("3 rows scored");
    assert!(main_rows(&test, &[])[0]["lpips"]["mean"].as_f64().unwrap() > 0.0);
}

#[test]
fn features_without_weights_have_a_column_that_says_so() {
    let test = without_prior("[ psnr, { features: inception } ]");
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/features/inception.yaml");
    std::fs::copy(shipped, test.path("home/models/features/inception.yaml")).unwrap();
    test.run(&["run", "p.yaml", "--home", "home"]).succeeds().stderr("`dflow model fetch features/inception");
    assert_eq!(main_rows(&test, &[])[0]["fid"], "no weights");
    test.run(&["table", "1", "a"])
        .succeeds()
        .stdout("`dflow score a --metrics features:inception` fills the column");
}

#[test]
fn each_of_two_feature_networks_has_its_column_and_reference() {
    let test = without_prior("[ { features: mini }, { features: twin } ]");
    test.run(&["run", "p.yaml", "--home", "home"]).succeeds();
    let rows = main_rows(&test, &["--write-reference", "r.safetensors"]);
    assert_eq!(rows[0]["fd_mini"], rows[0]["fd_twin"], "the same weights under two names");
    for name in ["r-mini.safetensors", "r-twin.safetensors"] {
        let stored = main_rows(&test, &["--reference", name, "--no-kid"]);
        assert_eq!(
            (&stored[0]["fd_mini"], &stored[0]["fd_twin"]),
            (&rows[0]["fd_mini"], &rows[0]["fd_twin"])
        );
    }
    assert!(!test.path("r.safetensors").exists());
    let other = without_prior("[ { features: mini } ]");
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/features/mini.yaml");
    std::fs::copy(shipped, other.path("home/models/features/third.yaml")).unwrap();
    other.run(&["run", "p.yaml", "--home", "home", "--set", "metrics[0].features=third"]).succeeds();
    other.run(&["table", "1", "a", "--write-reference", "third"]).succeeds();
    let third = other.path("third");
    test.run(&["table", "1", "a", "--reference", third.to_str().unwrap()])
        .fails_with(2)
        .stderr("none of this run's networks");
}

#[test]
fn damaged_scores_are_made_again_from_their_parts_and_one_metric_does_not_keep_another_from_being_scored() {
    let test = without_prior("[ psnr ]");
    test.run(&["run", "p.yaml", "--home", "home"]).succeeds();
    test.run(&["score", "a", "--metrics", "ssim", "--home", "home"]).succeeds();
    let before = main_rows(&test, &[]);
    let table = std::fs::read(test.path("a/scores/ssim.parquet")).unwrap();
    std::fs::write(test.path("a/scores/ssim.parquet"), &table[..table.len() - 40]).unwrap();
    assert_eq!(main_rows(&test, &[]), before);
    // Scores of other weights are refused; what comes after them is scored.
    test.run(&["score", "a", "--metrics", "lpips:squeeze", "--home", "home"]).succeeds();
    home(&test, 2);
    let both = test.run(&["score", "a", "--metrics", "lpips:squeeze,psnr", "--home", "home"]);
    both.fails_with(1).stderr("lpips:squeeze: ").stdout("psnr: 5 rows scored");
}

#[test]
fn a_damaged_reconstruction_is_named_and_the_others_are_scored() {
    let test = without_prior("[ psnr ]");
    test.run(&["run", "p.yaml", "--home", "home"]).succeeds();
    let mut files = std::fs::read_dir(test.path("a/artifacts")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|suffix| suffix == "f32")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    test.run(&["score", "a", "--metrics", "psnr"])
        .fails_with(3)
        .stdout("4 rows scored")
        .stdout("1 FAILED, first");
}

#[test]
fn features_that_are_not_the_networks_own_are_found_by_a_recheck() {
    let test = without_prior("[ { features: mini } ]");
    test.run(&["run", "p.yaml", "--home", "home"]).succeeds();
    let net = test.run(&["model", "check", "features/mini", "--home", "home", "--json"]).succeeds().json();
    std::fs::remove_dir_all(test.path("a/features")).unwrap();
    let (fs, layout) = (std::sync::Arc::new(OsFs), Layout::new(test.path("a")));
    let record = read_samples(&*fs, &layout, Columns::WithoutTrace).unwrap().remove(0);
    let (dims, identity) = (net["dims"].as_u64().unwrap() as usize, net["identity"].as_str().unwrap());
    let net =
        FeatureNet { name: "mini".to_owned(), identity: identity.to_owned(), dims, kind: NetKind::Other };
    let mut writer = FeatureWriter::new(fs, &layout, &AttemptId::new(), net).unwrap();
    let (key, hash, features) = (record.key(), record.x1_blake3.unwrap(), vec![0.5; dims]);
    writer.append(&[FeatureRow { key: &key, x1_blake3: &hash, features: &features }]).unwrap();
    test.run(&["score", "a", "--home", "home"]).succeeds().stdout("4 rows scored, 1 known");
    test.run(&["score", "a", "--home", "home", "--recheck"])
        .fails_with(3)
        .stdout("1 of 5 DIFFER")
        .stdout(&format!("{}: features", record.sample_id));
}
