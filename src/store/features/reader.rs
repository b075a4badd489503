//! Reading merged features, a cell at a time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::FeatureNet;
use super::index::other_weights;
use super::table::{FEATURES, GROUP_ROWS, KEYS, check};
use crate::metric::set::FeatureSet;
use crate::store::chunks::Chunks;
use crate::store::error::StoreError;
use crate::store::fs::Fs;
use crate::store::layout::Layout;
use crate::store::x1_key::{X1Key, share};

/// The merged features of a network. Cells may be read by several threads at once.
#[derive(Debug)]
pub struct FeatureReader {
    path: PathBuf,
    file: Chunks,
    metadata: ArrowReaderMetadata,
    net: FeatureNet,
    /// Row groups of every cell.
    cells: BTreeMap<String, Range<usize>>,
}

impl FeatureReader {
    /// Opens `features/<net>.parquet`; `None` if there is none. With `identity`, features of other weights are refused.
    ///
    /// # Errors
    /// A damaged file, another version, other weights.
    pub fn open(
        fs: &dyn Fs,
        layout: &Layout,
        net: &str,
        identity: Option<&str>,
    ) -> Result<Option<Self>, StoreError> {
        let path = layout.features(net);
        let file = match fs.open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.and_then(Chunks::new).map_err(StoreError::io("open", &path))?,
        };
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default())
            .map_err(StoreError::damaged(&path))?;
        let net = check(&path, &metadata)?;
        if let Some(identity) = identity.filter(|identity| **identity != net.identity) {
            let wanted = FeatureNet { identity: identity.to_owned(), ..net.clone() };
            return Err(other_weights(&path, &net, &wanted));
        }
        let mut reader = Self { path, file, metadata, net, cells: BTreeMap::new() };
        reader.cells = reader.find_cells()?;
        Ok(Some(reader))
    }

    /// The network.
    pub fn net(&self) -> &FeatureNet {
        &self.net
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hashes of the cells that have features, sorted.
    pub fn cells(&self) -> impl Iterator<Item = &str> {
        self.cells.keys().map(String::as_str)
    }

    /// Which samples of a cell have features, in the order of the rows; none if the cell has none.
    ///
    /// # Errors
    /// A damaged file.
    pub fn keys(&self, cell_hash: &str) -> Result<Vec<X1Key>, StoreError> {
        let groups = self.cells.get(cell_hash).cloned().unwrap_or_default();
        Ok(self.read_keys(groups)?.into_iter().map(|(key, _)| key).collect())
    }

    /// The features of a cell's samples that `keep` wants, asked by sample id and `x1_blake3`, in the order of sample ids.
    /// A cell without features gives an empty set.
    ///
    /// # Errors
    /// A damaged file; a NaN or infinite feature of a wanted sample.
    pub fn read_cell(
        &self,
        cell_hash: &str,
        mut keep: impl FnMut(&str, &str) -> bool,
    ) -> Result<FeatureSet, StoreError> {
        let groups = self.cells.get(cell_hash).cloned().unwrap_or_default();
        let (mut ids, mut data) = (Vec::new(), Vec::with_capacity(self.numbers(&groups)));
        for batch in self.batches(groups, &["sample_id", "x1_blake3", FEATURES])? {
            let batch = batch.map_err(StoreError::damaged(&self.path))?;
            let (samples, hashes) = (text(&batch, "sample_id"), text(&batch, "x1_blake3"));
            for i in 0..batch.num_rows() {
                if keep(samples.value(i), hashes.value(i)) {
                    ids.push(samples.value(i).to_owned());
                    data.extend_from_slice(self.row(&batch, i));
                }
            }
        }
        FeatureSet::new(ids, self.net.dims, data)
            .map_err(|source| StoreError::Features { path: self.path.clone(), source })
    }

    /// Every key with the name of the file that it came from.
    pub(super) fn all_keys(&self) -> Result<Vec<(X1Key, Arc<str>)>, StoreError> {
        self.read_keys(0..self.metadata.metadata().num_row_groups())
    }

    /// A reader of all rows in order, for merging.
    pub(super) fn rows(&self) -> Result<Rows<'_>, StoreError> {
        let batches = self.batches(0..self.metadata.metadata().num_row_groups(), &[FEATURES])?;
        Ok(Rows { reader: self, batches, batch: None, start: 0 })
    }

    fn read_keys(&self, groups: Range<usize>) -> Result<Vec<(X1Key, Arc<str>)>, StoreError> {
        let mut keys: Vec<(X1Key, Arc<str>)> = Vec::new();
        for batch in self.batches(groups, &KEYS)? {
            let batch = batch.map_err(StoreError::damaged(&self.path))?;
            let [cells, samples, hashes, files] = KEYS.map(|name| text(&batch, name));
            for i in 0..batch.num_rows() {
                let last = keys.last();
                let cell_hash = last.map(|(key, _)| &key.cell_hash);
                let (sample_id, x1_blake3) = (samples.value(i).to_owned(), hashes.value(i).to_owned());
                let (cell_hash, file) =
                    (share(cell_hash, cells.value(i)), share(last.map(|(_, file)| file), files.value(i)));
                keys.push((X1Key { cell_hash, sample_id, x1_blake3 }, file));
            }
        }
        Ok(keys)
    }

    /// The row groups of every cell. A group of two cells is none of ours.
    fn find_cells(&self) -> Result<BTreeMap<String, Range<usize>>, StoreError> {
        let mut cells: BTreeMap<String, Range<usize>> = BTreeMap::new();
        for group in 0..self.metadata.metadata().num_row_groups() {
            let mut cell: Option<String> = None;
            for batch in self.batches(group..group + 1, &["cell_hash"])? {
                let batch = batch.map_err(StoreError::damaged(&self.path))?;
                for hash in text(&batch, "cell_hash").iter().flatten() {
                    if cell.get_or_insert_with(|| hash.to_owned()) != hash {
                        return Err(self.damaged(format!("row group {group} holds two cells")));
                    }
                }
            }
            let Some(cell) = cell else { continue };
            let groups = cells.entry(cell).or_insert(group..group);
            if groups.end != group {
                return Err(self.damaged(format!("the rows of one cell are apart: row group {group}")));
            }
            groups.end = group + 1;
        }
        Ok(cells)
    }

    fn batches(
        &self,
        groups: Range<usize>,
        columns: &[&str],
    ) -> Result<ParquetRecordBatchReader, StoreError> {
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone());
        let fields = self.metadata.schema().fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| columns.contains(&field.name().as_str())).map(|(i, _)| i);
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.collect::<Vec<_>>());
        builder
            .with_projection(mask)
            .with_row_groups(groups.collect())
            .with_batch_size(GROUP_ROWS)
            .build()
            .map_err(StoreError::damaged(&self.path))
    }

    /// The numbers of row `i`.
    fn row<'a>(&self, batch: &'a RecordBatch, i: usize) -> &'a [f32] {
        let column = batch.column_by_name(FEATURES).expect("`check` has seen the columns");
        let list = column.as_fixed_size_list();
        let values = list.values().as_primitive::<Float32Type>().values();
        let start = list.value_offset_at(i);
        &values[start..start + self.net.dims]
    }

    /// How many numbers some row groups have, as far as the file is long enough for them.
    fn numbers(&self, groups: &Range<usize>) -> usize {
        let rows = groups.clone().map(|group| self.metadata.metadata().row_group(group).num_rows() as usize);
        rows.sum::<usize>().saturating_mul(self.net.dims).min(self.file.size() as usize / 4)
    }

    fn damaged(&self, detail: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), detail }
    }
}

/// Rows in order, from one batch at a time.
pub(super) struct Rows<'a> {
    reader: &'a FeatureReader,
    batches: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    /// Number of the batch's first row.
    start: usize,
}

impl Rows<'_> {
    /// The numbers of a row, which must not lie before the last one asked for.
    pub(super) fn get(&mut self, row: usize) -> Result<&[f32], StoreError> {
        loop {
            let rows = self.batch.as_ref().map_or(0, RecordBatch::num_rows);
            if row < self.start + rows {
                break;
            }
            self.start += rows;
            let next =
                self.batches.next().ok_or_else(|| self.reader.damaged("rows are missing".to_owned()))?;
            self.batch = Some(next.map_err(StoreError::damaged(&self.reader.path))?);
        }
        let batch = self.batch.as_ref().expect("a row lies in a batch");
        Ok(self.reader.row(batch, row - self.start))
    }
}

fn text<'a>(batch: &'a RecordBatch, name: &str) -> &'a StringArray {
    batch.column_by_name(name).expect("`check` has seen the columns").as_string()
}
