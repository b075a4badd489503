//! Journals: rows that survive kill -9.
//!
//! A file is a sequence of frames: a header as JSON, the Arrow IPC schema message, then one record batch message per
//! append. The payloads after the header, joined, are an ordinary Arrow IPC stream.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
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
use super::table::{SCHEMA, from_batches, to_batch};

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
fn encode_error(error: arrow::error::ArrowError) -> StoreError {
    StoreError::Encode(error.to_string())
}

/// What a journal holds.
#[derive(Debug, Default)]
pub struct Journal {
    /// Records up to the first bad frame.
    pub records: Vec<Record>,
    /// Bytes from there on.
    pub torn: usize,
}

/// Reads a journal; `None` if it has gone (its rows are then in a part).
pub fn read(fs: &dyn Fs, path: &Path) -> Result<Option<Journal>, StoreError> {
    read_if_exists(fs, path)?.map(|bytes| decode(path, &bytes)).transpose()
}

/// Reads a journal's bytes. `path` is for messages.
fn decode(path: &Path, bytes: &[u8]) -> Result<Journal, StoreError> {
    let frames = frame::decode(bytes);
    let Some((header, messages)) = frames.payloads.split_first() else {
        return Ok(Journal { records: Vec::new(), torn: frames.torn });
    };
    check_header(path, header)?;
    let mut journal = Journal { records: Vec::new(), torn: frames.torn };
    if messages.len() > 1 {
        let reader =
            StreamReader::try_new(Cursor::new(messages.concat()), None).map_err(StoreError::damaged(path))?;
        let schema = reader.schema();
        let batches: Vec<RecordBatch> =
            reader.collect::<Result<_, _>>().map_err(StoreError::damaged(path))?;
        journal.records = from_batches(&schema, &batches).map_err(StoreError::damaged(path))?;
    }
    Ok(journal)
}

fn check_header(path: &Path, header: &[u8]) -> Result<(), StoreError> {
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
        let journal = decode(Path::new("j"), &bytes).unwrap();
        assert_same(&journal.records, &appends.concat());
        assert_eq!(journal.torn, 0);
    }

    #[test]
    fn every_truncation_keeps_the_whole_appends_before_it() {
        let appends: Vec<_> = (0..3).map(|i| vec![record(i)]).collect();
        let (bytes, ends) = written(&appends);
        for cut in 0..=bytes.len() {
            let journal = decode(Path::new("j"), &bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            assert_same(&journal.records, &appends[..whole].concat());
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
                let journal = decode(Path::new("j"), &damaged).unwrap();
                assert_same(&journal.records, &appends[..whole].concat());
            }
        }
    }

    #[test]
    fn another_version_is_an_error_that_names_both() {
        let header = br#"{"dflow_journal":1,"schema_version":99,"attempt":"a"}"#;
        let bytes = frame::encode(header).unwrap();
        let message = decode(Path::new("j"), &bytes).unwrap_err().to_string();
        assert!(message.contains("99") && message.contains("row schema"), "{message}");
    }
}
