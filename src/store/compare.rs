//! Two runs compared bit for bit, in bounded memory and without writing anything.
//!
//! ```text
//! rows of the first ──► a summary each: key, hash of what is reproducible ──► sorted ─┐
//!                                                                                     ├─► joined by key
//! rows of the second ─► …                                                             ┘
//! ```
//!
//! Rows are read once, a batch at a time, on one thread for each run; only the few that differ and are to be shown are read
//! again. Memory: the index of both runs and 32 bytes a row.

mod summary;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::fs::Fs;
use super::gather::Rounds;
use super::index::Index;
use super::layout::Layout;
use super::names::Interner;
use super::record::{COLUMNS, Key, Record};
use summary::{Joined, Side, Summary, common_ranks, join};

/// A value that differs between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDifference {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Id of the sample.
    pub sample_id: String,
    /// Name of the column.
    pub column: String,
    /// The first run's value.
    pub left: String,
    /// The second's.
    pub right: String,
}

/// How two runs compare.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Rows that both have and that agree bit for bit in every reproducible column.
    pub same: usize,
    /// Rows that both have and that differ.
    pub different: usize,
    /// Rows that `time_limit` ended in either run: not compared.
    pub not_comparable: usize,
    /// Keys that only the first has.
    pub only_left: Vec<Key>,
    /// Keys that only the second has.
    pub only_right: Vec<Key>,
    /// The first differences, at most [`Comparison::LIMIT`].
    pub differences: Vec<RowDifference>,
}

impl Comparison {
    /// Differences that are listed.
    pub const LIMIT: usize = 20;

    /// Whether both hold the same rows with the same bits: at least one row that can be compared.
    pub fn is_same(&self) -> bool {
        let matched = self.only_left.is_empty() && self.only_right.is_empty();
        self.same > 0 && self.different == 0 && matched
    }
}

/// Compares the rows of two runs, merged or not, bit for bit, in every reproducible column.
///
/// # Errors
/// Where a file cannot be read, also as damaged: without its rows nothing can be said.
pub fn same_as(fs: &dyn Fs, left: &Layout, right: &Layout) -> Result<Comparison, StoreError> {
    let mut rounds = Rounds::default();
    loop {
        let (left, right) = (rounds.index(fs, left)?, rounds.index(fs, right)?);
        rounds.damage()?;
        let result = compare_indices(fs, &left, &right);
        let result = rounds.settle(&left, result).or_else(|error| rounds.settle(&right, Err(error)))?;
        if let Some(comparison) = result {
            return Ok(comparison);
        }
    }
}

fn compare_indices(fs: &dyn Fs, left: &Index, right: &Index) -> Result<Comparison, StoreError> {
    let cells = common_ranks(&left.names().cells, &right.names().cells);
    let samples = common_ranks(&left.names().samples, &right.names().samples);
    let (left, right) = (Side::new(fs, left), Side::new(fs, right));
    let (lefts, rights) = std::thread::scope(|scope| {
        let rights = scope.spawn(|| right.summaries(&cells[1], &samples[1]));
        let lefts = left.summaries(&cells[0], &samples[0]);
        (lefts, rights.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let joined = join(&lefts?, &rights?);
    let different = |which: fn(&(u32, u32)) -> u32| joined.different.iter().map(which).collect();
    let shown: [BTreeSet<u32>; 2] = [different(|pair| pair.0), different(|pair| pair.1)];
    let (lefts, rights) = (left.rows(&shown[0])?, right.rows(&shown[1])?);
    let rows = joined.different.iter().filter_map(|(l, r)| Some((lefts.get(l)?, rights.get(r)?)));
    Ok(comparison(&joined, |l| left.key(l), |r| right.key(r), rows))
}

/// Compares rows by key; within either slice keys do not repeat.
pub fn compare(left: &[Record], right: &[Record]) -> Comparison {
    let (mut cells, mut samples) = (Interner::default(), Interner::default());
    let [lefts, rights] = [left, right].map(|rows| {
        let number = |row: &Record| (cells.number(&row.cell_hash), samples.number(&row.sample_id));
        rows.iter().map(number).collect::<Vec<_>>()
    });
    let (cells, samples) = (cells.ranks(), samples.ranks());
    let summaries = |rows: &[Record], numbers: &[(u32, u32)]| {
        let summary = |((row, (cell, sample)), position): ((&Record, &(u32, u32)), u32)| {
            Summary::of(row.clone(), (cells[*cell as usize], samples[*sample as usize]), position)
        };
        let mut summaries: Vec<Summary> = rows.iter().zip(numbers).zip(0..).map(summary).collect();
        summaries.sort_unstable_by_key(Summary::key);
        summaries
    };
    let joined = join(&summaries(left, &lefts), &summaries(right, &rights));
    let rows = joined.different.iter().map(|(l, r)| (&left[*l as usize], &right[*r as usize]));
    comparison(&joined, |l| left[l as usize].key(), |r| right[r as usize].key(), rows)
}

/// What a join means; `rows` are the first of the pairs that differ.
fn comparison<'a>(
    joined: &Joined,
    left_key: impl Fn(u32) -> Key,
    right_key: impl Fn(u32) -> Key,
    rows: impl Iterator<Item = (&'a Record, &'a Record)>,
) -> Comparison {
    let differences = rows.flat_map(|(left, right)| differences(left, right));
    Comparison {
        same: joined.same,
        different: joined.differing,
        not_comparable: joined.not_comparable,
        only_left: joined.only_left.iter().map(|position| left_key(*position)).collect(),
        only_right: joined.only_right.iter().map(|position| right_key(*position)).collect(),
        differences: differences.take(Comparison::LIMIT).collect(),
    }
}

fn differences<'a>(left: &'a Record, right: &'a Record) -> impl Iterator<Item = RowDifference> + use<'a> {
    let differing = COLUMNS.iter().filter(|column| column.reproducible && !column.same(left, right));
    differing.map(|column| RowDifference {
        task: left.task.clone(),
        method: left.method.clone(),
        sample_id: left.sample_id.clone(),
        column: column.name.to_owned(),
        left: column.show(left),
        right: column.show(right),
    })
}
