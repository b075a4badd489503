//! A cluster in virtual time: how close a submission comes to what its devices could do, and that nothing is lost or
//! counted twice when nodes die, lose contact, or are taken away. `benches/scale.rs` prints the whole tables.

mod model;

use std::time::Duration;

use dflow::plan::Unit;

use model::service::CELLS;
use model::{Disk, Faults, Setting, list_scheduling, simulate, simulate_on};

/// So many samples of each task of Table 1.
fn table1(samples: usize) -> Vec<Unit> {
    (0..CELLS).flat_map(|cell| of_task(cell, samples)).collect()
}

fn of_task(cell: usize, samples: usize) -> impl Iterator<Item = Unit> {
    (0..samples).map(move |sample| Unit { cell, sample })
}

#[test]
fn table_1_on_256_devices_takes_little_longer_than_it_must() {
    let units = table1(10_000);
    for per_task in [1, 4] {
        let outcome = simulate(&Setting { per_task, ..Setting::usual(256) }, &units);
        assert!(outcome.of_bound() >= 0.95, "tasks of {per_task} devices: {outcome:?}");
        assert!(outcome.idle <= 0.05, "{outcome:?}");
        assert_eq!((outcome.lost, outcome.duplicates, outcome.repeated.abs() < 1e-6), (0, 0, true));
    }
}

#[test]
fn a_task_alone_is_nearly_as_quick_as_if_every_sample_were_scheduled_by_itself() {
    let setting = Setting { per_task: 1, ..Setting::usual(256) };
    for cell in 0..CELLS {
        let units: Vec<Unit> = of_task(cell, 10_000).collect();
        let share = list_scheduling(&setting, &units) / simulate(&setting, &units).makespan;
        assert!(share >= 0.97, "task {cell}: {share}");
    }
}

#[test]
fn no_device_is_idle_while_samples_of_its_task_wait() {
    for (per_task, slots) in [(4, 1), (8, 1), (4, 8), (8, 8)] {
        for faults in [Faults::NONE, Faults::STRAGGLERS] {
            let setting = Setting { per_task, slots, faults, ..Setting::usual(64) };
            let outcome = simulate(&setting, &table1(500));
            // One round of messages to fetch back what another worker was given too early.
            assert!(outcome.starved < 1e-3, "{per_task} devices of {slots} slots: {outcome:?}");
        }
    }
}

#[test]
fn whatever_happens_to_nodes_costs_time_and_no_rows() {
    let units = table1(2000);
    let quiet = simulate(&Setting::usual(256), &units);
    for faults in [Faults::NODES, Faults::PREEMPTIONS, Faults::STRAGGLERS] {
        let outcome = simulate(&Setting { faults, ..Setting::usual(256) }, &units);
        assert_eq!(outcome.lost, 0, "{outcome:?}");
        assert!(outcome.repeated < 0.03, "checkpoints save the most: {outcome:?}");
        assert!(outcome.of_available > quiet.of_bound() - 0.08, "{outcome:?}");
        assert!(outcome.tally.failed <= 2, "{outcome:?}");
    }
}

#[test]
fn a_larger_run_has_longer_chunks_rather_than_more() {
    let outcome = simulate(&Setting { chunk: 600.0, ..Setting::usual(64) }, &table1(10_000));
    assert!(outcome.chunks < 6000 && outcome.of_bound() > 0.9, "{outcome:?}");
}

#[test]
fn the_files_of_a_run_with_faults_hold_every_row_once() {
    let setting = Setting { chunk: 3600.0, start_up: Duration::from_secs(5), ..Setting::usual(8) };
    for faults in [Faults::NODES, Faults::PREEMPTIONS] {
        // Ten times as many faults: the run is short.
        let setting = Setting { faults: Faults { hours: faults.hours / 10.0, ..faults }, ..setting };
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(&dir.path().join("scale"), 20);
        let units = disk.units();
        let (outcome, disk) = simulate_on(&setting, &units, Some(disk));
        assert!(outcome.tally.starts > outcome.chunks as u64 && outcome.tally.resumed > 0, "{outcome:?}");
        let disk = disk.unwrap();
        let operations = disk.operations();
        assert!(operations.syncs >= units.len() as u64, "every row is made durable: {operations:?}");
        assert!(disk.files_in("parts") >= outcome.chunks / 2, "a part of every worker that ended");
        let collected = disk.collect();
        assert_eq!(collected.duplicates as usize, outcome.duplicates);
        assert!(collected.verdict.is_complete(), "{:?}", collected.verdict);
        assert_eq!(collected.verdict.ok + collected.verdict.failed.len(), units.len());
        assert_eq!(collected.verdict.failed.len() as u64, outcome.tally.failed);
        assert_eq!(outcome.lost, 0);
    }
}
