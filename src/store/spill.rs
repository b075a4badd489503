//! A temporary file for rows that do not fit into memory while they are sorted.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::{Fs, FsFile};
use super::layout::Layout;
use super::table::SCHEMA;
use super::winners::Held;

/// Some rows of one output batch.
#[derive(Debug)]
struct Segment {
    offset: u64,
    length: usize,
    /// Position and layer of every row.
    places: Vec<(u32, u32)>,
}

/// The file, removed when this is dropped. It needs no durability: after a crash the rows are where they came from.
#[derive(Debug)]
pub(super) struct Spill<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
    file: Box<dyn FsFile>,
    end: u64,
    /// By output batch.
    segments: Vec<Vec<Segment>>,
}

impl<'a> Spill<'a> {
    pub(super) fn create(fs: &'a dyn Fs, layout: &Layout) -> Result<Self, StoreError> {
        let path = layout.root().join(format!(".samples.parquet.{}.spill.tmp", AttemptId::new()));
        let file = fs.create_new(&path).map_err(StoreError::io("create", &path))?;
        Ok(Self { fs, path, file, end: 0, segments: Vec::new() })
    }

    /// Adds rows of the output batch number `number`.
    pub(super) fn append(
        &mut self,
        number: usize,
        batch: &RecordBatch,
        held: &[Held],
    ) -> Result<(), StoreError> {
        let bytes = encode(batch).map_err(|error| StoreError::Encode(error.to_string()))?;
        self.file.append(&bytes).map_err(StoreError::io("write", &self.path))?;
        if self.segments.len() <= number {
            self.segments.resize_with(number + 1, Vec::new);
        }
        let places = held.iter().map(|held| (held.position, held.layer)).collect();
        self.segments[number].push(Segment { offset: self.end, length: bytes.len(), places });
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// The rows of the output batch number `number`, in no particular order.
    pub(super) fn read(&self, number: usize) -> Result<(Vec<RecordBatch>, Vec<Held>), StoreError> {
        let (mut batches, mut held) = (Vec::new(), Vec::new());
        let file: Arc<_> = self.fs.open(&self.path).map_err(StoreError::io("open", &self.path))?;
        for Segment { offset, length, places } in self.segments.get(number).into_iter().flatten() {
            let bytes = file.read_at(*offset, *length).map_err(StoreError::io("read", &self.path))?;
            let at = batches.len();
            batches.push(decode(bytes).map_err(|error| StoreError::Encode(error.to_string()))?);
            held.extend(places.iter().zip(0..).map(|(&(position, layer), row)| Held {
                position,
                layer,
                at: (at, row),
            }));
        }
        Ok((batches, held))
    }
}

impl Drop for Spill<'_> {
    fn drop(&mut self) {
        // Best effort: a left-over is noted by `dflow verify`, and removed by a later merge.
        let _ = self.fs.remove(&self.path);
    }
}

fn encode(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &SCHEMA)?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()
}

fn decode(bytes: Vec<u8>) -> Result<RecordBatch, ArrowError> {
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    reader.next().unwrap_or_else(|| Err(ArrowError::IpcError("a segment without rows".to_owned())))
}
