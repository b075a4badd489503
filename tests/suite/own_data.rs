//! A dataset of the user's own: encoded images in a Parquet file, described by a YAML file beside it.

use std::fs::File;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use parquet::arrow::ArrowWriter;

use crate::run_test::{RunTest, rows_of};

const DESCRIPTION: &str = "\
name: mine
source: a camera
licence: none
folder: photos
shape: [3, 32, 32]
classes: [a, b, c, d, e, f, g, h, i, j]
layout: { parquet: { files: { test: [test.parquet] } } }
";

const PIPELINE: &str = "\
name: own-data
dataset: { name: mine.yaml }
model: mini-images
devices: cpu:1x1
tasks:
  - { name: inpainting, operator: { center_mask: { size: 10 } } }
methods:
  - pinv: {}
  - dflow: { stop: [ { evals: 1 } ] }
output: a
";

const FILE: &str = "photos/test.parquet";

/// A picture of one colour with a ramp, as a PNG file.
fn png(shade: u8) -> Vec<u8> {
    png_of(32, shade)
}

fn png_of(side: u32, shade: u8) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(side, side, |x, y| image::Rgb([shade, 8 * x as u8, 8 * y as u8]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Writes the dataset's file in the public layout, with labels 0, 1, 2 …
fn write(test: &RunTest, images: &[Vec<u8>]) {
    write_to(test, FILE, images);
}

fn write_to(test: &RunTest, name: &str, images: &[Vec<u8>]) {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(images));
    let names = (0..images.len()).map(|i| format!("{i}.png"));
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    let fields = Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ]);
    let image: ArrayRef = Arc::new(StructArray::new(fields, vec![bytes, paths], None));
    let label: ArrayRef = Arc::new(Int64Array::from_iter_values(0..images.len() as i64));
    let batch = RecordBatch::try_from_iter([("img", image), ("label", label)]).unwrap();
    std::fs::create_dir_all(test.path("photos")).unwrap();
    let file = File::create(test.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Five images, the third of which cannot be read.
fn with_a_spoiled_image() -> RunTest {
    let test = RunTest::new();
    test.file("p.yaml", PIPELINE).file("mine.yaml", DESCRIPTION);
    let mut images: Vec<Vec<u8>> = [10, 60, 110, 160, 210].map(png).to_vec();
    images[2] = b"no picture at all".to_vec();
    write(&test, &images);
    test
}

const RUN: [&str; 4] = ["run", "p.yaml", "--data", "."];
const SPOILED: [&str; 2] = ["inpainting/dflow/test/000002", "inpainting/pinv/test/000002"];

#[test]
fn an_unreadable_image_fails_alone_and_is_tried_again() {
    let test = with_a_spoiled_image();
    test.run(&RUN).fails_with(3).stdout("complete, 8 ok, 2 failed, 0 missing of 10 rows");
    let listed = test.run(&["verify", "a"]);
    listed.fails_with(3).stdout("complete: 8 ok, 2 failed, 0 missing of 10 planned rows");
    for row in SPOILED {
        listed.stdout(&format!("failed: {row}: sample test/000002: the image cannot be decoded"));
    }
    test.run(&["table", "1", "a"]).succeeds().stdout("4/1/5");

    // The next run tries the failed rows again, and only those; `--keep-failed` leaves them.
    let retry = test.run(&[&RUN as &[&str], &["--json"]].concat());
    retry.fails_with(3);
    assert_eq!(rows_of(&retry.events(), "started"), SPOILED);
    let errors: Vec<String> =
        retry.events().iter().filter(|e| e["event"] == "finished").map(|e| e["error"].to_string()).collect();
    assert!(errors.len() == 2 && errors.iter().all(|e| e.contains("cannot be decoded")), "{errors:?}");
    let kept = test.run(&[&RUN as &[&str], &["--json", "--keep-failed"]].concat());
    kept.fails_with(3);
    assert_eq!(rows_of(&kept.events(), "started"), [""; 0]);
    test.run(&["verify", "a", "--deep"]).fails_with(3).stdout("complete: 8 ok, 2 failed");
}

#[test]
fn the_first_failure_stops_a_run_that_allows_none_and_the_rest_can_follow() {
    let test = with_a_spoiled_image();
    // One slot: when the third sample fails, the worker holds no more than the next one.
    let careful = [&RUN as &[&str], &["--json", "--slots", "1", "--max-failures", "1"]].concat();
    let stopped = test.run(&careful);
    stopped.fails_with(75);
    let events = stopped.events();
    let stopping =
        events.iter().find(|event| event["event"] == "stopping").expect("the run says that it stops");
    assert_eq!(stopping["reason"], "1 failed samples (--max-failures 1)");
    let finished = rows_of(&events, "finished");
    assert!(finished.contains(&SPOILED[0].to_owned()) && finished.len() <= 4, "{finished:?}");
    test.run(&RUN).fails_with(3).stdout("complete, 8 ok, 2 failed, 0 missing of 10 rows");
}

#[test]
fn a_check_of_the_data_tells_known_files_from_others() {
    let test = with_a_spoiled_image();
    let check = ["data", "check", "mine.yaml", "--data", "."];
    let hash = blake3::hash(&std::fs::read(test.path(FILE)).unwrap()).to_hex().to_string();
    test.run(&check)
        .succeeds()
        .stdout(&format!("./{FILE}: blake3 {hash}"))
        .stdout("mine.yaml: 5 samples, manifest ");
    let known = |hash: &str| format!("{DESCRIPTION}known: {{ test.parquet: {hash} }}\n");
    test.file("mine.yaml", &known(&hash));
    test.run(&check).succeeds().stdout(&format!("./{FILE}: as known"));
    test.file("mine.yaml", &known(&"0".repeat(64)));
    test.run(&check).fails_with(4).stdout(&format!("another file than the known one (blake3 {hash})"));
}

#[test]
fn a_dataset_that_is_wrong_as_a_whole_is_refused_with_the_remedy() {
    let test = with_a_spoiled_image();
    test.run(&["run", "p.yaml"]).fails_with(2).stderr("dataset `mine` needs files").stderr("--data");
    write(&test, &[]);
    test.run(&RUN).fails_with(2).stderr("dataset `mine`, split test: no samples");
    write(&test, &vec![png(1); 11]);
    test.run(&RUN)
        .fails_with(2)
        .stderr("sample test/000010: label 10 is out of range: there are 10 classes, 0..=9");
    write(&test, &[png_of(16, 1)]);
    test.run(&RUN).fails_with(2).stderr("16×16").stderr("expected 32×32").stderr("convert the images");
    test.file(
        "mine.yaml",
        &DESCRIPTION.replace("test.parquet] } }", "test.parquet] }, id: path, label: class }"),
    );
    test.run(&RUN)
        .fails_with(2)
        .stderr("no column `class`; the file has: img")
        .stderr("Set `image`, `label` or `id`");
    std::fs::write(test.path(FILE), "text").unwrap();
    test.run(&RUN)
        .fails_with(2)
        .stderr("dataset `mine`: cannot read ./photos/test.parquet")
        .stderr("from: a camera");
    assert!(!test.path("a").exists(), "nothing is written");
}

/// Three images of 8×8 and a Gaussian prior fitted to ten others, of which one may be spoiled.
fn with_a_gaussian(spoil: bool) -> RunTest {
    let test = RunTest::new();
    let split = "{ train: [train.parquet], test: [test.parquet] }";
    test.file(
        "mine.yaml",
        &DESCRIPTION.replace("{ test: [test.parquet] }", split).replace("[3, 32, 32]", "[3, 8, 8]"),
    );
    let gaussian = PIPELINE
        .replace("model: mini-images", "model: { gaussian: { fit: train } }")
        .replace("size: 10", "size: 2");
    test.file("p.yaml", &gaussian);
    let mut train: Vec<Vec<u8>> = (0..10).map(|i| png_of(8, 20 * i)).collect();
    if spoil {
        train[5] = b"no picture at all".to_vec();
    }
    write_to(&test, "photos/train.parquet", &train);
    write(&test, &[30, 90, 200].map(|shade| png_of(8, shade)));
    test
}

#[test]
fn a_gaussian_is_fitted_beside_the_samples_and_kept() {
    let test = with_a_gaussian(false);
    let run = |output: &str| {
        let mut command = test.command(&[&RUN[..], &["--output", output]].concat());
        let output = command.env("XDG_CACHE_HOME", test.path("cache")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(run("a").contains("a Gaussian is fitted"), "the first run says what takes long");
    assert_eq!(std::fs::read_dir(test.path("cache/dflow")).unwrap().count(), 1);
    assert!(!run("b").contains("a Gaussian is fitted"), "the second finds it");
    test.run(&["verify", "a", "--same-as", "b"]).succeeds().stdout("6 rows equal bit for bit");
}

#[test]
fn a_gaussian_that_cannot_be_fitted_fails_its_rows_only() {
    let test = with_a_gaussian(true);
    let mut command = test.command(&RUN);
    let output = command.env("XDG_CACHE_HOME", test.path("cache")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("failed: inpainting/dflow/") && said.contains("training image 5"), "{said}");
    test.run(&["merge", "a"]).fails_with(3).stdout("3 ok, 3 failed, 0 missing of 6 rows");
}
