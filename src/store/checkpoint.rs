//! Running solves, so that a resumed run goes on where it was.
//!
//! The bytes are the worker's; here they only have a key. A writer keeps all its running solves in one file, replaced
//! atomically at every save: a header with a table of contents, then one frame per solve (its key as a line of JSON,
//! then the state). States can be large, so a reader keeps where they lie, and reads one when it is asked for.
//!
//! Checkpoints are a convenience: one that is damaged, of another [`Origin`] or version, or gone, costs a solve from
//! its start, with the same numbers in the end. Those of durable rows are never asked for, and removed by
//! [`remove_finished`].

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::frame;
use super::fs::{Fs, write_atomic_pieces};
use super::gather::{Finished, paths};
use super::layout::Layout;
use super::log::{create_dirs, encode_one};
use super::record::Key;
use crate::plan::identity::NUMERICS;

/// Version of a stored solve: to be raised by every change of a struct that the worker stores in a checkpoint (a
/// method's state, a slot's). The bytes do not describe themselves: those of another form might be read as nonsense.
pub const CHECKPOINT_FORMAT: u32 = 4;

/// Ending of a checkpoint file's name.
const EXTENSION: &str = "ckpt";

/// What computed a solve so far, besides its cell. Elsewhere its numbers would go on with other bits, and the row be
/// none that any machine gives as a whole: so a solve is continued only where it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Instruction set of the kernels, such as `avx512`.
    pub instruction_set: String,
    /// Kind of the device: `cpu` or `cuda`.
    pub device_kind: String,
}

impl Origin {
    /// The origin of what a device named such as `cpu:0` or `cuda:1` computes.
    pub fn new(instruction_set: &str, device: &str) -> Self {
        let kind = device.split(':').next().unwrap_or(device);
        Self { instruction_set: instruction_set.to_owned(), device_kind: kind.to_owned() }
    }
}

/// The first frame of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    dflow_checkpoints: u32,
    numerics: u32,
    origin: Origin,
    /// The solves and the lengths of their frames, in the order of the file.
    solves: Vec<(Key, u64)>,
}

/// Where the frame of a solve lies.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    offset: u64,
    length: usize,
}

/// The running solves of one writer, and those that others left behind when it was opened.
#[derive(Debug)]
pub struct Checkpoints {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    origin: Origin,
    left_behind: BTreeMap<Key, Place>,
}

impl Checkpoints {
    /// Looks what is there of this origin; the newest attempt's state of each solve counts.
    pub fn open(
        fs: Arc<dyn Fs>,
        layout: &Layout,
        attempt: &AttemptId,
        origin: Origin,
    ) -> Result<Self, StoreError> {
        let path = layout.checkpoints().join(format!("{attempt}.{EXTENSION}"));
        let mut left_behind = BTreeMap::new();
        // Names sort by start time: later ones replace earlier ones.
        for file in paths(&*fs, &layout.checkpoints(), EXTENSION)? {
            if let Some(contents) = contents(&*fs, &file)?.filter(|contents| contents.origin == origin) {
                left_behind.extend(contents.solves);
            }
        }
        Ok(Self { fs, path, origin, left_behind })
    }

    /// The state of a solve that some earlier attempt left, once; `None` too if it cannot be read any more.
    pub fn take(&mut self, key: &Key) -> Option<Vec<u8>> {
        let Place { path, offset, length } = self.left_behind.remove(key)?;
        let bytes = self
            .fs
            .read_range(&path, offset, length)
            .inspect_err(|error| tracing::warn!("{}: a solve starts anew: {error}", path.display()))
            .ok()?;
        let [payload] = frame::decode(&bytes).payloads[..] else { return None };
        // The file of a writer that still runs may have been replaced since: another solve may lie there now.
        Some(payload.strip_prefix(&*label(key).ok()?)?.to_vec())
    }

    /// Replaces this writer's checkpoints by these, durably; with none, its file is removed.
    pub fn save(&self, solves: &[(Key, Vec<u8>)]) -> Result<(), StoreError> {
        if solves.is_empty() {
            return remove(&*self.fs, &self.path);
        }
        let labels = solves.iter().map(|(key, _)| label(key)).collect::<Result<Vec<_>, _>>()?;
        let length = |label: &Vec<u8>, state: &Vec<u8>| (frame::HEAD + label.len() + state.len()) as u64;
        let lengths =
            solves.iter().zip(&labels).map(|((key, state), label)| (key.clone(), length(label, state)));
        let header = Header {
            dflow_checkpoints: CHECKPOINT_FORMAT,
            numerics: NUMERICS,
            origin: self.origin.clone(),
            solves: lengths.collect(),
        };
        let header = encode_one(&to_json(&header)?);
        let frames =
            solves.iter().zip(&labels).map(|((_, state), label)| encode_one(&[&label[..], state].concat()));
        let dir = self.path.parent().expect("a checkpoint lies in the folder of checkpoints");
        create_dirs(&*self.fs, dir)?;
        // One frame after the other: together they may be as large as all states are.
        write_atomic_pieces(&*self.fs, &self.path, std::iter::once(header).chain(frames))
    }
}

/// What a file holds.
struct Contents {
    origin: Origin,
    solves: Vec<(Key, Place)>,
}

