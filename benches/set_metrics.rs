//! Times of the metrics of a set, as lines of JSON.
//!
//! ```text
//! set_metrics fid REFERENCE.f32 SET.f32 DIMS     raw f32 rows, as tools/bench/fid.py makes them and compares with scipy
//! set_metrics make DIR CELLS SAMPLES DIMS        a run directory with made-up features and rows
//! set_metrics table DIR                          the Fréchet distance of every cell of such a directory
//! ```
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dflow::metric::set::{FeatureSet, KidReference, Reference, SetError, frechet};
use dflow::store::attempt::AttemptId;
use dflow::store::fs::{Fs, OsFs};
use dflow::store::{
    Columns, FeatureNet, FeatureReader, FeatureRow, FeatureWriter, Layout, NetKind, Record, ReferenceInfo,
    cached_reference, clean_cell, merge, merge_features, parts, read_samples,
};
use rayon::prelude::*;
use serde_json::json;

const NET: &str = "made-up";
const MANIFEST: &str = "made-up";
/// Rows of one append: what a worker's batch may be.
const BATCH: usize = 100;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["fid", reference, set, dims] => fid(Path::new(reference), Path::new(set), dims.parse()?),
        ["make", dir, cells, samples, dims] => make(dir, cells.parse()?, samples.parse()?, dims.parse()?),
        ["table", dir] => table(dir),
        _ => {
            Err("usage: set_metrics fid REFERENCE SET DIMS | make DIR CELLS SAMPLES DIMS | table DIR".into())
        }
    }
}

/// What `body` gives, and its seconds.
fn timed<T>(body: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let value = body()?;
    Ok((value, start.elapsed().as_secs_f64()))
}

/// Largest resident memory of this process so far, in MB.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kb| kb / 1024.0)
}

fn fid(reference: &Path, set: &Path, dims: usize) -> Result<()> {
    let (reference, set) = (read_rows(reference, dims)?, read_rows(set, dims)?);
    let (prepared, prepare) = timed(|| Ok(Reference::from_features(&reference)?))?;
    let (distance, seconds) = timed(|| Ok(frechet(&prepared, &set)?))?;
    let peak_mb = peak_mb();
    let (kid, kid_seconds) = timed(|| Ok(KidReference::new(reference, 0)?.distance(&set)?))?;
    println!(
        "{}",
        json!({
            "fid": distance.value, "reference_seconds": prepare, "distance_seconds": seconds, "peak_mb": peak_mb,
            "kid": kid.mean, "kid_std": kid.std, "kid_seconds": kid_seconds,
        })
    );
    Ok(())
}

fn read_rows(path: &Path, dims: usize) -> Result<FeatureSet> {
    let bytes = std::fs::read(path)?;
    let data: Vec<f32> = bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    let ids = (0..data.len() / dims.max(1)).map(|i| i.to_string()).collect();
    Ok(FeatureSet::new(ids, dims, data)?)
}

fn make(dir: &str, cells: usize, samples: usize, dims: usize) -> Result<()> {
    let (fs, layout): (Arc<dyn Fs>, _) = (Arc::new(OsFs), Layout::new(dir));
    fs.create_dir(layout.root())?;
    let net = FeatureNet {
        name: NET.to_owned(),
        identity: "made-up weights".to_owned(),
        dims,
        kind: NetKind::Other,
    };
    let ((), written) = timed(|| {
        (0..=cells).into_par_iter().try_for_each(|cell| {
            let attempt = AttemptId::new();
            let mut writer = FeatureWriter::new(Arc::clone(&fs), &layout, &attempt, net.clone())?;
            write_cell(&mut writer, cell, samples, dims)?;
            let records: Vec<Record> = (0..samples).filter(|_| cell > 0).map(|i| record(cell, i)).collect();
            Ok(parts::write(&*fs, &layout, &attempt, 0, &records).map(drop)?)
        })
    })?;
    let (_, merged) = timed(|| Ok(merge_features(&*fs, &layout, NET)?))?;
    let (report, rows) = timed(|| Ok(merge(&*fs, &layout, "made-up")?))?;
    println!(
        "{}",
        json!({
            "rows": report.ok, "write_seconds": written, "merge_features_seconds": merged,
            "merge_rows_seconds": rows, "peak_mb": peak_mb(),
        })
    );
    Ok(())
}

