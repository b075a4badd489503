//! Scores of reconstructions, computed after the run: `scores/<metric>.parquet` beside `samples.parquet`, never over it.
//!
//! ```text
//! append ─► scores/<metric>/<attempt>-000.parquet   whole and durable every 1,000 rows: what an interruption leaves
//! merge  ─► scores/<metric>.parquet                 one row per (cell hash, sample id, x1_blake3), sorted
//! ```
//!
//! A row belongs to one reconstruction, which its `x1_blake3` names; a table joins it to the row of `samples.parquet` with
//! the same key and hash ([`ScoreTable::get`]). Scores of two definitions (or sets of weights) are never mixed.

mod codec;
mod merge;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use merge::{ScoreMerge, merge_scores, read_scores, scored};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::{Fs, write_atomic};
use super::layout::Layout;
use super::log::create_dirs;
use super::x1_key::X1Key;

/// Rows of a part: what an interrupted scoring computes again at most.
const ROWS_PER_PART: usize = 1000;

/// What scores are: the metric, its definition, its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreSchema {
    /// Name of the metric family, which is that of the file: `psnr`, `lpips-alex`.
    pub metric: String,
    /// What determines the numbers besides the reconstruction: hash of weights, or name of a definition.
    pub identity: String,
    /// Columns of one number per sample, which may be absent (a hole's PSNR where there is no hole).
    pub values: Vec<String>,
    /// Columns of several numbers per sample (the layer terms of LPIPS).
    pub lists: Vec<String>,
}

impl ScoreSchema {
    /// Place of a column in [`ScoreRow::values`].
    pub fn value(&self, column: &str) -> Option<usize> {
        self.values.iter().position(|name| name == column)
    }
}

/// The scores of one reconstruction.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRow {
    /// The reconstruction.
    pub key: X1Key,
    /// One entry per column of [`ScoreSchema::values`].
    pub values: Vec<Option<f64>>,
    /// One entry per column of [`ScoreSchema::lists`].
    pub lists: Vec<Vec<f64>>,
}

/// Scores of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreTable {
    /// What they are.
    pub schema: ScoreSchema,
    /// Sorted by key, one row each.
    pub rows: Vec<ScoreRow>,
}

impl ScoreTable {
    /// The scores of a reconstruction: those of another reconstruction of the same sample are not its own.
    pub fn get(&self, cell_hash: &str, sample_id: &str, x1_blake3: &str) -> Option<&ScoreRow> {
        let wanted = (cell_hash, sample_id, x1_blake3);
        self.rows.binary_search_by(|row| row.key.as_text().cmp(&wanted)).ok().map(|i| &self.rows[i])
    }
}

/// Writes the scores of one attempt.
#[derive(Debug)]
pub struct ScoreWriter {
    fs: Arc<dyn Fs>,
    layout: Layout,
    attempt: AttemptId,
    schema: ScoreSchema,
    pending: Vec<ScoreRow>,
    parts: u32,
}

impl ScoreWriter {
    /// A writer; its first part is created when it is full, or by [`Self::flush`].
    pub fn new(fs: Arc<dyn Fs>, layout: Layout, attempt: AttemptId, schema: ScoreSchema) -> Self {
        Self { fs, layout, attempt, schema, pending: Vec::new(), parts: 0 }
    }

    /// Adds rows; they are durable once their part is written.
    ///
    /// # Errors
    /// A row that has not the schema's columns; what the file system says.
    pub fn append(&mut self, rows: Vec<ScoreRow>) -> Result<(), StoreError> {
        let columns = (self.schema.values.len(), self.schema.lists.len());
        if let Some(row) = rows.iter().find(|row| (row.values.len(), row.lists.len()) != columns) {
            let (metric, sample) = (&self.schema.metric, &row.key.sample_id);
            return Err(StoreError::Encode(format!(
                "{metric} of sample {sample} has not its {columns:?} columns"
            )));
        }
        for row in rows {
            self.pending.push(row);
            if self.pending.len() == ROWS_PER_PART {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Makes all rows durable: for orderly ends. Without new rows it does nothing.
    ///
    /// # Errors
    /// What the file system says; the rows are then kept for the next call.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let dir = self.layout.score_parts(&self.schema.metric);
        create_dirs(&*self.fs, &dir)?;
        // Another name after an error: nothing is known about the file of the failed try.
        let path = dir.join(format!("{}-{:03}.{}", self.attempt, self.parts, merge::EXTENSION));
        self.parts += 1;
        write(&*self.fs, &path, &self.schema, &self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

fn write(fs: &dyn Fs, path: &Path, schema: &ScoreSchema, rows: &[ScoreRow]) -> Result<(), StoreError> {
    write_atomic(fs, path, &codec::encode(schema, rows)?)
}
