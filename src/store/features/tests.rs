use std::path::Path;

use super::*;
use crate::metric::set::SetError;
use crate::store::fault::{Crash, Fault, FaultFs};
use crate::store::fs::write_atomic;
use crate::store::gather::Note;

const DIMS: usize = 3;

fn net(identity: &str) -> FeatureNet {
    FeatureNet { name: "mini".to_owned(), identity: identity.to_owned(), dims: DIMS, kind: NetKind::Other }
}

fn new_fs() -> (FaultFs, Layout) {
    (FaultFs::new(Path::new("/run")), Layout::new("/run"))
}

fn writer(fs: &FaultFs, attempt: &str) -> FeatureWriter {
    let attempt = AttemptId::from_text(attempt);
    FeatureWriter::new(Arc::new(fs.clone()), &Layout::new("/run"), &attempt, net("w0")).unwrap()
}

/// Features that tell row and version: awkward to store, but finite.
fn numbers(row: usize, version: usize) -> [f32; DIMS] {
    [row as f32 + 0.1, -0.0, 1e-40 * version as f32]
}

fn key(row: usize) -> Key {
    (format!("cell-{}", row % 2), format!("sample-{row:05} é"))
}

/// Appends rows, each with one fsync.
fn append(
    writer: &mut FeatureWriter,
    rows: impl IntoIterator<Item = usize>,
    version: usize,
) -> Result<(), StoreError> {
    rows.into_iter().try_for_each(|row| {
        let (key, hash) = (key(row), format!("x1-{row}-{}", version / 10));
        writer.append(&[FeatureRow { key: &key, x1_blake3: &hash, features: &numbers(row, version) }])
    })
}

fn read(fs: &FaultFs) -> FeatureReader {
    FeatureReader::open(fs, &Layout::new("/run"), "mini", None).unwrap().unwrap()
}

fn merge(fs: &FaultFs) -> FeatureMerge {
    merge_features(fs, &Layout::new("/run"), "mini").unwrap()
}

fn table(fs: &FaultFs) -> Vec<u8> {
    fs.read(&Layout::new("/run").features("mini")).unwrap()
}

#[test]
fn features_are_read_back_a_cell_at_a_time_bit_for_bit() {
    let (fs, layout) = new_fs();
    assert!(FeatureReader::open(&fs, &layout, "mini", None).unwrap().is_none());
    assert_eq!(merge(&fs), FeatureMerge::default());
    append(&mut writer(&fs, "b"), [5, 3, 4], 1).unwrap();
    append(&mut writer(&fs, "a"), 0..3, 1).unwrap();
    let report = merge(&fs);
    assert_eq!((report.rows, report.duplicates, report.changed), (6, 0, true));
    assert!(report.notes.is_empty());
    let reader = read(&fs);
    assert_eq!(reader.cells().collect::<Vec<_>>(), ["cell-0", "cell-1"]);
    assert_eq!(*reader.net(), net("w0"));
    let cell = reader.read_cell("cell-1", |_, _| true).unwrap();
    assert_eq!(cell.ids(), ["sample-00001 é", "sample-00003 é", "sample-00005 é"]);
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (i, row) in [1, 3, 5].into_iter().enumerate() {
        assert_eq!(bits(cell.row(i)), bits(&numbers(row, 1)));
    }
    let some = reader.read_cell("cell-1", |sample, x1| sample.contains('3') && x1 == "x1-3-0").unwrap();
    assert_eq!((some.len(), some.row(0)), (1, cell.row(1)));
    assert_eq!(reader.keys("cell-0").unwrap()[1].x1_blake3, "x1-2-0");
    assert!(reader.read_cell("another", |_, _| true).unwrap().is_empty());
    assert!(reader.keys("another").unwrap().is_empty());
}