/// Cell 0 is that of the clean images.
fn cell_hash(cell: usize) -> String {
    if cell == 0 { clean_cell(MANIFEST) } else { blake3::hash(&cell.to_le_bytes()).to_hex().to_string() }
}

fn x1_blake3(cell: usize, sample: usize) -> String {
    blake3::hash(format!("{cell} {sample}").as_bytes()).to_hex().to_string()
}

fn record(cell: usize, sample: usize) -> Record {
    let noise = f64::from(u32::try_from((cell * 7919 + sample * 104_729) % 1000).unwrap_or(0)) / 1000.0;
    Record {
        task: format!("task-{}", (cell - 1) / 4),
        method: ["d-flow", "ot-ode", "pigdm", "red-diff"][(cell - 1) % 4].to_owned(),
        sample_id: format!("{sample:05}"),
        cell_hash: cell_hash(cell),
        dataset: "made-up".to_owned(),
        split: "test".to_owned(),
        device: "cpu:0".to_owned(),
        instruction_set: "x86-64-v4".to_owned(),
        host: "host".to_owned(),
        attempt: "a".to_owned(),
        mse: Some(noise / 100.0),
        psnr: Some(25.0 + noise),
        ssim_tm13: Some(0.8 + noise / 10.0),
        x1_blake3: Some(x1_blake3(cell, sample)),
        x1_shape: vec![3, 128, 128],
        ..Record::default()
    }
}

fn write_cell(writer: &mut FeatureWriter, cell: usize, samples: usize, dims: usize) -> Result<()> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(cell as u64 + 1);
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let shift = 0.25 + cell as f32 / 256.0;
    for start in (0..samples).step_by(BATCH) {
        let rows = start..samples.min(start + BATCH);
        let row = |sample: usize| {
            let common = (uniform() - 0.5) * 0.5 + shift;
            let feature = |j| ((uniform() - 0.5) / (1.0 + j as f32 / 256.0) + common).max(0.0);
            let features: Vec<f32> = (0..dims).map(feature).collect();
            ((cell_hash(cell), format!("{sample:05}")), x1_blake3(cell, sample), features)
        };
        let rows: Vec<_> = rows.map(row).collect();
        let rows: Vec<_> =
            rows.iter().map(|(key, x1_blake3, features)| FeatureRow { key, x1_blake3, features }).collect();
        writer.append(&rows)?;
    }
    Ok(())
}

fn table(dir: &str) -> Result<()> {
    let layout = Layout::new(dir);
    let (records, rows_seconds) = timed(|| Ok(read_samples(&OsFs, &layout, Columns::WithoutTrace)?))?;
    let reader = FeatureReader::open(&OsFs, &layout, NET, None)?.ok_or("the directory has no features")?;
    let clean = clean_cell(MANIFEST);
    let (reference, reference_seconds) = timed(|| {
        let features = reader.read_cell(&clean, |_, _| true)?;
        let info = ReferenceInfo::new(reader.net(), MANIFEST, &features);
        let make = || Reference::from_features(&features);
        Ok(cached_reference::<SetError>(&OsFs, &layout.root().join("cache"), &info, make)?)
    })?;
    let cells: Vec<&str> = reader.cells().filter(|cell| *cell != clean).collect();
    let (values, seconds) = timed(|| {
        let distance = |cell: &&str| Ok(frechet(&reference, &reader.read_cell(cell, |_, _| true)?)?.value);
        cells.par_iter().map(distance).collect::<Result<Vec<f64>>>()
    })?;
    println!(
        "{}",
        json!({
            "rows": records.len(), "read_rows_seconds": rows_seconds, "reference_seconds": reference_seconds,
            "cells": values.len(), "cells_seconds": seconds, "values": values, "peak_mb": peak_mb(),
        })
    );
    Ok(())
}
