//! Records as Arrow batches and Parquet bytes.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::chunks::Chunks;
use super::error::StoreError;
use super::fs::Fs;
use super::names::text_column;
use super::record::{COLUMNS, METRIC_PROFILE, Record, SCHEMA_VERSION, Status, decode, encode};
use crate::plan::identity::NUMERICS;

/// Footer key of [`SCHEMA_VERSION`].
const SCHEMA_VERSION_KEY: &str = "dflow.schema_version";
/// Footer key of [`METRIC_PROFILE`].
const METRIC_PROFILE_KEY: &str = "dflow.metric_profile";
/// Footer key of [`NUMERICS`], of the program that wrote the file.
const NUMERICS_KEY: &str = "dflow.numerics";

/// The Arrow schema of all columns.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(COLUMNS.iter().map(super::columns::Column::field).collect::<Vec<Field>>()))
});

/// Rows read at a time.
pub(super) const BATCH_ROWS: usize = 1024;

/// Records as one batch.
pub(super) fn to_batch(records: &[Record]) -> Result<RecordBatch, StoreError> {
    RecordBatch::try_new(Arc::clone(&SCHEMA), encode(records))
        .map_err(|error| StoreError::Encode(error.to_string()))
}

/// Rows of a row group: what a writer holds in memory, encoded.
const GROUP_ROWS: usize = 16_384;

/// Writes rows in order as a Parquet file: the same bytes for the same rows and metadata, if they come in batches of the
/// same sizes.
pub(super) struct TableWriter<W: Write + Send>(ArrowWriter<W>);

impl<W: Write + Send> TableWriter<W> {
    pub(super) fn new(out: W, metadata: &[(&str, String)]) -> Result<Self, StoreError> {
        let level = ZstdLevel::try_new(3).map_err(encode_error)?;
        let ours = [
            (SCHEMA_VERSION_KEY, SCHEMA_VERSION.to_string()),
            (METRIC_PROFILE_KEY, METRIC_PROFILE.to_owned()),
            (NUMERICS_KEY, NUMERICS.to_string()),
        ];
        let pairs = ours.iter().chain(metadata);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_key_value_metadata(Some(
                pairs.map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone())).collect(),
            ))
            .build();
        ArrowWriter::try_new(out, Arc::clone(&SCHEMA), Some(properties)).map(Self).map_err(encode_error)
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        self.0.write(batch).map_err(encode_error)
    }

    /// Writes the footer.
    pub(super) fn finish(self) -> Result<W, StoreError> {
        self.0.into_inner().map_err(encode_error)
    }
}

/// What the system said of the file beneath stays what it is: a full disk is no fault of the rows.
fn encode_error(error: ParquetError) -> StoreError {
    let text = error.to_string();
    let ParquetError::External(source) = error else { return StoreError::Encode(text) };
    match source.downcast::<io::Error>() {
        Ok(source) => StoreError::io("write", Path::new("a Parquet file of the run"))(*source),
        Err(_) => StoreError::Encode(text),
    }
}

/// Records as a Parquet file: the same bytes for the same records and metadata.
pub(super) fn to_parquet(records: &[Record], metadata: &[(&str, String)]) -> Result<Vec<u8>, StoreError> {
    let mut writer = TableWriter::new(Vec::new(), metadata)?;
    writer.write(&to_batch(records)?)?;
    writer.finish()
}

/// A batch as it would be written today: columns that its file lacks are added.
pub(super) fn normal(batch: &RecordBatch) -> Result<RecordBatch, String> {
    if batch.schema_ref().fields() == SCHEMA.fields() {
        return RecordBatch::try_new(Arc::clone(&SCHEMA), batch.columns().to_vec())
            .map_err(|e| e.to_string());
    }
    let records = decode(batch.num_rows(), |name| batch.column_by_name(name).cloned())?;
    to_batch(&records).map_err(|error| error.to_string())
}

/// Which columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// All.
    All,
    /// All but `trace`, which is most of the file; it is empty in the records.
    WithoutTrace,
}

impl Columns {
    fn wants(self, name: &str) -> bool {
        self == Self::All || name != "trace"
    }
}

/// The records of a batch.
pub(super) fn to_records(batch: &RecordBatch) -> Result<Vec<Record>, String> {
    decode(batch.num_rows(), |name| batch.column_by_name(name).cloned())
}

/// An open Parquet file of rows, read by ranges.
#[derive(Debug)]
pub(super) struct RowFile {
    path: PathBuf,
    chunks: Chunks,
    metadata: ArrowReaderMetadata,
}

