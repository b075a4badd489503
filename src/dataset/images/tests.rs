//! Datasets of encoded images as they are opened.

use std::fs;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};

use super::*;
use crate::dataset::{Layout, Seeded};

fn encoded(size: u32, shade: u8, format: image::ImageFormat) -> Vec<u8> {
    let image = image::RgbImage::from_fn(size, size, |x, y| image::Rgb([shade, x as u8, y as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(shade: u8) -> Vec<u8> {
    encoded(4, shade, image::ImageFormat::Png)
}

/// A file in the public layout; every sample is (path, label, bytes).
fn write(folder: &Path, samples: &[(&str, i64, Vec<u8>)]) {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(samples.iter().map(|s| &s.2)));
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(samples.iter().map(|s| s.0)));
    let fields = Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ]);
    let image: ArrayRef = Arc::new(StructArray::new(fields, vec![bytes, paths], None));
    let label: ArrayRef = Arc::new(Int64Array::from_iter_values(samples.iter().map(|s| s.1)));
    let batch = RecordBatch::try_from_iter([("img", image), ("label", label)]).unwrap();
    let file = File::create(folder.join("test.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn description(id: &str) -> Description {
    let text = format!(
        "name: mine\nsource: nowhere\nlicence: none\nfolder: '.'\nshape: [3, 4, 4]\nclasses: [a, b]\n\
         layout: {{ parquet: {{ files: {{ test: [test.parquet] }}, id: {id} }} }}\n"
    );
    Description::parse("mine.yaml", &text).unwrap()
}

fn open(description: &Description, folder: &Path) -> Result<Box<dyn Dataset>, DatasetError> {
    description.open(Split::Test, Some(folder))
}

fn failure(description: &Description, folder: &Path) -> String {
    open(description, folder).err().expect("opening fails").to_string()
}

#[test]
fn images_come_as_channels_in_minus_one_to_one() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("a.png", 1, png(255)), ("b.png", 0, png(0))]);
    let dataset = open(&description("row"), folder.path()).unwrap();
    let ids: Vec<&str> = dataset.manifest().entries().iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids, ["test/000000", "test/000001"]);
    assert_eq!(dataset.manifest().entries()[0].label, Some(1));
    let image = dataset.image(0).unwrap();
    assert_eq!(image.shape, [3, 4, 4]);
    assert!(image.data[..16].iter().all(|&v| v == 1.0));
    // Green counts columns, blue rows.
    assert_eq!(image.data[16 + 3], 3.0 / 127.5 - 1.0);
    assert_eq!(image.data[32 + 4 * 3], 3.0 / 127.5 - 1.0);
}

#[test]
fn an_unreadable_or_misshapen_image_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let large = encoded(5, 0, image::ImageFormat::Jpeg);
    let samples = [("a", 0, png(1)), ("b", 0, b"no image".to_vec()), ("c", 1, large), ("d", 1, png(2))];
    write(folder.path(), &samples);
    let dataset = open(&description("path"), folder.path()).unwrap();
    assert!(dataset.image(0).is_ok() && dataset.image(3).is_ok());
    let broken = dataset.image(1).unwrap_err();
    assert!(broken.id == "b" && broken.reason.contains("cannot be decoded"), "{broken}");
    let large = dataset.image(2).unwrap_err().to_string();
    assert!(large.contains("5×5") && large.contains("4×4"), "{large}");
}

