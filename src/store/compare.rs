//! Two runs compared bit for bit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::fs::Fs;
use super::gather::{Note, gather};
use super::layout::Layout;
use super::record::{COLUMNS, Key, Record, Status};

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
    let read = |layout| {
        let gathered = gather(fs, layout)?;
        for note in gathered.notes {
            if let Note::Damaged { file: path, detail } = note {
                return Err(StoreError::Damaged { path, detail });
            }
        }
        Ok(gathered.records)
    };
    Ok(compare(&read(left)?, &read(right)?))
}

/// Compares rows by key.
pub fn compare(left: &[Record], right: &[Record]) -> Comparison {
    let by_key = |rows: &'_ [Record]| rows.iter().enumerate().map(|(i, row)| (row.key(), i)).collect();
    let (lefts, mut rights): (BTreeMap<Key, usize>, BTreeMap<Key, usize>) = (by_key(left), by_key(right));
    let mut comparison = Comparison::default();
    for (key, l) in lefts {
        match rights.remove(&key) {
            Some(r) => compare_rows(&mut comparison, &left[l], &right[r]),
            None => comparison.only_left.push(key),
        }
    }
    comparison.only_right.extend(rights.into_keys());
    comparison
}

fn compare_rows(comparison: &mut Comparison, left: &Record, right: &Record) {
    if !(left.reproducible && right.reproducible) && left.status == Status::Ok && right.status == Status::Ok {
        comparison.not_comparable += 1;
        return;
    }
    let differs = |column: &&super::columns::Column| column.reproducible && !column.same(left, right);
    let differing: Vec<_> = COLUMNS.iter().filter(differs).collect();
    if differing.is_empty() {
        comparison.same += 1;
        return;
    }
    comparison.different += 1;
    let room = Comparison::LIMIT.saturating_sub(comparison.differences.len());
    comparison.differences.extend(differing.into_iter().take(room).map(|column| RowDifference {
        task: left.task.clone(),
        method: left.method.clone(),
        sample_id: left.sample_id.clone(),
        column: column.name.to_owned(),
        left: column.show(left),
        right: column.show(right),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::record;

    #[test]
    fn equal_rows_are_the_same_whatever_the_machine() {
        let rows: Vec<Record> = (0..6).map(record).collect();
        let mut others = rows.clone();
        for (i, row) in others.iter_mut().enumerate() {
            row.wall_seconds += 1.0;
            row.device_seconds += 1.0;
            row.peak_memory = None;
            row.device = "cpu:7".to_owned();
            row.host = "other".to_owned();
            row.attempt = i.to_string();
            row.trace.iter_mut().for_each(|point| point.seconds += 1.0);
        }
        others.reverse();
        let comparison = compare(&rows, &others);
        assert!(comparison.is_same() && comparison.same == 6, "{comparison:?}");
    }

    #[test]
    fn every_reproducible_column_is_compared_bit_for_bit() {
        let zero = Record { reproducible: true, ssim_tm13: Some(0.0), ..record(1) };
        let changes: [(&str, Record); 6] = [
            ("ssim_tm13", Record { ssim_tm13: Some(-0.0), ..zero.clone() }),
            ("psnr", Record { psnr: zero.psnr.map(f64::next_up), ..zero.clone() }),
            ("status", Record { status: Status::Failed, ..zero.clone() }),
            ("label", Record { label: None, ..zero.clone() }),
            ("trace", Record { trace: Vec::new(), ..zero.clone() }),
            ("evals", Record { evals: 0, ..zero.clone() }),
        ];
        for (column, changed) in changes {
            let comparison = compare(std::slice::from_ref(&zero), std::slice::from_ref(&changed));
            let found: Vec<_> = comparison.differences.iter().map(|found| found.column.as_str()).collect();
            assert_eq!(found, [column]);
        }
    }

    #[test]
    fn rows_ended_by_time_limit_are_not_compared() {
        let timed = Record { reproducible: false, evals: 3, ..record(1) };
        let comparison = compare(&[record(1), record(2)], &[timed]);
        assert_eq!((comparison.not_comparable, comparison.different), (1, 0));
        assert_eq!(comparison.only_left, [record(2).key()]);
    }
}
