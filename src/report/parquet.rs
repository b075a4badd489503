//! A table as a Parquet file, for notebooks.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::table::{Kind, Table};

/// Footer key of the title and the notes, a line each.
const NOTES_KEY: &str = "dflow.notes";

/// The rows in full precision, under the names of the CSV; a number that is missing, or a word in its place, is null.
///
/// # Errors
/// A table whose rows are not as long as its columns, or that has two columns of one name.
pub fn to_parquet(table: &Table) -> Result<Vec<u8>, ParquetError> {
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        let cells = || table.rows.iter().map(move |row| &row[index]);
        if column.kind == Kind::Text {
            let texts: StringArray =
                cells().map(|cell| cell.values(column.kind).pop().filter(|text| !text.is_empty())).collect();
            columns.push((column.key.clone(), Arc::new(texts), true));
            continue;
        }
        for (part, suffix) in column.kind.suffixes().iter().enumerate() {
            let numbers: Float64Array =
                cells().map(|cell| cell.numbers().get(part).copied().flatten()).collect();
            columns.push((format!("{}{suffix}", column.key), Arc::new(numbers), true));
        }
    }
    let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
    let notes = std::iter::once(&table.title).chain(&table.notes).cloned().collect::<Vec<_>>().join("\n");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_key_value_metadata(Some(vec![KeyValue::new(NOTES_KEY.to_owned(), notes)]))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.into_inner()
}
