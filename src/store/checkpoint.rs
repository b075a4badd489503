//! Running solves, so that a resumed run goes on where it was.
//!
//! The bytes are the worker's; here they only have a key. A solve is stored as a *core*, which is written anew every
//! time, and numbered *items*, which never change and are written once (the pairs of L-BFGS: two vectors per step, and
//! most of the bytes). A writer appends both as frames to one log; the newest core whose frame is whole, with
//! its items, is where the solve goes on. So whatever has reached the disk is of use, wherever the writer is killed. A
//! log that has grown much longer than what is alive in it is begun anew.
//!
//! A frame's payload is a line of JSON (`Label`), then the bytes. Readers keep where they lie, and read them when they
//! are asked for.
//!
//! Checkpoints are a convenience: one that is damaged, of another [`Origin`] or version, or gone, costs a solve from
//! its start, with the same numbers in the end. Those of durable rows are never asked for, and removed by
//! [`remove_finished`].

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::frame;
use super::fs::{Fs, FsRead};
use super::gather::{Finished, paths};
use super::layout::Layout;
use super::log::Log;
use super::record::Key;
use crate::plan::identity::NUMERICS;

/// Version of a stored solve: to be raised by every change of a struct that the worker stores in a checkpoint (a
/// method's state, a slot's). The bytes do not describe themselves: those of another form might be read as nonsense.
pub const CHECKPOINT_FORMAT: u32 = 5;

/// Ending of a checkpoint file's name.
const EXTENSION: &str = "ckpt";

/// A log below this length is never begun anew.
const SHORT: u64 = 64 << 20;

/// A log is begun anew when it is so many times longer than what is alive in it.
const LONG: u64 = 4;

/// Bytes in which a label is looked for first.
const LABEL_WINDOW: usize = 512;

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
    /// The origin of what a device named such as `cpu:0` or `cuda:1` computes. A `sim` device is a CPU.
    pub fn new(instruction_set: &str, device: &str) -> Self {
        let kind = device.split(':').next().unwrap_or(device);
        let kind = if kind == "sim" { "cpu" } else { kind };
        Self { instruction_set: instruction_set.to_owned(), device_kind: kind.to_owned() }
    }
}

/// The first frame of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    dflow_checkpoints: u32,
    numerics: u32,
    origin: Origin,
}

/// The line before the bytes of a frame.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    key: Key,
    what: What,
}

/// What the bytes are.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// A core, with the numbers of its items: the first, and one past the last.
    Core(Range<u64>),
    /// An item, by its number.
    Item(u64),
}

/// A running solve, as its worker hands it over.
pub trait Running {
    /// Whose it is.
    fn key(&self) -> Key;
    /// Everything but the items.
    fn core(&self) -> Vec<u8>;
    /// The numbers of its items: the first, and one past the last.
    fn items(&self) -> Range<u64>;
    /// The bytes of an item.
    fn item(&self, number: u64) -> Vec<u8>;
}

/// A solve that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Everything but the items.
    pub core: Vec<u8>,
    /// Its items in order.
    pub items: Vec<Vec<u8>>,
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: usize,
}

/// What one file holds of one solve.
#[derive(Debug, Default)]
struct Trail {
    /// Oldest first.
    cores: Vec<(Place, Range<u64>)>,
    items: BTreeMap<u64, Place>,
}

/// What was written of a solve into the present log.
#[derive(Debug, Default)]
struct Written {
    /// One past the newest item.
    end: u64,
    /// Bytes of an item: they have one length.
    item_bytes: u64,
    /// Bytes of the core and of the items that it needs.
    alive: u64,
}

/// The running solves of one writer, and those that others left behind when it was opened.
#[derive(Debug)]
pub struct Checkpoints {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    attempt: AttemptId,
    origin: Origin,
    log: Log,
    written: BTreeMap<Key, Written>,
    /// Bytes of the present log.
    length: u64,
    /// Nothing may be appended to the present log: what came before may be lost.
    is_broken: bool,
    /// Logs that the present one replaces once it holds every running solve.
    replaced: Vec<PathBuf>,
    /// By solve, in files sorted by start time.
    left_behind: BTreeMap<Key, Vec<(PathBuf, Trail)>>,
}

