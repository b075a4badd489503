//! The store as a whole: merge, several writers, and a fault at every operation.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::artifacts::{ArtifactWriter, Reconstruction};
use super::attempt::AttemptId;
use super::checkpoint::{Origin, Running};
use super::fault::{Crash, Fault, FaultFs};
use super::fs::{Fs, OsFs};
use super::gather::{Note, Rounds, finished};
use super::merge::{Columns, MergeReport, merge, merge_within, read_samples};
use super::record::{Key, Record, Status, TracePoint};
use super::run_dir::{Part, RunDir, Start};
use super::samples::{assert_same, document, failed, failed_row, plan, record, row};
use super::table::to_records;
use super::verify::{Depth, compare, verify};
use super::winners::{Limits, Winners};
use super::{Layout, Store, StoreError};
use crate::plan::Shard;
use parquet::file::reader::{FileReader, SerializedFileReader};

fn store(fs: &FaultFs, attempt: &str) -> Store {
    let layout = Layout::new("/reports/run");
    Store::with_fs(Arc::new(fs.clone()), layout, AttemptId::from_text(attempt)).unwrap()
}

fn files() -> FaultFs {
    FaultFs::new(Path::new("/reports"))
}

fn rows_of(fs: &FaultFs) -> Vec<Record> {
    read_samples(fs, &Layout::new("/reports/run"), Columns::All).unwrap()
}

fn merged(fs: &FaultFs) -> Vec<u8> {
    let layout = Layout::new("/reports/run");
    merge(fs, &layout, "run").unwrap();
    fs.read(&layout.samples()).unwrap()
}

/// Rows that lost, and all that count, put together without a limit of memory.
fn gathered(fs: &FaultFs) -> (u64, Vec<Record>) {
    let layout = Layout::new("/reports/run");
    let index = Rounds::default().index(fs, &layout).unwrap();
    let limits = Limits { bytes: usize::MAX, ..Limits::default() };
    let batches = Winners::read(fs, &layout, &index, limits).unwrap();
    let rows = batches.flat_map(|batch| to_records(&batch.unwrap()).unwrap()).collect();
    (index.counts().duplicates, rows)
}

#[test]
fn nothing_is_created_before_the_first_row() {
    let fs = files();
    let mut store = store(&fs, "a");
    store.flush_part().unwrap();
    assert!(finished(&fs, store.layout()).unwrap().rows.is_empty());
    assert_eq!(fs.operations(), 0);
}

#[test]
fn rows_of_journals_and_parts_are_merged_sorted_and_the_same_bytes_each_time() {
    let fs = files();
    let (mut a, mut b) = (store(&fs, "a"), store(&fs, "b"));
    for i in (0..10).rev() {
        if i % 2 == 0 { &mut a } else { &mut b }.append(&record(i)).unwrap();
        if i == 4 {
            a.flush_part().unwrap();
        }
    }
    let first = merged(&fs);
    let names: Vec<_> = rows_of(&fs)
        .iter()
        .map(|row| (row.task.clone(), row.method.clone(), row.sample_id.clone()))
        .collect();
    assert_eq!(names.len(), 10);
    assert!(names.is_sorted());
    assert_eq!(first, merged(&fs));
    b.flush_part().unwrap();
    assert_eq!(first, merged(&fs), "a part holds what its journal held");
}

fn part(tag: &str) -> Part {
    Part { tag: tag.to_owned(), ..Part::default() }
}