impl RowFile {
    /// Opens a file of rows of our version; `None` if there is none.
    pub(super) fn open(fs: &dyn Fs, path: &Path) -> Result<Option<Self>, StoreError> {
        let chunks = match fs.open(path).and_then(Chunks::new) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            chunks => chunks.map_err(StoreError::io("open", path))?,
        };
        let metadata = ArrowReaderMetadata::load(&chunks, ArrowReaderOptions::default())
            .map_err(|error| unreadable(path, &chunks, error))?;
        check_version(path, &metadata)?;
        Ok(Some(Self { path: path.to_owned(), chunks, metadata }))
    }

    /// Its rows, `size` at a time, with the columns that are wanted.
    pub(super) fn batches(
        &self,
        size: usize,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, StoreError>> + use<>, StoreError> {
        let (chunks, metadata) = (self.chunks.clone(), self.metadata.clone());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, metadata);
        let roots = builder.schema().fields().iter().enumerate();
        let wanted: Vec<usize> = roots.filter(|(_, field)| wanted(field.name())).map(|(i, _)| i).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let reader = builder.with_projection(mask).with_batch_size(size).build();
        let reader = reader.map_err(|error| unreadable(&self.path, &self.chunks, error))?;
        let (path, chunks) = (self.path.clone(), self.chunks.clone());
        Ok(reader.map(move |batch| batch.map_err(|error| unreadable(&path, &chunks, error))))
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.chunks.size()
    }

    /// When it was written, where the file system tells.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.chunks.modified()
    }

    /// The value of a key in its footer.
    pub(super) fn footer_value(&self, key: &str) -> Option<String> {
        metadata_value(&self.metadata, key)
    }

    /// Size and footer, which hold positions, sizes and bounds of all columns: equal for equal files only.
    pub(super) fn fingerprint(&self) -> Result<(u64, Bytes), StoreError> {
        fingerprint(&self.chunks).map_err(StoreError::io("read", &self.path))
    }
}

fn fingerprint(chunks: &Chunks) -> io::Result<(u64, Bytes)> {
    const TAIL: u64 = 8; // the footer's length and a magic word
    let size = chunks.size();
    let tail = chunks.read(size.saturating_sub(TAIL), TAIL.min(size) as usize)?;
    let length = tail.first_chunk().map_or(0, |length| u64::from(u32::from_le_bytes(*length)));
    let length = length.saturating_add(TAIL).min(size);
    Ok((size, chunks.read(size - length, length as usize)?))
}

/// [`RowFile::fingerprint`] of whatever has that name now; `None` if nothing has.
pub(super) fn fingerprint_of(fs: &dyn Fs, path: &Path) -> Result<Option<(u64, Bytes)>, StoreError> {
    match fs.open(path).and_then(Chunks::new).and_then(|chunks| fingerprint(&chunks)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(StoreError::io("read", path)),
    }
}

/// Why Parquet could not be read: the system's refusal, or else damage.
fn unreadable(path: &Path, chunks: &Chunks, error: impl Display) -> StoreError {
    match chunks.take_error() {
        Some(error) => StoreError::io("read", path)(error),
        None => StoreError::damaged(path)(error),
    }
}

/// Passes the records of a Parquet file to `take`; false if there is no such file.
pub(super) fn visit_records(
    fs: &dyn Fs,
    path: &Path,
    columns: Columns,
    mut take: impl FnMut(Record),
) -> Result<bool, StoreError> {
    let Some(file) = RowFile::open(fs, path)? else { return Ok(false) };
    for batch in file.batches(BATCH_ROWS, &|name| columns.wants(name))? {
        to_records(&batch?).map_err(StoreError::damaged(path))?.into_iter().for_each(&mut take);
    }
    Ok(true)
}

/// A row that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cell_hash: String,
    pub(super) sample_id: String,
    pub(super) error: String,
}

impl Failure {
    /// The columns that it is made from.
    pub(super) const COLUMNS: [&str; 4] = ["cell_hash", "sample_id", "status", "error"];

    /// The failures of a batch, with their row numbers in it.
    pub(super) fn decode(batch: &RecordBatch) -> Result<Vec<(usize, Self)>, String> {
        let statuses = text_column(batch, "status")?;
        let (cells, samples) = (text_column(batch, "cell_hash")?, text_column(batch, "sample_id")?);
        let error = |row| {
            let errors = batch.column_by_name("error").and_then(|errors| errors.as_string_opt::<i32>());
            errors.filter(|errors| errors.is_valid(row)).map_or("", |errors| errors.value(row)).to_owned()
        };
        let failed = (0..batch.num_rows()).filter(|row| statuses.value(*row) == Status::Failed.as_str());
        let failure = |row| {
            let (cell_hash, sample_id) = (cells.value(row).to_owned(), samples.value(row).to_owned());
            (row, Self { cell_hash, sample_id, error: error(row) })
        };
        Ok(failed.map(failure).collect())
    }
}

