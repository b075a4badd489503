//! Arrays of floats in append-only files: each a frame around a JSON line and the raw little-endian f32.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::Fs;
use super::log::{Location, Log};

/// Ending of the name of a file of floats.
pub(super) const EXTENSION: &str = "f32";

/// Where an array lies.
#[derive(Debug)]
pub(super) struct Placed {
    /// File name within the folder.
    pub(super) file: String,
    /// Position of the first float's first byte.
    pub(super) offset: u64,
    /// blake3 in hex of the floats' bytes.
    pub(super) blake3: String,
}

/// Appends labelled arrays to files of its own.
#[derive(Debug)]
pub(super) struct FloatLog {
    log: Log,
}

impl FloatLog {
    /// Files of one attempt in a folder, each beginning with the frame `header`; the first is created by the first append.
    pub(super) fn new(fs: Arc<dyn Fs>, dir: PathBuf, attempt: &AttemptId, header: Vec<u8>) -> Self {
        Self { log: Log::new(fs, dir, attempt.clone(), EXTENSION, vec![header]) }
    }

    /// Appends arrays with one fsync; on return they are durable.
    pub(super) fn append<L: Serialize>(&mut self, items: &[(L, &[f32])]) -> Result<Vec<Placed>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let labels = items.iter().map(|(label, _)| line(label)).collect::<Result<Vec<_>, _>>()?;
        let floats: Vec<Vec<u8>> = items.iter().map(|(_, floats)| to_bytes(floats)).collect();
        let parts = labels.iter().zip(&floats);
        let payloads: Vec<Vec<u8>> =
            parts.clone().map(|(label, floats)| [&label[..], floats].concat()).collect();
        let locations = self.log.append(&payloads)?;
        let placed = locations.into_iter().zip(parts).map(|(Location { name, offset }, (label, floats))| {
            Placed { file: name, offset: offset + label.len() as u64, blake3: hash(floats) }
        });
        Ok(placed.collect())
    }
}

fn line(label: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut line = serde_json::to_vec(label).map_err(|error| StoreError::Encode(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

/// Little-endian bytes.
pub(super) fn to_bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The inverse of [`to_bytes`].
pub(super) fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk))
}

/// blake3 in hex.
pub(super) fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