#[test]
fn what_is_wrong_with_the_whole_is_one_error_when_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(failure(&description("row"), path).contains("test.parquet"));

    write(path, &[("a", 0, png(1)), ("a", 0, png(2))]);
    assert!(failure(&description("path"), path).contains("`a` occurs twice"));
    assert!(failure(&description("{ column: name }"), path).contains("no column `name`"));

    write(path, &[("a", 2, png(1))]);
    assert!(failure(&description("row"), path).contains("label 2 is out of range"));
    write(path, &[("a", -1, png(1))]);
    assert!(failure(&description("row"), path).contains("label -1 is out of range"));

    write(path, &[("a", 0, encoded(8, 0, image::ImageFormat::Png))]);
    assert!(failure(&description("row"), path).contains("8×8"));

    write(path, &[]);
    assert!(failure(&description("row"), path).contains("no samples"));

    std::fs::write(path.join("test.parquet"), b"PAR1 no parquet").unwrap();
    assert!(failure(&description("row"), path).contains("test.parquet"));

    let train = description("row").open(Split::Train, Some(path)).err().unwrap().to_string();
    assert!(train.contains("no train split"), "{train}");
}

#[test]
fn selectors_choose_and_order() {
    let folder = tempfile::tempdir().unwrap();
    let samples: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|&id| (id, 0, png(0))).collect();
    write(folder.path(), &samples);
    let ids = |selector| {
        let description = Description { selector, ..description("path") };
        let dataset = open(&description, folder.path()).unwrap();
        dataset.manifest().entries().iter().map(|e| e.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(Selector::First(2)), ["a", "b"]);
    let seeded = |count| ids(Selector::Seeded(Seeded { seed: 0, count }));
    assert_eq!(seeded(Some(3)), seeded(None)[..3]);
    assert_ne!(seeded(None), ids(Selector::All));
}

#[test]
fn the_real_test_photographs_are_in_mixed_order() {
    let Some(data) = crate::test_data::folder() else { return };
    let dataset = crate::dataset::open("cifar10", Some(&data)).unwrap();
    assert_eq!(dataset.len(), 10_000);
    let labels: std::collections::BTreeSet<_> =
        dataset.manifest().first(64).iter().map(|e| e.label).collect();
    assert!(labels.len() >= 9, "the first 64 show {} classes", labels.len());
    assert_eq!(dataset.image(0).unwrap().shape, [3, 32, 32]);
}

/// A dataset with a layout of its own; samples are 4×4 unless it says otherwise.
fn laid_out(layout: &str, more: &str) -> Description {
    let shape = if more.contains("shape") { "" } else { "shape: [3, 4, 4]\n" };
    let text = format!(
        "name: mine\nsource: nowhere\nlicence: none\nfolder: '.'\n{shape}{more}\nlayout: {{ images: [ {layout} ] }}\n"
    );
    Description::parse("mine.yaml", &text).unwrap()
}

fn ids(dataset: &dyn Dataset) -> Vec<(&str, Option<u32>)> {
    dataset.manifest().entries().iter().map(|e| (e.id.as_str(), e.label)).collect()
}

fn save(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn save_tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.finish().unwrap();
}

const FOLDER: &str = "{ folder: { splits: { test: val } } }";
const PARQUET: &str = "{ parquet: { files: { test: ['test*.parquet'] }, id: path } }";
const TAR: &str = "{ web_dataset: { files: { test: ['*.tar'] } } }";

