//! Features as Parquet: columns `cell_hash`, `sample_id`, `x1_blake3`, `file` and `features`.
//!
//! Row groups hold rows of one cell and at most [`GROUP_ROWS`] of them, so that a cell is read without the others and a
//! writer needs memory for one group. Features are not compressed: on real ones zstd saves a tenth and costs the
//! reading time several times over.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::index::Entry;
use super::{FORMAT, FeatureNet};
use crate::store::chunks::Sink;
use crate::store::error::StoreError;
use crate::store::fs::FsFile;
use crate::store::table::metadata_value;

/// Most rows of a row group: 8 MB for 2,048 features.
pub(super) const GROUP_ROWS: usize = 1000;
/// The text columns, in order.
pub(super) const KEYS: [&str; 4] = ["cell_hash", "sample_id", "x1_blake3", "file"];
/// The other.
pub(super) const FEATURES: &str = "features";

const VERSION_KEY: &str = "dflow.features_version";
const NET_KEY: &str = "dflow.features_net";

/// The Arrow schema for a number of features.
fn schema(dims: usize) -> SchemaRef {
    let keys = KEYS.iter().map(|name| Field::new(*name, DataType::Utf8, false));
    let features = Field::new(FEATURES, DataType::FixedSizeList(item(), dims as i32), false);
    Arc::new(Schema::new(keys.chain([features]).collect::<Vec<_>>()))
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Float32, false))
}

fn properties(net: &FeatureNet) -> Result<WriterProperties, StoreError> {
    let net = serde_json::to_string(net).map_err(encode_error)?;
    let metadata = [(VERSION_KEY, FORMAT.to_string()), (NET_KEY, net)];
    let pairs = metadata.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec();
    let dictionary = ["cell_hash", "file"];
    let plain = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(Some(pairs));
    let with_dictionary = dictionary
        .iter()
        .fold(plain, |builder, name| builder.set_column_dictionary_enabled(ColumnPath::from(*name), true));
    Ok(with_dictionary.build())
}

/// Writes rows in order, a row group at a time.
pub(super) struct TableWriter<'a> {
    writer: ArrowWriter<Sink<'a>>,
    dims: usize,
}

impl<'a> TableWriter<'a> {
    pub(super) fn new(file: &'a mut dyn FsFile, net: &FeatureNet) -> Result<Self, StoreError> {
        let writer = ArrowWriter::try_new(Sink(file), schema(net.dims), Some(properties(net)?));
        Ok(Self { writer: writer.map_err(encode_error)?, dims: net.dims })
    }

    /// Writes one row group of rows of one cell.
    pub(super) fn write_group(&mut self, entries: &[Entry], features: Vec<f32>) -> Result<(), StoreError> {
        let text = |column: fn(&Entry) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(entries.iter().map(column)))
        };
        let keys = [
            text(|entry| &entry.key.cell_hash),
            text(|entry| &entry.key.sample_id),
            text(|entry| &entry.key.x1_blake3),
            text(|entry| &entry.file),
        ];
        let values = Arc::new(Float32Array::from(features));
        let list =
            FixedSizeListArray::try_new(item(), self.dims as i32, values, None).map_err(encode_error)?;
        let columns = keys.into_iter().chain([Arc::new(list) as ArrayRef]).collect();
        let batch = RecordBatch::try_new(schema(self.dims), columns).map_err(encode_error)?;
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(encode_error)
    }

    /// Writes the footer.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        self.writer.close().map(drop).map_err(encode_error)
    }
}

fn encode_error(error: impl std::fmt::Display) -> StoreError {
    StoreError::Encode(error.to_string())
}

/// The network in a table's footer, once its columns are what they must be.
pub(super) fn check(path: &Path, metadata: &ArrowReaderMetadata) -> Result<FeatureNet, StoreError> {
    let damaged = |detail: String| StoreError::Damaged { path: path.to_owned(), detail };
    let foreign = || damaged(format!("these are no features from dflow: the footer has no {VERSION_KEY}"));
    let found = metadata_value(metadata, VERSION_KEY).ok_or_else(foreign)?;
    if found != FORMAT.to_string() {
        let (path, expected) = (PathBuf::from(path), FORMAT.to_string());
        return Err(StoreError::Version { path, what: "feature table", found, expected });
    }
    let net =
        metadata_value(metadata, NET_KEY).ok_or_else(|| damaged(format!("the footer has no {NET_KEY}")))?;
    let net: FeatureNet = serde_json::from_str(&net).map_err(|error| damaged(error.to_string()))?;
    for expected in schema(net.dims).fields() {
        match metadata.schema().field_with_name(expected.name()) {
            Ok(field) if field.data_type() == expected.data_type() => {}
            Ok(field) => {
                let (name, found, wanted) = (field.name(), field.data_type(), expected.data_type());
                return Err(damaged(format!("column {name} is {found}, not {wanted}")));
            }
            Err(_) => return Err(damaged(format!("column {} is missing", expected.name()))),
        }
    }
    Ok(net)
}
