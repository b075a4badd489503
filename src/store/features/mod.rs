//! Per-sample features of a network: what the metrics of a set are computed from.
//!
//! ```text
//! append ─► features/<net>/<attempt>-000.f32   as reconstructions: framed, fsynced before `append` returns
//! merge  ─► features/<net>.parquet             one row per (cell hash, sample id, x1_blake3), sorted
//! ```
//!
//! A row belongs to one reconstruction, which its `x1_blake3` names: a table joins it to the row of `samples.parquet` with
//! the same key and hash. Features of two sets of weights are never mixed: files, and the table, carry the network's
//! identity. The clean images of a dataset are rows of the cell [`clean_cell`].
//!
//! Any language reads the table: `features` is a fixed-size list of f32, in row groups of one cell each.

mod index;
mod merge;
mod reader;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use merge::{FeatureMerge, merge_features};
pub use reader::FeatureReader;

use super::attempt::AttemptId;
use super::error::StoreError;
use super::float_log::FloatLog;
use super::fs::{Fs, list_if_exists};
use super::layout::Layout;
use super::record::Key;

/// Version of files and table.
const FORMAT: u32 = 2;

/// The network that features come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureNet {
    /// Its name, which is that of the files: `inception`, `mini`.
    pub name: String,
    /// blake3 (hex) of its weights and of how images are prepared for it.
    pub identity: String,
    /// Features per sample.
    pub dims: usize,
    /// What its distances may be called.
    pub kind: NetKind,
}

/// What a feature network is to the metrics of sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetKind {
    /// InceptionV3 of FID, fed as the paper's era fed it.
    Inception,
    /// The same network, fed otherwise.
    InceptionVariant,
    /// Any other network: its distances bear its name.
    Other,
}

/// Features of one reconstruction.
#[derive(Debug, Clone, Copy)]
pub struct FeatureRow<'a> {
    /// Identity of the reconstruction's row.
    pub key: &'a Key,
    /// blake3 (hex) of the reconstruction.
    pub x1_blake3: &'a str,
    /// As many numbers as the network gives.
    pub features: &'a [f32],
}

/// The cell hash of the clean images of a dataset, given its manifest hash: the reference of a Fréchet distance.
pub fn clean_cell(manifest: &str) -> String {
    blake3::hash(format!("dflow clean features v1\n{manifest}").as_bytes()).to_hex().to_string()
}

/// Names of the networks whose features a run directory holds, sorted.
///
/// # Errors
/// What the file system says.
pub fn stored_nets(fs: &dyn Fs, layout: &Layout) -> Result<Vec<String>, StoreError> {
    let names = list_if_exists(fs, &layout.root().join("features"))?;
    // A folder of one writer's files, and the table made of them.
    let nets: BTreeSet<String> =
        names.iter().map(|name| name.trim_end_matches(".parquet").to_owned()).collect();
    Ok(nets.into_iter().filter(|name| !name.contains('.')).collect())
}

/// The first frame of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    dflow_features: u32,
    dtype: String,
    net: FeatureNet,
}

/// The JSON line of every other frame.
#[derive(Debug, Serialize, Deserialize)]
struct Label<'a> {
    cell_hash: Cow<'a, str>,
    sample_id: Cow<'a, str>,
    x1_blake3: Cow<'a, str>,
}

/// Appends features to files of its own.
#[derive(Debug)]
pub struct FeatureWriter {
    log: FloatLog,
    net: FeatureNet,
}

impl FeatureWriter {
    /// A writer of one attempt; its first file is created by the first append.
    ///
    /// # Errors
    /// None that a network's name and identity can cause.
    pub fn new(
        fs: Arc<dyn Fs>,
        layout: &Layout,
        attempt: &AttemptId,
        net: FeatureNet,
    ) -> Result<Self, StoreError> {
        let header = Header { dflow_features: FORMAT, dtype: "f32, little-endian".to_owned(), net };
        let bytes = serde_json::to_vec(&header).map_err(|error| StoreError::Encode(error.to_string()))?;
        let dir = layout.feature_logs(&header.net.name);
        Ok(Self { log: FloatLog::new(fs, dir, attempt, bytes), net: header.net })
    }

    /// Appends features with one fsync; on return they are durable.
    ///
    /// # Errors
    /// A row of another length than the network's; what the file system says.
    pub fn append(&mut self, rows: &[FeatureRow<'_>]) -> Result<(), StoreError> {
        let dims = self.net.dims;
        if let Some(row) = rows.iter().find(|row| row.features.len() != dims) {
            let (net, found, sample) = (&self.net.name, row.features.len(), &row.key.1);
            let text = format!("{found} features of sample {sample}, but the network {net} has {dims}");
            return Err(StoreError::Encode(text));
        }
        let labelled: Vec<_> = rows.iter().map(|row| (row.label(), row.features)).collect();
        self.log.append(&labelled).map(drop)
    }
}

impl<'a> FeatureRow<'a> {
    fn label(&self) -> Label<'a> {
        let (cell_hash, sample_id) = self.key;
        Label { cell_hash: cell_hash.into(), sample_id: sample_id.into(), x1_blake3: self.x1_blake3.into() }
    }
}