impl Checkpoints {
    /// Looks what is there of this origin; the newest attempt's state of each solve counts. With a tag in the attempt's
    /// name, only files of that tag are looked at.
    pub fn open(
        fs: Arc<dyn Fs>,
        layout: &Layout,
        attempt: &AttemptId,
        origin: Origin,
    ) -> Result<Self, StoreError> {
        let dir = layout.checkpoints();
        let header =
            Header { dflow_checkpoints: CHECKPOINT_FORMAT, numerics: NUMERICS, origin: origin.clone() };
        let header = vec![to_json(&header)?];
        let log = Log::new(Arc::clone(&fs), dir.clone(), attempt.clone(), EXTENSION, header);
        let mut checkpoints = Self {
            fs,
            dir,
            attempt: attempt.clone(),
            origin,
            log,
            written: BTreeMap::new(),
            length: 0,
            is_broken: false,
            replaced: Vec::new(),
            left_behind: BTreeMap::new(),
        };
        checkpoints.look_again()?;
        Ok(checkpoints)
    }

    /// Looks anew what others have left behind: one of them may have died since.
    pub fn look_again(&mut self) -> Result<(), StoreError> {
        self.left_behind.clear();
        let tag = self.attempt.tag();
        for path in paths(&*self.fs, &self.dir, EXTENSION)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let of_others =
                |writer: AttemptId| writer != self.attempt && (tag.is_none() || writer.tag() == tag);
            if !AttemptId::of_file(name).is_some_and(of_others) {
                continue;
            }
            let Some(contents) = contents(&*self.fs, &path)?.filter(|found| found.origin == self.origin)
            else {
                continue;
            };
            for (key, trail) in contents.trails {
                self.left_behind.entry(key).or_default().push((path.clone(), trail));
            }
        }
        Ok(())
    }

    /// The state of a solve that some earlier attempt left, once; `None` too if it cannot be read any more.
    pub fn take(&mut self, key: &Key) -> Option<Stored> {
        let trails = self.left_behind.remove(key)?;
        trails.iter().rev().find_map(|(path, trail)| {
            let read = self.fs.open(path).map(|file| trail.newest(&*file, key));
            read.inspect_err(|error| tracing::warn!("{}: not used: {error}", path.display())).ok().flatten()
        })
    }

    /// Whether the next [`save`](Self::save) must be given every running solve, because it begins a new log.
    pub fn begins_anew(&self) -> bool {
        let alive: u64 = self.written.values().map(|written| written.alive).sum();
        self.is_broken || self.length > SHORT.max(LONG * alive)
    }

    /// Stores solves: each is durable when the next is asked for, and all of them on return.
    pub fn save(&mut self, solves: impl Iterator<Item: Running>) -> Result<(), StoreError> {
        let anew = self.begins_anew();
        if anew {
            self.replaced.extend(self.log.finish());
            self.written.clear();
            self.length = 0;
        }
        // Until all of it has succeeded.
        self.is_broken = true;
        for solve in solves {
            self.append(&solve)?;
        }
        self.is_broken = false;
        if anew {
            self.replaced.drain(..).for_each(|path| remove_quietly(&*self.fs, &path));
        }
        Ok(())
    }

    /// A solve of this writer has ended: what is stored of it is not needed any more.
    pub fn forget(&mut self, key: &Key) {
        self.written.remove(key);
    }

    /// Removes this writer's files: it leaves no running solve behind.
    pub fn clear(&mut self) {
        let files = self.log.finish();
        self.replaced.drain(..).chain(files).for_each(|path| remove_quietly(&*self.fs, &path));
        self.written.clear();
        self.length = 0;
    }

    fn append(&mut self, solve: &impl Running) -> Result<(), StoreError> {
        let (key, core, items) = (solve.key(), solve.core(), solve.items());
        let known = self.written.entry(key.clone()).or_default();
        let mut frames = Vec::new();
        for number in items.start.max(known.end)..items.end {
            let bytes = solve.item(number);
            (known.end, known.item_bytes) = (number + 1, bytes.len() as u64);
            frames.push(labelled(&key, What::Item(number), &bytes)?);
        }
        known.alive = core.len() as u64 + (items.end - items.start) * known.item_bytes;
        frames.push(labelled(&key, What::Core(items), &core)?);
        self.length += frames.iter().map(|frame| (frame::HEAD + frame.len()) as u64).sum::<u64>();
        self.log.append(&frames).map(drop)
    }
}

impl Trail {
    /// The newest state that is whole.
    fn newest(&self, file: &dyn FsRead, key: &Key) -> Option<Stored> {
        self.cores.iter().rev().find_map(|(place, numbers)| {
            let core = read(file, *place, key, &What::Core(numbers.clone()))?;
            let item = |number| read(file, *self.items.get(&number)?, key, &What::Item(number));
            Some(Stored { core, items: numbers.clone().map(item).collect::<Option<_>>()? })
        })
    }
}

