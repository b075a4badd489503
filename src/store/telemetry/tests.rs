use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::store::attempt::AttemptId;
use crate::store::error::StoreError;
use crate::store::fault::{Crash, Fault, FaultFs};
use crate::store::fs::{Fs, write_atomic};
use crate::store::gather::Note;
use crate::store::{Layout, Record};

fn files() -> (FaultFs, Layout) {
    (FaultFs::new(Path::new("/run")), Layout::new("/run"))
}

fn writer(fs: &FaultFs, layout: &Layout, attempt: &str) -> TelemetryWriter {
    TelemetryWriter::new(Arc::new(fs.clone()), layout.clone(), AttemptId::from_text(attempt))
}

/// Reading `i` of an attempt; every second one has no GPU.
fn row(attempt: &str, i: u32) -> TelemetryRow {
    let gpu = i.is_multiple_of(2).then_some(i);
    TelemetryRow {
        time_ms: 1_795_319_664_017 + u64::from(i),
        elapsed_seconds: f64::from(i) + 0.25,
        host: "here".to_owned(),
        device: "cuda:0".to_owned(),
        attempt: attempt.to_owned(),
        pid: 42,
        name: gpu.map(|_| "GPU".to_owned()),
        uuid: gpu.map(|_| "GPU-1".to_owned()),
        gpu_utilization: gpu,
        memory_utilization: gpu,
        memory_used: gpu.map(u64::from),
        memory_total: gpu.map(|_| 80 << 30),
        power: gpu.map(|i| 300.0 + f64::from(i)),
        power_limit: gpu.map(|_| 700.0),
        temperature: gpu,
        sm_clock: gpu,
        memory_clock: gpu,
        ecc_corrected: gpu.map(u64::from),
        ecc_uncorrected: gpu.map(|_| 0),
        throttle: gpu.map(|_| "none".to_owned()),
        cpu_cores: Some(1.5),
        resident_memory: Some(1 << 20),
    }
}

fn rows(attempt: &str, range: std::ops::Range<u32>) -> Vec<TelemetryRow> {
    range.map(|i| row(attempt, i)).collect()
}

fn merged(fs: &FaultFs, layout: &Layout) -> Vec<TelemetryRow> {
    merge_telemetry(fs, layout).unwrap();
    read_telemetry(fs, layout).unwrap()
}

#[test]
fn every_column_is_kept_and_a_part_grows_in_place() {
    let (fs, layout) = files();
    let mut writer = writer(&fs, &layout, "a");
    writer.flush().unwrap();
    assert!(!fs.exists(&layout.telemetry_parts()).unwrap(), "without readings there is no file");
    for end in [3, 10] {
        writer.push(rows("a", if end == 3 { 0..3 } else { 3..10 }));
        writer.flush().unwrap();
        assert_eq!(merged(&fs, &layout), rows("a", 0..end));
        assert_eq!(fs.list(&layout.telemetry_parts()).unwrap(), ["a-000.parquet"]);
    }
    let operations = fs.operations();
    writer.flush().unwrap();
    assert!(!merge_telemetry(&fs, &layout).unwrap().changed);
    assert_eq!(fs.operations(), operations, "nothing new, nothing written");
}

#[test]
fn a_large_part_is_left_as_it_is() {
    let (fs, layout) = files();
    let mut writer = writer(&fs, &layout, "a");
    for begin in [0, 20_000] {
        writer.push(rows("a", begin..begin + 20_000));
        writer.flush().unwrap();
    }
    writer.push(rows("a", 40_000..40_001));
    writer.flush().unwrap();
    let names = ["a-000.parquet", "a-001.parquet", "a-002.parquet"];
    assert_eq!(fs.list(&layout.telemetry_parts()).unwrap(), names);
    assert_eq!(merged(&fs, &layout), rows("a", 0..40_001));
}

#[test]
fn processes_are_merged_in_the_same_order_whoever_wrote_first() {
    let merge = |order: [&str; 2]| {
        let (fs, layout) = files();
        for attempt in order {
            let mut writer = writer(&fs, &layout, attempt);
            writer.push(rows(attempt, 0..5));
            writer.flush().unwrap();
            merge_telemetry(&fs, &layout).unwrap();
        }
        fs.read(&layout.telemetry()).unwrap()
    };
    assert_eq!(merge(["a", "b"]), merge(["b", "a"]));
}

