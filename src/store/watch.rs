//! A run that other processes are writing, as it grows: every look reads what is new since the last one.
//!
//! Three kinds of files tell the same rows: journals grow, a part takes the place of its journals, `samples.parquet` holds
//! what was merged. Every key is counted once, whichever of them it is seen in first; listings may be stale, and a row
//! that is half written is read when it is whole.

mod tail;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use self::tail::{NewRow, Tail, decode, is_wanted};
use super::error::StoreError;
use super::fs::{Fs, list_if_exists};
use super::layout::Layout;
use super::record::Status;
use super::rows::Grid;
use super::sources::note_damage;
use super::table::{BATCH_ROWS, RowFile};
use super::verify::FailedRow;
use super::{journal, parts};
use crate::plan::{Plan, Unit};

/// How the rows of one cell stand.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CellProgress {
    /// Rows that ended by a stop rule.
    pub ok: u64,
    /// Rows that failed, in every attempt so far.
    pub failed: u64,
    /// Sum of `wall_seconds` of the ok rows.
    pub wall_seconds: f64,
    /// Sum of `device_seconds` of the ok rows.
    pub device_seconds: f64,
}

/// What one attempt has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttemptProgress {
    /// Rows that it was the first to finish, failed ones included.
    pub rows: u64,
    /// When the file of the last of them was written, by the clock of the file system; not known of merged rows.
    pub last_row: Option<SystemTime>,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunProgress {
    /// Of every cell, in the plan's order.
    pub cells: Vec<CellProgress>,
    /// The rows that were seen to fail last, newest last, at most [`Watch::FAILURES`].
    pub failures: VecDeque<FailedRow>,
    /// By attempt id.
    pub attempts: BTreeMap<String, AttemptProgress>,
    /// Rows that the plan does not have.
    pub unplanned: u64,
    /// What was strange about the files.
    pub notes: Vec<super::Note>,
}

impl RunProgress {
    /// Rows that are there, ok or failed.
    pub fn done(&self) -> u64 {
        self.cells.iter().map(|cell| cell.ok + cell.failed).sum()
    }
}

/// Looks at a run again and again.
#[derive(Debug)]
pub struct Watch {
    fs: Arc<dyn Fs>,
    layout: Layout,
    names: PlanNames,
    grid: Grid,
    /// By the number of the cell's hash.
    sums: Vec<CellProgress>,
    progress: RunProgress,
    tails: BTreeMap<String, Tail>,
    /// Name of the journal that was looked at last.
    cursor: String,
    /// Names of the parts that were read.
    read: HashSet<String>,
    merged: bool,
}

/// Numbers of what is planned.
#[derive(Debug)]
struct PlanNames {
    /// Task and method of every cell of the plan, and the number of its hash: two names may stand for one cell.
    cells: Vec<(String, String, u32)>,
    hashes: HashMap<String, u32>,
    samples: HashMap<String, u32>,
}

impl PlanNames {
    fn new(plan: &Plan) -> Self {
        let mut hashes = HashMap::new();
        let cell = |cell: &crate::plan::Cell| {
            let next = hashes.len() as u32;
            let number = *hashes.entry(cell.hash.to_string()).or_insert(next);
            (cell.task.clone(), cell.method.clone(), number)
        };
        let cells = plan.cells.iter().map(cell).collect();
        let samples = plan.dataset.samples.iter().cloned().zip(0..).collect();
        Self { cells, hashes, samples }
    }
}

impl Watch {
    /// Failures that are kept with their reasons.
    pub const FAILURES: usize = 20;
    /// Journals that have been seen before and are looked at again in one refresh; of more, others have their turn at
    /// the next one. Every look costs a shared file system two operations.
    pub const JOURNALS: usize = 256;

    /// Watches the rows of `plan`; reads nothing yet.
    pub fn new(fs: Arc<dyn Fs>, layout: Layout, plan: &Plan) -> Self {
        let names = PlanNames::new(plan);
        Self {
            fs,
            layout,
            grid: Grid::default(),
            sums: vec![CellProgress::default(); names.hashes.len()],
            progress: RunProgress {
                cells: vec![CellProgress::default(); names.cells.len()],
                ..RunProgress::default()
            },
            names,
            tails: BTreeMap::new(),
            cursor: String::new(),
            read: HashSet::new(),
            merged: false,
        }
    }

    /// Reads what is new: lists the journals and the parts once each.
    ///
    /// # Errors
    /// What the file system says; files of another version. Files that have gone or are damaged are no errors.
    pub fn refresh(&mut self) -> Result<&RunProgress, StoreError> {
        if !self.merged {
            let path = self.layout.samples();
            self.read_parquet(&path, false)?;
            self.merged = true;
        }
        // Journals first: the rows of one that goes are in a part that is listed afterwards.
        self.read_journals()?;
        self.read_parts()?;
        let sums = self.names.cells.iter().map(|(_, _, number)| self.sums[*number as usize]);
        self.progress.cells = sums.collect();
        Ok(&self.progress)
    }

    /// What the last refresh found.
    pub fn progress(&self) -> &RunProgress {
        &self.progress
    }

