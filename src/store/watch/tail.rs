//! The rows of a growing journal since the last look.

use std::path::Path;
use std::time::SystemTime;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;

use super::Found;
use crate::store::error::StoreError;
use crate::store::frame;
use crate::store::fs::{Fs, FsRead};
use crate::store::gather::is_gone;
use crate::store::journal::{check_header, decode_messages};
use crate::store::names::text_column;
use crate::store::record::Status;

/// What is counted of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NewRow {
    pub(super) cell_hash: String,
    pub(super) sample_id: String,
    pub(super) attempt: String,
    pub(super) status: Status,
    pub(super) wall_seconds: f64,
    pub(super) device_seconds: f64,
    /// Of a failed row.
    pub(super) error: Option<String>,
}

/// Whether [`decode`] wants a column.
pub(super) fn is_wanted(name: &str) -> bool {
    ["cell_hash", "sample_id", "attempt", "status", "error", "wall_seconds", "device_seconds"].contains(&name)
}

/// Adds the rows of a batch to `rows`.
pub(super) fn decode(batch: &RecordBatch, rows: &mut Vec<NewRow>) -> Result<(), String> {
    let text = |name| text_column(batch, name);
    let seconds = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Float64Type>());
        column.ok_or_else(|| format!("column {name} is missing or holds no seconds"))
    };
    let (cells, samples, attempts) = (text("cell_hash")?, text("sample_id")?, text("attempt")?);
    let (statuses, errors) = (text("status")?, batch.column_by_name("error"));
    let (wall, device) = (seconds("wall_seconds")?, seconds("device_seconds")?);
    for i in 0..batch.num_rows() {
        let status = Status::parse(statuses.value(i))
            .ok_or_else(|| format!("column status holds {:?}", statuses.value(i)))?;
        let error = || {
            let errors = errors.and_then(|errors| errors.as_string_opt::<i32>());
            errors.filter(|errors| errors.is_valid(i)).map_or("", |errors| errors.value(i)).to_owned()
        };
        rows.push(NewRow {
            cell_hash: cells.value(i).to_owned(),
            sample_id: samples.value(i).to_owned(),
            attempt: attempts.value(i).to_owned(),
            status,
            wall_seconds: wall.value(i),
            device_seconds: device.value(i),
            error: (status == Status::Failed).then(error),
        });
    }
    Ok(())
}

/// How far a journal was read.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Position behind the last whole frame that was read.
    offset: u64,
    /// The second frame, which tells what the others mean.
    schema: Option<Vec<u8>>,
    /// A whole frame of it means nothing: it is not looked at again.
    damaged: bool,
}

impl Tail {
    /// The rows that were appended since the last look; `None` if there are none, or the journal has gone.
    pub(super) fn read(&mut self, fs: &dyn Fs, path: &Path) -> Result<Found, StoreError> {
        if self.damaged {
            return Ok(None);
        }
        let news = match self.news(fs, path) {
            Err(error) if is_gone(&error) => return Ok(None),
            news => news.map_err(StoreError::io("read", path))?,
        };
        let Some((bytes, modified)) = news else { return Ok(None) };
        let rows = self.decode(path, &bytes);
        self.damaged = rows.is_err();
        Ok(rows?.map(|rows| (rows, modified)))
    }

    /// The bytes behind what was read, and when they were written.
    fn news(&self, fs: &dyn Fs, path: &Path) -> std::io::Result<Option<(Vec<u8>, Option<SystemTime>)>> {
        let file = fs.open(path)?;
        let size = file.size()?;
        if size <= self.offset {
            return Ok(None);
        }
        // Another host's append may be seen by its length first: what does not hold is read again next time.
        let bytes = file.read_at(self.offset, (size - self.offset) as usize)?;
        Ok(Some((bytes, FsRead::modified(&*file))))
    }

    fn decode(&mut self, path: &Path, bytes: &[u8]) -> Result<Option<Vec<NewRow>>, StoreError> {
        let frames = frame::decode(bytes);
        let mut messages = &frames.payloads[..];
        if self.schema.is_none() {
            let [header, schema, rest @ ..] = messages else { return Ok(None) };
            check_header(path, header)?;
            (self.schema, messages) = (Some(schema.to_vec()), rest);
        }
        self.offset += frames.good as u64;
        let (Some(schema), false) = (&self.schema, messages.is_empty()) else { return Ok(None) };
        let mut rows = Vec::new();
        for batch in decode_messages(path, schema, messages, is_wanted)? {
            decode(&batch, &mut rows).map_err(StoreError::damaged(path))?;
        }
        Ok(Some(rows))
    }
}