#[test]
fn merging_in_any_order_and_again_gives_the_same_bytes() {
    let rows = 0..2 * 1000 + 500; // row groups of cell-0: 1,000 and 250 rows
    let at_once = {
        let (fs, _) = new_fs();
        append(&mut writer(&fs, "a"), rows.clone(), 1).unwrap();
        append(&mut writer(&fs, "b"), rows.clone().rev(), 2).unwrap();
        let report = merge(&fs);
        assert_eq!((report.rows, report.duplicates), (2500, 2500));
        table(&fs)
    };
    let (fs, layout) = new_fs();
    append(&mut writer(&fs, "b"), rows.clone().rev().step_by(3), 2).unwrap();
    merge(&fs);
    append(&mut writer(&fs, "a"), rows.clone().step_by(2), 1).unwrap();
    merge(&fs);
    append(&mut writer(&fs, "b-"), rows.clone(), 3).unwrap();
    append(&mut writer(&fs, "a-"), rows, 1).unwrap();
    assert!(merge(&fs).changed);
    // "a-" wins only where "a" has no row; the file's name is part of the table.
    let reader = read(&fs);
    let cell = reader.read_cell("cell-0", |_, _| true).unwrap();
    assert_eq!(cell.data(), {
        let (other, _) = new_fs();
        write_atomic(&other, Path::new("/run/table"), &at_once).unwrap();
        other
            .rename(Path::new("/run/table"), &{
                other.create_dir(Path::new("/run/features")).unwrap();
                layout.features("mini")
            })
            .unwrap();
        read(&other).read_cell("cell-0", |_, _| true).unwrap().data().to_vec()
    });
    let before = table(&fs);
    assert!(!merge(&fs).changed);
    assert_eq!(table(&fs), before);
}

#[test]
fn rows_in_the_table_alone_are_kept() {
    let (fs, layout) = new_fs();
    append(&mut writer(&fs, "a"), 0..5, 1).unwrap();
    merge(&fs);
    for name in fs.list(&layout.feature_logs("mini")).unwrap() {
        fs.remove(&layout.feature_logs("mini").join(name)).unwrap();
    }
    assert_eq!((merge(&fs).rows, merge(&fs).changed), (5, false));
    append(&mut writer(&fs, "b"), 3..7, 2).unwrap();
    let report = merge(&fs);
    assert_eq!((report.rows, report.duplicates, report.changed), (7, 2, true));
    let cell = read(&fs).read_cell("cell-0", |_, _| true).unwrap();
    assert_eq!(cell.row(2), numbers(4, 1));
    assert_eq!(cell.row(3), numbers(6, 2));
}

#[test]
fn features_of_another_reconstruction_are_rows_of_their_own() {
    let (fs, _) = new_fs();
    append(&mut writer(&fs, "a"), [0], 1).unwrap();
    append(&mut writer(&fs, "b"), [0], 10).unwrap();
    assert_eq!((merge(&fs).rows, merge(&fs).duplicates), (2, 0));
    let cell = read(&fs).read_cell("cell-0", |_, x1| x1 == "x1-0-1").unwrap();
    assert_eq!((cell.len(), cell.row(0)), (1, &numbers(0, 10)[..]));
}

#[test]
fn other_weights_are_refused_with_both_hashes() {
    let (fs, layout) = new_fs();
    append(&mut writer(&fs, "a"), 0..2, 1).unwrap();
    merge(&fs);
    let named = |error: StoreError| {
        let text = error.to_string();
        assert!(
            text.contains("w0") && text.contains("w1") && text.contains("features of the network mini"),
            "{text}"
        );
    };
    named(FeatureReader::open(&fs, &layout, "mini", Some("w1")).unwrap_err());
    assert!(FeatureReader::open(&fs, &layout, "mini", Some("w0")).unwrap().is_some());
    let before = table(&fs);
    let attempt = AttemptId::from_text("b");
    let mut other = FeatureWriter::new(Arc::new(fs.clone()), &layout, &attempt, net("w1")).unwrap();
    append(&mut other, [7], 1).unwrap();
    named(merge_features(&fs, &layout, "mini").unwrap_err());
    assert_eq!(table(&fs), before);
}

#[test]
fn a_row_of_another_length_is_refused_and_a_nan_names_its_sample() {
    let (fs, _) = new_fs();
    let mut writer = writer(&fs, "a");
    let (key, x1_blake3) = (key(1), "x");
    let error = writer.append(&[FeatureRow { key: &key, x1_blake3, features: &[1.0; 2] }]).unwrap_err();
    assert!(error.to_string().contains("2 features of sample sample-00001 é"), "{error}");
    writer.append(&[FeatureRow { key: &key, x1_blake3, features: &[1.0, f32::NAN, 2.0] }]).unwrap();
    merge(&fs);
    let error = read(&fs).read_cell("cell-1", |_, _| true).unwrap_err();
    assert!(error.to_string().contains("feature 1 of sample sample-00001 é is NaN"), "{error}");
    assert!(matches!(error, StoreError::Features { source: SetError::NotFinite { .. }, .. }));
    assert!(read(&fs).read_cell("cell-1", |_, _| false).unwrap().is_empty());
}

