//! Reading what all writers left: journals and parts of every attempt, dead ones included, and `samples.parquet`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::fs::Fs;
use super::index::Index;
use super::layout::Layout;
use super::names::{Entry, Names};
use super::record::Status;
use super::rows::{Grid, Rows};
use super::sources::{Scope, Source, Writers, read_entries};
pub(super) use super::sources::{note_damage, paths};

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

/// What a run directory holds already.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Status of every durable row.
    pub rows: Rows,
    /// Cell hashes of the rows of every (task, method) name: more than one is a conflict.
    pub cells: BTreeMap<(String, String), BTreeSet<String>>,
    /// What was strange about the files.
    pub notes: Vec<Note>,
}

impl Finished {
    /// Whether the row of a cell hash and sample id is durable, ok or failed.
    pub fn has(&self, hash: &str, sample: &str) -> bool {
        self.rows.contains_key(&(hash.to_owned(), sample.to_owned()))
    }
}

/// Which rows of a run directory are durable, whoever wrote them; none if there is no such directory.
pub fn finished(fs: &dyn Fs, layout: &Layout) -> Result<Finished, StoreError> {
    finished_if(fs, layout, Scope::ALL, |_, _| true)
}

/// What a part of a run with this tag need not solve: its own rows, ok or failed, and those that are ok in
/// `samples.parquet` or in the journals and parts of attempts without a tag. Lists each folder once.
pub fn done_for(fs: &dyn Fs, layout: &Layout, tag: &str) -> Result<Finished, StoreError> {
    let scope = Scope { writers: Writers::TaggedOrNot(tag), ..Scope::ALL };
    let is_own = |source: &Source| Writers::Tagged(tag).holds(&source.path);
    finished_if(fs, layout, scope, |source, entry| entry.status == Status::Ok || is_own(source))
}

/// The rows of which `counts` holds.
fn finished_if(
    fs: &dyn Fs,
    layout: &Layout,
    scope: Scope<'_>,
    counts: impl Fn(&Source, &Entry) -> bool,
) -> Result<Finished, StoreError> {
    let (mut names, mut grid, mut cells) = (Names::default(), Grid::default(), NamedCells::default());
    let found = read_entries(fs, layout, scope, &mut names, |source, entries| {
        for entry in entries.iter().filter(|entry| counts(&source, entry)) {
            grid.add(entry.cell, entry.sample, entry.status);
            cells.add(entry);
        }
    })?;
    Ok(Finished { cells: cells.texts(&names), rows: Rows::new(names, grid), notes: found.notes })
}

/// The cells of every (task, method) name, by their numbers.
#[derive(Debug, Default)]
pub(super) struct NamedCells {
    cells: BTreeSet<(u32, u32, u32)>,
    /// Neighbouring rows mostly share their names.
    last: Option<(u32, u32, u32)>,
}

impl NamedCells {
    pub(super) fn add(&mut self, entry: &Entry) {
        let cell = (entry.task, entry.method, entry.cell);
        if self.last != Some(cell) {
            self.cells.insert(cell);
            self.last = Some(cell);
        }
    }

    pub(super) fn texts(&self, names: &Names) -> BTreeMap<(String, String), BTreeSet<String>> {
        let mut texts = BTreeMap::<_, BTreeSet<String>>::new();
        for &(task, method, cell) in &self.cells {
            let name = (names.tasks.text(task).to_owned(), names.methods.text(method).to_owned());
            texts.entry(name).or_default().insert(names.cells.text(cell).to_owned());
        }
        texts
    }
}

/// Readings of all files, begun again where files have gone meanwhile or turn out to be damaged.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// What was strange about the files.
    pub(super) notes: Vec<Note>,
    damaged: BTreeSet<PathBuf>,
    gone: usize,
}

impl Rounds {
    /// How often files may go meanwhile: each time another process has replaced some.
    const GONE: usize = 8;

    /// What is there now, without the files that are known to be damaged.
    pub(super) fn index(&mut self, fs: &dyn Fs, layout: &Layout) -> Result<Index, StoreError> {
        let mut index = Index::read(fs, layout, Scope { without: &self.damaged, ..Scope::ALL })?;
        std::mem::take(&mut index.notes).into_iter().for_each(|note| self.note(note));
        Ok(index)
    }

    /// The first damage that was found, as the error of those who need every row.
    pub(super) fn damage(&self) -> Result<(), StoreError> {
        let damage = |note: &Note| match note {
            Note::Damaged { file, detail } => {
                Some(StoreError::Damaged { path: file.clone(), detail: detail.clone() })
            }
            _ => None,
        };
        self.notes.iter().find_map(damage).map_or(Ok(()), Err)
    }

    fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// What came out of reading whole rows; `None` if it is to be done again from another index.
    pub(super) fn settle<T>(
        &mut self,
        index: &Index,
        result: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let is_source = |path: &PathBuf| index.sources().iter().any(|source| source.path == *path);
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Damaged { path, detail }) if is_source(&path) => {
                self.damaged.insert(path.clone());
                self.note(Note::Damaged { file: path, detail });
                Ok(None)
            }
            Err(StoreError::Io { source, path, .. })
                if is_gone(&source) && is_source(&path) && self.gone < Self::GONE =>
            {
                self.gone += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a file has been removed since it was listed or opened.
pub(super) fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle)
}
