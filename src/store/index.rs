//! Every row of a run by where it lies, and which of them count: what a merge decides before it reads whole rows.
//!
//! Memory: 32 bytes a row, and every name once.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use arrow::array::RecordBatch;

use super::error::StoreError;
use super::fs::Fs;
use super::gather::Note;
use super::layout::Layout;
use super::names::{Entry, Names};
use super::record::{Key, Status};
use super::sources::{Found, Kind, Scope, Source, read_entries};
use super::table::RowFile;

/// A row: where it lies, and its names.
#[derive(Debug, Clone, Copy)]
struct Row {
    entry: Entry,
    /// Index into [`Index::sources`].
    source: u32,
    /// Its place within the source.
    number: u32,
}

impl Row {
    fn key(&self) -> (u32, u32) {
        (self.entry.cell, self.entry.sample)
    }

    /// Rows of one key that are equal in this are copies of one row, or several tries within one attempt: only their
    /// other columns can tell.
    fn class(&self) -> (Status, u32) {
        (self.entry.status, self.entry.attempt)
    }
}

/// The rows of all files.
#[derive(Debug)]
pub(super) struct Index {
    names: Names,
    sources: Vec<Source>,
    /// By key; within a key by [`super::Record::precedence`] as far as names tell, then by file.
    rows: Vec<Row>,
    /// What was strange about the files.
    pub(super) notes: Vec<Note>,
    samples: Option<RowFile>,
}

/// How many keys there are, and rows besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Keys whose row ended by a stop rule.
    pub(super) ok: u64,
    /// Keys that have failed rows only.
    pub(super) failed: u64,
    /// Rows of other attempts, or other outcomes of the same, that lost.
    pub(super) duplicates: u64,
}

/// Where the rows that count lie, and where they go.
#[derive(Debug)]
pub(super) struct Places {
    /// For every source which of its rows go where, in the order of its rows.
    pub(super) of_sources: Vec<Vec<Place>>,
    /// Numbers of cell and sample of every place.
    pub(super) keys: Vec<(u32, u32)>,
}

/// Where a row of a source goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number within the source.
    pub(super) row: u32,
    /// The place of its key among the sorted rows.
    pub(super) position: u32,
    /// Which of the rows of that place it is: others than 0 only where names cannot tell which row wins.
    pub(super) layer: u32,
}

impl Index {
    /// Reads the names in every file.
    pub(super) fn read(fs: &dyn Fs, layout: &Layout, scope: Scope<'_>) -> Result<Self, StoreError> {
        let (mut names, mut sources, mut rows) = (Names::default(), Vec::new(), Vec::new());
        let Found { notes, samples } = read_entries(fs, layout, scope, &mut names, |file, entries| {
            let source = sources.len() as u32;
            rows.extend((0..).zip(entries).map(|(number, entry)| Row { entry, source, number }));
            sources.push(file);
        })?;
        let attempts = names.attempts.ranks();
        let order = |row: &Row| {
            (row.key(), row.entry.status, attempts[row.entry.attempt as usize], row.source, row.number)
        };
        rows.sort_unstable_by_key(order);
        Ok(Self { names, sources, rows, notes, samples })
    }