#[test]
fn a_torn_end_loses_its_row_only() {
    let (fs, layout) = new_fs();
    append(&mut writer(&fs, "a"), 0..3, 1).unwrap();
    let path = layout.feature_logs("mini").join("a-000.f32");
    let bytes = fs.read(&path).unwrap();
    for cut in (1..bytes.len()).step_by(7) {
        let (fs, layout) = new_fs();
        append(&mut writer(&fs, "b"), 2..4, 1).unwrap();
        write_atomic(&fs, &layout.feature_logs("mini").join("a-000.f32"), &bytes[..cut]).unwrap();
        let report = merge(&fs);
        let whole = crate::store::frame::decode(&bytes[..cut]);
        assert_eq!(report.rows as usize, 2 + whole.payloads.len().saturating_sub(1).min(2));
        let is_torn = report.notes.iter().any(|note| matches!(note, Note::TornTail { .. }));
        assert_eq!(is_torn, whole.torn > 0);
    }
}

#[test]
fn a_damaged_file_hides_no_other() {
    let (fs, layout) = new_fs();
    append(&mut writer(&fs, "a"), 0..4, 1).unwrap();
    let logs = layout.feature_logs("mini");
    let foreign = crate::store::frame::encode(b"{\"dflow_artifacts\":1}").unwrap();
    write_atomic(&fs, &logs.join("foreign-000.f32"), &foreign).unwrap();
    write_atomic(&fs, &layout.features("mini"), b"no parquet").unwrap();
    let report = merge(&fs);
    assert_eq!((report.rows, report.changed), (4, true));
    let damaged = |name: &str| {
        report.notes.iter().any(
            |note| matches!(note, Note::Damaged { file, .. } if file.display().to_string().contains(name)),
        )
    };
    assert!(damaged("foreign-000.f32") && damaged("mini.parquet.damaged-"), "{:?}", report.notes);
    // The damaged table is still there, under another name.
    let names = fs.list(Path::new("/run/features")).unwrap();
    assert!(names.iter().any(|name| name.contains("damaged")), "{names:?}");
}

#[test]
fn every_cut_of_the_table_is_an_error_and_no_panic() {
    let (fs, layout) = new_fs();
    append(&mut writer(&fs, "a"), 0..4, 1).unwrap();
    merge(&fs);
    let bytes = table(&fs);
    for cut in 0..bytes.len() {
        write_atomic(&fs, &layout.features("mini"), &bytes[..cut]).unwrap();
        assert!(FeatureReader::open(&fs, &layout, "mini", None).is_err(), "{cut}");
    }
}

#[test]
fn whatever_operation_fails_a_resumed_scoring_has_every_row_once() {
    // Appends of three batches and a merge; the same again after the fault.
    let run = |fs: &FaultFs, attempt: &str| -> Result<(), StoreError> {
        let mut writer = writer(fs, attempt);
        [0..2, 2..4, 4..6].into_iter().try_for_each(|rows| append(&mut writer, rows, 1))?;
        merge_features(fs, &Layout::new("/run"), "mini").map(drop)
    };
    let (fs, _) = new_fs();
    run(&fs, "a").unwrap();
    let (operations, expected) = (fs.operations(), read(&fs).read_cell("cell-0", |_, _| true).unwrap());
    let faults = [Fault::Fail(std::io::ErrorKind::Other), Fault::ShortWrite, Fault::Abort];
    for (k, fault) in (0..operations).flat_map(|k| faults.map(|fault| (k, fault))) {
        let (fs, _) = new_fs();
        fs.inject(k, fault);
        let failed = run(&fs, "a").is_err();
        fs.restart(Crash::PowerLoss);
        run(&fs, "b").unwrap();
        let report = merge(&fs);
        assert_eq!((report.rows, report.changed), (6, false), "operation {k} {fault:?} {failed}");
        assert_eq!(read(&fs).read_cell("cell-0", |_, _| true).unwrap(), expected);
        let names = fs.list(Path::new("/run/features")).unwrap();
        assert!(names.iter().all(|name| !name.starts_with('.')) || fault == Fault::Abort, "{names:?}");
    }
}

#[test]
fn the_clean_cell_is_that_of_the_manifest() {
    assert_eq!(clean_cell("m").len(), 64);
    assert_eq!(clean_cell("m"), clean_cell("m"));
    assert_ne!(clean_cell("m"), clean_cell("n"));
}