/// What a file says that it holds; `None` if it has gone, is damaged, or of a version that this program cannot continue.
fn contents(fs: &dyn Fs, path: &Path) -> Result<Option<Contents>, StoreError> {
    let header = match read_header(fs, path) {
        Ok(header) => header,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => None,
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let ours = |header: &Header| header.dflow_checkpoints == CHECKPOINT_FORMAT && header.numerics == NUMERICS;
    Ok(header.filter(|(header, _)| ours(header)).map(|(header, mut offset)| {
        let place = |(key, length): (Key, u64)| {
            let place = Place { path: path.to_owned(), offset, length: length as usize };
            offset = offset.saturating_add(length);
            (key, place)
        };
        Contents { origin: header.origin, solves: header.solves.into_iter().map(place).collect() }
    }))
}

/// The header, and the position of the first frame after it.
fn read_header(fs: &dyn Fs, path: &Path) -> io::Result<Option<(Header, u64)>> {
    let Some(length) = frame::claimed_length(&fs.read_range(path, 0, frame::HEAD)?) else { return Ok(None) };
    let bytes = fs.read_range(path, 0, frame::HEAD + length)?;
    let [header] = frame::decode(&bytes).payloads[..] else { return Ok(None) };
    Ok(serde_json::from_slice(header).ok().map(|header| (header, bytes.len() as u64)))
}

/// The line before a state.
fn label(key: &Key) -> Result<Vec<u8>, StoreError> {
    let mut line = to_json(key)?;
    line.push(b'\n');
    Ok(line)
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Encode(error.to_string()))
}

fn remove(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    match fs.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes the files whose solves are all durable rows, and those of no use: damaged, or of another version. What
/// another origin left stays, for a worker there.
pub fn remove_finished(fs: &dyn Fs, layout: &Layout, finished: &Finished) -> Result<(), StoreError> {
    for path in paths(fs, &layout.checkpoints(), EXTENSION)? {
        let solves = contents(fs, &path)?.map(|contents| contents.solves).unwrap_or_default();
        if solves.iter().all(|(key, _)| finished.rows.contains_key(key)) {
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

    fn open_on(fs: &FaultFs, attempt: &str, origin: Origin) -> Checkpoints {
        let attempt = AttemptId::from_text(attempt);
        Checkpoints::open(Arc::new(fs.clone()), &Layout::new("/run"), &attempt, origin).unwrap()
    }

    fn open(fs: &FaultFs, attempt: &str) -> Checkpoints {
        open_on(fs, attempt, Origin::new("avx512", "cpu:0"))
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

    #[test]
    fn a_solve_goes_on_only_where_its_bits_are_the_same() {
        let fs = FaultFs::new(Path::new("/run"));
        open(&fs, "a").save(&[(key(0), vec![7])]).unwrap();
        for (origin, expected) in [
            (Origin::new("avx512", "cpu:3"), Some(vec![7])),
            (Origin::new("avx2", "cpu:0"), None),
            (Origin::new("avx512", "cuda:0"), None),
        ] {
            assert_eq!(open_on(&fs, "b", origin.clone()).take(&key(0)), expected, "{origin:?}");
        }
        remove_finished(&fs, &Layout::new("/run"), &Finished::default()).unwrap();
        assert_eq!(fs.list(Path::new("/run/checkpoints")).unwrap(), ["a.ckpt"]);
    }

    #[test]
    fn another_format_or_numerics_starts_anew() {
        for (format, numerics) in [
            (CHECKPOINT_FORMAT, NUMERICS),
            (CHECKPOINT_FORMAT - 1, NUMERICS),
            (CHECKPOINT_FORMAT, NUMERICS + 1),
        ] {
            let fs = FaultFs::new(Path::new("/run/checkpoints"));
            let label = label(&key(0)).unwrap();
            let origin = Origin::new("avx512", "cpu:0");
            let solves = vec![(key(0), (frame::HEAD + label.len() + 1) as u64)];
            let header = Header { dflow_checkpoints: format, numerics, origin, solves };
            let header = encode_one(&to_json(&header).unwrap()).unwrap();
            let state = encode_one(&[&label[..], &[7]].concat()).unwrap();
            let mut file = fs.create_new(Path::new("/run/checkpoints/a.ckpt")).unwrap();
            file.append(&[header, state].concat()).unwrap();
            let ours = (format, numerics) == (CHECKPOINT_FORMAT, NUMERICS);
            assert_eq!(open(&fs, "b").take(&key(0)), ours.then(|| vec![7]));
        }
    }

    #[test]
    fn states_stay_in_their_file_until_they_are_asked_for() {
        let fs = FaultFs::new(Path::new("/run"));
        let a = open(&fs, "a");
        a.save(&[(key(0), vec![0; 9]), (key(1), vec![1; 9])]).unwrap();
        let (mut changed, mut gone) = (open(&fs, "b"), open(&fs, "c"));
        // A writer that still runs: states of one length, in another order.
        a.save(&[(key(1), vec![1; 9]), (key(0), vec![0; 9])]).unwrap();
        assert_eq!(changed.take(&key(0)), None, "never the state of another solve");
        fs.remove(Path::new("/run/checkpoints/a.ckpt")).unwrap();
        assert_eq!(gone.take(&key(0)), None);
    }
}
