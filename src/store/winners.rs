//! The rows that count, whole and in order, in bounded memory: the keys, and a few batches of rows.
//!
//! ```text
//! sources ─► held rows ──(too many)──► spill: a temporary file, rows of one output batch together
//!                │                        │
//!                └────────► batch 0, 1, … ◄┘   sorted; of several rows of one place the one with the smallest bytes
//! ```

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;

use super::error::StoreError;
use super::fs::Fs;
use super::index::{Index, Place};
use super::layout::Layout;
use super::record::Record;
use super::spill::Spill;
use super::table::to_records;

/// How much is in memory at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Rows of a batch.
    pub(super) rows: usize,
    /// Bytes of rows that are held before they are spilled.
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 4096, bytes: 64 << 20 }
    }
}

/// A row that is held: where it goes, and where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) position: u32,
    pub(super) layer: u32,
    /// Index into the held batches, and row of that batch.
    pub(super) at: (usize, usize),
}

/// Iterates over batches of the rows that count, sorted by task, method, sample id and cell hash.
pub(super) struct Winners<'a> {
    batches: Vec<RecordBatch>,
    /// Sorted by batch once all are there.
    held: Vec<Held>,
    bytes: usize,
    spill: Option<Spill<'a>>,
    limits: Limits,
    /// Rows in all.
    rows: usize,
    /// First position of the next batch.
    next: usize,
}

impl<'a> Winners<'a> {
    /// Reads the rows that `index` says count. Rows that do not fit into memory go to a temporary file in the run
    /// directory, which is removed when this is dropped.
    ///
    /// # Errors
    /// "Not found" if a file has gone since the index was read, and damage of a file: then the index is to be read again,
    /// without that file.
    pub(super) fn read(
        fs: &'a dyn Fs,
        layout: &Layout,
        index: &Index,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        let places = index.places();
        let rows = places.keys.len();
        let mut winners =
            Self { batches: Vec::new(), held: Vec::new(), bytes: 0, spill: None, limits, rows, next: 0 };
        index.visit(fs, &places.of_sources, |_, batch, start, places| {
            winners.hold(batch, start, places);
            if winners.bytes > limits.bytes { winners.spill(fs, layout) } else { Ok(()) }
        })?;
        if winners.spill.is_some() {
            winners.spill(fs, layout)?;
        }
        winners.sort();
        Ok(winners)
    }

    /// Keeps the rows of a batch that has `start` rows of its file before it.
    fn hold(&mut self, batch: RecordBatch, start: u32, places: &[Place]) {
        let at = self.batches.len();
        self.held.extend(places.iter().map(|place| Held {
            position: place.position,
            layer: place.layer,
            at: (at, (place.row - start) as usize),
        }));
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    fn sort(&mut self) {
        self.held.sort_unstable_by_key(|held| (held.position, held.layer));
    }

    /// Moves what is held to the temporary file.
    fn spill(&mut self, fs: &'a dyn Fs, layout: &Layout) -> Result<(), StoreError> {
        self.sort();
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => self.spill.insert(Spill::create(fs, layout)?),
        };
        let rows = self.limits.rows;
        for held in self.held.chunk_by(|a, b| a.position as usize / rows == b.position as usize / rows) {
            let batch = interleave(&self.batches, held.iter().map(|held| held.at))?;
            spill.append(held[0].position as usize / rows, &batch, held)?;
        }
        self.batches.clear();
        self.held.clear();
        self.bytes = 0;
        Ok(())
    }

    fn batch(&mut self) -> Result<RecordBatch, StoreError> {
        let from = self.next;
        self.next = self.rows.min(from + self.limits.rows);
        let Some(spill) = &self.spill else {
            let at = |position: usize| self.held.partition_point(|held| (held.position as usize) < position);
            return choose(&self.batches, &self.held[at(from)..at(self.next)]);
        };
        let (batches, mut held) = spill.read(from / self.limits.rows)?;
        held.sort_unstable_by_key(|held| (held.position, held.layer));
        choose(&batches, &held)
    }
}

impl Iterator for Winners<'_> {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next < self.rows).then(|| self.batch())
    }
}

/// One row per position: of several the one with the smallest bytes. `held` is sorted, and has a layer 0 everywhere.
fn choose(batches: &[RecordBatch], held: &[Held]) -> Result<RecordBatch, StoreError> {
    let first = held.first().map_or(0, |held| held.position);
    let mut best: Vec<(usize, usize)> =
        held.iter().filter(|held| held.layer == 0).map(|held| held.at).collect();
    for layer in 1..=held.iter().map(|held| held.layer).max().unwrap_or_default() {
        let others: Vec<&Held> = held.iter().filter(|held| held.layer == layer).collect();
        let places: Vec<usize> = others.iter().map(|held| (held.position - first) as usize).collect();
        let left = interleave(batches, places.iter().map(|place| best[*place]))?;
        let right = interleave(batches, others.iter().map(|held| held.at))?;
        // Nearly always they are copies of one row, in a journal and its part, or in a part and `samples.parquet`.
        if left == right {
            continue;
        }
        let pairs = records(&left)?.into_iter().zip(records(&right)?);
        for ((left, right), (place, other)) in pairs.zip(places.into_iter().zip(others)) {
            if right.precedence(&left).is_lt() {
                best[place] = other.at;
            }
        }
    }
    interleave(batches, best)
}

fn records(batch: &RecordBatch) -> Result<Vec<Record>, StoreError> {
    to_records(batch).map_err(StoreError::Encode)
}

/// Rows of several batches, in order. Of a batch that gives none nothing is looked at: a call costs as much as its batches.
fn interleave(
    batches: &[RecordBatch],
    rows: impl IntoIterator<Item = (usize, usize)>,
) -> Result<RecordBatch, StoreError> {
    let mut rows: Vec<(usize, usize)> = rows.into_iter().collect();
    let mut named: Vec<usize> = rows.iter().map(|(batch, _)| *batch).collect();
    named.sort_unstable();
    named.dedup();
    for (batch, _) in &mut rows {
        *batch = named.partition_point(|other| other < batch);
    }
    let batches: Vec<&RecordBatch> = named.iter().map(|batch| &batches[*batch]).collect();
    interleave_record_batch(&batches, &rows).map_err(|error| StoreError::Encode(error.to_string()))
}
