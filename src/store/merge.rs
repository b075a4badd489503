//! From journals and parts to `samples.parquet`: one row per key, sorted, the same bytes whoever writes it.

use std::io::{self, ErrorKind};
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::chunks::Sink;
use super::error::StoreError;
use super::fs::{Fs, FsFile, sync_dir, write_atomic_if};
use super::gather::{Note, Rounds, is_gone};
use super::index::{Counts, Index};
use super::layout::Layout;
use super::leftovers::sweep;
use super::record::Record;
use super::stamp::Stamp;
pub use super::table::Columns;
use super::table::{RowFile, TableWriter, fingerprint_of, visit_records};
use super::winners::{Limits, Winners};

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
///
/// Memory: the keys, and some batches of rows (`Limits`); what does not fit goes to a temporary file beside it. Such files of
/// merges that were killed are removed after an hour.
pub fn merge(fs: &dyn Fs, layout: &Layout, run: &str) -> Result<MergeReport, StoreError> {
    sweep(fs, layout);
    merge_within(fs, layout, run, Limits::default())
}

/// How often whoever renamed looks again, and how often others may be quicker: each time with new rows.
const ROUNDS: usize = 8;

pub(super) fn merge_within(
    fs: &dyn Fs,
    layout: &Layout,
    run: &str,
    limits: Limits,
) -> Result<MergeReport, StoreError> {
    if let Some(report) = Stamp::current(fs, layout, run)? {
        return Ok(report);
    }
    let (mut changed, mut rounds) = (false, Rounds::default());
    for _ in 0..ROUNDS {
        let (index, written) = round(fs, layout, run, limits, &mut rounds)?;
        let samples = match written {
            Written::Same => index.samples().map(RowFile::fingerprint).transpose()?,
            Written::Renamed { fingerprint, guarded: true } => {
                changed = true;
                Some(fingerprint)
            }
            // Another process may have merged between our look and our rename, and have had more rows.
            Written::Renamed { guarded: false, .. } => {
                changed = true;
                continue;
            }
            Written::Overtaken => continue,
        };
        let report = report(&index, changed, rounds.notes);
        if let Some(stamp) = samples.and_then(|samples| Stamp::new(run, samples, &index, &report)) {
            stamp.write(fs, layout);
        }
        return Ok(report);
    }
    let index = rounds.index(fs, layout)?;
    Ok(report(&index, changed, rounds.notes))
}

fn report(index: &Index, changed: bool, notes: Vec<Note>) -> MergeReport {
    let Counts { ok, failed, duplicates } = index.counts();
    MergeReport { ok, failed, duplicates, changed, notes }
}

/// Looks at everything, and writes `samples.parquet` if it differs.
fn round(
    fs: &dyn Fs,
    layout: &Layout,
    run: &str,
    limits: Limits,
    rounds: &mut Rounds,
) -> Result<(Index, Written), StoreError> {
    loop {
        let index = rounds.index(fs, layout)?;
        move_damaged_away(fs, layout, &mut rounds.notes)?;
        let has_name = |file: &RowFile| file.footer_value(RUN_KEY).as_deref() == Some(run);
        if index.samples().is_none_or(has_name) && index.is_merged() {
            return Ok((index, Written::Same));
        }
        let written = write_samples(fs, layout, run, &index, limits);
        if let Some(written) = rounds.settle(&index, written)? {
            return Ok((index, written));
        }
    }
}

/// What became of a new `samples.parquet`.
enum Written {
    /// It is what was there.
    Same,
    /// It has its name; `guarded`: it took the place of what was read, and not perhaps of another's.
    Renamed { fingerprint: (u64, Bytes), guarded: bool },
    /// Another process has merged meanwhile: it has no name.
    Overtaken,
}

/// Writes `samples.parquet` if it differs.
fn write_samples(
    fs: &dyn Fs,
    layout: &Layout,
    run: &str,
    index: &Index,
    limits: Limits,
) -> Result<Written, StoreError> {
    let winners = Winners::read(fs, layout, index, limits)?;
    let path = layout.samples();
    let body = |file: &mut dyn FsFile| {
        let mut writer = TableWriter::new(Sink(file), &[(RUN_KEY, run.to_owned())])?;
        for batch in winners {
            writer.write(&batch?)?;
        }
        writer.finish().map(drop)
    };
    let mut why = Written::Same;
    let keep = |new: &Path| {
        if same_bytes(fs, new, &path)? {
            return Ok(None);
        }
        let lock = layout.run_lock();
        let lock = fs.lock(&lock).map_err(StoreError::io("lock", &lock))?;
        let read = index.samples().map(RowFile::fingerprint).transpose()?;
        if fingerprint_of(fs, &path)? != read {
            why = Written::Overtaken;
            return Ok(None);
        }
        Ok(fingerprint_of(fs, new)?.map(|fingerprint| (lock, fingerprint)))
    };
    Ok(match write_atomic_if(fs, &path, body, keep)? {
        Some((lock, fingerprint)) => Written::Renamed { fingerprint, guarded: lock.is_some() },
        None => why,
    })
}

/// Whether two files hold the same bytes; not, if one does not exist.
fn same_bytes(fs: &dyn Fs, left: &Path, right: &Path) -> Result<bool, StoreError> {
    let compare = || -> io::Result<bool> {
        let (left, right) = (fs.open(left)?, fs.open(right)?);
        let size = left.size()?;
        if size != right.size()? {
            return Ok(false);
        }
        for start in (0..size).step_by(WINDOW) {
            let length = WINDOW.min((size - start) as usize);
            if left.read_at(start, length)? != right.read_at(start, length)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match compare() {
        Err(error) if is_gone(&error) => Ok(false),
        result => result.map_err(StoreError::io("read", right)),
    }
}

/// Bytes compared at a time.
const WINDOW: usize = 1 << 20;

/// A `samples.parquet` that cannot be read gets another name: it may be someone else's file, or the only copy of rows
/// whose journals are gone.
fn move_damaged_away(fs: &dyn Fs, layout: &Layout, notes: &mut [Note]) -> Result<(), StoreError> {
    for note in notes {
        if let Note::Damaged { file, detail } = note
            && *file == layout.samples()
        {
            let to = layout.root().join(format!("samples.parquet.damaged-{}", AttemptId::new()));
            move_away(fs, layout, file, &to)?;
            *note = Note::MovedAway { file: file.clone(), to, detail: std::mem::take(detail) };
        }
    }
    Ok(())
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

/// The rows of `samples.parquet`; none if it does not exist yet.
pub fn read_samples(fs: &dyn Fs, layout: &Layout, columns: Columns) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    visit_samples(fs, layout, columns, |record| records.push(record))?;
    Ok(records)
}

/// Passes the rows of `samples.parquet` to `take`, one at a time.
pub fn visit_samples(
    fs: &dyn Fs,
    layout: &Layout,
    columns: Columns,
    take: impl FnMut(Record),
) -> Result<(), StoreError> {
    visit_records(fs, &layout.samples(), columns, take).map(drop)
}
