//! The files of checkpoints: frames of labelled bytes, and where they lie.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CHECKPOINT_FORMAT, Origin, Stored};
use crate::plan::identity::NUMERICS;
use crate::store::error::StoreError;
use crate::store::frame;
use crate::store::fs::{Fs, FsRead};
use crate::store::record::Key;

/// Bytes in which a label is looked for first.
const LABEL_WINDOW: usize = 512;

/// The first frame of a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) dflow_checkpoints: u32,
    pub(super) numerics: u32,
    pub(super) origin: Origin,
}

impl Header {
    /// Of what this program writes.
    pub(super) fn new(origin: Origin) -> Self {
        Self { dflow_checkpoints: CHECKPOINT_FORMAT, numerics: NUMERICS, origin }
    }
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
pub(super) enum What {
    /// A core, with the numbers of its items: the first, and one past the last.
    Core(Range<u64>),
    /// An item, by its number.
    Item(u64),
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: usize,
}

/// What one file holds of one solve.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// Oldest first.
    cores: Vec<(Place, Range<u64>)>,
    items: BTreeMap<u64, Place>,
}

impl Trail {
    /// The newest state that is whole.
    pub(super) fn newest(&self, file: &dyn FsRead, key: &Key) -> Option<Stored> {
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
pub(super) struct Contents {
    pub(super) origin: Origin,
    pub(super) trails: BTreeMap<Key, Trail>,
}

/// What a file says that it holds; `None` if it has gone, is damaged, or of a version that this program cannot continue.
pub(super) fn contents(fs: &dyn Fs, path: &Path) -> Result<Option<Contents>, StoreError> {
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

pub(super) fn labelled(key: &Key, what: What, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut payload = to_json(&Label { key: key.clone(), what })?;
    payload.push(b'\n');
    payload.extend(bytes);
    Ok(payload)
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Encode(error.to_string()))
}
