//! From journals and parts to `samples.parquet`: one row per key, sorted, the same bytes whoever writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::{Fs, read_if_exists, sync_dir, write_atomic};
use super::gather::{Gathered, Note, entries, gather};
use super::layout::Layout;
use super::record::{Key, Record, Status};
pub use super::table::Columns;
use super::table::{Entry, entries_from_parquet, footer_value, from_parquet, to_parquet};

/// Footer key of the run's name.
const RUN_KEY: &str = "dflow.run";

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
/// file. `run` is the run's name, for the footer. A file of that name that cannot be read is moved away, with a note.
pub fn merge(fs: &dyn Fs, layout: &Layout, run: &str) -> Result<MergeReport, StoreError> {
    if let Some(report) = up_to_date(fs, layout, run)? {
        return Ok(report);
    }
    let (mut changed, mut notes) = (false, Vec::new());
    // Another process may have merged between our reading and our rename, and have had more rows than we. So whoever
    // renamed looks again; each further round needs another writer's new row, so a bound costs nothing.
    for _ in 0..8 {
        let gathered = gather_and_move_away(fs, layout, &mut notes)?;
        if !write_samples(fs, layout, run, &gathered.records)? {
            return Ok(report(&gathered, changed, notes));
        }
        changed = true;
    }
    let gathered = gather_and_move_away(fs, layout, &mut notes)?;
    Ok(report(&gathered, changed, notes))
}

/// Gathers all rows and adds to `notes` what they lack. A `samples.parquet` that cannot be read gets another name:
/// it may be someone else's file, or the only copy of rows whose journals are gone.
fn gather_and_move_away(fs: &dyn Fs, layout: &Layout, notes: &mut Vec<Note>) -> Result<Gathered, StoreError> {
    let mut gathered = gather(fs, layout)?;
    for note in std::mem::take(&mut gathered.notes) {
        let note = match note {
            Note::Damaged { file, detail } if file == layout.samples() => {
                let to = layout.root().join(format!("samples.parquet.damaged-{}", AttemptId::new()));
                move_away(fs, layout, &file, &to)?;
                Note::MovedAway { file, to, detail }
            }
            note => note,
        };
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    Ok(gathered)
}

fn move_away(fs: &dyn Fs, layout: &Layout, file: &Path, to: &Path) -> Result<(), StoreError> {
    match fs.rename(file, to) {
        // Another process was quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => {
            result.map_err(StoreError::io("rename", file))?;
            sync_dir(fs, layout.root())
        }
    }
}

/// The report of a merge that would change nothing, if that can be seen from who wrote which row and how it ended:
/// tables are made again and again from runs that have long been merged.
fn up_to_date(fs: &dyn Fs, layout: &Layout, run: &str) -> Result<Option<MergeReport>, StoreError> {
    let path = layout.samples();
    let Some(bytes) = read_if_exists(fs, &path)? else { return Ok(None) };
    if footer_value(&bytes, RUN_KEY).as_deref() != Some(run) {
        return Ok(None);
    }
    let Ok(samples) = entries_from_parquet(&path, bytes) else { return Ok(None) };
    let (sources, notes) = entries(fs, layout, &[])?;
    let outcome = |entry: &Entry| (entry.key.clone(), (entry.status, entry.attempt.clone()));
    let merged: BTreeMap<Key, (Status, String)> = samples.iter().map(outcome).collect();
    let mut rows: BTreeSet<(Key, (Status, String))> = sources.iter().map(outcome).collect();
    // Two rows of one attempt with one outcome, or one row in two files: only their other columns can tell.
    let all_differ = rows.len() == sources.len() && merged.len() == samples.len();
    let is_beaten = |(key, row): &(Key, (Status, String))| merged.get(key).is_some_and(|best| best <= row);
    if !all_differ || !rows.iter().all(is_beaten) {
        return Ok(None);
    }
    rows.extend(merged.iter().map(|(key, row)| (key.clone(), row.clone())));
    let failed = merged.values().filter(|(status, _)| *status == Status::Failed).count() as u64;
    let (ok, duplicates) = (merged.len() as u64 - failed, (rows.len() - merged.len()) as u64);
    Ok(Some(MergeReport { ok, failed, duplicates, changed: false, notes }))
}

/// Writes `samples.parquet` if it differs; returns whether it did.
fn write_samples(fs: &dyn Fs, layout: &Layout, run: &str, records: &[Record]) -> Result<bool, StoreError> {
    let path = layout.samples();
    let old = read_if_exists(fs, &path)?;
    if records.is_empty() && old.is_none() {
        return Ok(false);
    }
    let new = to_parquet(records, &[(RUN_KEY, run.to_owned())])?;
    if old.as_ref() == Some(&new) {
        return Ok(false);
    }
    write_atomic(fs, &path, &new).map(|()| true)
}

fn report(gathered: &Gathered, changed: bool, notes: Vec<Note>) -> MergeReport {
    let failed = gathered.records.iter().filter(|record| record.status == Status::Failed).count() as u64;
    let ok = gathered.records.len() as u64 - failed;
    MergeReport { ok, failed, duplicates: gathered.duplicates, changed, notes }
}

/// The rows of `samples.parquet`; none if it does not exist yet.
pub fn read_samples(fs: &dyn Fs, layout: &Layout, columns: Columns) -> Result<Vec<Record>, StoreError> {
    let path = layout.samples();
    match read_if_exists(fs, &path)? {
        Some(bytes) => from_parquet(&path, bytes, columns),
        None => Ok(Vec::new()),
    }
}
