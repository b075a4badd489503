//! Records as Arrow batches and Parquet bytes.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::columns::decode_column;
use super::error::StoreError;
use super::record::{COLUMNS, Key, METRIC_PROFILE, Record, SCHEMA_VERSION, Status, decode, encode};
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

/// Records as one batch.
pub(super) fn to_batch(records: &[Record]) -> Result<RecordBatch, StoreError> {
    RecordBatch::try_new(Arc::clone(&SCHEMA), encode(records))
        .map_err(|error| StoreError::Encode(error.to_string()))
}

/// Batches of one schema as records.
pub(super) fn from_batches(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<Record>, String> {
    let batch = concat_batches(schema, batches).map_err(|error| error.to_string())?;
    decode(batch.num_rows(), |name| batch.column_by_name(name).cloned())
}

/// Records as a Parquet file: the same bytes for the same records and metadata.
pub(super) fn to_parquet(records: &[Record], metadata: &[(&str, String)]) -> Result<Vec<u8>, StoreError> {
    let encode_error = |error: parquet::errors::ParquetError| StoreError::Encode(error.to_string());
    let level = ZstdLevel::try_new(3).map_err(encode_error)?;
    let ours = [
        (SCHEMA_VERSION_KEY, SCHEMA_VERSION.to_string()),
        (METRIC_PROFILE_KEY, METRIC_PROFILE.to_owned()),
        (NUMERICS_KEY, NUMERICS.to_string()),
    ];
    let pairs = ours.iter().chain(metadata);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_key_value_metadata(Some(
            pairs.map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone())).collect(),
        ))
        .build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), Arc::clone(&SCHEMA), Some(properties)).map_err(encode_error)?;
    writer.write(&to_batch(records)?).map_err(encode_error)?;
    writer.into_inner().map_err(encode_error)
}

/// Which columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// All.
    All,
    /// All but `trace`, which is most of the file; it is empty in the records.
    WithoutTrace,
}

/// Records of a Parquet file. `path` is for messages.
pub(super) fn from_parquet(path: &Path, bytes: Vec<u8>, columns: Columns) -> Result<Vec<Record>, StoreError> {
    let wanted = |name: &str| columns == Columns::All || name != "trace";
    let to_records =
        |batch: &RecordBatch| decode(batch.num_rows(), |name| batch.column_by_name(name).cloned());
    read_parquet(path, bytes, wanted, to_records)
}

/// Who a row is, where it came from and how it ended: enough to know what is left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// The row's identity.
    pub key: Key,
    /// How it ended.
    pub status: Status,
    /// Who wrote it.
    pub attempt: String,
}

impl Entry {
    const COLUMNS: [&str; 6] = ["task", "method", "cell_hash", "sample_id", "attempt", "status"];

    fn decode(batch: &RecordBatch) -> Result<Vec<Self>, String> {
        let (rows, array) = (batch.num_rows(), |name: &str| batch.column_by_name(name).cloned());
        let [tasks, methods, hashes, samples, attempts] =
            ["task", "method", "cell_hash", "sample_id", "attempt"]
                .map(|name| decode_column::<String>(rows, name, &array));
        let statuses = decode_column::<Status>(rows, "status", &array)?;
        let names = tasks?.into_iter().zip(methods?);
        let keys = hashes?.into_iter().zip(samples?);
        let outcomes = statuses.into_iter().zip(attempts?);
        let entry = |(((task, method), key), (status, attempt))| Self { task, method, key, status, attempt };
        Ok(names.zip(keys).zip(outcomes).map(entry).collect())
    }
}

impl From<&Record> for Entry {
    fn from(record: &Record) -> Self {
        let (task, method) = (record.task.clone(), record.method.clone());
        Self { task, method, key: record.key(), status: record.status, attempt: record.attempt.clone() }
    }
}

/// Entries of a Parquet file: reads six columns only.
pub(super) fn entries_from_parquet(path: &Path, bytes: Vec<u8>) -> Result<Vec<Entry>, StoreError> {
    read_parquet(path, bytes, |name| Entry::COLUMNS.contains(&name), Entry::decode)
}

fn read_parquet<T>(
    path: &Path,
    bytes: Vec<u8>,
    wanted: impl Fn(&str) -> bool,
    decode: impl Fn(&RecordBatch) -> Result<Vec<T>, String>,
) -> Result<Vec<T>, StoreError> {
    let bytes = Bytes::from(bytes);
    let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::default())
        .map_err(StoreError::damaged(path))?;
    check_version(path, &metadata)?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
    let roots = builder.schema().fields().iter().enumerate();
    let wanted: Vec<usize> = roots.filter(|(_, field)| wanted(field.name())).map(|(i, _)| i).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let reader =
        builder.with_projection(mask).with_batch_size(8192).build().map_err(StoreError::damaged(path))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(StoreError::damaged(path))?;
        rows.extend(decode(&batch).map_err(StoreError::damaged(path))?);
    }
    Ok(rows)
}

/// The value of a footer's key, if the file can be read and has it.
pub(super) fn footer_value(bytes: &[u8], key: &str) -> Option<String> {
    let bytes = Bytes::copy_from_slice(bytes);
    let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::default()).ok()?;
    metadata_value(&metadata, key)
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
    use crate::store::samples::{assert_same, failed, record};

    #[test]
    fn parquet_keeps_every_bit_of_every_column() {
        let records: Vec<Record> = (0..20).map(record).chain((20..22).map(failed)).collect();
        let bytes = to_parquet(&records, &[]).unwrap();
        assert_same(&from_parquet(Path::new("p"), bytes, Columns::All).unwrap(), &records);
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
        for (key, value) in expected {
            assert_eq!(footer_value(&bytes, key), Some(value), "{key}");
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
        let read = |metadata| from_parquet(Path::new("p"), bytes(metadata), Columns::All).unwrap_err();
        let other = vec![KeyValue::new(SCHEMA_VERSION_KEY.to_owned(), "999".to_owned())];
        assert!(matches!(read(other), StoreError::Version { found, .. } if found == "999"));
        assert!(matches!(read(Vec::new()), StoreError::Damaged { .. }));
    }

    #[test]
    fn the_trace_can_be_left_out() {
        let bytes = to_parquet(&[record(3)], &[]).unwrap();
        let read = from_parquet(Path::new("p"), bytes, Columns::WithoutTrace).unwrap();
        assert_same(&read, &[Record { trace: Vec::new(), ..record(3) }]);
    }

    #[test]
    fn damaged_parquet_is_an_error_and_no_panic() {
        let bytes = to_parquet(&[record(3)], &[]).unwrap();
        for cut in 0..bytes.len() {
            assert!(from_parquet(Path::new("p"), bytes[..cut].to_vec(), Columns::All).is_err());
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
