//! Running solves, so that a resumed run goes on where it was.
//!
//! The bytes are the worker's; here they only have a key. A writer keeps all its running solves in one file, replaced
//! atomically at every save. Checkpoints are a convenience: one that is damaged, of another version or gone costs a
//! solve from its start, with the same numbers in the end. Those of durable rows are never asked for, and removed by
//! [`remove_finished`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::frame;
use super::fs::{Fs, read_if_exists, write_atomic};
use super::gather::{Finished, paths};
use super::layout::Layout;
use super::log::{create_dirs, encode_all};
use super::record::Key;

/// Ending of a checkpoint file's name.
const EXTENSION: &str = "ckpt";

/// The first frame of a file: a solve is continued only by the version that began it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    dflow_checkpoints: u32,
    version: String,
}

impl Header {
    fn ours() -> Self {
        Self { dflow_checkpoints: 1, version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// The running solves of one writer, and those that others left behind when it was opened.
#[derive(Debug)]
pub struct Checkpoints {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    left_behind: BTreeMap<Key, Vec<u8>>,
}

impl Checkpoints {
    /// Reads what is there; the newest attempt's state of each solve counts.
    pub fn open(fs: Arc<dyn Fs>, layout: &Layout, attempt: &AttemptId) -> Result<Self, StoreError> {
        let path = layout.checkpoints().join(format!("{attempt}.{EXTENSION}"));
        let mut left_behind = BTreeMap::new();
        // Names sort by start time: later ones replace earlier ones.
        for file in paths(&*fs, &layout.checkpoints(), EXTENSION)? {
            left_behind.extend(read(&*fs, &file)?);
        }
        Ok(Self { fs, path, left_behind })
    }

    /// The state of a solve that some earlier attempt left, once.
    pub fn take(&mut self, key: &Key) -> Option<Vec<u8>> {
        self.left_behind.remove(key)
    }

    /// Replaces this writer's checkpoints by these, durably; with none, its file is removed.
    pub fn save(&self, solves: &[(Key, Vec<u8>)]) -> Result<(), StoreError> {
        if solves.is_empty() {
            return remove(&*self.fs, &self.path);
        }
        let encode_error = |error: String| StoreError::Encode(error);
        let header = serde_json::to_vec(&Header::ours()).map_err(|error| encode_error(error.to_string()))?;
        let solves = solves.iter().map(postcard::to_allocvec);
        let solves =
            solves.collect::<Result<Vec<_>, _>>().map_err(|error| encode_error(error.to_string()))?;
        let payloads: Vec<Vec<u8>> = std::iter::once(header).chain(solves).collect();
        let dir = self.path.parent().expect("a checkpoint lies in the folder of checkpoints");
        create_dirs(&*self.fs, dir)?;
        write_atomic(&*self.fs, &self.path, &encode_all(&payloads)?)
    }
}

/// The whole checkpoints of a file; none if it is of another version.
fn read(fs: &dyn Fs, path: &Path) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
    let bytes = read_if_exists(fs, path)?.unwrap_or_default();
    let frames = frame::decode(&bytes);
    let Some((header, solves)) = frames.payloads.split_first() else { return Ok(Vec::new()) };
    match serde_json::from_slice::<Header>(header) {
        Ok(header) if header == Header::ours() => {
            Ok(solves.iter().filter_map(|solve| postcard::from_bytes(solve).ok()).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn remove(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    match fs.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the files whose solves are all durable rows.
pub fn remove_finished(fs: &dyn Fs, layout: &Layout, finished: &Finished) -> Result<(), StoreError> {
    for path in paths(fs, &layout.checkpoints(), EXTENSION)? {
        if read(fs, &path)?.iter().all(|(key, _)| finished.rows.contains_key(key)) {
            remove(fs, &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault::FaultFs;
    use crate::store::record::Status;

    fn key(i: u8) -> Key {
        (format!("hash-{i}"), format!("sample-{i}"))
    }

    fn open(fs: &FaultFs, attempt: &str) -> Checkpoints {
        let attempt = AttemptId::from_text(attempt);
        Checkpoints::open(Arc::new(fs.clone()), &Layout::new("/run"), &attempt).unwrap()
    }

    #[test]
    fn the_newest_attempt_counts_and_a_save_replaces_the_last() {
        let fs = FaultFs::new(Path::new("/run"));
        let (a, b) = (open(&fs, "a"), open(&fs, "b"));
        b.save(&[(key(1), vec![2])]).unwrap();
        a.save(&[(key(0), vec![9]), (key(3), vec![3])]).unwrap();
        a.save(&[(key(0), vec![0]), (key(1), vec![1])]).unwrap();
        let mut resumed = open(&fs, "c");
        assert_eq!(resumed.take(&key(0)), Some(vec![0]));
        assert_eq!(resumed.take(&key(1)), Some(vec![2]));
        assert_eq!(resumed.take(&key(1)), None, "once");
        assert_eq!(resumed.take(&key(3)), None, "finished before the second save");
    }

    #[test]
    fn every_damage_costs_only_the_checkpoint() {
        let fs = FaultFs::new(Path::new("/run"));
        open(&fs, "a").save(&[(key(0), vec![7; 9])]).unwrap();
        let bytes = fs.read(Path::new("/run/checkpoints/a.ckpt")).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let fs = FaultFs::new(Path::new("/run/checkpoints"));
            fs.create_new(Path::new("/run/checkpoints/a.ckpt")).unwrap().append(&damaged).unwrap();
            assert_eq!(open(&fs, "b").take(&key(0)), None);
        }
    }

    #[test]
    fn files_are_removed_once_all_their_rows_are_durable() {
        let fs = FaultFs::new(Path::new("/run"));
        open(&fs, "a").save(&[(key(0), vec![]), (key(1), vec![])]).unwrap();
        open(&fs, "b").save(&[(key(0), vec![])]).unwrap();
        let mut finished = Finished::default();
        finished.rows.insert(key(0), Status::Ok);
        remove_finished(&fs, &Layout::new("/run"), &finished).unwrap();
        assert_eq!(fs.list(Path::new("/run/checkpoints")).unwrap(), ["a.ckpt"]);
        open(&fs, "a").save(&[]).unwrap();
        assert!(fs.list(Path::new("/run/checkpoints")).unwrap().is_empty());
    }
}