#[test]
fn a_part_of_the_work_finds_its_own_rows_by_its_tag() {
    let fs = files();
    let document = document("dataset: { name: toy, limit: 6 }");
    let start = Start { plan: &plan(&document), document: &document };
    let dir = RunDir::open_on(Arc::new(fs.clone()), Path::new("/reports/run"), &start).unwrap();
    let units: Vec<_> = start.plan.units(Shard::WHOLE).collect();
    for (i, unit) in units.iter().enumerate() {
        let mut store = dir.clone().with_part(part(&format!("c{}", i % 2))).store().unwrap();
        store.append(&row(start.plan, *unit)).unwrap();
        if i < 2 {
            store.flush_part().unwrap();
        }
    }
    // Another task's damage is not this task's affair.
    let other = AttemptId::tagged("c12");
    fs.create_new(&dir.layout().parts().join(format!("{other}-000.parquet"))).unwrap().append(b"x").unwrap();
    let found = dir.done_for("c1").unwrap();
    let expected: Vec<Key> =
        units.iter().skip(1).step_by(2).map(|unit| row(start.plan, *unit).key()).collect();
    assert_eq!((found.rows.len(), found.notes.len()), (3, 0));
    assert!(expected.iter().all(|key| found.rows.contains_key(key)));
    assert_eq!(dir.done_for("c").unwrap().rows.len(), 0, "no tag is a beginning of another");
    assert_eq!(dir.finished().unwrap().rows.len(), 6);
}

#[test]
fn rows_that_are_merged_or_of_no_part_are_found_by_every_part() {
    let fs = files();
    let document = document("dataset: { name: toy, limit: 6 }");
    let start = Start { plan: &plan(&document), document: &document };
    let dir = RunDir::open_on(Arc::new(fs.clone()), Path::new("/reports/run"), &start).unwrap();
    let units: Vec<_> = start.plan.units(Shard::WHOLE).collect();
    let rows: Vec<Record> = units.iter().map(|unit| row(start.plan, *unit)).collect();
    dir.clone().with_part(part("c0")).store().unwrap().append(&rows[0]).unwrap();
    dir.finish(start.plan).unwrap();
    dir.store().unwrap().append(&rows[1]).unwrap();
    dir.clone().with_part(part("c0")).store().unwrap().append(&rows[2]).unwrap();
    // Failed rows are done where they failed, and elsewhere perhaps why they are tried again.
    dir.store().unwrap().append(&failed_row(start.plan, units[3])).unwrap();
    dir.clone().with_part(part("c1")).store().unwrap().append(&failed_row(start.plan, units[4])).unwrap();
    for (tag, expected) in [("c0", [0, 1, 2].as_slice()), ("c1", &[0, 1, 4])] {
        let found = dir.done_for(tag).unwrap();
        let has: Vec<usize> = (0..6).filter(|i| found.rows.contains_key(&rows[*i].key())).collect();
        assert_eq!(has, expected, "{tag}");
    }
}

#[test]
fn samples_parquet_alone_keeps_the_rows() {
    let fs = files();
    let mut store = store(&fs, "a");
    store.append(&record(1)).unwrap();
    let bytes = merged(&fs);
    fs.remove(Path::new("/reports/run/journal/a-000.journal")).unwrap();
    assert_eq!(bytes, merged(&fs));
    assert_eq!(finished(&fs, store.layout()).unwrap().rows.len(), 1);
}

#[test]
fn ok_beats_failed_and_then_the_first_attempt_wins() {
    let fs = files();
    store(&fs, "a").append(&failed(1)).unwrap();
    store(&fs, "c").append(&record(1)).unwrap();
    store(&fs, "b").append(&record(1)).unwrap();
    let layout = Layout::new("/reports/run");
    let report = merge(&fs, &layout, "run").unwrap();
    assert_eq!((report.ok, report.failed, report.duplicates), (1, 0, 2));
    assert_eq!((rows_of(&fs)[0].status, rows_of(&fs)[0].attempt.as_str()), (Status::Ok, "b"));
}

#[test]
fn copies_of_one_row_in_several_files_are_no_duplicates() {
    let fs = files();
    let mut store = store(&fs, "a");
    store.append(&record(1)).unwrap();
    merged(&fs);
    store.flush_part().unwrap();
    assert_eq!(gathered(&fs).0, 0);
}

