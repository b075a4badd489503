//! A file system in memory that fails on purpose, for tests of everything that stores.
//!
//! It keeps what a process sees apart from what is durable: a file's content becomes durable by `sync`, a name by
//! `sync_dir` of its folder. Every operation that changes something is counted, and number k can be made to
//! [`Fault::Fail`], to be cut short, or to abort the process; [`FaultFs::restart`] then shows what a new process finds.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fs::{Fs, FsFile, FsRead, LockGuard};

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and returns this error; later operations work.
    Fail(io::ErrorKind),
    /// An append writes half of its bytes and returns "no space left"; any other operation fails so.
    ShortWrite,
    /// The process dies: an append writes half of its bytes, and nothing works any more until the restart.
    Abort,
}

/// What is left after the machine or the process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Only the process died: everything written is there.
    Kill,
    /// Power loss: whatever was not synced is gone, names and bytes.
    PowerLoss,
    /// Power loss on a file system that keeps names sooner than bytes: half of the unsynced bytes are there.
    TornPowerLoss,
}

/// The file system. Clones are the same file system.
#[derive(Debug, Clone, Default)]
pub struct FaultFs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    aborted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    /// Index into `State::files`.
    File(usize),
}

#[derive(Debug, Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Leading bytes in which both are known to be equal.
    common: usize,
}

impl FaultFs {
    /// An empty file system with the directory `root`.
    pub fn new(root: &Path) -> Self {
        let fs = Self::default();
        let mut state = fs.state();
        for dir in root.ancestors() {
            state.live.insert(dir.to_owned(), Node::Dir);
            state.durable.insert(dir.to_owned(), Node::Dir);
        }
        drop(state);
        fs
    }

