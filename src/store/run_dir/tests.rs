//! How a run begins, goes on and ends.

use std::io::ErrorKind;

use super::*;
use crate::store::fault::{Fault, FaultFs};
use crate::store::merge::{Columns, read_samples};
use crate::store::samples::{document, failed_row, plan, row};
use crate::store::verify::{Depth, verify};

const ROOT: &str = "/reports/small";

fn open(fs: &FaultFs, text: &str) -> Result<RunDir, StoreError> {
    let document = document(text);
    let start = Start { plan: &plan(&document), document: &document };
    RunDir::open_on(Arc::new(fs.clone()), Path::new(ROOT), &start)
}

fn files() -> FaultFs {
    FaultFs::new(Path::new("/reports"))
}

const TWO: &str = "dataset: { name: toy, limit: 2 }";
const THREE: &str = "dataset: { name: toy, limit: 3 }";

#[test]
fn a_run_is_partial_until_every_planned_row_is_there() {
    let fs = files();
    let dir = open(&fs, TWO).unwrap();
    assert_eq!(dir.run().state, State::Partial);
    let mut store = dir.store().unwrap();
    let plan = dir.plan().clone();
    let units: Vec<_> = plan.units(crate::plan::Shard::WHOLE).collect();
    for (i, unit) in units.iter().enumerate() {
        let before = dir.finish(&plan).unwrap();
        assert_eq!((before.missing, before.is_complete()), ((units.len() - i) as u64, false));
        store.append(&if i == 0 { failed_row(&plan, *unit) } else { row(&plan, *unit) }).unwrap();
    }
    let after = dir.finish(&plan).unwrap();
    assert_eq!((after.ok, after.failed, after.missing), (units.len() as u64 - 1, 1, 0));
    let run = RunDir::existing_on(Arc::new(fs.clone()), Path::new(ROOT)).unwrap();
    assert_eq!((run.run().state, run.plan()), (State::Complete, &plan));
}

#[test]
fn what_finished_rows_stay_without_is_read_off_the_rows() {
    let fs = files();
    let dir = open(&fs, TWO).unwrap();
    let lacks = || {
        let more = plan(&document(&format!("{TWO}\nmetrics: [ psnr, ssim ]\nsave: [ reconstructions ]")));
        RunDir::stays_without_on(&fs, Path::new(ROOT), &more)
    };
    assert!(lacks().is_empty(), "no row is finished yet");
    let units: Vec<_> = dir.plan().units(crate::plan::Shard::WHOLE).collect();
    let whole = row(dir.plan(), units[0]);
    let whole = Record { psnr: Some(30.0), ssim_tm13: Some(0.9), x1_file: Some("x".to_owned()), ..whole };
    let mut store = dir.store().unwrap();
    store.append(&whole).unwrap();
    store.append(&Record { ssim_tm13: None, x1_file: None, ..row(dir.plan(), units[1]) }).unwrap();
    dir.finish(dir.plan()).unwrap();
    let notes = lacks();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("1 finished rows stay without ssim"), "{notes:?}");
    assert!(notes[1].contains("1 finished rows stay without reconstructions"), "{notes:?}");
}

#[test]
fn a_second_plan_before_the_first_row_adds_to_the_first() {
    let fs = files();
    open(&fs, THREE).unwrap();
    let second =
        open(&fs, &format!("{TWO}\nmethods: [ pinv: {{ name: filled, fill: observed_mean }} ]")).unwrap();
    assert_eq!((second.plan().cells.len(), second.plan().dataset.samples.len()), (2, 3));
}

#[test]
fn opening_again_writes_nothing() {
    let fs = files();
    let dir = open(&fs, TWO).unwrap();
    let unit = dir.plan().units(crate::plan::Shard::WHOLE).next().unwrap();
    dir.store().unwrap().append(&row(dir.plan(), unit)).unwrap();
    let plan = dir.plan().clone();
    dir.finish(&plan).unwrap();
    let operations = fs.operations();
    open(&fs, TWO).unwrap().finish(&plan).unwrap();
    assert_eq!(fs.operations(), operations);
}

#[test]
fn larger_limits_and_other_cells_add_up() {
    let fs = files();
    let dir = open(&fs, THREE).unwrap();
    let unit = dir.plan().units(crate::plan::Shard::WHOLE).next().unwrap();
    dir.store().unwrap().append(&row(dir.plan(), unit)).unwrap();
    let second =
        open(&fs, &format!("{TWO}\nmethods: [ pinv: {{ name: other, fill: observed_mean }} ]")).unwrap();
    assert_eq!(second.plan().dataset.samples.len(), 3);
    assert_eq!(second.plan().cells.len(), dir.plan().cells.len() * 2);
}

#[test]
fn other_settings_under_an_old_name_are_an_error_once_there_are_rows() {
    let fs = files();
    open(&fs, TWO).unwrap();
    let dir = open(&fs, &format!("{TWO}\nseed: 4")).unwrap();
    let unit = dir.plan().units(crate::plan::Shard::WHOLE).next().unwrap();
    dir.store().unwrap().append(&row(dir.plan(), unit)).unwrap();
    let operations = fs.operations();
    let message = open(&fs, TWO).unwrap_err().to_string();
    assert!(message.contains("seed: 4 there, 0 here"), "{message}");
    assert_eq!(fs.operations(), operations, "nothing is written");
    fs.remove(&dir.layout().run_json()).unwrap();
    let message = open(&fs, TWO).unwrap_err().to_string();
    assert!(message.contains("run.json is missing"), "rows speak for themselves: {message}");
}

