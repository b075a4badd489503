//! Parts: rows of one attempt as Parquet, in place of its journals.

use std::path::PathBuf;

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::{Fs, write_atomic};
use super::layout::Layout;
use super::log::create_dirs;
use super::record::Record;
use super::table::to_parquet;

/// Ending of a part's name.
pub(super) const EXTENSION: &str = "parquet";

/// Writes a part, whole and durable; returns its path.
pub fn write(
    fs: &dyn Fs,
    layout: &Layout,
    attempt: &AttemptId,
    number: u32,
    records: &[Record],
) -> Result<PathBuf, StoreError> {
    let dir = layout.parts();
    create_dirs(fs, &dir)?;
    let path = dir.join(format!("{attempt}-{number:03}.{EXTENSION}"));
    write_atomic(fs, &path, &to_parquet(records, &[("dflow.attempt", attempt.to_string())])?)?;
    Ok(path)
}
