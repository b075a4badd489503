//! Statistics of a reference set in a file: made once, used by every table that compares with it.
//!
//! A safetensors file of f64: `mean` `[dims]` and `factor` `[rank, dims]`, the transpose of F, so that the covariance is
//! `factor.T @ factor`. What it belongs to stands in the metadata, beside a hash of the content, with which half a file
//! is told from a whole one.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::features::FeatureNet;
use super::fs::{Fs, read_if_exists, write_atomic};
use super::log::create_dirs;
use crate::metric::set::{FeatureSet, Reference};

/// Metadata key of [`Info`].
const KEY: &str = "dflow_reference";
/// Version of the file.
const FORMAT: u32 = 2;

/// What reference statistics belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceInfo {
    /// The network of the features.
    pub net: FeatureNet,
    /// Hash of the dataset's manifest.
    pub manifest: String,
    /// blake3 (hex) of the samples' ids and features: other samples of the dataset are another reference.
    pub samples: String,
}

impl ReferenceInfo {
    /// Of a set of clean images.
    pub fn new(net: &FeatureNet, manifest: &str, features: &FeatureSet) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (id, row) in features.ids().iter().zip(features.rows()) {
            hasher.update(&(id.len() as u64).to_le_bytes());
            hasher.update(id.as_bytes());
            hasher.update(&super::float_log::to_bytes(row));
        }
        let samples = hasher.finalize().to_hex().to_string();
        Self { net: net.clone(), manifest: manifest.to_owned(), samples }
    }

    /// Name of the file in a folder of references.
    pub fn file_name(&self) -> String {
        let text = format!("{FORMAT}\n{}\n{}\n{}", self.net.identity, self.manifest, self.samples);
        let hash = blake3::hash(text.as_bytes()).to_hex();
        format!("reference-{}-{}.safetensors", self.net.name, &hash[..32])
    }
}

/// What the metadata says.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    info: ReferenceInfo,
    /// Samples; absent for statistics of other programs.
    n: Option<usize>,
    /// blake3 (hex) of both tensors' bytes.
    content: String,
}

/// The statistics in `folder` if they are there, and made by `make` and kept there if not. A file that cannot be read, or
/// not be written, costs time and a warning, not the table.
///
/// # Errors
/// What `make` says.
pub fn cached_reference<E>(
    fs: &dyn Fs,
    folder: &Path,
    info: &ReferenceInfo,
    make: impl FnOnce() -> Result<Reference, E>,
) -> Result<Reference, E> {
    let path = folder.join(info.file_name());
    match read_reference(fs, &path) {
        Ok(Some((found, reference))) if found == *info => return Ok(reference),
        Ok(_) => {}
        Err(error) => tracing::warn!("reference statistics are made anew: {error}"),
    }
    let reference = make()?;
    let kept = create_dirs(fs, folder).and_then(|()| write_reference(fs, &path, info, &reference));
    if let Err(error) = kept {
        tracing::warn!("reference statistics are not kept: {error}");
    }
    Ok(reference)
}

/// Writes statistics, whole and durable.
///
/// # Errors
/// What the file system says.
pub fn write_reference(
    fs: &dyn Fs,
    path: &Path,
    info: &ReferenceInfo,
    reference: &Reference,
) -> Result<(), StoreError> {
    let encode_error = |error: &dyn std::fmt::Display| StoreError::Encode(error.to_string());
    let mean = to_bytes(reference.mean());
    let factor = reference.factor();
    let columns: Vec<f64> = factor.col_iter().flat_map(|column| column.iter().copied()).collect();
    let columns = to_bytes(&columns);
    let header =
        Header { version: FORMAT, info: info.clone(), n: reference.n(), content: hash(&mean, &columns) };
    let header = serde_json::to_string(&header).map_err(|error| encode_error(&error))?;
    let views =
        [("mean", vec![reference.dims()], &mean), ("factor", vec![factor.ncols(), factor.nrows()], &columns)]
            .into_iter()
            .map(|(name, shape, bytes)| TensorView::new(Dtype::F64, shape, bytes).map(|view| (name, view)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| encode_error(&error))?;
    let bytes = safetensors::serialize(views, Some([(KEY.to_owned(), header)].into()))
        .map_err(|error| encode_error(&error))?;
    write_atomic(fs, path, &bytes)
}

/// Reads statistics; `None` if there is no such file.
///
/// # Errors
/// A file that is cut off or damaged, whose sizes do not fit, or that is no such file; another version.
pub fn read_reference(fs: &dyn Fs, path: &Path) -> Result<Option<(ReferenceInfo, Reference)>, StoreError> {
    let Some(bytes) = read_if_exists(fs, path)? else { return Ok(None) };
    let header = read_header(path, &bytes)?;
    let (mean, factor) = read_tensors(&bytes, &header).map_err(StoreError::damaged(path))?;
    let reference = Reference::from_parts(header.n, mean, &factor).map_err(StoreError::damaged(path))?;
    if reference.dims() != header.info.net.dims {
        let detail = format!("it has {} dimensions, its network {}", reference.dims(), header.info.net.dims);
        return Err(StoreError::Damaged { path: path.to_owned(), detail });
    }
    Ok(Some((header.info, reference)))
}

fn read_header(path: &Path, bytes: &[u8]) -> Result<Header, StoreError> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(StoreError::damaged(path))?;
    let text = metadata.metadata().as_ref().and_then(|pairs| pairs.get(KEY));
    let foreign =
        || StoreError::damaged(path)(format!("these are no reference statistics: there is no {KEY}"));
    let header: serde_json::Value =
        serde_json::from_str(text.ok_or_else(foreign)?).map_err(StoreError::damaged(path))?;
    let found = header["version"].to_string();
    if found != FORMAT.to_string() {
        let (path, expected) = (PathBuf::from(path), FORMAT.to_string());
        return Err(StoreError::Version { path, what: "reference", found, expected });
    }
    serde_json::from_value(header).map_err(StoreError::damaged(path))
}

/// Mean and factor, column by column.
fn read_tensors(bytes: &[u8], header: &Header) -> Result<(Vec<f64>, Vec<f64>), String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensor = |name| match file.tensor(name) {
        Ok(tensor) if tensor.dtype() == Dtype::F64 => Ok(tensor.data()),
        Ok(tensor) => Err(format!("{name} is {:?}, not F64", tensor.dtype())),
        Err(error) => Err(format!("{name}: {error}")),
    };
    let (mean, factor) = (tensor("mean")?, tensor("factor")?);
    if hash(mean, factor) != header.content {
        return Err("the numbers do not have the hash that the file states".to_owned());
    }
    Ok((from_bytes(mean), from_bytes(factor)))
}

fn hash(mean: &[u8], factor: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(mean);
    hasher.update(factor);
    hasher.finalize().to_hex().to_string()
}

fn to_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect()
}

#[cfg(test)]
mod tests;
