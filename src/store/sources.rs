//! The files that hold rows: journals and parts of every attempt, dead ones included, and `samples.parquet`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::{Fs, list_if_exists};
use super::gather::Note;
use super::layout::Layout;
use super::names::{Entry, Names};
use super::table::{BATCH_ROWS, RowFile, normal};
use super::{journal, parts};

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Appended to, until it is replaced by a part.
    Journal,
    /// Never changed.
    Part,
    /// Replaced as a whole.
    Samples,
}

/// A file that holds rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
    /// Bytes that were read, or could be.
    pub(super) size: u64,
}

/// Attempts whose journals and parts are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Writers<'a> {
    /// All.
    All,
    /// Those with this tag.
    Tagged(&'a str),
    /// Those with this tag, and those without any.
    TaggedOrNot(&'a str),
}

impl Writers<'_> {
    /// Whether they have written this journal or part.
    pub(super) fn holds(self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        match (self, name.and_then(AttemptId::of_file)) {
            (Self::All, _) => true,
            (Self::Tagged(tag), Some(id)) => id.tag() == Some(tag),
            (Self::TaggedOrNot(tag), Some(id)) => id.tag().is_none_or(|other| other == tag),
            (Self::Tagged(_) | Self::TaggedOrNot(_), None) => false,
        }
    }
}

/// Which files are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// Journals and parts of these.
    pub(super) writers: Writers<'a>,
    /// `samples.parquet` too.
    pub(super) samples: bool,
    /// Not these: they were found to be damaged.
    pub(super) without: &'a BTreeSet<PathBuf>,
}

impl Scope<'_> {
    /// Every file.
    pub(super) const ALL: Self = Self { writers: Writers::All, samples: true, without: &BTreeSet::new() };

    fn holds(&self, path: &Path) -> bool {
        self.writers.holds(path) && !self.without.contains(path)
    }
}

/// What came out of [`read_entries`] besides the entries.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What was strange about the files.
    pub(super) notes: Vec<Note>,
    /// `samples.parquet` as it was read: another may get its name meanwhile.
    pub(super) samples: Option<RowFile>,
}

/// Passes the entries of every file in `scope` to `take`, in the order of its rows; of a damaged file it passes none.
pub(super) fn read_entries(
    fs: &dyn Fs,
    layout: &Layout,
    scope: Scope<'_>,
    names: &mut Names,
    mut take: impl FnMut(Source, Vec<Entry>),
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    // Journals first: one that vanishes meanwhile was replaced by a part, which is then listed afterwards.
    for path in journal_paths(fs, layout)?.into_iter().filter(|path| scope.holds(path)) {
        let read = journal_entries(fs, &path, names, &mut found.notes);
        if let Some((size, entries)) = note_damage(read, &mut found.notes)?.flatten() {
            take(Source { kind: Kind::Journal, path, size }, entries);
        }
    }
    for path in part_paths(fs, layout)?.into_iter().filter(|path| scope.holds(path)) {
        if let Some((file, entries)) =
            note_damage(part_entries(fs, &path, names), &mut found.notes)?.flatten()
        {
            take(Source { kind: Kind::Part, path, size: file.size() }, entries);
        }
    }
    let path = layout.samples();
    if scope.samples
        && !scope.without.contains(&path)
        && let Some((file, entries)) =
            note_damage(part_entries(fs, &path, names), &mut found.notes)?.flatten()
    {
        let size = file.size();
        found.samples = Some(file);
        take(Source { kind: Kind::Samples, path, size }, entries);
    }
    Ok(found)
}

fn is_key(name: &str) -> bool {
    Entry::COLUMNS.contains(&name)
}

fn journal_entries(
    fs: &dyn Fs,
    path: &Path,
    names: &mut Names,
    notes: &mut Vec<Note>,
) -> Result<Option<(u64, Vec<Entry>)>, StoreError> {
    let Some(journal) = journal::read(fs, path, is_key)? else { return Ok(None) };
    let mut entries = Vec::new();
    for batch in &journal.batches {
        Entry::decode(batch, names, &mut entries).map_err(StoreError::damaged(path))?;
    }
    if journal.torn > 0 {
        notes.push(Note::TornTail { file: path.to_owned(), bytes: journal.torn });
    }
    Ok(Some((journal.size, entries)))
}

fn part_entries(
    fs: &dyn Fs,
    path: &Path,
    names: &mut Names,
) -> Result<Option<(RowFile, Vec<Entry>)>, StoreError> {
    let Some(file) = RowFile::open(fs, path)? else { return Ok(None) };
    let mut entries = Vec::new();
    for batch in file.batches(BATCH_ROWS, &is_key)? {
        Entry::decode(&batch?, names, &mut entries).map_err(StoreError::damaged(path))?;
    }
    Ok(Some((file, entries)))
}

impl Source {
    /// Its rows with all columns, in order. `samples` is the file that [`read_entries`] read under that name.
    ///
    /// # Errors
    /// "Not found", if it has gone since it was listed.
    pub(super) fn batches(
        &self,
        fs: &dyn Fs,
        samples: Option<&RowFile>,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, StoreError>>>, StoreError> {
        let path = self.path.clone();
        match self.kind {
            Kind::Journal => {
                let journal = journal::read(fs, &path, |_| true)?.ok_or_else(|| self.gone())?;
                let batch = journal.batch().map_err(StoreError::damaged(&path))?;
                let batch = batch.map(|batch| normal(&batch).map_err(StoreError::damaged(&path)));
                Ok(Box::new(batch.into_iter()))
            }
            Kind::Part | Kind::Samples => {
                let opened = if self.kind == Kind::Part { RowFile::open(fs, &path)? } else { None };
                let file = opened.as_ref().or(samples.filter(|_| self.kind == Kind::Samples));
                let batches = file.ok_or_else(|| self.gone())?.batches(BATCH_ROWS, &|_| true)?;
                Ok(Box::new(batches.map(move |batch| normal(&batch?).map_err(StoreError::damaged(&path)))))
            }
        }
    }

    /// The error of a file that is not there any more, or shorter than it was.
    pub(super) fn gone(&self) -> StoreError {
        StoreError::io("read", &self.path)(io::ErrorKind::NotFound.into())
    }
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
