//! Scores as Parquet: the same bytes for the same rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, GenericListArray, ListBuilder, PrimitiveBuilder, RecordBatch,
    StringArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::{ScoreRow, ScoreSchema, ScoreTable};
use crate::store::error::StoreError;
use crate::store::table::metadata_value;
use crate::store::x1_key::{X1Key, share};

/// Version of the files.
const FORMAT: u32 = 1;
const VERSION_KEY: &str = "dflow.scores_version";
const SCHEMA_KEY: &str = "dflow.scores_schema";
/// The columns before those of the metric.
const KEYS: [&str; 3] = ["cell_hash", "sample_id", "x1_blake3"];

fn item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Float64, false))
}

fn arrow_schema(schema: &ScoreSchema) -> SchemaRef {
    let keys = KEYS.iter().map(|name| Field::new(*name, DataType::Utf8, false));
    let values = schema.values.iter().map(|name| Field::new(name, DataType::Float64, true));
    let lists = schema.lists.iter().map(|name| Field::new(name, DataType::List(item()), false));
    Arc::new(Schema::new(keys.chain(values).chain(lists).collect::<Vec<_>>()))
}

/// Rows as a file, in their order.
pub(super) fn encode(schema: &ScoreSchema, rows: &[ScoreRow]) -> Result<Vec<u8>, StoreError> {
    let encode_error = |error: parquet::errors::ParquetError| StoreError::Encode(error.to_string());
    let description = serde_json::to_string(schema).map_err(|error| StoreError::Encode(error.to_string()))?;
    let metadata = [(VERSION_KEY, FORMAT.to_string()), (SCHEMA_KEY, description)];
    let pairs = metadata.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(encode_error)?))
        .set_key_value_metadata(Some(pairs))
        .build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), arrow_schema(schema), Some(properties)).map_err(encode_error)?;
    writer.write(&to_batch(schema, rows)?).map_err(encode_error)?;
    writer.into_inner().map_err(encode_error)
}

fn to_batch(schema: &ScoreSchema, rows: &[ScoreRow]) -> Result<RecordBatch, StoreError> {
    let keys = [
        StringArray::from_iter_values(rows.iter().map(|row| &row.key.cell_hash)),
        StringArray::from_iter_values(rows.iter().map(|row| &row.key.sample_id)),
        StringArray::from_iter_values(rows.iter().map(|row| &row.key.x1_blake3)),
    ];
    let keys = keys.into_iter().map(|array| Arc::new(array) as ArrayRef);
    let value = |i| Arc::new(rows.iter().map(|row| row.values[i]).collect::<Float64Array>()) as ArrayRef;
    let values = (0..schema.values.len()).map(value);
    let lists = (0..schema.lists.len()).map(|i| list(rows.iter().map(|row| &row.lists[i][..])));
    let columns = keys.chain(values).chain(lists).collect();
    RecordBatch::try_new(arrow_schema(schema), columns).map_err(|error| StoreError::Encode(error.to_string()))
}

fn list<'a>(rows: impl Iterator<Item = &'a [f64]>) -> ArrayRef {
    let mut builder = ListBuilder::new(PrimitiveBuilder::<Float64Type>::new()).with_field(item());
    for row in rows {
        builder.values().append_slice(row);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// Rows of a file, in their order. `path` is for messages.
pub(super) fn decode(path: &Path, bytes: Vec<u8>) -> Result<ScoreTable, StoreError> {
    let bytes = Bytes::from(bytes);
    let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::default())
        .map_err(StoreError::damaged(path))?;
    let schema = read_schema(path, &metadata)?;
    check(&schema, &metadata).map_err(StoreError::damaged(path))?;
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
        .with_batch_size(8192)
        .build()
        .map_err(StoreError::damaged(path))?;
    let mut rows = Vec::new();
    for batch in reader {
        from_batch(&schema, &batch.map_err(StoreError::damaged(path))?, &mut rows);
    }
    Ok(ScoreTable { schema, rows })
}

fn read_schema(path: &Path, metadata: &ArrowReaderMetadata) -> Result<ScoreSchema, StoreError> {
    let damaged = |detail: String| StoreError::Damaged { path: path.to_owned(), detail };
    let missing = |key: &str| damaged(format!("these are no scores from dflow: the footer has no {key}"));
    let found = metadata_value(metadata, VERSION_KEY).ok_or_else(|| missing(VERSION_KEY))?;
    if found != FORMAT.to_string() {
        let expected = FORMAT.to_string();
        return Err(StoreError::Version { path: path.to_owned(), what: "score table", found, expected });
    }
    let schema = metadata_value(metadata, SCHEMA_KEY).ok_or_else(|| missing(SCHEMA_KEY))?;
    serde_json::from_str(&schema).map_err(|error| damaged(error.to_string()))
}

/// Whether the columns are those of the schema.
fn check(schema: &ScoreSchema, metadata: &ArrowReaderMetadata) -> Result<(), String> {
    for expected in arrow_schema(schema).fields() {
        let name = expected.name();
        let field =
            metadata.schema().field_with_name(name).map_err(|_| format!("column {name} is missing"))?;
        if field.data_type() != expected.data_type() {
            return Err(format!("column {name} is {}, not {}", field.data_type(), expected.data_type()));
        }
    }
    Ok(())
}

fn from_batch(schema: &ScoreSchema, batch: &RecordBatch, rows: &mut Vec<ScoreRow>) {
    let column = |name: &str| batch.column_by_name(name).expect("`check` has seen the columns");
    let [cells, samples, hashes] = KEYS.map(|name| column(name).as_string::<i32>());
    let values: Vec<&Float64Array> = schema.values.iter().map(|name| column(name).as_primitive()).collect();
    let lists: Vec<&GenericListArray<i32>> = schema.lists.iter().map(|name| column(name).as_list()).collect();
    for i in 0..batch.num_rows() {
        let cell_hash = share(rows.last().map(|row| &row.key.cell_hash), cells.value(i));
        let (sample_id, x1_blake3) = (samples.value(i).to_owned(), hashes.value(i).to_owned());
        let value = |array: &&Float64Array| array.is_valid(i).then(|| array.value(i));
        let list =
            |array: &&GenericListArray<i32>| array.value(i).as_primitive::<Float64Type>().values().to_vec();
        rows.push(ScoreRow {
            key: X1Key { cell_hash, sample_id, x1_blake3 },
            values: values.iter().map(value).collect(),
            lists: lists.iter().map(list).collect(),
        });
    }
}
