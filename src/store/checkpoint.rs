//! Running solves, so that a resumed run goes on where it was.
//!
//! The bytes are the worker's; here they only have a key. A solve is stored as a *core*, which is written anew every
//! time, and numbered *items*, which never change and are written once (the pairs of L-BFGS: two vectors per step, and
//! most of the bytes). A writer appends both as frames to one log; the newest core whose frame is whole, with
//! its items, is where the solve goes on. So whatever has reached the disk is of use, wherever the writer is killed. A
//! log that has grown much longer than what is alive in it is begun anew.
//!
//! A frame's payload is a line of JSON, then the bytes (`file`). Readers keep where they lie, and read them when they
//! are asked for.
//!
//! Checkpoints are a convenience: one that is damaged, of another [`Origin`] or version, or gone, costs a solve from
//! its start, with the same numbers in the end. Those of durable rows are never asked for, and removed by
//! [`remove_finished`], also under a writer that lives: it notices, and stores its solves anew.

mod file;
mod removal;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::file::{Header, Trail, What, contents, labelled, to_json};
pub use self::removal::remove_finished;
use super::attempt::AttemptId;
use super::error::StoreError;
use super::frame;
use super::fs::Fs;
use super::gather::paths;
use super::layout::Layout;
use super::log::Log;
use super::record::Key;

/// Version of a stored solve: to be raised by every change of a struct that the worker stores in a checkpoint (a
/// method's state, a slot's). The bytes do not describe themselves: those of another form might be read as nonsense.
pub const CHECKPOINT_FORMAT: u32 = 6;

/// Ending of a checkpoint file's name.
const EXTENSION: &str = "ckpt";

/// A log below this length is never begun anew.
const SHORT: u64 = 64 << 20;

/// A log is begun anew when it is so many times longer than what is alive in it.
const LONG: u64 = 4;

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
    /// Files of other tags that are looked at too.
    older: Vec<String>,
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
    /// name, only files of that tag are looked at, and those named `older`.
    pub fn open(
        fs: Arc<dyn Fs>,
        layout: &Layout,
        attempt: &AttemptId,
        origin: Origin,
        older: &[String],
    ) -> Result<Self, StoreError> {
        let dir = layout.checkpoints();
        let header = vec![to_json(&Header::new(origin.clone()))?];
        let log = Log::new(Arc::clone(&fs), dir.clone(), attempt.clone(), EXTENSION, header);
        let mut checkpoints = Self {
            fs,
            dir,
            attempt: attempt.clone(),
            origin,
            older: older.to_vec(),
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
        for path in paths(&*self.fs, &self.dir, EXTENSION)? {
            if !self.looks_at(&path) {
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

    fn looks_at(&self, path: &Path) -> bool {
        let name = file_name(path);
        let (tag, is_older) = (self.attempt.tag(), || self.older.iter().any(|older| older == name));
        let is_looked_at = |writer: AttemptId| {
            writer != self.attempt && (tag.is_none() || writer.tag() == tag || is_older())
        };
        AttemptId::of_file(name).is_some_and(is_looked_at)
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

    /// Whether what was stored is lost: an error, or a log that somebody has removed.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Stores solves: each is durable when the next is asked for, and all of them on return, unless the log
    /// [is broken](Self::is_broken) then, because it was removed meanwhile.
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
        // Afterwards: whoever removes a log looks once more what is in it when it has no name any more.
        self.is_broken = !self.log.has_its_name()?;
        if anew && !self.is_broken {
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

/// The files in `checkpoints/` that hold each of the `wanted` solves, oldest first: what a part of a run whose tag is new
/// is to be told.
///
/// # Errors
/// Files that cannot be read; damaged ones are left out.
pub fn holders(
    fs: &dyn Fs,
    layout: &Layout,
    wanted: impl Fn(&Key) -> bool,
) -> Result<BTreeMap<Key, Vec<String>>, StoreError> {
    let mut holders = BTreeMap::<Key, Vec<String>>::new();
    for path in paths(fs, &layout.checkpoints(), EXTENSION)? {
        let trails = contents(fs, &path)?.map(|contents| contents.trails).unwrap_or_default();
        for key in trails.into_keys().filter(&wanted) {
            holders.entry(key).or_default().push(file_name(&path).to_owned());
        }
    }
    Ok(holders)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A file that stays costs only its place.
fn remove_quietly(fs: &dyn Fs, path: &Path) {
    if let Err(error) = fs.remove(path) {
        tracing::debug!("cannot remove {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests;
