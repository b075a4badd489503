//! Made-up records for the store's tests.

use super::record::{Record, SCHEMA_VERSION, Status, TracePoint};
use crate::plan::toy::Toy;
use crate::plan::{Plan, Unit};
use crate::spec::diagnostic::Source;
use crate::spec::document::Document;

/// A record with every column set, different for every `i`, with values that are awkward to store.
pub(super) fn record(i: usize) -> Record {
    let x = i as f64;
    Record {
        task: format!("task-{}", i % 3),
        method: ["d-flow", "pinv"][i % 2].to_owned(),
        sample_id: format!("sample-{i:05} é"),
        cell_hash: blake3::hash(&[(i % 6) as u8]).to_hex().to_string(),
        dataset: "made-up".to_owned(),
        split: "test".to_owned(),
        label: (!i.is_multiple_of(5)).then_some(i as u32),
        seed: u64::MAX - i as u64,
        schema_version: SCHEMA_VERSION,
        stop_reason: Some("target_psnr".to_owned()),
        reproducible: true,
        outer_steps: 3,
        evals: 40 + i as u32,
        nfe_forward: 240,
        nfe_vjp: 240,
        wall_seconds: 0.1 * x,
        device_seconds: 0.05 * x,
        peak_memory: Some(1 << 40),
        device: "cpu:0".to_owned(),
        instruction_set: "x86-64-v3".to_owned(),
        host: "host".to_owned(),
        mse: Some(1e-300 * x),
        psnr: Some(if i.is_multiple_of(7) { f64::INFINITY } else { 30.0 + x }),
        ssim_tm13: Some(-0.0),
        loss: Some(f64::NAN),
        x0_norm: Some(f64::MIN_POSITIVE / 2.0),
        target_reached: Some(i.is_multiple_of(2)),
        x1_blake3: Some("00".repeat(32)),
        x1_shape: vec![3, 32, 32],
        trace: (0..i % 4).map(|k| point(k as u32)).collect(),
        ..Record::default()
    }
}

fn point(k: u32) -> TracePoint {
    TracePoint {
        eval: k + 1,
        seconds: f64::from(k),
        loss: -f64::from(k),
        psnr: (k != 1).then_some(f64::from(k) / 3.0),
    }
}

/// As [`record`], failed: without metrics.
pub(super) fn failed(i: usize) -> Record {
    let ok = record(i);
    Record {
        task: ok.task,
        method: ok.method,
        sample_id: ok.sample_id,
        cell_hash: ok.cell_hash,
        dataset: ok.dataset,
        schema_version: SCHEMA_VERSION,
        status: Status::Failed,
        error: Some("the image cannot be read".to_owned()),
        ..Record::default()
    }
}

/// Records that are equal bit for bit (`==` would call NaN different from itself).
pub(super) fn assert_same(left: &[Record], right: &[Record]) {
    let bytes = |records: &[Record]| {
        records.iter().map(postcard::to_allocvec).collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert!(bytes(left) == bytes(right), "left: {left:#?}\nright: {right:#?}");
}

/// A small pipeline of one task and one method; `text` adds or replaces top-level keys, one a line.
pub(crate) fn document(text: &str) -> Document {
    let defaults = [
        ("name", "small"),
        ("dataset", "{ name: toy }"),
        ("tasks", "[ { name: hole, operator: { center_mask: { size: 10 } } } ]"),
        ("methods", "[ pinv: {} ]"),
        ("output", "reports/small"),
    ];
    let given = |key: &str| text.lines().any(|line| line.starts_with(&format!("{key}:")));
    let lines = defaults.iter().filter(|(key, _)| !given(key)).map(|(key, value)| format!("{key}: {value}"));
    let text = lines.chain([text.to_owned()]).collect::<Vec<_>>().join("\n");
    Document::parse(Source { name: "small.yaml".to_owned(), text }).unwrap()
}

/// The plan of a [`document`], on a made-up dataset of ten images.
pub(crate) fn plan(document: &Document) -> Plan {
    Plan::resolve(document, &Toy(10)).unwrap()
}

/// The row of a planned sample.
pub(crate) fn row(plan: &Plan, unit: Unit) -> Record {
    identify(plan, unit, record(unit.sample))
}

/// As [`row`], failed.
pub(super) fn failed_row(plan: &Plan, unit: Unit) -> Record {
    identify(plan, unit, failed(unit.sample))
}

fn identify(plan: &Plan, unit: Unit, record: Record) -> Record {
    let (cell, (hash, sample)) = (&plan.cells[unit.cell], plan.key(unit));
    Record {
        task: cell.task.clone(),
        method: cell.method.clone(),
        cell_hash: hash.to_string(),
        sample_id: sample.to_owned(),
        ..record
    }
}
