//! Which features there are, and where: files of all attempts, dead ones included, and the merged table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::FeatureReader;
use super::{FORMAT, FeatureNet, Header, Label};
use crate::store::attempt::AttemptId;
use crate::store::error::StoreError;
use crate::store::float_log;
use crate::store::frame_reader::FrameReader;
use crate::store::fs::{Fs, FsRead};
use crate::store::gather::{Note, paths};
use crate::store::layout::Layout;
use crate::store::x1_key::{X1Key, share};

/// One row of features, known but not loaded. Sorted, the first of several with one key is the one to keep: that
/// of the file whose name comes first, that is of the earliest attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: X1Key,
    /// Name of the file that its writer wrote.
    pub(super) file: Arc<str>,
    pub(super) source: Source,
}

/// Where the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Row of the merged table.
    Table(usize),
    /// File by its place in [`Index::logs`], and position of the first number.
    Log(usize, u64),
}

/// All features of a network in a run directory.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The network; `None` if there are no features.
    pub(super) net: Option<FeatureNet>,
    pub(super) entries: Vec<Entry>,
    /// Files that entries lie in.
    pub(super) logs: Vec<(PathBuf, Arc<dyn FsRead>)>,
    /// The merged table.
    pub(super) table: Option<FeatureReader>,
    pub(super) notes: Vec<Note>,
}

impl Index {
    /// Reads the labels of all files, and the keys of the table.
    ///
    /// # Errors
    /// Files of different weights.
    pub(super) fn new(fs: &dyn Fs, layout: &Layout, net: &str) -> Result<Self, StoreError> {
        let mut index = Self::default();
        match FeatureReader::open(fs, layout, net, None).and_then(|table| index.add_table(table)) {
            Err(StoreError::Damaged { path, detail }) => {
                // It may hold the only copy of some rows: not ours to overwrite.
                let to = path.with_extension(format!("parquet.damaged-{}", AttemptId::new()));
                fs.rename(&path, &to).map_err(StoreError::io("rename", &path))?;
                index.notes.push(Note::Damaged { file: to, detail });
            }
            result => result?,
        }
        for path in paths(fs, &layout.feature_logs(net), float_log::EXTENSION)? {
            index.add_log(fs, &path)?;
        }
        Ok(index)
    }

    fn add_table(&mut self, table: Option<FeatureReader>) -> Result<(), StoreError> {
        let Some(table) = table else { return Ok(()) };
        let rows = table.all_keys()?.into_iter().enumerate();
        self.entries.extend(rows.map(|(row, (key, file))| Entry { key, file, source: Source::Table(row) }));
        self.net = Some(table.net().clone());
        self.table = Some(table);
        Ok(())
    }

    /// Adds the rows of a file. Damage of one must not hide the rows of the others: it is noted.
    fn add_log(&mut self, fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
        let file = fs.open(path).map_err(StoreError::io("open", path))?;
        let mut frames = FrameReader::new(Arc::clone(&file)).map_err(StoreError::io("read", path))?;
        self.logs.push((path.to_owned(), file));
        match self.add_frames(path, &mut frames) {
            Err(StoreError::Damaged { path, detail }) => {
                self.notes.push(Note::Damaged { file: path, detail });
            }
            result => {
                result?;
                if frames.rest() > 0 {
                    let (file, bytes) = (path.to_owned(), frames.rest() as usize);
                    self.notes.push(Note::TornTail { file, bytes });
                }
            }
        }
        Ok(())
    }

    fn add_frames(&mut self, path: &Path, frames: &mut FrameReader) -> Result<(), StoreError> {
        // A writer that died before its first row leaves a file without frames.
        let Some((_, header)) = frames.next().map_err(StoreError::io("read", path))? else { return Ok(()) };
        let net = read_header(header).map_err(StoreError::damaged(path))?;
        if let Some(known) = self.net.as_ref().filter(|known| **known != net) {
            return Err(other_weights(path, &net, known));
        }
        let dims = net.dims;
        self.net = Some(net);
        let name: Arc<str> = path.file_name().unwrap_or_default().to_string_lossy().into();
        while let Some((offset, payload)) = frames.next().map_err(StoreError::io("read", path))? {
            let (label, floats) = split(payload, dims).map_err(StoreError::damaged(path))?;
            let cell_hash = share(self.entries.last().map(|entry| &entry.key.cell_hash), &label.cell_hash);
            let (sample_id, x1_blake3) = (label.sample_id.into_owned(), label.x1_blake3.into_owned());
            let key = X1Key { cell_hash, sample_id, x1_blake3 };
            let source = Source::Log(self.logs.len() - 1, offset + floats as u64);
            self.entries.push(Entry { key, file: Arc::clone(&name), source });
        }
        Ok(())
    }

    /// Sorts, and keeps one row of every key; returns how many others there were, not counting rows that are in the
    /// table and in the file they came from.
    pub(super) fn keep_one_per_key(&mut self) -> u64 {
        self.entries.sort_unstable();
        self.entries.dedup_by(|b, a| a.key == b.key && a.file == b.file);
        let rows = self.entries.len();
        self.entries.dedup_by(|b, a| a.key == b.key);
        (rows - self.entries.len()) as u64
    }
}

/// Features of two sets of weights.
pub(super) fn other_weights(path: &Path, found: &FeatureNet, expected: &FeatureNet) -> StoreError {
    let text = |net: &FeatureNet| format!("{} ({} features)", net.identity, net.dims);
    StoreError::OtherWeights {
        path: path.to_owned(),
        what: format!("features of the network {}", found.name),
        found: text(found),
        expected: text(expected),
    }
}

fn read_header(bytes: &[u8]) -> Result<FeatureNet, String> {
    let header: Header = serde_json::from_slice(bytes).map_err(|error| format!("its header: {error}"))?;
    match header.dflow_features {
        FORMAT => Ok(header.net),
        other => {
            Err(format!("it has version {other} of the format of features, this program reads {FORMAT}"))
        }
    }
}

/// The label of a frame, and where its numbers begin.
fn split(payload: &[u8], dims: usize) -> Result<(Label<'_>, usize), String> {
    let end = payload.iter().position(|byte| *byte == b'\n').ok_or("a row has no label")?;
    let label: Label<'_> = serde_json::from_slice(&payload[..end]).map_err(|error| error.to_string())?;
    match payload.len() - end - 1 {
        bytes if bytes == 4 * dims => Ok((label, end + 1)),
        bytes => Err(format!("the row of sample {} has {bytes} bytes for {dims} features", label.sample_id)),
    }
}
