//! Parts: the readings of one process, replaced as a whole at every flush until they are large enough.

use std::sync::Arc;

use super::columns::TelemetryRow;
use super::table::to_parquet;
use crate::store::attempt::AttemptId;
use crate::store::error::StoreError;
use crate::store::fs::{Fs, write_atomic};
use crate::store::layout::Layout;
use crate::store::log::create_dirs;

/// Rows from which on a part is left as it is and the next one begun: three hours of eight GPUs.
const ROWS_PER_PART: usize = 20_000;
/// Rows that are kept while nothing can be written; older ones are dropped.
const MOST_ROWS: usize = 2 * ROWS_PER_PART;

/// Writes `telemetry/<attempt>-<k>.parquet`. It creates no file before the first reading.
///
/// The part that is growing is written anew at every [`flush`](Self::flush), so that a process leaves a few files
/// however long it runs, and each of them is whole at any time.
#[derive(Debug)]
pub struct TelemetryWriter {
    fs: Arc<dyn Fs>,
    layout: Layout,
    attempt: AttemptId,
    number: u32,
    rows: Vec<TelemetryRow>,
    /// Of these, in the file.
    written: usize,
}

impl TelemetryWriter {
    /// A writer of the readings of process `attempt`.
    pub fn new(fs: Arc<dyn Fs>, layout: Layout, attempt: AttemptId) -> Self {
        Self { fs, layout, attempt, number: 0, rows: Vec::new(), written: 0 }
    }

    /// Takes readings; touches no file.
    pub fn push(&mut self, rows: impl IntoIterator<Item = TelemetryRow>) {
        self.rows.extend(rows);
        if self.rows.len() > MOST_ROWS {
            self.rows.drain(..self.rows.len() - MOST_ROWS);
            self.written = 0;
        }
    }

    /// Makes everything that was pushed durable. Without new readings it does nothing.
    ///
    /// # Errors
    /// When the part cannot be written. It is then as it was, and the readings are kept for the next time.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if self.written == self.rows.len() {
            return Ok(());
        }
        let dir = self.layout.telemetry_parts();
        create_dirs(&*self.fs, &dir)?;
        let path = dir.join(format!("{}-{:03}.parquet", self.attempt, self.number));
        write_atomic(&*self.fs, &path, &to_parquet(&self.rows)?)?;
        self.written = self.rows.len();
        if self.written >= ROWS_PER_PART {
            self.number += 1;
            self.written = 0;
            self.rows.clear();
        }
        Ok(())
    }
}