#[test]
fn a_merge_that_changes_nothing_reports_the_same() {
    let fs = files();
    let layout = Layout::new("/reports/run");
    for (attempt, rows) in
        [("b", [failed(1), record(2)]), ("c", [record(1), record(2)]), ("a", [failed(3), record(2)])]
    {
        store(&fs, attempt).append_all(&rows).unwrap();
        let first = merge(&fs, &layout, "run").unwrap();
        let operations = fs.operations();
        let second = merge(&fs, &layout, "run").unwrap();
        assert!(first.changed && fs.operations() == operations);
        assert_eq!(second, MergeReport { changed: false, ..first });
    }
    assert_eq!(merge(&fs, &layout, "run").unwrap().duplicates, 3);
    assert!(merge(&fs, &layout, "another name").unwrap().changed);
}

/// Writes rows, some of them several times, by several attempts, as journals and parts, in an order of its own.
fn write_many(fs: &FaultFs, reverse: bool) {
    let mut attempts: Vec<usize> = (0..7).collect();
    if reverse {
        attempts.reverse();
    }
    for attempt in attempts {
        let mut store = store(fs, &format!("attempt-{attempt}"));
        let mut rows: Vec<Record> = (attempt * 10..attempt * 10 + 25).map(record).collect();
        rows.extend((0..3).map(|i| failed(70 + 3 * attempt + i)));
        if reverse {
            rows.reverse();
        }
        for (i, row) in rows.iter().enumerate() {
            store.append(row).unwrap();
            if attempt % 3 > 0 && i % 7 == attempt {
                store.flush_part().unwrap();
            }
        }
    }
}

#[test]
fn a_merge_in_little_memory_writes_the_same_bytes() {
    let layout = Layout::new("/reports/run");
    let mut written = Vec::new();
    for (reverse, rows, bytes) in
        [(false, 4, usize::MAX), (true, 4, usize::MAX), (false, 4, 0), (true, 4, 20_000), (true, 4, 1)]
    {
        let fs = files();
        write_many(&fs, reverse);
        let report = merge_within(&fs, &layout, "run", Limits { rows, bytes }).unwrap();
        assert_eq!((report.ok, report.failed, report.duplicates), (85, 6, 7 * 28 - 91));
        assert_eq!(fs.list(layout.root()).unwrap().iter().filter(|name| name.ends_with(".tmp")).count(), 0);
        written.push(fs.read(&layout.samples()).unwrap());
        assert_same(&rows_of(&fs), &gathered(&fs).1);
    }
    assert!(written.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn of_several_tries_within_one_attempt_the_smallest_bytes_win_wherever_they_lie() {
    let layout = Layout::new("/reports/run");
    let tries: Vec<Record> = (0..3).map(|i| Record { wall_seconds: f64::from(i), ..record(1) }).collect();
    let mut winners = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        for bytes in [0, usize::MAX] {
            let fs = files();
            let mut store = store(&fs, "a");
            store.append(&record(0)).unwrap();
            for (i, which) in order.into_iter().enumerate() {
                store.append(&tries[which]).unwrap();
                if i == 0 {
                    store.flush_part().unwrap();
                    merged(&fs);
                }
            }
            merge_within(&fs, &layout, "run", Limits { rows: 1, bytes }).unwrap();
            winners.push(rows_of(&fs));
            assert_same(winners.last().unwrap(), &winners[0]);
            assert_eq!(winners[0].len(), 2);
        }
    }
}

#[test]
fn whatever_operation_of_a_spilling_merge_fails_the_next_one_has_every_row() {
    let layout = Layout::new("/reports/run");
    let limits = Limits { rows: 16, bytes: 60_000 };
    let merged = |fs: &FaultFs| merge_within(fs, &layout, "run", limits);
    let whole = files();
    write_many(&whole, false);
    let before = whole.operations();
    merged(&whole).unwrap();
    let (expected, operations) = (whole.read(&layout.samples()).unwrap(), whole.operations() - before);
    assert!(operations > 20, "{operations}");
    for (fault, crash) in [
        (Fault::Abort, Crash::Kill),
        (Fault::Abort, Crash::PowerLoss),
        (Fault::ShortWrite, Crash::Kill),
        (Fault::Fail(ErrorKind::Other), Crash::Kill),
    ] {
        for k in 0..operations {
            let fs = files();
            write_many(&fs, false);
            fs.inject(k, fault);
            let _ = merged(&fs);
            fs.restart(crash);
            merged(&fs).unwrap();
            assert!(fs.read(&layout.samples()).unwrap() == expected, "{fault:?} at {k}, {crash:?}");
        }
    }
}

#[test]
fn a_part_that_is_damaged_in_another_column_costs_its_rows_only() {
    let fs = files();
    let layout = Layout::new("/reports/run");
    for (attempt, row) in [("a", record(1)), ("b", record(2))] {
        let mut store = store(&fs, attempt);
        store.append(&row).unwrap();
        store.flush_part().unwrap();
    }
    let path = layout.parts().join("a-000.parquet");
    let mut bytes = fs.read(&path).unwrap();
    let (start, length) = {
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).unwrap();
        reader.metadata().row_group(0).columns().last().unwrap().byte_range()
    };
    bytes[start as usize..(start + length) as usize].fill(0xff);
    fs.remove(&path).unwrap();
    fs.create_new(&path).unwrap().append(&bytes).unwrap();
    let report = merge(&fs, &layout, "run").unwrap();
    assert_eq!((report.ok, rows_of(&fs).len()), (1, 1));
    assert!(report.notes[0].to_string().contains("a-000.parquet"), "{:?}", report.notes);
}

