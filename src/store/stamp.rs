//! What the last merge has seen, so that the next one knows without reading them that the files are the same: tables are
//! made again and again from runs that have long been merged.
//!
//! A convenience: where it is missing, damaged or of other files, every name is read instead.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::fs::{Fs, read_if_exists, write_atomic};
use super::gather::{Note, is_gone};
use super::index::Index;
use super::layout::Layout;
use super::merge::MergeReport;
use super::sources::{Kind, journal_paths, part_paths};
use super::table::fingerprint_of;

/// Version of the file's form.
const FORMAT: u32 = 1;

/// The files of a merge, and what came out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    dflow_merged: u32,
    /// Name of the run.
    run: String,
    /// Size of `samples.parquet` and blake3 (hex) of its footer.
    samples: (u64, String),
    /// Names and sizes.
    journals: Vec<(String, u64)>,
    /// Names: a part never changes.
    parts: Vec<String>,
    report: MergeReport,
}

impl Stamp {
    /// Of a `samples.parquet` (its size and footer) that holds what `index` has seen; `None` if some file was damaged,
    /// and should be looked at again.
    pub(super) fn new(
        run: &str,
        (size, footer): (u64, impl AsRef<[u8]>),
        index: &Index,
        report: &MergeReport,
    ) -> Option<Self> {
        let is_torn = |note: &Note| matches!(note, Note::TornTail { .. });
        let of = |kind| index.sources().iter().filter(move |source| source.kind == kind);
        report.notes.iter().all(is_torn).then(|| Self {
            dflow_merged: FORMAT,
            run: run.to_owned(),
            samples: (size, hash(footer.as_ref())),
            journals: of(Kind::Journal).map(|source| (name(&source.path), source.size)).collect(),
            parts: of(Kind::Part).map(|source| name(&source.path)).collect(),
            report: MergeReport { changed: false, ..report.clone() },
        })
    }

    /// Keeps it, if the directory can be written to.
    pub(super) fn write(&self, fs: &dyn Fs, layout: &Layout) {
        let write = || -> Result<(), StoreError> {
            let bytes = serde_json::to_vec(self).map_err(|error| StoreError::Encode(error.to_string()))?;
            write_atomic(fs, &layout.merged(), &bytes)
        };
        if let Err(error) = write() {
            tracing::debug!("the next merge reads everything again: {error}");
        }
    }

    /// What the last merge reported, if all files are as it left them.
    pub(super) fn current(
        fs: &dyn Fs,
        layout: &Layout,
        run: &str,
    ) -> Result<Option<MergeReport>, StoreError> {
        let Some(bytes) = read_if_exists(fs, &layout.merged())? else { return Ok(None) };
        let Ok(stamp) = serde_json::from_slice::<Self>(&bytes) else { return Ok(None) };
        let is_ours = stamp.dflow_merged == FORMAT && stamp.run == run;
        Ok((is_ours && stamp.is_current(fs, layout)?).then_some(stamp.report))
    }

    fn is_current(&self, fs: &dyn Fs, layout: &Layout) -> Result<bool, StoreError> {
        let samples = fingerprint_of(fs, &layout.samples())?.map(|(size, footer)| (size, hash(&footer)));
        if samples.as_ref() != Some(&self.samples) {
            return Ok(false);
        }
        let journals = journal_paths(fs, layout)?;
        if !journals.iter().map(|path| name(path)).eq(self.journals.iter().map(|(name, _)| name.clone())) {
            return Ok(false);
        }
        for (path, (_, size)) in journals.iter().zip(&self.journals) {
            let found = match fs.open(path).and_then(|file| file.size()) {
                Err(error) if is_gone(&error) => return Ok(false),
                found => found.map_err(StoreError::io("read", path))?,
            };
            if found != *size {
                return Ok(false);
            }
        }
        Ok(part_paths(fs, layout)?.iter().map(|path| name(path)).eq(self.parts.iter().cloned()))
    }
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
