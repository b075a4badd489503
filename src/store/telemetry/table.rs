//! Readings as Parquet bytes.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::columns::{TELEMETRY_COLUMNS, TelemetryRow, encode};
use crate::store::error::StoreError;
use crate::store::table::metadata_value;

/// Version of these files, in their footers.
const FORMAT: u32 = 1;
const FORMAT_KEY: &str = "dflow.telemetry_version";
/// Rows of a row group: what a merge holds in memory.
const GROUP_ROWS: usize = 65_536;

/// The Arrow schema of all columns.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(TELEMETRY_COLUMNS.iter().map(|column| (column.field)()).collect::<Vec<Field>>()))
});

pub(super) fn encode_error(error: impl std::fmt::Display) -> StoreError {
    StoreError::Encode(error.to_string())
}

/// How the files are written, with more pairs for the footer.
pub(super) fn properties(metadata: &[(&str, String)]) -> Result<WriterProperties, StoreError> {
    let format = (FORMAT_KEY, FORMAT.to_string());
    let pairs = std::iter::once(&format).chain(metadata);
    let pairs = pairs.map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone())).collect();
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(encode_error)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_key_value_metadata(Some(pairs))
        .build())
}

/// Rows as a Parquet file.
pub(super) fn to_parquet(rows: &[TelemetryRow]) -> Result<Vec<u8>, StoreError> {
    let batch = RecordBatch::try_new(Arc::clone(&SCHEMA), encode(rows)).map_err(encode_error)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&SCHEMA), Some(properties(&[])?))
        .map_err(encode_error)?;
    writer.write(&batch).map_err(encode_error)?;
    writer.into_inner().map_err(encode_error)
}

/// A file of readings that is open for reading.
pub(super) struct Table {
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
}

impl Table {
    /// Checks footer and version. `path` is for messages.
    pub(super) fn open(path: &Path, bytes: Vec<u8>) -> Result<Self, StoreError> {
        let bytes = Bytes::from(bytes);
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::default())
            .map_err(StoreError::damaged(path))?;
        let foreign = || StoreError::damaged(path)(format!("it is not from dflow: it has no {FORMAT_KEY}"));
        let found = metadata_value(&metadata, FORMAT_KEY).ok_or_else(foreign)?;
        if found != FORMAT.to_string() {
            let (path, expected) = (path.to_owned(), FORMAT.to_string());
            return Err(StoreError::Version { path, what: "telemetry", found, expected });
        }
        Ok(Self { bytes, metadata })
    }

    /// A value of the footer.
    pub(super) fn footer(&self, key: &str) -> Option<String> {
        metadata_value(&self.metadata, key)
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().max(0) as u64
    }

    /// Batches of the wanted columns.
    pub(super) fn batches(
        &self,
        path: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<ParquetRecordBatchReader, StoreError> {
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone());
        let roots = builder.schema().fields().iter().enumerate();
        let wanted: Vec<usize> = roots.filter(|(_, field)| wanted(field.name())).map(|(i, _)| i).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        builder.with_projection(mask).with_batch_size(8192).build().map_err(StoreError::damaged(path))
    }
}