#[test]
fn what_the_last_merge_has_seen_is_believed_as_long_as_it_holds() {
    let (fs, layout) = (files(), Layout::new("/reports/run"));
    let mut store = store(&fs, "a");
    let merged = || merge(&fs, &layout, "run").unwrap();
    store.append(&record(1)).unwrap();
    assert_eq!(merged().ok, 1);
    let old = fs.read(&layout.samples()).unwrap();
    store.append(&record(2)).unwrap();
    assert_eq!(merged().ok, 2, "a journal has grown");
    store.flush_part().unwrap();
    assert_eq!(merged(), MergeReport { ok: 2, ..MergeReport::default() }, "a part took its place");
    let replace = |path: &Path, bytes: &[u8]| {
        fs.remove(path).unwrap();
        fs.create_new(path).unwrap().append(bytes).unwrap();
    };
    replace(&layout.samples(), &old);
    assert!(merged().changed, "an older copy lies there");
    let stamp = String::from_utf8(fs.read(&layout.merged()).unwrap()).unwrap();
    replace(&layout.merged(), stamp.replace("\"ok\":2", "\"ok\":77").as_bytes());
    assert_eq!(merged().ok, 77, "nothing is read when nothing has changed");
    for damage in [&b"{"[..], b""] {
        replace(&layout.merged(), damage);
        assert_eq!(merged().ok, 2);
    }
    assert!(merge(&fs, &layout, "another name").unwrap().changed);
}

#[test]
fn a_damaged_part_is_noted_and_the_other_rows_stay() {
    let fs = files();
    let mut store = store(&fs, "a");
    store.append(&record(1)).unwrap();
    let path = store.layout().parts().join("dead-000.parquet");
    fs.create_dir(&store.layout().parts()).unwrap();
    fs.create_new(&path).unwrap().append(b"PAR1 nonsense").unwrap();
    let found = finished(&fs, store.layout()).unwrap();
    assert_eq!(found.rows.len(), 1);
    assert!(found.notes[0].to_string().contains("dead-000.parquet"));
}

#[test]
fn a_samples_parquet_that_is_not_ours_is_moved_away_and_noted() {
    let layout = Layout::new("/reports/run");
    for (damage, rows) in [(&b"PAR1 nonsense"[..], 1), (b"", 1), (b"someone else's", 0)] {
        let fs = files();
        let mut store = store(&fs, "a");
        if rows > 0 {
            store.append(&record(1)).unwrap();
        } else {
            fs.create_dir(layout.root()).unwrap();
        }
        fs.create_new(&layout.samples()).unwrap().append(damage).unwrap();
        let report = merge(&fs, &layout, "run").unwrap();
        assert_eq!((report.ok, report.changed), (rows, rows > 0));
        let [Note::MovedAway { file, to, .. }] = &report.notes[..] else { panic!("{:?}", report.notes) };
        assert_eq!((file, fs.read(to).unwrap()), (&layout.samples(), damage.to_vec()));
        assert_eq!(fs.exists(&layout.samples()).unwrap(), rows > 0);
        assert!(merge(&fs, &layout, "run").unwrap().notes.is_empty());
    }
}