const HOLE: &str = "tasks: [ { name: hole, operator: { center_mask: { size: 10 } } } ]";

/// A run of one finished row, under the names of [`document`].
fn one_row(fs: &FaultFs, text: &str) -> RunDir {
    let dir = open(fs, text).unwrap();
    let unit = dir.plan().units(crate::plan::Shard::WHOLE).next().unwrap();
    dir.store().unwrap().append(&row(dir.plan(), unit)).unwrap();
    dir.finish(dir.plan()).unwrap();
    dir
}

#[test]
fn a_renamed_task_is_the_same_cell_under_its_new_name() {
    let fs = files();
    one_row(&fs, &format!("{TWO}\n{HOLE}"));
    let renamed = open(&fs, &format!("{TWO}\n{}", HOLE.replace("name: hole", "name: gap"))).unwrap();
    let counts = renamed.finish(renamed.plan()).unwrap();
    assert_eq!((counts.planned, counts.ok, counts.missing), (2, 1, 1));
    assert_eq!(renamed.plan().cells.len(), 1);

    let verdict = verify(&fs, renamed.layout(), renamed.plan(), Depth::Deep).unwrap();
    assert_eq!((verdict.planned, verdict.ok, verdict.unplanned), (2, 1, 0));
    assert!(verdict.problems.is_empty() && verdict.missing[0].task == "gap", "{verdict:?}");
    let rows = read_samples(&fs, renamed.layout(), Columns::All).unwrap();
    assert_eq!(rows[0].task, "hole", "a row keeps the name that it was solved under");
}

#[test]
fn a_name_that_was_given_away_says_what_its_rows_were() {
    let fs = files();
    one_row(&fs, &format!("{TWO}\n{HOLE}"));
    open(&fs, &format!("{TWO}\n{}", HOLE.replace("name: hole", "name: gap"))).unwrap();
    let message =
        open(&fs, &format!("{TWO}\n{}", HOLE.replace("size: 10", "size: 4"))).unwrap_err().to_string();
    assert!(message.contains("size: 10 there, 4 here"), "{message}");
}

#[test]
fn methods_that_are_added_later_stand_with_their_task() {
    let fs = files();
    let tasks = "tasks: [ { name: a, operator: { center_mask: { size: 10 } } }, \
                 { name: b, operator: { center_mask: { size: 4 } } } ]";
    one_row(&fs, &format!("{TWO}\n{tasks}"));
    let later = format!("{TWO}\n{tasks}\nmethods: [ pinv: {{ name: filled, fill: observed_mean }} ]");
    let dir = open(&fs, &later).unwrap();
    let names: Vec<_> =
        dir.plan().cells.iter().map(|cell| (cell.task.as_str(), cell.method.as_str())).collect();
    assert_eq!(names, [("a", "filled"), ("a", "pinv"), ("b", "filled"), ("b", "pinv")]);
}

#[test]
fn a_damaged_run_file_says_what_to_do() {
    let fs = files();
    let dir = one_row(&fs, TWO);
    let path = dir.layout().run_json();
    fs.remove(&path).unwrap();
    fs.create_new(&path).unwrap().append(b"{\"dflow_run\": 1,").unwrap();
    let message = open(&fs, TWO).unwrap_err().to_string();
    assert!(message.contains("move it away"), "{message}");
    fs.rename(&path, &path.with_extension("old")).unwrap();
    assert_eq!(open(&fs, TWO).unwrap().finished().unwrap().rows.len(), 1);
}

#[test]
fn processes_that_plan_at_once_lose_no_cell() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("small");
    let open = |text: &str| {
        let document = document(text);
        RunDir::open(&root, &Start { plan: &plan(&document), document: &document }).unwrap()
    };
    let first = open(TWO);
    let unit = first.plan().units(crate::plan::Shard::WHOLE).next().unwrap();
    first.store().unwrap().append(&row(first.plan(), unit)).unwrap();
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (open, barrier) = (&open, &barrier);
            let task = format!("{{ name: t{i}, operator: {{ center_mask: {{ size: {} }} }} }}", 12 + 2 * i);
            scope.spawn(move || {
                barrier.wait();
                open(&format!("{TWO}\ntasks: [ {task} ]"));
            });
        }
    });
    assert_eq!(RunDir::existing(&root).unwrap().plan().cells.len(), 9);
}

#[test]
fn reserved_and_missing_directories_are_errors() {
    let document = document(TWO);
    let start = Start { plan: &plan(&document), document: &document };
    let fs = Arc::new(files());
    let reserved = RunDir::open_on(fs.clone(), Path::new("/reports/paper"), &start).unwrap_err();
    assert!(reserved.to_string().contains("reserved"));
    let missing = RunDir::existing_on(fs, Path::new("/reports/none")).unwrap_err();
    assert!(missing.to_string().contains("no run.json"));
}

#[test]
fn a_full_or_read_only_disk_leaves_nothing_half_written() {
    for fault in [Fault::ShortWrite, Fault::Fail(ErrorKind::ReadOnlyFilesystem)] {
        for k in 0.. {
            let fs = files();
            fs.inject(k, fault);
            if open(&fs, TWO).is_ok() {
                break;
            }
            let names = fs.list(Path::new(ROOT)).unwrap_or_default();
            assert!(names.iter().all(|name| name == "run.json" || name == ".run.lock"), "{names:?}");
            open(&fs, TWO).unwrap();
        }
    }
}