#[test]
fn folder_parquet_and_tar_give_the_same_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    save(path, "f/val/cat/b.png", &png(1));
    save(path, "f/val/dog/a.png", &png(2));
    fs::create_dir_all(path.join("p")).unwrap();
    fs::create_dir_all(path.join("t")).unwrap();
    write(&path.join("p"), &[("cat/b.png", 0, png(1)), ("dog/a.png", 1, png(2))]);
    save_tar(&path.join("t/0.tar"), &[("cat/b.png", &png(1)), ("cat/b.cls", b"0")]);
    save_tar(&path.join("t/1.tar"), &[("dog/a.json", br#"{"label":"dog"}"#), ("dog/a.png", &png(2))]);
    let one = laid_out(&[FOLDER, PARQUET, TAR].join(", "), "classes: [cat, dog]");
    let contents = ["f", "p", "t"].map(|way| {
        let dataset = open(&one, &path.join(way)).unwrap();
        let labels: Vec<_> = ids(&*dataset).into_iter().map(|(id, label)| (id.len(), label)).collect();
        let suffix = if way == "t" { 0 } else { 4 };
        assert_eq!(labels, [(5 + suffix, Some(0)), (5 + suffix, Some(1))], "{way}");
        let content: Vec<_> = dataset.manifest().entries().iter().map(|e| e.content).collect();
        (content, dataset.image(0).unwrap(), dataset.image(1).unwrap())
    });
    assert!(contents[0] == contents[1] && contents[1] == contents[2]);
    // None is there: the first says what is missing.
    assert!(failure(&one, &path.join("none")).contains("val"));
}

#[test]
fn sub_folders_are_classes_in_their_order_unless_a_list_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), "val/n03/x.png", &png(1));
    save(folder.path(), "val/n01/y.png", &png(2));
    let plain = open(&laid_out(FOLDER, ""), folder.path()).unwrap();
    assert_eq!(ids(&*plain), [("n01/y.png", Some(0)), ("n03/x.png", Some(1))]);
    assert_eq!(plain.manifest().classes(), Some(2));
    let listed = open(&laid_out(FOLDER, "classes: [n00, n01, n02, n03]"), folder.path()).unwrap();
    assert_eq!(ids(&*listed), [("n01/y.png", Some(1)), ("n03/x.png", Some(3))]);
    let unknown = failure(&laid_out(FOLDER, "classes: [n01]"), folder.path());
    assert!(unknown.contains("n03/x.png") && unknown.contains("no class `n03`"), "{unknown}");
}

#[test]
fn a_resize_rule_changes_the_pictures_and_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), "val/a.png", &encoded(7, 7, image::ImageFormat::Png));
    let error = failure(&laid_out(FOLDER, ""), folder.path());
    assert!(error.contains("7×7") && error.contains("4×4"), "{error}");
    let opened = ["box_squash", "centre_crop"].map(|rule| {
        let dataset = open(&laid_out(FOLDER, &format!("resize: {rule}")), folder.path()).unwrap();
        (dataset.manifest().hash(), dataset.image(0).unwrap())
    });
    assert!(opened.iter().all(|(_, image)| image.shape == [3, 4, 4] && image.data[0] == 7.0 / 127.5 - 1.0));
    assert!(opened[0].0 != opened[1].0 && opened[0].1 != opened[1].1);
    let text = "name: a\nsource: b\nlicence: c\nshape: [3, 4, 5]\nresize: centre_crop\nlayout: { images: [ ";
    let oblong = Description::parse("a.yaml", &format!("{text}{FOLDER} ] }}\n")).unwrap_err().to_string();
    assert!(oblong.contains("centre_crop makes squares"), "{oblong}");
}

#[test]
fn a_list_selects_orders_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["val/1.png", "val/2.png", "val/3.png"] {
        save(folder.path(), name, &png(name.as_bytes()[4]));
    }
    let flat = "{ folder: { splits: { test: val }, class: none } }";
    let from = |list: &str| {
        fs::write(folder.path().join("list.txt"), list).unwrap();
        laid_out(flat, "classes: [cat, dog]\nselector: { from_file: list.txt }")
    };
    let dataset = open(&from("3.JPEG 1\n1.JPEG 0\n"), folder.path()).unwrap();
    assert_eq!(ids(&*dataset), [("3.png", Some(1)), ("1.png", Some(0))]);
    assert_eq!(dataset.image(0).unwrap().data[0], f32::from(b'3') / 127.5 - 1.0);
    assert!(failure(&from("3 2\n"), folder.path()).contains("label 2 is out of range"));
    assert!(failure(&from("4 1\n"), folder.path()).contains("no sample is called `4`"));
}

#[test]
fn a_file_that_changes_after_it_was_listed_is_an_error_of_its_sample() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), "val/a.png", &png(1));
    save(folder.path(), "val/b.png", &png(2));
    let dataset = open(&laid_out(FOLDER, ""), folder.path()).unwrap();
    save(folder.path(), "val/a.png", &png(3));
    assert!(dataset.image(0).unwrap_err().reason.contains("changed"));
    assert!(dataset.image(1).is_ok());
}