#[test]
fn whatever_operation_a_crash_hits_what_was_flushed_is_there() {
    for crash in [Crash::Kill, Crash::PowerLoss, Crash::TornPowerLoss] {
        for k in 0..20 {
            let (fs, layout) = files();
            let mut writer = writer(&fs, &layout, "a");
            writer.push(rows("a", 0..4));
            writer.flush().unwrap();
            merge_telemetry(&fs, &layout).unwrap();
            fs.inject(k, Fault::Abort);
            writer.push(rows("a", 4..8));
            let flushed = writer.flush().and_then(|()| merge_telemetry(&fs, &layout));
            fs.restart(crash);
            let found = merged(&fs, &layout);
            let whole = found == rows("a", 0..4) || found == rows("a", 0..8);
            assert!(whole, "{crash:?} at {k}: {} rows", found.len());
            assert!(flushed.is_err() || found.len() == 8, "{crash:?} at {k}");
        }
    }
}

#[test]
fn readings_wait_until_they_can_be_written_and_the_oldest_go_first() {
    let (fs, layout) = files();
    let mut writer = writer(&fs, &layout, "a");
    for begin in [0, 20_000, 40_000] {
        writer.push(rows("a", begin..begin + 20_000));
        fs.inject(0, Fault::Fail(std::io::ErrorKind::StorageFull));
        assert!(writer.flush().is_err());
    }
    writer.flush().unwrap();
    assert_eq!(merged(&fs, &layout), rows("a", 20_000..60_000));
}

#[test]
fn a_damaged_part_is_a_note_and_hides_no_other() {
    let (fs, layout) = files();
    for attempt in ["a", "c"] {
        let mut writer = writer(&fs, &layout, attempt);
        writer.push(rows(attempt, 0..2));
        writer.flush().unwrap();
    }
    let bytes = fs.read(&layout.telemetry_parts().join("a-000.parquet")).unwrap();
    write_atomic(&fs, &layout.telemetry_parts().join("b-000.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    let report = merge_telemetry(&fs, &layout).unwrap();
    assert!(matches!(&report.notes[..], [Note::Damaged { .. }]), "{report:?}");
    assert_eq!((report.rows, read_telemetry(&fs, &layout).unwrap().len()), (4, 4));
}

#[test]
fn files_of_another_program_are_no_readings() {
    let (fs, layout) = files();
    write_atomic(&fs, &layout.telemetry(), b"precious").unwrap();
    assert!(matches!(MeanPower::read(&fs, &layout), Err(StoreError::Damaged { .. })));
    merge_telemetry(&fs, &layout).unwrap();
    assert_eq!(fs.read(&layout.telemetry()).unwrap(), b"precious", "without parts nothing is replaced");
}

#[test]
fn the_energy_of_a_row_is_its_device_time_at_the_mean_power_of_its_attempt() {
    let (fs, layout) = files();
    assert!(MeanPower::read(&fs, &layout).unwrap().is_empty());
    for attempt in ["a", "b"] {
        let mut writer = writer(&fs, &layout, attempt);
        let power = |i| Some(if attempt == "a" { 100.0 * f64::from(i) } else { 50.0 });
        writer.push(
            rows(attempt, 0..4).into_iter().zip(0..).map(|(row, i)| TelemetryRow { power: power(i), ..row }),
        );
        writer.flush().unwrap();
    }
    merge_telemetry(&fs, &layout).unwrap();
    let power = MeanPower::read(&fs, &layout).unwrap();
    let energy = |attempt: &str| {
        power.energy(&Record { attempt: attempt.to_owned(), device_seconds: 2.0, ..Record::default() })
    };
    assert_eq!((energy("a"), energy("b"), energy("c")), (Some(300.0), Some(100.0), None));
}

#[test]
fn columns_have_unique_names_and_every_one_is_described() {
    let names: std::collections::BTreeSet<_> = TELEMETRY_COLUMNS.iter().map(|column| column.name).collect();
    assert_eq!(names.len(), TELEMETRY_COLUMNS.len());
    assert!(TELEMETRY_COLUMNS.iter().all(|c| c.description.ends_with('.') || c.description.ends_with('`')));
}
