//! From the parts of all processes to `telemetry.parquet`: in order of their names, in bounded memory, the same bytes
//! whoever writes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;

use super::columns::{TelemetryRow, decode, encode};
use super::table::{SCHEMA, Table, encode_error, properties};
use crate::store::error::StoreError;
use crate::store::fs::{Fs, FsFile, read_if_exists, write_atomic_with};
use crate::store::gather::{Note, note_damage, paths};
use crate::store::layout::Layout;

/// Footer key of what a merged file was made of.
const PARTS_KEY: &str = "dflow.telemetry_parts";

/// What a merge found and wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TelemetryMerge {
    /// Rows of all parts that can be read.
    pub rows: u64,
    /// Whether `telemetry.parquet` changed.
    pub changed: bool,
    /// What was strange about the files.
    pub notes: Vec<Note>,
}

/// Makes `telemetry.parquet` from the parts of all processes, living ones included. Without parts it touches nothing.
///
/// # Errors
/// What the file system says. A part that cannot be read is a note.
pub fn merge_telemetry(fs: &dyn Fs, layout: &Layout) -> Result<TelemetryMerge, StoreError> {
    let mut merged = TelemetryMerge::default();
    let mut parts: Vec<(PathBuf, u64)> = Vec::new();
    for path in paths(fs, &layout.telemetry_parts(), "parquet")? {
        if let Some(table) = open(fs, &path, &mut merged.notes)? {
            parts.push((path, table.rows()));
        }
    }
    merged.rows = parts.iter().map(|(_, rows)| rows).sum();
    // A part only ever gains rows.
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let contents: Vec<String> = parts.iter().map(|(path, rows)| format!("{} {rows}", name(path))).collect();
    let contents = blake3::hash(contents.join("\n").as_bytes()).to_hex().to_string();
    let path = layout.telemetry();
    let old = read_if_exists(fs, &path)?.and_then(|bytes| Table::open(&path, bytes).ok());
    if parts.is_empty() || old.and_then(|table| table.footer(PARTS_KEY)).as_ref() == Some(&contents) {
        return Ok(merged);
    }
    write_atomic_with(fs, &path, |file| write(fs, file, &parts, contents))?;
    merged.changed = true;
    Ok(merged)
}

/// [`merge_telemetry`] as a part of another work: no result depends on readings, so that a failure is a warning.
pub(in crate::store) fn tidy(fs: &dyn Fs, layout: &Layout) {
    match merge_telemetry(fs, layout) {
        Ok(merged) => merged.notes.iter().for_each(|note| tracing::warn!("{note}")),
        Err(error) => tracing::warn!("readings of devices are not merged: {error}"),
    }
}

fn open(fs: &dyn Fs, path: &Path, notes: &mut Vec<Note>) -> Result<Option<Table>, StoreError> {
    let Some(bytes) = read_if_exists(fs, path)? else { return Ok(None) };
    note_damage(Table::open(path, bytes), notes)
}

/// Writes the first rows of every part: as many as were counted, for it may have more meanwhile.
fn write(
    fs: &dyn Fs,
    file: &mut dyn FsFile,
    parts: &[(PathBuf, u64)],
    contents: String,
) -> Result<(), StoreError> {
    let properties = properties(&[(PARTS_KEY, contents)])?;
    let mut writer =
        ArrowWriter::try_new(Sink(file), Arc::clone(&SCHEMA), Some(properties)).map_err(encode_error)?;
    for (path, rows) in parts {
        let mut left = *rows as usize;
        for row in batches(fs, path)? {
            let mut row = row?;
            row.truncate(left);
            left -= row.len();
            let batch = RecordBatch::try_new(Arc::clone(&SCHEMA), encode(&row)).map_err(encode_error)?;
            writer.write(&batch).map_err(encode_error)?;
        }
    }
    writer.close().map(drop).map_err(encode_error)
}

/// The rows of a part, some at a time.
fn batches(
    fs: &dyn Fs,
    path: &Path,
) -> Result<impl Iterator<Item = Result<Vec<TelemetryRow>, StoreError>>, StoreError> {
    let bytes = fs.read(path).map_err(StoreError::io("read", path))?;
    let batches = Table::open(path, bytes)?.batches(path, |_| true)?;
    let path = path.to_owned();
    Ok(batches.map(move |batch| {
        let batch = batch.map_err(StoreError::damaged(&path))?;
        decode(batch.num_rows(), |name| batch.column_by_name(name).cloned())
            .map_err(StoreError::damaged(&path))
    }))
}

/// The readings of the merged file; none if there is no such file.
///
/// # Errors
/// A file that cannot be read or decoded.
pub fn read_telemetry(fs: &dyn Fs, layout: &Layout) -> Result<Vec<TelemetryRow>, StoreError> {
    let path = layout.telemetry();
    if !fs.exists(&path).map_err(StoreError::io("look for", &path))? {
        return Ok(Vec::new());
    }
    let rows: Vec<Vec<TelemetryRow>> = batches(fs, &path)?.collect::<Result<_, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// A file of the store as a sink of bytes.
struct Sink<'a>(&'a mut dyn FsFile);

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