/// Passes the failed rows of a Parquet file to `take`: reads four columns.
pub(super) fn visit_failures(
    fs: &dyn Fs,
    path: &Path,
    mut take: impl FnMut(Failure),
) -> Result<(), StoreError> {
    let Some(file) = RowFile::open(fs, path)? else { return Ok(()) };
    for batch in file.batches(BATCH_ROWS, &|name| Failure::COLUMNS.contains(&name))? {
        let failures = Failure::decode(&batch?).map_err(StoreError::damaged(path))?;
        failures.into_iter().for_each(|(_, failure)| take(failure));
    }
    Ok(())
}

/// The value of a key in a footer, if it has it.
pub(super) fn metadata_value(metadata: &ArrowReaderMetadata, key: &str) -> Option<String> {
    let pairs = metadata.metadata().file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.clone()
}

fn check_version(path: &Path, metadata: &ArrowReaderMetadata) -> Result<(), StoreError> {
    let expected = SCHEMA_VERSION.to_string();
    match metadata_value(metadata, SCHEMA_VERSION_KEY) {
        // Another program's file, which no version of this one reads.
        None => {
            Err(StoreError::damaged(path)(format!("it is not from dflow: it has no {SCHEMA_VERSION_KEY}")))
        }
        Some(found) if found != expected => {
            Err(StoreError::Version { path: path.to_owned(), what: "row schema", found, expected })
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault::FaultFs;
    use crate::store::fs::write_atomic;
    use crate::store::samples::{assert_same, failed, record};

    fn stored(bytes: &[u8]) -> FaultFs {
        let fs = FaultFs::new(Path::new("/run"));
        write_atomic(&fs, Path::new("/run/p"), bytes).unwrap();
        fs
    }

    fn read(bytes: &[u8], columns: Columns) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        visit_records(&stored(bytes), Path::new("/run/p"), columns, |record| records.push(record))?;
        Ok(records)
    }

    #[test]
    fn parquet_keeps_every_bit_of_every_column() {
        let records: Vec<Record> = (0..20).map(record).chain((20..22).map(failed)).collect();
        let bytes = to_parquet(&records, &[]).unwrap();
        assert_same(&read(&bytes, Columns::All).unwrap(), &records);
    }

    #[test]
    fn the_footer_says_how_the_rows_were_made() {
        let bytes = to_parquet(&[record(0)], &[("dflow.run", "small".to_owned())]).unwrap();
        let expected = [
            ("dflow.schema_version", SCHEMA_VERSION.to_string()),
            ("dflow.metric_profile", METRIC_PROFILE.to_owned()),
            ("dflow.numerics", NUMERICS.to_string()),
            ("dflow.run", "small".to_owned()),
        ];
        let file = RowFile::open(&stored(&bytes), Path::new("/run/p")).unwrap().unwrap();
        for (key, value) in expected {
            assert_eq!(file.footer_value(key), Some(value), "{key}");
        }
    }

    #[test]
    fn another_version_is_told_from_another_program() {
        let bytes = |metadata: Vec<KeyValue>| {
            let properties = WriterProperties::builder().set_key_value_metadata(Some(metadata)).build();
            let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&SCHEMA), Some(properties)).unwrap();
            writer.write(&to_batch(&[record(0)]).unwrap()).unwrap();
            writer.into_inner().unwrap()
        };
        let read = |metadata| read(&bytes(metadata), Columns::All).unwrap_err();
        let other = vec![KeyValue::new(SCHEMA_VERSION_KEY.to_owned(), "999".to_owned())];
        assert!(matches!(read(other), StoreError::Version { found, .. } if found == "999"));
        assert!(matches!(read(Vec::new()), StoreError::Damaged { .. }));
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let write = || {
            let mut writer = TableWriter::new(Full, &[])?;
            writer.write(&to_batch(&[record(0)])?)?;
            writer.finish().map(drop)
        };
        let error = write().unwrap_err();
        let is_told =
            matches!(&error, StoreError::Io { source, .. } if source.kind() == ErrorKind::StorageFull);
        assert!(is_told, "{error}");
    }

    #[test]
    fn the_trace_can_be_left_out() {
        let bytes = to_parquet(&[record(3)], &[]).unwrap();
        assert_same(
            &read(&bytes, Columns::WithoutTrace).unwrap(),
            &[Record { trace: Vec::new(), ..record(3) }],
        );
    }

    #[test]
    fn damaged_parquet_is_an_error_and_no_panic() {
        let bytes = to_parquet(&[record(3)], &[]).unwrap();
        for cut in 0..bytes.len() {
            assert!(matches!(read(&bytes[..cut], Columns::All), Err(StoreError::Damaged { .. })));
        }
    }

    #[test]
    fn a_missing_required_column_is_named() {
        let batch = to_batch(&[record(0)]).unwrap();
        let without = |name: &str| {
            decode(1, |wanted| if wanted == name { None } else { batch.column_by_name(wanted).cloned() })
        };
        assert_eq!(without("task").unwrap_err(), "column task is missing");
        assert_eq!(without("psnr").unwrap()[0].psnr, None);
    }
}
