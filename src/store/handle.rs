//! The store as a worker or the dispatcher holds it.

use std::sync::Arc;

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::Fs;
use super::journal::JournalWriter;
use super::layout::Layout;
use super::parts;
use super::record::{Record, SCHEMA_VERSION};

/// Rows after which a writer turns its journal into a part by itself.
const ROWS_PER_PART: usize = 1000;

/// One writer of one process attempt.
///
/// It creates no file before the first row. Several stores, in one process or many, may write into one directory.
#[derive(Debug)]
pub struct Store {
    fs: Arc<dyn Fs>,
    layout: Layout,
    attempt: AttemptId,
    journal: JournalWriter,
    /// Rows in the journal and in no part.
    unflushed: Vec<Record>,
    parts: u32,
}

impl Store {
    /// A writer of one attempt into a run directory.
    pub fn with_fs(fs: Arc<dyn Fs>, layout: Layout, attempt: AttemptId) -> Result<Self, StoreError> {
        let journal = JournalWriter::new(Arc::clone(&fs), &layout, &attempt)?;
        Ok(Self { fs, layout, attempt, journal, unflushed: Vec::new(), parts: 0 })
    }

    /// The files' names.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The id that this writer's rows carry.
    pub fn attempt(&self) -> &AttemptId {
        &self.attempt
    }

    /// Appends one row, stamped with this writer's attempt and the schema version; on return it is durable. See [`Self::append_all`].
    pub fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        self.append_all(std::slice::from_ref(record))
    }

    /// Appends rows with one fsync: all or none of them are durable, and on return they are.
    ///
    /// After an error they may be durable or not, and may be appended again: the merge keeps one of each.
    pub fn append_all(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let stamp = |record: &Record| Record {
            schema_version: SCHEMA_VERSION,
            attempt: self.attempt.to_string(),
            ..record.clone()
        };
        let records: Vec<Record> = records.iter().map(stamp).collect();
        self.journal.append(&records)?;
        self.unflushed.extend(records);
        if self.unflushed.len() >= ROWS_PER_PART
            && let Err(error) = self.flush_part()
        {
            // The rows are durable in the journal: not a failure of this append.
            tracing::warn!("rows stay in the journal for now: {error}");
        }
        Ok(())
    }

    /// Turns this writer's journals into a Parquet part: for orderly ends. Without new rows it does nothing.
    pub fn flush_part(&mut self) -> Result<(), StoreError> {
        if self.unflushed.is_empty() {
            return Ok(());
        }
        let number = self.parts;
        self.parts += 1;
        parts::write(&*self.fs, &self.layout, &self.attempt, number, &self.unflushed)?;
        self.unflushed.clear();
        for path in self.journal.finish() {
            // The rows are durable in the part; a journal that stays is only read twice.
            if let Err(error) = self.fs.remove(&path) {
                tracing::debug!("cannot remove {}: {error}", path.display());
            }
        }
        Ok(())
    }
}