#[test]
fn after_a_failed_append_later_rows_are_still_read() {
    for fault in [Fault::ShortWrite, Fault::Fail(ErrorKind::StorageFull)] {
        for k in 0..2 {
            let fs = files();
            let mut store = store(&fs, "a");
            store.append(&record(0)).unwrap();
            fs.inject(k, fault);
            store.append(&record(1)).unwrap_err(); // an append writes, then syncs
            store.append(&record(2)).unwrap();
            let rows = finished(&fs, store.layout()).unwrap().rows;
            assert!(rows.contains_key(&record(0).key()) && rows.contains_key(&record(2).key()));
        }
    }
}

#[test]
fn no_space_left_says_what_to_do_and_leaves_no_partial_file() {
    let fs = files();
    let mut store = store(&fs, "a");
    store.append(&record(0)).unwrap();
    fs.inject(3, Fault::ShortWrite); // create parts/, sync, create the temporary file, then write
    let error = store.flush_part().unwrap_err();
    assert!(error.is_out_of_space(), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert!(fs.list(&store.layout().parts()).unwrap().is_empty());
    store.flush_part().unwrap();
    assert_eq!(finished(&fs, store.layout()).unwrap().rows.len(), 1);
}

#[test]
fn a_read_only_directory_says_what_to_do() {
    let fs = files();
    fs.inject(0, Fault::Fail(ErrorKind::ReadOnlyFilesystem));
    let error = store(&fs, "a").append(&record(0)).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }));
    assert!(error.to_string().contains("choose an `output` directory"), "{error}");
}

/// A running solve.
struct Solving(Key);

impl Running for Solving {
    fn key(&self) -> Key {
        self.0.clone()
    }

    fn core(&self) -> Vec<u8> {
        vec![1, 2, 3]
    }

    fn items(&self) -> std::ops::Range<u64> {
        2..4
    }

    fn item(&self, number: u64) -> Vec<u8> {
        vec![number as u8]
    }
}

/// A small run as a worker does it: whatever is not finished is checkpointed, its reconstruction kept, its row
/// appended; a part in the middle; a merge at the end.
fn run(fs: &FaultFs, acknowledged: &mut Vec<Key>) -> Result<RunDir, StoreError> {
    let document = document("dataset: { name: toy, limit: 2 }");
    let start = Start { plan: &plan(&document), document: &document };
    let dir = RunDir::open_on(Arc::new(fs.clone()), Path::new("/reports/run"), &start)?;
    let finished = dir.finished()?.rows;
    let mut store = dir.store()?;
    let mut checkpoints = dir.checkpoints(&store, Origin::new("portable", "cpu:0"))?;
    let mut artifacts = ArtifactWriter::new(Arc::clone(dir.fs()), dir.layout(), store.attempt());
    for unit in start.plan.units(Shard::WHOLE) {
        let mut record = row(start.plan, unit);
        let key = record.key();
        if finished.contains_key(&key) {
            continue;
        }
        checkpoints.save(std::iter::once(Solving(key.clone())))?;
        let x1 = [unit.sample as f32, 0.5];
        let item = Reconstruction { key: &key, shape: &[2], x1: &x1 };
        artifacts.append(&[item])?.remove(0).describe(&mut record);
        store.append(&record)?;
        acknowledged.push(key);
        if unit.sample == 0 {
            store.flush_part()?;
        }
    }
    store.flush_part()?;
    dir.finish(start.plan)?;
    Ok(dir)
}