/// The bytes of a frame, if it is whole and what it was taken for.
fn read(file: &dyn FsRead, place: Place, key: &Key, what: &What) -> Option<Vec<u8>> {
    let bytes = file.read_at(place.offset, place.length).ok()?;
    let [payload] = frame::decode(&bytes).payloads[..] else { return None };
    let (label, at) = split_label(payload)?;
    (label.key == *key && label.what == *what).then(|| payload[at..].to_vec())
}

/// What a file holds.
struct Contents {
    origin: Origin,
    trails: BTreeMap<Key, Trail>,
}

/// What a file says that it holds; `None` if it has gone, is damaged, or of a version that this program cannot continue.
fn contents(fs: &dyn Fs, path: &Path) -> Result<Option<Contents>, StoreError> {
    match fs.open(path).and_then(|file| scan(&*file)) {
        Ok(contents) => Ok(contents),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// Walks over the frames by their heads and labels; their checksums are looked at when they are read.
fn scan(file: &dyn FsRead) -> io::Result<Option<Contents>> {
    let size = file.size()?;
    let Some(place) = place_at(file, 0, size)? else { return Ok(None) };
    let bytes = file.read_at(0, place.length)?;
    let [header] = frame::decode(&bytes).payloads[..] else { return Ok(None) };
    let Ok(Header { dflow_checkpoints, numerics, origin }) = serde_json::from_slice(header) else {
        return Ok(None);
    };
    if (dflow_checkpoints, numerics) != (CHECKPOINT_FORMAT, NUMERICS) {
        return Ok(None);
    }
    let (mut trails, mut at) = (BTreeMap::<Key, Trail>::new(), place.length as u64);
    while let Some(place) = place_at(file, at, size)? {
        at += place.length as u64;
        let Some(Label { key, what }) = label_at(file, place)? else { break };
        let trail = trails.entry(key).or_default();
        match what {
            What::Core(items) => trail.cores.push((place, items)),
            What::Item(number) => drop(trail.items.insert(number, place)),
        }
    }
    Ok(Some(Contents { origin, trails }))
}

/// The frame that begins at `offset`, by its head; `None` where no whole one follows.
fn place_at(file: &dyn FsRead, offset: u64, size: u64) -> io::Result<Option<Place>> {
    if size - offset < frame::HEAD as u64 {
        return Ok(None);
    }
    let Some(length) = frame::claimed_length(&file.read_at(offset, frame::HEAD)?) else { return Ok(None) };
    let length = frame::HEAD + length;
    Ok((size - offset >= length as u64).then_some(Place { offset, length }))
}

fn label_at(file: &dyn FsRead, place: Place) -> io::Result<Option<Label>> {
    let (from, length) = (place.offset + frame::HEAD as u64, place.length - frame::HEAD);
    let found = split_label(&file.read_at(from, length.min(LABEL_WINDOW))?).map(|(label, _)| label);
    if found.is_some() || length <= LABEL_WINDOW {
        return Ok(found);
    }
    Ok(split_label(&file.read_at(from, length)?).map(|(label, _)| label))
}

/// A payload's label, and where the bytes after it begin.
fn split_label(payload: &[u8]) -> Option<(Label, usize)> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    Some((serde_json::from_slice(&payload[..end]).ok()?, end + 1))
}

fn labelled(key: &Key, what: What, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut payload = to_json(&Label { key: key.clone(), what })?;
    payload.push(b'\n');
    payload.extend(bytes);
    Ok(payload)
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Encode(error.to_string()))
}

/// A file that stays costs only its place.
fn remove_quietly(fs: &dyn Fs, path: &Path) {
    if let Err(error) = fs.remove(path) {
        tracing::debug!("cannot remove {}: {error}", path.display());
    }
}

/// Removes the files whose solves are all durable rows, and those of no use: damaged, or of another version. What
/// another origin left stays, for a worker there.
pub fn remove_finished(fs: &dyn Fs, layout: &Layout, finished: &Finished) -> Result<(), StoreError> {
    for path in paths(fs, &layout.checkpoints(), EXTENSION)? {
        let trails = contents(fs, &path)?.map(|contents| contents.trails).unwrap_or_default();
        if trails.keys().all(|key| finished.rows.contains_key(key)) {
            match fs.remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