    /// Chooses the fault of the changing operation number `k`, counted from 0 and from now on.
    pub fn inject(&self, k: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + k, fault));
    }

    /// Changing operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the process has died.
    pub fn aborted(&self) -> bool {
        self.state().aborted
    }

    /// What a new process finds; open files of the old one are gone, and so is the fault.
    pub fn restart(&self, crash: Crash) {
        let mut state = self.state();
        if crash != Crash::Kill {
            state.lose(crash);
        }
        state.aborted = false;
        state.fault = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another test thread leaves the maps whole: every change is one insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lose(&mut self, crash: Crash) {
        for content in &mut self.files {
            let unsynced = content.live.len().saturating_sub(content.durable.len());
            let kept = if crash == Crash::TornPowerLoss { content.durable.len() + unsynced / 2 } else { 0 };
            let torn = content.live.get(content.durable.len()..kept).unwrap_or_default();
            content.durable.extend_from_slice(torn);
            content.live.clone_from(&content.durable);
            content.common = content.live.len();
        }
        if crash == Crash::TornPowerLoss {
            self.durable.clone_from(&self.live);
        }
        // A name is lost with its folder's.
        let durable = std::mem::take(&mut self.durable);
        for (path, node) in &durable {
            let rooted = path.parent().is_none_or(|dir| self.durable.contains_key(dir));
            if rooted {
                self.durable.insert(path.clone(), *node);
            }
        }
        self.live.clone_from(&self.durable);
    }

    /// Counts an operation and applies its fault; `Ok(true)`: an append is to be cut short, and to fail.
    fn step(&mut self) -> io::Result<Option<io::Error>> {
        if self.aborted {
            return Err(dead());
        }
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some((k, fault)) if k == number => match fault {
                Fault::Fail(kind) => Err(kind.into()),
                Fault::ShortWrite => Ok(Some(io::ErrorKind::StorageFull.into())),
                Fault::Abort => {
                    self.aborted = true;
                    Ok(Some(dead()))
                }
            },
            _ => Ok(None),
        }
    }

    /// [`Self::step`] for operations that happen whole or not at all.
    fn step_whole(&mut self) -> io::Result<()> {
        self.step()?.map_or(Ok(()), Err)
    }

    fn alive(&self) -> io::Result<()> {
        if self.aborted { Err(dead()) } else { Ok(()) }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.live.get(path) {
            Some(Node::File(index)) => Ok(*index),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn require_dir(&self, path: Option<&Path>) -> io::Result<()> {
        match path.map(|path| self.live.get(path)) {
            Some(Some(Node::Dir)) => Ok(()),
            Some(Some(Node::File(_))) => Err(io::ErrorKind::NotADirectory.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<()> {
        self.require_dir(path.parent())?;
        if self.live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.live.insert(path.to_owned(), node);
        Ok(())
    }
}

fn dead() -> io::Error {
    io::Error::other("the process has been aborted by the test")
}

impl Fs for FaultFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step_whole()?;
        match state.create(path, Node::Dir) {
            Err(_) if state.live.get(path) == Some(&Node::Dir) => Ok(()),
            result => result,
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut state = self.state();
        state.step_whole()?;
        let index = state.files.len();
        state.create(path, Node::File(index))?;
        state.files.push(Content::default());
        Ok(Box::new(FaultFile { fs: self.clone(), index }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        state.alive()?;
        Ok(state.files[state.file(path)?].live.clone())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsRead>> {
        let state = self.state();
        state.alive()?;
        Ok(Arc::new(FaultFile { fs: self.clone(), index: state.file(path)? }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        state.require_dir(Some(path))?;
        let children = state.live.keys().filter(|child| child.parent() == Some(path));
        Ok(children.filter_map(|child| Some(child.file_name()?.to_str()?.to_owned())).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        state.alive()?;
        Ok(state.live.contains_key(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step_whole()?;
        let index = state.file(from)?;
        state.require_dir(to.parent())?;
        state.live.remove(from);
        state.live.insert(to.to_owned(), Node::File(index));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step_whole()?;
        state.file(path)?;
        state.live.remove(path);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step_whole()?;
        state.require_dir(Some(path))?;
        let State { live, durable, .. } = &mut *state;
        durable.retain(|child, _| child.parent() != Some(path));
        let children = live.iter().filter(|(child, _)| child.parent() == Some(path));
        durable.extend(children.map(|(child, node)| (child.clone(), *node)));
        Ok(())
    }

    /// Creates the file and locks nothing: here all processes take turns.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let mut state = self.state();
        state.step_whole()?;
        if !state.live.contains_key(path) {
            let index = state.files.len();
            state.create(path, Node::File(index))?;
            state.files.push(Content::default());
        }
        Ok(None)
    }
}

#[derive(Debug)]
struct FaultFile {
    fs: FaultFs,
    index: usize,
}

impl FsFile for FaultFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.fs.state();
        let cut = state.step()?;
        let written = if cut.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        state.files[self.index].live.extend_from_slice(written);
        cut.map_or(Ok(()), Err)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.fs.state();
        state.step_whole()?;
        let Content { live, durable, common } = &mut state.files[self.index];
        durable.truncate(*common);
        durable.extend_from_slice(&live[*common..]);
        *common = live.len();
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.step_whole()?;
        let content = &mut state.files[self.index];
        content.live.truncate(length as usize);
        content.common = content.common.min(content.live.len());
        Ok(())
    }
}

impl FsRead for FaultFile {
    fn size(&self) -> io::Result<u64> {
        let state = self.fs.state();
        state.alive()?;
        Ok(state.files[self.index].live.len() as u64)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let state = self.fs.state();
        state.alive()?;
        let rest = usize::try_from(offset).ok().and_then(|offset| state.files[self.index].live.get(offset..));
        let range = rest.and_then(|rest| rest.get(..length));
        range.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(fs: &FaultFs, path: &str, bytes: &[u8]) -> Box<dyn FsFile> {
        let mut file = fs.create_new(Path::new(path)).unwrap();
        file.append(bytes).unwrap();
        file
    }

    #[test]
    fn power_loss_takes_what_was_not_synced() {
        let fs = FaultFs::new(Path::new("/run"));
        write(&fs, "/run/unsynced-name", b"abc").sync().unwrap();
        fs.restart(Crash::PowerLoss);
        assert!(fs.list(Path::new("/run")).unwrap().is_empty());

        let mut file = write(&fs, "/run/file", b"abc");
        file.sync().unwrap();
        file.append(b"defg").unwrap();
        fs.sync_dir(Path::new("/run")).unwrap();
        fs.restart(Crash::PowerLoss);
        assert_eq!(fs.read(Path::new("/run/file")).unwrap(), b"abc");
    }

    #[test]
    fn torn_power_loss_keeps_names_and_half_of_the_bytes() {
        let fs = FaultFs::new(Path::new("/run"));
        let mut file = write(&fs, "/run/file", b"abc");
        file.sync().unwrap();
        file.append(b"defg").unwrap();
        fs.restart(Crash::TornPowerLoss);
        assert_eq!(fs.read(Path::new("/run/file")).unwrap(), b"abcde");
    }

    #[test]
    fn a_truncation_is_durable_once_synced() {
        let fs = FaultFs::new(Path::new("/run"));
        let mut file = write(&fs, "/run/file", b"abcdef");
        file.sync().unwrap();
        fs.sync_dir(Path::new("/run")).unwrap();
        file.truncate(2).unwrap();
        file.append(b"xy").unwrap();
        file.sync().unwrap();
        fs.restart(Crash::PowerLoss);
        assert_eq!(fs.read(Path::new("/run/file")).unwrap(), b"abxy");
    }

    #[test]
    fn a_name_is_lost_with_its_folder() {
        let fs = FaultFs::new(Path::new("/run"));
        fs.create_dir(Path::new("/run/a")).unwrap();
        write(&fs, "/run/a/file", b"abc").sync().unwrap();
        fs.sync_dir(Path::new("/run/a")).unwrap();
        fs.restart(Crash::PowerLoss);
        assert!(!fs.exists(Path::new("/run/a/file")).unwrap());
    }

    #[test]
    fn an_abort_stops_everything_until_the_restart() {
        let fs = FaultFs::new(Path::new("/run"));
        fs.inject(1, Fault::Abort);
        let mut file = fs.create_new(Path::new("/run/file")).unwrap();
        assert!(file.append(b"abcd").is_err());
        assert!(fs.aborted() && file.sync().is_err() && fs.read(Path::new("/run/file")).is_err());
        fs.restart(Crash::Kill);
        assert_eq!(fs.read(Path::new("/run/file")).unwrap(), b"ab");
    }

    #[test]
    fn a_short_write_keeps_half_and_goes_on() {
        let fs = FaultFs::new(Path::new("/run"));
        fs.inject(1, Fault::ShortWrite);
        let mut file = fs.create_new(Path::new("/run/file")).unwrap();
        assert_eq!(file.append(b"abcd").unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.append(b"ef").unwrap();
        assert_eq!(fs.read(Path::new("/run/file")).unwrap(), b"abef");
    }
}