#[test]
fn whatever_operation_fails_a_resumed_run_has_every_row_once() {
    let whole = files();
    run(&whole, &mut Vec::new()).unwrap();
    let expected = rows_of(&whole);
    let operations = whole.operations();
    assert!(operations > 30);
    let faults = [
        (Fault::Abort, Crash::Kill),
        (Fault::Abort, Crash::PowerLoss),
        (Fault::Abort, Crash::TornPowerLoss),
        (Fault::ShortWrite, Crash::Kill),
        (Fault::Fail(ErrorKind::Other), Crash::Kill),
    ];
    for ((fault, crash), k) in faults.into_iter().flat_map(|pair| (0..operations).map(move |k| (pair, k))) {
        let (fs, mut acknowledged) = (files(), Vec::new());
        fs.inject(k, fault);
        let result = run(&fs, &mut acknowledged);
        assert!(result.is_err() || fault != Fault::Abort);
        fs.restart(crash);
        let durable = finished(&fs, &Layout::new("/reports/run")).unwrap().rows;
        let lost = acknowledged.iter().find(|key| !durable.contains_key(key));
        assert_eq!(lost, None, "{fault:?} at {k}, {crash:?}: an acknowledged row is lost");

        let dir = run(&fs, &mut Vec::new()).unwrap();
        let verdict = verify(&fs, dir.layout(), dir.plan(), Depth::Deep).unwrap();
        assert!(verdict.is_complete(), "{fault:?} at {k}, {crash:?}: {verdict:?}");
        let comparison = compare(&expected, &rows_of(&fs));
        assert!(comparison.is_same() && comparison.same == expected.len(), "{comparison:?}");
    }
}

#[test]
fn writers_on_real_files_may_share_a_directory_with_merges() {
    let dir = tempfile::tempdir().unwrap();
    let root: PathBuf = dir.path().join("deep/er/run");
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let root = &root;
            scope.spawn(move || {
                let mut store = Store::with_fs(Arc::new(OsFs), Layout::new(root), AttemptId::new()).unwrap();
                for i in 0..20 {
                    store.append(&record(3 * i + writer)).unwrap();
                    if i % 7 == writer {
                        store.flush_part().unwrap();
                        merge(&OsFs, store.layout(), "run").unwrap();
                        read_samples(&OsFs, store.layout(), Columns::All).unwrap();
                    }
                }
                store.flush_part().unwrap();
                merge(&OsFs, store.layout(), "run").unwrap();
            });
        }
    });
    let rows = read_samples(&OsFs, &Layout::new(root), Columns::All).unwrap();
    assert_eq!(rows.len(), 60);
}

/// Prints how fast the store is at the size of the paper's tables; asserts only that it is right.
#[test]
fn ten_thousand_rows_are_appended_merged_and_read() {
    let (fs, rows) = (files(), 10_000);
    let trace: Vec<TracePoint> = (0..30)
        .map(|i| TracePoint { eval: i, seconds: 0.1, loss: 0.3 / f64::from(i), psnr: Some(30.0) })
        .collect();
    let mut store = store(&fs, "a");
    let timed = |what: &str, clock: Instant| {
        println!("{rows} rows {what}: {:.0} ms", clock.elapsed().as_secs_f64() * 1e3);
    };
    let clock = Instant::now();
    for i in 0..rows {
        store.append(&Record { trace: trace.clone(), ..record(i) }).unwrap();
    }
    timed("appended one by one (without a disk)", clock);
    for (what, changed) in [("the first time", true), ("again", false)] {
        let clock = Instant::now();
        assert_eq!(merge(&fs, store.layout(), "run").unwrap().changed, changed);
        timed(&format!("merged {what}"), clock);
    }
    let clock = Instant::now();
    assert_eq!(finished(&fs, store.layout()).unwrap().rows.len(), rows);
    timed("looked up to resume", clock);
    for columns in [Columns::All, Columns::WithoutTrace] {
        let clock = Instant::now();
        assert_eq!(read_samples(&fs, store.layout(), columns).unwrap().len(), rows);
        timed(&format!("read ({columns:?})"), clock);
    }
    println!("samples.parquet: {} bytes per row", fs.read(&store.layout().samples()).unwrap().len() / rows);
}
