//! Journals: rows that survive kill -9.
//!
//! A file is a sequence of frames: a header as JSON, the Arrow IPC schema message, then one record batch message per
//! append. The payloads after the header, joined, are an ordinary Arrow IPC stream.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::frame;
use super::fs::{Fs, read_if_exists};
use super::layout::Layout;
use super::log::Log;
use super::record::{Record, SCHEMA_VERSION};
use super::table::{SCHEMA, to_batch};

/// Version of the frames and their order; the rows have [`SCHEMA_VERSION`].
const FORMAT_VERSION: u32 = 1;
/// Ending of a journal's name.
pub(super) const EXTENSION: &str = "journal";

/// The first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    dflow_journal: u32,
    schema_version: u32,
    attempt: String,
}

/// Appends records to journals of its own.
pub struct JournalWriter {
    log: Log,
    /// Turns batches into messages; its sink is emptied after each.
    encoder: StreamWriter<Vec<u8>>,
}

impl std::fmt::Debug for JournalWriter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("JournalWriter").field("log", &self.log).finish_non_exhaustive()
    }
}

impl JournalWriter {
    /// A writer for one attempt; its first file is created by the first append.
    pub fn new(fs: Arc<dyn Fs>, layout: &Layout, attempt: &AttemptId) -> Result<Self, StoreError> {
        // Messages aligned to 8 bytes instead of 64: one row of many columns is mostly padding otherwise.
        let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5).map_err(encode_error)?;
        let mut encoder =
            StreamWriter::try_new_with_options(Vec::new(), &SCHEMA, options).map_err(encode_error)?;
        let schema = std::mem::take(encoder.get_mut());
        let header = Header {
            dflow_journal: FORMAT_VERSION,
            schema_version: SCHEMA_VERSION,
            attempt: attempt.to_string(),
        };
        let header = serde_json::to_vec(&header).map_err(|error| StoreError::Encode(error.to_string()))?;
        let log = Log::new(fs, layout.journals(), attempt.clone(), EXTENSION, vec![header, schema]);
        Ok(Self { log, encoder })
    }

    /// Appends records as one frame: all or none of them are durable, and on return they are.
    pub fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let batch = to_batch(records)?;
        self.encoder.get_mut().clear();
        self.encoder.write(&batch).map_err(encode_error)?;
        let message = std::mem::take(self.encoder.get_mut());
        self.log.append(&[message]).map(drop)
    }

    /// Ends the current file, and forgets and returns the files written so far; the next append starts a new one.
    pub fn finish(&mut self) -> Vec<std::path::PathBuf> {
        self.log.finish()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn encode_error(error: ArrowError) -> StoreError {
    StoreError::Encode(error.to_string())
}

/// What a journal holds.
#[derive(Debug, Default)]
pub struct Journal {
    /// Rows up to the first bad frame, in batches as they were appended.
    pub batches: Vec<RecordBatch>,
    /// Bytes from there on.
    pub torn: usize,
    /// Bytes of the file.
    pub size: u64,
}

impl Journal {
    /// Its rows in one batch; `None` if it has none.
    pub(super) fn batch(&self) -> Result<Option<RecordBatch>, String> {
        let Some(first) = self.batches.first() else { return Ok(None) };
        concat_batches(&first.schema(), &self.batches).map(Some).map_err(|error| error.to_string())
    }
}

/// Reads the wanted columns of a journal; `None` if it has gone (its rows are then in a part).
pub fn read(fs: &dyn Fs, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<Journal>, StoreError> {
    read_if_exists(fs, path)?.map(|bytes| decode(path, &bytes, wanted)).transpose()
}

/// Reads a journal's bytes. `path` is for messages.
fn decode(path: &Path, bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Journal, StoreError> {
    let frames = frame::decode(bytes);
    let (torn, size) = (frames.torn, bytes.len() as u64);
    let Some((header, messages)) = frames.payloads.split_first() else {
        return Ok(Journal { batches: Vec::new(), torn, size });
    };
    check_header(path, header)?;
    let batches = match messages.split_first() {
        Some((schema, messages)) if !messages.is_empty() => decode_messages(path, schema, messages, wanted)?,
        _ => Vec::new(),
    };
    Ok(Journal { batches, torn, size })
}

/// The batches of some messages, with the wanted columns of their schema.
pub(super) fn decode_messages(
    path: &Path,
    schema: &[u8],
    messages: &[&[u8]],
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<RecordBatch>, StoreError> {
    let damaged = |error: ArrowError| StoreError::damaged(path)(error);
    let fields = StreamReader::try_new(Cursor::new(schema), None).map_err(damaged)?.schema();
    let fields = fields.fields().iter().enumerate();
    let columns = fields.filter(|(_, field)| wanted(field.name())).map(|(i, _)| i).collect();
    let stream = [&[schema], messages].concat().concat();
    let reader = StreamReader::try_new(Cursor::new(stream), Some(columns)).map_err(damaged)?;
    reader.collect::<Result<_, _>>().map_err(damaged)
}

/// Checks the first frame of a journal.
pub(super) fn check_header(path: &Path, header: &[u8]) -> Result<(), StoreError> {
    let header: Header = serde_json::from_slice(header).map_err(StoreError::damaged(path))?;
    let versions = [
        ("journal format", header.dflow_journal, FORMAT_VERSION),
        ("row schema", header.schema_version, SCHEMA_VERSION),
    ];
    match versions.into_iter().find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((what, found, expected)) => Err(StoreError::Version {
            path: path.to_owned(),
            what,
            found: found.to_string(),
            expected: expected.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault::FaultFs;
    use crate::store::samples::{assert_same, failed, record};
    use crate::store::table::to_records;

    fn decode(bytes: &[u8]) -> Result<Journal, StoreError> {
        super::decode(Path::new("j"), bytes, |_| true)
    }

    fn records(journal: &Journal) -> Vec<Record> {
        journal.batch().unwrap().map_or_else(Vec::new, |batch| to_records(&batch).unwrap())
    }

    /// The bytes of a journal of `appends`, and the length after the headers and after each append.
    fn written(appends: &[Vec<Record>]) -> (Vec<u8>, Vec<usize>) {
        let root = Path::new("/run");
        let fs = FaultFs::new(root);
        let layout = Layout::new(root);
        let attempt = AttemptId::from_text("a");
        let mut writer = JournalWriter::new(Arc::new(fs.clone()), &layout, &attempt).unwrap();
        let path = layout.journals().join("a-000.journal");
        let mut ends = Vec::new();
        for records in appends {
            writer.append(records).unwrap();
            ends.push(fs.read(&path).unwrap().len());
        }
        (fs.read(&path).unwrap(), ends)
    }

    #[test]
    fn records_come_back_bit_for_bit() {
        let appends = vec![vec![record(0)], vec![record(1), failed(2)], vec![record(3)]];
        let (bytes, _) = written(&appends);
        let journal = decode(&bytes).unwrap();
        assert_same(&records(&journal), &appends.concat());
        assert_eq!(journal.torn, 0);
    }

    #[test]
    fn every_truncation_keeps_the_whole_appends_before_it() {
        let appends: Vec<_> = (0..3).map(|i| vec![record(i)]).collect();
        let (bytes, ends) = written(&appends);
        for cut in 0..=bytes.len() {
            let journal = decode(&bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            assert_same(&records(&journal), &appends[..whole].concat());
        }
    }

    #[test]
    fn every_flipped_bit_costs_only_the_records_from_there_on() {
        let appends: Vec<_> = (0..2).map(|i| vec![record(i)]).collect();
        let (bytes, ends) = written(&appends);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let whole = ends.iter().filter(|&&end| end <= bit / 8).count();
            let frames = frame::decode(&damaged);
            assert!(frames.torn > 0);
            assert_eq!(frames.payloads.len().saturating_sub(2), whole, "a header and a schema come first");
            // What Arrow sees depends on the whole frames only: one bit of each byte is enough.
            if bit % 8 == bit / 8 % 8 {
                let journal = decode(&damaged).unwrap();
                assert_same(&records(&journal), &appends[..whole].concat());
            }
        }
    }

    #[test]
    fn another_version_is_an_error_that_names_both() {
        let header = br#"{"dflow_journal":1,"schema_version":99,"attempt":"a"}"#;
        let bytes = frame::encode(header).unwrap();
        let message = decode(&bytes).unwrap_err().to_string();
        assert!(message.contains("99") && message.contains("row schema"), "{message}");
    }
}
