//! From journals and parts to `samples.parquet`: one row per key, sorted, the same bytes whoever writes it.

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::fs::{Fs, read_if_exists, write_atomic};
use super::gather::{Gathered, Note, gather};
use super::layout::Layout;
use super::record::{Record, Status};
pub use super::table::Columns;
use super::table::{from_parquet, to_parquet};

/// What a merge found and wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MergeReport {
    /// Rows that ended by a stop rule.
    pub ok: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows left out for another of the same key.
    pub duplicates: u64,
    /// Whether `samples.parquet` changed.
    pub changed: bool,
    /// What was strange about the files.
    pub notes: Vec<Note>,
}

/// Makes `samples.parquet` from all journals and parts. Merging again gives the same bytes; without rows there is no
/// file. `run` is the run's name, for the footer.
pub fn merge(fs: &dyn Fs, layout: &Layout, run: &str) -> Result<MergeReport, StoreError> {
    let mut changed = false;
    // Another process may have merged between our reading and our rename, and have had more rows than we. So whoever
    // renamed looks again; each further round needs another writer's new row, so a bound costs nothing.
    for _ in 0..8 {
        let gathered = gather(fs, layout)?;
        if !write_samples(fs, layout, run, &gathered.records)? {
            return Ok(report(gathered, changed));
        }
        changed = true;
    }
    gather(fs, layout).map(|gathered| report(gathered, changed))
}

/// Writes `samples.parquet` if it differs; returns whether it did.
fn write_samples(fs: &dyn Fs, layout: &Layout, run: &str, records: &[Record]) -> Result<bool, StoreError> {
    let path = layout.samples();
    let old = read_if_exists(fs, &path)?;
    if records.is_empty() && old.is_none() {
        return Ok(false);
    }
    let new = to_parquet(records, &[("dflow.run", run.to_owned())])?;
    if old.as_ref() == Some(&new) {
        return Ok(false);
    }
    write_atomic(fs, &path, &new).map(|()| true)
}

fn report(gathered: Gathered, changed: bool) -> MergeReport {
    let failed = gathered.records.iter().filter(|record| record.status == Status::Failed).count() as u64;
    let ok = gathered.records.len() as u64 - failed;
    MergeReport { ok, failed, duplicates: gathered.duplicates, changed, notes: gathered.notes }
}

/// The rows of `samples.parquet`; none if it does not exist yet.
pub fn read_samples(fs: &dyn Fs, layout: &Layout, columns: Columns) -> Result<Vec<Record>, StoreError> {
    let path = layout.samples();
    match read_if_exists(fs, &path)? {
        Some(bytes) => from_parquet(&path, bytes, columns),
        None => Ok(Vec::new()),
    }
}
