//! What is seen of a run while it is written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Watch;
use crate::plan::{Plan, Shard, Unit};
use crate::store::attempt::AttemptId;
use crate::store::counted::Counted;
use crate::store::fault::FaultFs;
use crate::store::fs::{Fs, OsFs};
use crate::store::samples::{document, failed_row, plan, row};
use crate::store::{Layout, Record, Status, Store, merge};

const TASKS: &str = "tasks: [ { name: hole, operator: { center_mask: { size: 10 } } }, \
                     { name: small-hole, operator: { center_mask: { size: 4 } } } ]";

/// A file system, its layout, and a plan of two cells with ten samples each.
fn files() -> (FaultFs, Layout, Plan) {
    let fs = FaultFs::new(Path::new("/run"));
    (fs, Layout::new("/run"), plan(&document(TASKS)))
}

fn watch(fs: &FaultFs, plan: &Plan) -> Watch {
    Watch::new(Arc::new(fs.clone()), Layout::new("/run"), plan)
}

fn store(fs: &FaultFs, attempt: &str) -> Store {
    Store::with_fs(Arc::new(fs.clone()), Layout::new("/run"), AttemptId::from_text(attempt)).unwrap()
}

fn unit(cell: usize, sample: usize) -> Unit {
    Unit { cell, sample }
}

/// Ok and failed rows of both cells.
fn counts(watch: &mut Watch) -> [(u64, u64); 2] {
    let cells = &watch.refresh().unwrap().cells;
    [(cells[0].ok, cells[0].failed), (cells[1].ok, cells[1].failed)]
}

#[test]
fn rows_are_counted_once_on_their_way_from_journal_to_part_to_merge() {
    let (fs, layout, plan) = files();
    let mut watch = watch(&fs, &plan);
    assert_eq!(counts(&mut watch), [(0, 0), (0, 0)], "there is no folder yet");
    let mut store = store(&fs, "a");
    for sample in 0..3 {
        store.append(&row(&plan, unit(0, sample))).unwrap();
        assert_eq!(counts(&mut watch)[0], (sample as u64 + 1, 0));
    }
    store.append(&failed_row(&plan, unit(1, 0))).unwrap();
    store.flush_part().unwrap();
    assert_eq!(counts(&mut watch), [(3, 0), (0, 1)]);
    store.append(&row(&plan, unit(1, 1))).unwrap();
    merge(&fs, &layout, "run").unwrap();
    assert_eq!(counts(&mut watch), [(3, 0), (1, 1)]);
    let (late, mut again) = (watch.progress().clone(), self::watch(&fs, &plan));
    assert_eq!(again.refresh().unwrap(), &late, "whoever comes late sees the same");
    assert_eq!(watch.status(unit(1, 0)), Some(Status::Failed));
    let key = |unit: Unit| row(&plan, unit).key();
    let has_row = |(hash, sample): (String, String)| watch.has_row(&hash, &sample);
    assert!(has_row(key(unit(1, 0))) && !has_row(key(unit(1, 5))));
    assert_eq!((late.attempts["a"].rows, late.done()), (5, 5));
    let sum: f64 = (0..3).map(|sample| row(&plan, unit(0, sample)).device_seconds).sum();
    assert_eq!(late.cells[0].device_seconds, sum);
}

#[test]
fn a_retry_takes_the_place_of_its_failure() {
    let (fs, _, plan) = files();
    let mut watch = watch(&fs, &plan);
    for sample in 0..2 {
        store(&fs, "a").append(&failed_row(&plan, unit(0, sample))).unwrap();
        fs.rename(
            &Layout::new("/run").journals().join("a-000.journal"),
            &Layout::new("/run").journals().join(format!("a-10{sample}.journal")),
        )
        .unwrap();
    }
    assert_eq!(counts(&mut watch)[0], (0, 2));
    let failures: Vec<_> = watch.progress().failures.iter().map(|row| row.sample_id.clone()).collect();
    assert_eq!(failures, ["s0", "s1"]);
    assert_eq!(watch.progress().failures[0].error, "the image cannot be read");
    store(&fs, "b").append(&row(&plan, unit(0, 0))).unwrap();
    assert_eq!(counts(&mut watch)[0], (1, 1));
    store(&fs, "c").append(&failed_row(&plan, unit(0, 0))).unwrap();
    assert_eq!(counts(&mut watch)[0], (1, 1), "a row that is ok stays so");
    assert_eq!(watch.progress().failures.len(), 1);
}

#[test]
fn a_row_is_seen_when_it_is_whole_wherever_its_writing_was_seen() {
    let (fs, layout, plan) = files();
    let mut store = store(&fs, "a");
    let path = layout.journals().join("a-000.journal");
    let mut ends = Vec::new();
    for sample in 0..2 {
        store.append(&row(&plan, unit(0, sample))).unwrap();
        ends.push(fs.read(&path).unwrap().len());
    }
    let bytes = fs.read(&path).unwrap();
    let (growing, mut cut) = (FaultFs::new(Path::new("/run")), 0);
    let mut watch = watch(&growing, &plan);
    growing.create_dir(&layout.journals()).unwrap();
    let mut file = growing.create_new(&path).unwrap();
    for length in [1, 7, 100, 1000].into_iter().cycle() {
        let end = bytes.len().min(cut + length);
        file.append(&bytes[cut..end]).unwrap();
        cut = end;
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(counts(&mut watch)[0], (whole, 0), "{cut} bytes");
        if cut == bytes.len() {
            break;
        }
    }
}