    /// The rows of each key.
    fn groups(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| a.key() == b.key())
    }

    /// The names in the rows.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// The files that hold rows.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// `samples.parquet` as it was read.
    pub(super) fn samples(&self) -> Option<&RowFile> {
        self.samples.as_ref()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for group in self.groups() {
            *if group[0].entry.status == Status::Ok { &mut counts.ok } else { &mut counts.failed } += 1;
            counts.duplicates += group.chunk_by(|a, b| a.class() == b.class()).count() as u64 - 1;
        }
        counts
    }

    /// Whether `samples.parquet` holds what a merge would put there, if that can be seen from names: tables are made
    /// again and again from runs that have long been merged.
    pub(super) fn is_merged(&self) -> bool {
        self.groups().all(|group| {
            let best = group.iter().take_while(|row| row.class() == group[0].class());
            let (samples, others): (Vec<&Row>, Vec<&Row>) = best.partition(|row| self.is_sample(row));
            let kept = group.iter().filter(|row| self.is_sample(row)).count();
            // Of two rows of one class in journals and parts only their other columns can tell which one it is.
            samples.len() == 1 && kept == 1 && others.len() <= 1
        })
    }

    /// The rows that may count, of every file: what a merge reads.
    pub(super) fn places(&self) -> Places {
        self.places_of(|_| true)
    }

    /// As [`Self::places`], of `samples.parquet` alone where a merge would leave that as it is: for readers.
    pub(super) fn places_to_read(&self) -> Places {
        let merged = self.is_merged();
        self.places_of(|row| !merged || self.is_sample(row))
    }

    fn places_of(&self, counts: impl Fn(&Row) -> bool) -> Places {
        let mut groups: Vec<&[Row]> = self.groups().collect();
        let order = self.order();
        groups.sort_unstable_by(|a, b| order(&a[0].entry, &b[0].entry));
        let mut places = vec![Vec::new(); self.sources.len()];
        for (position, group) in (0..).zip(&groups) {
            let best = group.iter().take_while(|row| row.class() == group[0].class());
            for (layer, row) in (0..).zip(best.filter(|row| counts(row))) {
                places[row.source as usize].push(Place { row: row.number, position, layer });
            }
        }
        places.iter_mut().for_each(|places| places.sort_unstable_by_key(|place| place.row));
        Places { of_sources: places, keys: groups.iter().map(|group| group[0].key()).collect() }
    }

    /// Passes every batch of rows that holds some of `places` to `take`: with its source, the number of its first row, and
    /// those places.
    ///
    /// # Errors
    /// Those of `take`; "not found" if a file has gone since the index was read, and damage of a file: then the index is to
    /// be read again, without that file.
    pub(super) fn visit(
        &self,
        fs: &dyn Fs,
        places: &[Vec<Place>],
        mut take: impl FnMut(&Source, RecordBatch, u32, &[Place]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for (source, places) in self.sources.iter().zip(places).filter(|(_, places)| !places.is_empty()) {
            let mut batches = source.batches(fs, self.samples())?;
            let (mut places, mut start) = (&places[..], 0);
            while !places.is_empty() {
                let batch = batches.next().ok_or_else(|| source.gone())??;
                let end = start + batch.num_rows() as u32;
                let (mine, rest) = places.split_at(places.partition_point(|place| place.row < end));
                if !mine.is_empty() {
                    take(source, batch, start, mine)?;
                }
                (places, start) = (rest, end);
            }
        }
        Ok(())
    }

    /// For every source the rows of it that are copies of a row of `samples.parquet` by their names, each with the number
    /// of that row.
    pub(super) fn copies(&self) -> Vec<Vec<(u32, u32)>> {
        let mut copies = vec![Vec::new(); self.sources.len()];
        for class in self.rows.chunk_by(|a, b| a.key() == b.key() && a.class() == b.class()) {
            let (samples, others): (Vec<&Row>, Vec<&Row>) = class.iter().partition(|row| self.is_sample(row));
            for (sample, other) in samples.iter().flat_map(|s| others.iter().map(move |other| (s, other))) {
                copies[other.source as usize].push((other.number, sample.number));
            }
        }
        copies
    }

    /// Keys of some rows of `samples.parquet`, sorted.
    pub(super) fn keys_of_samples(&self, rows: &BTreeSet<u32>) -> Vec<Key> {
        let rows = self.rows.iter().filter(|row| self.is_sample(row) && rows.contains(&row.number));
        let mut keys: Vec<Key> = rows.map(|row| self.names.key(row.key())).collect();
        keys.sort_unstable();
        keys
    }

    fn is_sample(&self, row: &Row) -> bool {
        self.sources[row.source as usize].kind == Kind::Samples
    }

    /// The order of `samples.parquet`: task, method, sample id, cell hash.
    fn order(&self) -> impl Fn(&Entry, &Entry) -> Ordering {
        let (tasks, methods) = (self.names.tasks.ranks(), self.names.methods.ranks());
        let (samples, cells) = (self.names.samples.ranks(), self.names.cells.ranks());
        move |a, b| {
            let ranks = |e: &Entry| {
                let names = (tasks[e.task as usize], methods[e.method as usize]);
                (names, samples[e.sample as usize], cells[e.cell as usize])
            };
            ranks(a).cmp(&ranks(b))
        }
    }
}
