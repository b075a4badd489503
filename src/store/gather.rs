//! Reading what all writers left: journals and parts of every attempt, dead ones included, and `samples.parquet`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::{Fs, list_if_exists, read_if_exists};
use super::layout::Layout;
use super::record::{Key, Record, Status};
use super::table::{Columns, Entry, entries_from_parquet, from_parquet};
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
    /// A `samples.parquet` that is not ours to overwrite, because it cannot be read: it has another name now.
    MovedAway {
        /// The name it had.
        file: PathBuf,
        /// The name it has.
        to: PathBuf,
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
            Self::MovedAway { file, to, detail } => {
                let (file, to) = (file.display(), to.display());
                write!(
                    out,
                    "{file} could not be read and is {to} now: {detail}; rows that are in no journal or part either \
                     are solved again by the next `dflow run`"
                )
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

/// Reads every row of a run directory.
pub fn gather(fs: &dyn Fs, layout: &Layout) -> Result<Gathered, StoreError> {
    let decode = |path: &Path, bytes| from_parquet(path, bytes, Columns::All);
    let (mut records, notes) =
        read_all(fs, layout, &[layout.samples()], |_| true, std::convert::identity, decode)?;
    let duplicates = keep_one_per_key(&mut records);
    records.sort_by(|a, b| order(a).cmp(&order(b)));
    Ok(Gathered { records, duplicates, notes })
}

fn order(record: &Record) -> (&str, &str, &str, &str) {
    (&record.task, &record.method, &record.sample_id, &record.cell_hash)
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

/// What a run directory holds already.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Status of every durable row: ok if any row of that key is.
    pub rows: BTreeMap<Key, Status>,
    /// Cell hashes of the rows of every (task, method) name: more than one is a conflict.
    pub cells: BTreeMap<(String, String), BTreeSet<String>>,
    /// What was strange about the files.
    pub notes: Vec<Note>,
}

/// Which rows of a run directory are durable, whoever wrote them; none if there is no such directory.
pub fn finished(fs: &dyn Fs, layout: &Layout) -> Result<Finished, StoreError> {
    entries(fs, layout, &[layout.samples()]).map(collect)
}

/// As [`finished`], from the journals and parts of attempts with this tag only.
pub fn finished_of(fs: &dyn Fs, layout: &Layout, tag: &str) -> Result<Finished, StoreError> {
    let of_tag = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(AttemptId::of_file).is_some_and(|id| id.tag() == Some(tag))
    };
    let to_entries = |records: Vec<Record>| records.iter().map(Entry::from).collect();
    read_all(fs, layout, &[], of_tag, to_entries, entries_from_parquet).map(collect)
}

fn collect((entries, notes): (Vec<Entry>, Vec<Note>)) -> Finished {
    let mut finished = Finished { notes, ..Finished::default() };
    for Entry { task, method, key, status, .. } in entries {
        finished.cells.entry((task, method)).or_default().insert(key.0.clone());
        let known = finished.rows.entry(key).or_insert(status);
        *known = status.min(*known);
    }
    finished
}

/// Entries of all journals and parts, and of `more` Parquet files, in no particular order.
pub(super) fn entries(
    fs: &dyn Fs,
    layout: &Layout,
    more: &[PathBuf],
) -> Result<(Vec<Entry>, Vec<Note>), StoreError> {
    let to_entries = |records: Vec<Record>| records.iter().map(Entry::from).collect();
    read_all(fs, layout, more, |_| true, to_entries, entries_from_parquet)
}

/// Rows of the `wanted` journals and parts, and of `more` Parquet files, as `T`, in no particular order.
fn read_all<T>(
    fs: &dyn Fs,
    layout: &Layout,
    more: &[PathBuf],
    wanted: impl Fn(&PathBuf) -> bool,
    from_records: impl Fn(Vec<Record>) -> Vec<T>,
    from_parquet: impl Fn(&Path, Vec<u8>) -> Result<Vec<T>, StoreError>,
) -> Result<(Vec<T>, Vec<Note>), StoreError> {
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    // Journals first: one that vanishes meanwhile was replaced by a part, which is then listed afterwards.
    for path in journal_paths(fs, layout)?.into_iter().filter(&wanted) {
        let journal = note_damage(journal::read(fs, &path), &mut notes)?.flatten().unwrap_or_default();
        if journal.torn > 0 {
            notes.push(Note::TornTail { file: path, bytes: journal.torn });
        }
        rows.extend(from_records(journal.records));
    }
    for path in part_paths(fs, layout)?.iter().filter(|path| wanted(path)).chain(more) {
        if let Some(bytes) = read_if_exists(fs, path)? {
            rows.extend(note_damage(from_parquet(path, bytes), &mut notes)?.unwrap_or_default());
        }
    }
    Ok((rows, notes))
}

/// Damage of one file must not hide the rows of the others; any other error stays one.
pub(super) fn note_damage<T>(
    result: Result<T, StoreError>,
    notes: &mut Vec<Note>,
) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Damaged { path, detail }) => {
            notes.push(Note::Damaged { file: path, detail });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Journals of all attempts.
pub(super) fn journal_paths(fs: &dyn Fs, layout: &Layout) -> Result<Vec<PathBuf>, StoreError> {
    paths(fs, &layout.journals(), journal::EXTENSION)
}

/// Parts of all attempts.
pub(super) fn part_paths(fs: &dyn Fs, layout: &Layout) -> Result<Vec<PathBuf>, StoreError> {
    paths(fs, &layout.parts(), parts::EXTENSION)
}

/// Files of one ending; temporary files start with a dot and end otherwise.
pub(super) fn paths(fs: &dyn Fs, dir: &Path, extension: &str) -> Result<Vec<PathBuf>, StoreError> {
    let names = list_if_exists(fs, dir)?.into_iter();
    let paths = names.filter(|name| !name.starts_with('.')).map(|name| dir.join(name));
    Ok(paths.filter(|path| path.extension().is_some_and(|ending| ending == extension)).collect())
}
