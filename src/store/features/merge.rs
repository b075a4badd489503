//! From the files of all attempts to `features/<net>.parquet`: the same bytes whoever writes it, in bounded memory.

use super::FeatureNet;
use super::index::{Entry, Index, Source};
use super::reader::Rows;
use super::table::{GROUP_ROWS, TableWriter};
use crate::store::error::StoreError;
use crate::store::float_log::from_bytes;
use crate::store::fs::{Fs, FsFile, write_atomic_with};
use crate::store::gather::Note;
use crate::store::layout::Layout;

/// What a merge found and wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeatureMerge {
    /// The network; `None` if there are no features.
    pub net: Option<FeatureNet>,
    /// Rows of the table.
    pub rows: u64,
    /// Rows left out for another of the same key.
    pub duplicates: u64,
    /// Whether the table changed.
    pub changed: bool,
    /// What was strange about the files.
    pub notes: Vec<Note>,
}

/// Makes `features/<net>.parquet` from the files of all attempts and from what it holds already: a user may remove files
/// whose rows are in it. Merging again changes nothing; without rows there is no table. Memory: the keys, and one row
/// group.
///
/// # Errors
/// Features of different weights, with both identities; what the file system says.
pub fn merge_features(fs: &dyn Fs, layout: &Layout, net: &str) -> Result<FeatureMerge, StoreError> {
    let mut index = Index::new(fs, layout, net)?;
    let is_in_table = |entry: &&Entry| matches!(entry.source, Source::Table(_));
    let before = index.entries.iter().filter(is_in_table).count();
    let duplicates = index.keep_one_per_key();
    let rows = index.entries.len();
    // Kept rows that are not in the table yet, or rows of it that are not kept.
    let changed = before != rows || index.entries.iter().filter(is_in_table).count() != rows;
    if changed {
        let path = layout.features(net);
        write_atomic_with(fs, &path, |file| write(file, &index))?;
    }
    Ok(FeatureMerge { net: index.net, rows: rows as u64, duplicates, changed, notes: index.notes })
}

fn write(file: &mut dyn FsFile, index: &Index) -> Result<(), StoreError> {
    let net = index.net.as_ref().expect("there are rows, hence a network");
    let mut writer = TableWriter::new(file, net)?;
    let mut table = index.table.as_ref().map(super::FeatureReader::rows).transpose()?;
    for cell in index.entries.chunk_by(|a, b| a.key.cell_hash == b.key.cell_hash) {
        for group in cell.chunks(GROUP_ROWS) {
            let mut features = Vec::with_capacity(group.len() * net.dims);
            for entry in group {
                load(index, entry, net.dims, table.as_mut(), &mut features)?;
            }
            writer.write_group(group, features)?;
        }
    }
    writer.finish()
}

/// Appends the numbers of a row.
fn load(
    index: &Index,
    entry: &Entry,
    dims: usize,
    table: Option<&mut Rows<'_>>,
    out: &mut Vec<f32>,
) -> Result<(), StoreError> {
    match entry.source {
        Source::Log(log, offset) => {
            let (path, file) = &index.logs[log];
            let bytes = file.read_at(offset, 4 * dims).map_err(StoreError::io("read", path))?;
            out.extend(from_bytes(&bytes));
        }
        Source::Table(row) => {
            let table = table.expect("a row of the table comes from a table");
            out.extend_from_slice(table.get(row)?);
        }
    }
    Ok(())
}
