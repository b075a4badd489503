//! From journals and parts to `samples.parquet`: one row per key, sorted, the same bytes whoever writes it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::fs::{Fs, list_if_exists, read_if_exists, write_atomic};
use super::layout::Layout;
use super::record::{Record, Status};
pub use super::table::Columns;
use super::table::{from_parquet, to_parquet};
use super::{journal, parts};

/// Something about the files that is no error, but worth saying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// A journal whose writer died inside an append, or whose end is damaged: rows up to there are used.
    TornTail {
        /// The journal.
        file: PathBuf,
        /// Bytes that are not used.
        bytes: usize,
    },
    /// A file that cannot be decoded: its rows are not used, and will be solved again unless they are elsewhere.
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl std::fmt::Display for Note {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TornTail { file, bytes } => {
                write!(out, "{}: the last {bytes} bytes are no whole record and are not used", file.display())
            }
            Self::Damaged { file, detail } => {
                write!(out, "{} cannot be read and its rows are not used: {detail}", file.display())
            }
        }
    }
}

/// All rows of a run, whoever wrote them.
#[derive(Debug, Default)]
pub struct Gathered {
    /// One row per key, sorted by task, method, sample id and cell hash.
    pub records: Vec<Record>,
    /// Rows that lost against another of the same key.
    pub duplicates: u64,
    /// What was strange about the files.
    pub notes: Vec<Note>,
}

/// Reads every row of a run directory: journals and parts of all attempts, dead ones included, and `samples.parquet`.
pub fn gather(fs: &dyn Fs, layout: &Layout) -> Result<Gathered, StoreError> {
    let mut notes = Vec::new();
    // Journals first: one that vanishes meanwhile was replaced by a part, which is then listed afterwards.
    let mut records = read_journals(fs, layout, &mut notes)?;
    for path in part_paths(fs, layout)?.into_iter().chain([layout.samples()]) {
        match parts::read(fs, &path, Columns::All) {
            Ok(rows) => records.extend(rows.into_iter().flatten()),
            Err(StoreError::Damaged { path, detail }) => notes.push(Note::Damaged { file: path, detail }),
            Err(error) => return Err(error),
        }
    }
    let duplicates = keep_one_per_key(&mut records);
    records.sort_by(|a, b| order(a).cmp(&order(b)));
    Ok(Gathered { records, duplicates, notes })
}

fn order(record: &Record) -> (&str, &str, &str, &str) {
    (&record.task, &record.method, &record.sample_id, &record.cell_hash)
}

fn read_journals(fs: &dyn Fs, layout: &Layout, notes: &mut Vec<Note>) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    for path in paths(fs, &layout.journals(), journal::EXTENSION)? {
        let journal = match journal::read(fs, &path) {
            Ok(journal) => journal.unwrap_or_default(),
            Err(StoreError::Damaged { path, detail }) => {
                notes.push(Note::Damaged { file: path, detail });
                continue;
            }
            Err(error) => return Err(error),
        };
        if journal.torn > 0 {
            notes.push(Note::TornTail { file: path, bytes: journal.torn });
        }
        records.extend(journal.records);
    }
    Ok(records)
}

/// Parts of all attempts.
pub(super) fn part_paths(fs: &dyn Fs, layout: &Layout) -> Result<Vec<PathBuf>, StoreError> {
    paths(fs, &layout.parts(), parts::EXTENSION)
}

/// Files of one ending; temporary files start with a dot and end otherwise.
fn paths(fs: &dyn Fs, dir: &Path, extension: &str) -> Result<Vec<PathBuf>, StoreError> {
    let names = list_if_exists(fs, dir)?.into_iter();
    let paths = names.filter(|name| !name.starts_with('.')).map(|name| dir.join(name));
    Ok(paths.filter(|path| path.extension().is_some_and(|ending| ending == extension)).collect())
}

/// Sorts by key and keeps the first row of each by [`Record::precedence`]; returns how many others there were, not
/// counting copies of one row in several files.
fn keep_one_per_key(records: &mut Vec<Record>) -> u64 {
    fn key(record: &Record) -> (&str, &str) {
        (&record.cell_hash, &record.sample_id)
    }
    records.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.precedence(b)));
    records.dedup_by(|b, a| key(a) == key(b) && a.precedence(b).is_eq());
    let rows = records.len();
    records.dedup_by(|b, a| key(a) == key(b));
    (rows - records.len()) as u64
}

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
