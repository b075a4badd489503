use super::*;
use crate::store::fault::{Crash, Fault, FaultFs};
use crate::store::gather::Note;

fn schema(identity: &str) -> ScoreSchema {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ScoreSchema {
        metric: "lpips".to_owned(),
        identity: identity.to_owned(),
        values: names(&["lpips", "hole_lpips"]),
        lists: names(&["layers"]),
    }
}

fn row(i: usize) -> ScoreRow {
    let x = i as f64;
    let (cell_hash, sample_id) = (format!("cell-{}", i % 2).into(), format!("s{i:05}"));
    ScoreRow {
        key: X1Key { cell_hash, sample_id, x1_blake3: format!("x1-{i}") },
        values: vec![Some(0.1 * x), (i.is_multiple_of(3)).then_some(-0.0)],
        lists: vec![(0..i % 3).map(|k| k as f64 / 3.0).collect()],
    }
}

fn new_fs() -> (FaultFs, Layout) {
    (FaultFs::new(Path::new("/run")), Layout::new("/run"))
}

fn writer(fs: &FaultFs, attempt: &str, identity: &str) -> ScoreWriter {
    let attempt = AttemptId::from_text(attempt);
    ScoreWriter::new(Arc::new(fs.clone()), Layout::new("/run"), attempt, schema(identity))
}

fn write_rows(fs: &FaultFs, attempt: &str, rows: impl IntoIterator<Item = usize>) -> Result<(), StoreError> {
    let mut writer = writer(fs, attempt, "w0");
    writer.append(rows.into_iter().map(row).collect())?;
    writer.flush()
}

fn read(fs: &FaultFs) -> ScoreTable {
    read_scores(fs, &Layout::new("/run"), "lpips", Some("w0")).unwrap().unwrap()
}

#[test]
fn scores_are_joined_by_key_and_reconstruction() {
    let (fs, layout) = new_fs();
    assert_eq!(read_scores(&fs, &layout, "lpips", None).unwrap(), None);
    assert_eq!(merge_scores(&fs, &layout, "lpips").unwrap(), ScoreMerge::default());
    write_rows(&fs, "b", (0..1500).rev()).unwrap();
    write_rows(&fs, "a", 1400..2000).unwrap();
    assert_eq!(fs.list(&layout.score_parts("lpips")).unwrap().len(), 3);
    let report = merge_scores(&fs, &layout, "lpips").unwrap();
    assert_eq!((report.rows, report.duplicates, report.changed), (2000, 0, true));
    let table = read(&fs);
    for i in 0..2000 {
        let wanted = row(i);
        let (cell, sample, x1) = wanted.key.as_text();
        assert_eq!(table.get(cell, sample, x1), Some(&wanted));
        assert_eq!(table.get(cell, sample, "another"), None);
    }
    assert_eq!(table.schema.value("hole_lpips"), Some(1));
    assert!(!merge_scores(&fs, &layout, "lpips").unwrap().changed);
}

#[test]
fn the_order_of_parts_changes_no_byte() {
    let bytes = |order: [(&str, std::ops::Range<usize>); 3]| {
        let (fs, layout) = new_fs();
        for (attempt, rows) in order {
            write_rows(&fs, attempt, rows).unwrap();
            merge_scores(&fs, &layout, "lpips").unwrap();
        }
        fs.read(&layout.scores("lpips")).unwrap()
    };
    let once = bytes([("a", 0..20), ("b", 10..30), ("c", 5..6)]);
    assert_eq!(once, bytes([("c", 10..30), ("a", 5..6), ("b", 0..20)]));
}

#[test]
fn of_two_values_of_one_reconstruction_the_same_is_kept_in_any_order() {
    let kept = |first: f64, second: f64| {
        let (fs, layout) = new_fs();
        for (attempt, value) in [("a", first), ("b", second)] {
            let mut writer = writer(&fs, attempt, "w0");
            writer.append(vec![ScoreRow { values: vec![Some(value), None], ..row(0) }]).unwrap();
            writer.flush().unwrap();
        }
        let report = merge_scores(&fs, &layout, "lpips").unwrap();
        assert_eq!((report.rows, report.duplicates), (1, 1));
        read(&fs).rows[0].values[0].unwrap().to_bits()
    };
    assert_eq!(kept(0.5, 0.25), kept(0.25, 0.5));
    assert_eq!(kept(f64::NAN, 1.0), kept(1.0, f64::NAN));
}

#[test]
fn other_definitions_are_refused_with_both_identities() {
    let (fs, layout) = new_fs();
    write_rows(&fs, "a", 0..3).unwrap();
    merge_scores(&fs, &layout, "lpips").unwrap();
    let named = |error: StoreError| {
        let text = error.to_string();
        assert!(text.contains("w0") && text.contains("w1") && text.contains("scores lpips"), "{text}");
    };
    named(read_scores(&fs, &layout, "lpips", Some("w1")).unwrap_err());
    named(scored(&fs, &layout, &schema("w1")).unwrap_err());
    let mut other = writer(&fs, "b", "w1");
    other.append(vec![row(7)]).unwrap();
    other.flush().unwrap();
    named(merge_scores(&fs, &layout, "lpips").unwrap_err());
    assert_eq!(read(&fs).rows.len(), 3);
}

#[test]
fn a_row_without_its_columns_is_refused() {
    let (fs, _) = new_fs();
    let error = writer(&fs, "a", "w0").append(vec![ScoreRow { values: vec![None], ..row(4) }]).unwrap_err();
    assert!(error.to_string().contains("lpips of sample s00004"), "{error}");
}

#[test]
fn an_interrupted_scoring_goes_on_where_it_stopped() {
    let run = |fs: &FaultFs, attempt: &str| -> Result<(), StoreError> {
        let done = scored(fs, &Layout::new("/run"), &schema("w0"))?;
        write_rows(fs, attempt, (0..2500).filter(|i| !done.contains(&row(*i).key)))?;
        merge_scores(fs, &Layout::new("/run"), "lpips").map(drop)
    };
    let (fs, _) = new_fs();
    run(&fs, "a").unwrap();
    let expected = read(&fs);
    assert_eq!(scored(&fs, &Layout::new("/run"), &schema("w0")).unwrap().len(), 2500);
    for (k, fault) in (0..fs.operations()).flat_map(|k| [Fault::ShortWrite, Fault::Abort].map(|f| (k, f))) {
        let (fs, _) = new_fs();
        fs.inject(k, fault);
        run(&fs, "a").ok();
        fs.restart(Crash::PowerLoss);
        run(&fs, "b").unwrap();
        assert_eq!(read(&fs), expected, "operation {k} {fault:?}");
    }
}

#[test]
fn a_damaged_part_is_noted_and_a_damaged_table_is_an_error() {
    let (fs, layout) = new_fs();
    write_rows(&fs, "a", 0..3).unwrap();
    write_atomic(&fs, &layout.score_parts("lpips").join("b-000.parquet"), b"no parquet").unwrap();
    let report = merge_scores(&fs, &layout, "lpips").unwrap();
    assert_eq!(report.rows, 3);
    assert!(matches!(&report.notes[..], [Note::Damaged { .. }]));
    let bytes = fs.read(&layout.scores("lpips")).unwrap();
    for cut in 0..bytes.len() {
        write_atomic(&fs, &layout.scores("lpips"), &bytes[..cut]).unwrap();
        assert!(read_scores(&fs, &layout, "lpips", None).is_err(), "{cut}");
    }
}