#[test]
fn what_a_look_reads_is_new_and_each_folder_is_listed_once() {
    let (fs, layout, plan) = files();
    let counted = Arc::new(Counted { fs: fs.clone(), ..Counted::default() });
    let mut watch = Watch::new(counted.clone(), layout, &plan);
    let mut store = store(&fs, "a");
    for sample in 0..9 {
        store.append(&row(&plan, unit(0, sample))).unwrap();
    }
    watch.refresh().unwrap();
    let whole = counted.bytes.swap(0, Ordering::Relaxed);
    store.append(&row(&plan, unit(0, 9))).unwrap();
    counted.listings.store(0, Ordering::Relaxed);
    watch.refresh().unwrap();
    assert!(counted.bytes.swap(0, Ordering::Relaxed) < whole / 5);
    assert_eq!(counted.listings.load(Ordering::Relaxed), 2);
    watch.refresh().unwrap();
    assert_eq!(counted.bytes.load(Ordering::Relaxed), 0, "nothing is new");
}

#[test]
fn damage_and_foreign_rows_are_noted_once_and_hide_nothing() {
    let (fs, layout, plan) = files();
    let mut store = store(&fs, "b");
    store.append(&Record { cell_hash: "ff".repeat(32), ..row(&plan, unit(0, 0)) }).unwrap();
    store.append(&row(&plan, unit(0, 1))).unwrap();
    store.flush_part().unwrap();
    fs.create_new(&layout.parts().join("a-000.parquet")).unwrap().append(b"PAR1 nonsense").unwrap();
    let mut watch = watch(&fs, &plan);
    for _ in 0..2 {
        assert_eq!(counts(&mut watch), [(1, 0), (0, 0)]);
        assert_eq!((watch.progress().unplanned, watch.progress().notes.len()), (1, 1));
    }
}

#[test]
fn more_journals_than_are_looked_at_in_one_turn_have_theirs() {
    let (fs, _, plan) = files();
    let mut stores: Vec<Store> = (0..Watch::JOURNALS + 50).map(|i| store(&fs, &format!("{i:04}"))).collect();
    for store in &mut stores {
        store.append(&row(&plan, unit(0, 0))).unwrap();
    }
    let mut watch = watch(&fs, &plan);
    assert_eq!(counts(&mut watch)[0], (1, 0));
    for (i, sample) in [(0, 1), (200, 2), (Watch::JOURNALS + 49, 3)] {
        stores[i].append(&row(&plan, unit(0, sample))).unwrap();
    }
    watch.refresh().unwrap();
    assert_eq!(counts(&mut watch)[0], (4, 0));
}

/// Many writers, some with the same rows, all merging and flushing as they like, under a watch.
#[test]
fn counts_of_a_hundred_writers_never_exceed_the_truth_and_end_at_it() {
    const WRITERS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path().join("run"));
    let plan = plan(&document(TASKS));
    let units: Vec<Unit> = plan.units(Shard::WHOLE).collect();
    // Units that some writer has begun to append: no row can be seen of another.
    let begun: Vec<AtomicBool> = units.iter().map(|_| AtomicBool::new(false)).collect();
    let left = AtomicUsize::new(WRITERS);
    let mut watch = Watch::new(Arc::new(OsFs), layout.clone(), &plan);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (layout, plan, units, begun, left) = (&layout, &plan, &units, &begun, &left);
            scope.spawn(move || {
                let attempt = AttemptId::tagged(&format!("c{writer}"));
                let mut store = Store::with_fs(Arc::new(OsFs), layout.clone(), attempt).unwrap();
                for i in (0..units.len()).filter(|i| (i + writer) % 5 == 0) {
                    begun[i].store(true, Ordering::SeqCst);
                    let retry = i % 7 == 0 && writer % 2 == 0;
                    let row = if retry { failed_row(plan, units[i]) } else { row(plan, units[i]) };
                    store.append(&row).unwrap();
                    if (i + writer) % 3 == 0 {
                        store.flush_part().unwrap();
                    }
                }
                left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let mut before = 0;
        while left.load(Ordering::SeqCst) > 0 {
            let done = watch.refresh().unwrap().done();
            let truth = begun.iter().filter(|begun| begun.load(Ordering::SeqCst)).count() as u64;
            assert!(before <= done && done <= truth, "{before}, {done}, {truth}");
            before = done;
        }
    });
    let last = watch.refresh().unwrap().clone();
    let ok: u64 = last.cells.iter().map(|cell| cell.ok).sum();
    assert_eq!((ok, last.done()), (units.len() as u64, units.len() as u64));
    assert!(last.failures.is_empty() && last.notes.is_empty(), "{last:?}");
    let seconds: f64 = units.iter().map(|unit| row(&plan, *unit).wall_seconds).sum();
    let sum: f64 = last.cells.iter().map(|cell| cell.wall_seconds).sum();
    assert!((sum - seconds).abs() < 1e-9 * seconds, "every row's seconds count once: {sum}, {seconds}");
}