#[test]
fn rows_of_parquet_files_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let samples: Vec<_> = (0..40).map(|i| (format!("{i}.png"), png(i))).collect();
    let rows: Vec<_> = samples.iter().map(|(id, bytes)| (id.as_str(), 0, bytes.clone())).collect();
    write(folder.path(), &rows);
    let file = folder.path().join("test.parquet");
    let Layout::Parquet(layout) = description("path").layout else { panic!("parquet") };
    let mut listed = Vec::new();
    assert!(parquet::scan(&file, &layout, &mut |sample, _| listed.push(sample)).is_ok());
    for (sample, (id, bytes)) in listed.iter().zip(&samples) {
        let Place::Row { group, row } = sample.place else { panic!("a row") };
        assert_eq!((&sample.id, parquet::read(&file, &layout, group, row).as_ref()), (id, Ok(bytes)));
    }
}

/// A file of few bytes whose dictionary holds one long value that every row names.
#[test]
fn a_value_that_all_rows_name_is_held_once() {
    let folder = tempfile::tempdir().unwrap();
    // A dictionary page holds a megabyte.
    let bytes = vec![0; 1 << 19];
    let rows: Vec<_> = (0..2000).map(|_| ("same", 0, bytes.clone())).collect();
    write(folder.path(), &rows);
    let file = folder.path().join("test.parquet");
    assert!(fs::metadata(&file).unwrap().len() < 8 << 20);
    let Layout::Parquet(layout) = description("path").layout else { panic!("parquet") };
    let mut count = 0;
    assert!(
        parquet::scan(&file, &layout, &mut |_, bytes| count += usize::from(bytes.len() == 1 << 19)).is_ok()
    );
    assert_eq!(count, 2000);
}

#[test]
fn real_photographs_have_a_class_each() {
    let Some(data) = crate::test_data::folder() else { return };
    let dataset = crate::dataset::open("imagenet-samples", Some(&data)).unwrap();
    let mut labels: Vec<_> = dataset.manifest().entries().iter().filter_map(|e| e.label).collect();
    labels.sort_unstable();
    assert_eq!(labels, (0..1000).collect::<Vec<_>>());
    assert_eq!(dataset.image(999).unwrap().shape, [3, 128, 128]);
}

/// The public preparation of ADM's training data, from JPEG file to bytes.
#[test]
fn originals_crop_to_the_prepared_files() {
    let Some(data) = crate::test_data::folder() else { return };
    let text = "{ folder: { splits: { test: orig20, train: png128 }, class: file_prefix } }";
    let more = "shape: [3, 128, 128]\nresize: centre_crop\nclass_list: imagenet-classes.txt";
    let one = laid_out(text, more);
    let open = |split| one.open(split, Some(&data.join("imagenet_samples"))).unwrap();
    let (originals, prepared) = (open(Split::Test), open(Split::Train));
    let mut worst: f32 = 0.0;
    for (index, (id, label)) in ids(&*originals).into_iter().enumerate() {
        let same = prepared.manifest().entries().iter().position(|e| e.label == label).unwrap();
        let (ours, theirs) = (originals.image(index).unwrap(), prepared.image(same).unwrap());
        let levels = ours.data.iter().zip(&theirs.data).map(|(a, b)| (a - b).abs() * 127.5);
        let (most, mean) = levels.fold((0f32, 0.0), |(m, s), d| (m.max(d), s + d / ours.data.len() as f32));
        // The inverse DCT and the chroma upsampling of JPEG decoders round otherwise.
        assert!(mean < 0.4 && most < 4.5, "{id}: {mean} {most}");
        worst = worst.max(most);
    }
    assert!(originals.len() == 20 && worst > 0.0);
}