    /// How the row of a unit of the plan ended, as far as it was seen.
    pub fn status(&self, unit: Unit) -> Option<Status> {
        let (_, _, cell) = self.names.cells.get(unit.cell)?;
        self.grid.get(*cell, u32::try_from(unit.sample).ok()?)
    }

    fn read_journals(&mut self) -> Result<(), StoreError> {
        let dir = self.layout.journals();
        let names = names(&*self.fs, &dir, journal::EXTENSION)?;
        self.tails.retain(|name, _| names.contains(name));
        let known: Vec<String> = self.tails.keys().cloned().collect();
        let after = known.partition_point(|name| *name <= self.cursor);
        let again: Vec<String> =
            known[after..].iter().chain(&known[..after]).take(Self::JOURNALS).cloned().collect();
        if let Some(last) = again.last() {
            self.cursor.clone_from(last);
        }
        let new = names.into_iter().filter(|name| !self.tails.contains_key(name));
        for name in again.into_iter().chain(new.collect::<Vec<_>>()) {
            let mut tail = self.tails.remove(&name).unwrap_or_default();
            let read = tail.read(&*self.fs, &dir.join(&name));
            if let Some((rows, modified)) = note_damage(read, &mut self.progress.notes)?.flatten() {
                rows.into_iter().for_each(|row| self.count(row, modified));
            }
            self.tails.insert(name, tail);
        }
        Ok(())
    }

    fn read_parts(&mut self) -> Result<(), StoreError> {
        let dir = self.layout.parts();
        for name in names(&*self.fs, &dir, parts::EXTENSION)? {
            if !self.read.contains(&name) && self.read_parquet(&dir.join(&name), true)? {
                self.read.insert(name);
            }
        }
        Ok(())
    }

    /// Counts the rows of a Parquet file; false if there is none, as a stale listing may say. `timed`: it was written when
    /// its last row was.
    fn read_parquet(&mut self, path: &Path, timed: bool) -> Result<bool, StoreError> {
        let read = read_parquet(&*self.fs, path);
        let Some(found) = note_damage(read, &mut self.progress.notes)? else { return Ok(true) };
        let Some((rows, modified)) = found else { return Ok(false) };
        rows.into_iter().for_each(|row| self.count(row, modified.filter(|_| timed)));
        Ok(true)
    }

    /// Counts a row, unless its key was counted before.
    fn count(&mut self, row: NewRow, modified: Option<SystemTime>) {
        let key = (self.names.hashes.get(&row.cell_hash), self.names.samples.get(&row.sample_id));
        let (Some(&cell), Some(&sample)) = key else {
            self.progress.unplanned += 1;
            return;
        };
        let before = self.grid.add(cell, sample, row.status);
        let is_news = before.is_none() || (before, row.status) == (Some(Status::Failed), Status::Ok);
        if !is_news {
            return;
        }
        if before.is_some() {
            self.sums[cell as usize].failed -= 1;
            self.forget_failure(cell, &row.sample_id);
        }
        let sums = &mut self.sums[cell as usize];
        match row.status {
            Status::Ok => {
                sums.ok += 1;
                sums.wall_seconds += row.wall_seconds;
                sums.device_seconds += row.device_seconds;
            }
            Status::Failed => sums.failed += 1,
        }
        let attempt = self.progress.attempts.entry(row.attempt).or_default();
        attempt.rows += 1;
        attempt.last_row = attempt.last_row.max(modified);
        if let Some(error) = row.error {
            self.note_failure(cell, row.sample_id, error);
        }
    }

    fn note_failure(&mut self, cell: u32, sample_id: String, error: String) {
        let named = self.names.cells.iter().find(|(_, _, number)| *number == cell);
        let (task, method, _) = named.expect("a number of a planned cell").clone();
        let failures = &mut self.progress.failures;
        if failures.len() == Self::FAILURES {
            failures.pop_front();
        }
        failures.push_back(FailedRow { task, method, sample_id, error });
    }

    fn forget_failure(&mut self, cell: u32, sample: &str) {
        let names = &self.names.cells;
        let is_it = |row: &FailedRow| {
            let number = names.iter().find(|(task, method, _)| (task, method) == (&row.task, &row.method));
            row.sample_id == sample && number.is_some_and(|(_, _, number)| *number == cell)
        };
        self.progress.failures.retain(|row| !is_it(row));
    }
}

/// The new rows of a file, and when it was written.
type Found = Option<(Vec<NewRow>, Option<SystemTime>)>;

fn read_parquet(fs: &dyn Fs, path: &Path) -> Result<Found, StoreError> {
    let Some(file) = RowFile::open(fs, path)? else { return Ok(None) };
    let mut rows = Vec::new();
    for batch in file.batches(BATCH_ROWS, &is_wanted)? {
        decode(&batch?, &mut rows).map_err(StoreError::damaged(path))?;
    }
    Ok(Some((rows, file.modified())))
}

/// Names of files of one ending; temporary files start with a dot.
fn names(fs: &dyn Fs, dir: &Path, extension: &str) -> Result<BTreeSet<String>, StoreError> {
    let is_ours = |name: &String| {
        !name.starts_with('.') && Path::new(name).extension().is_some_and(|ending| ending == extension)
    };
    Ok(list_if_exists(fs, dir)?.into_iter().filter(is_ours).collect())
}
