//! An append-only framed file, durable after every append, that goes on in a new file after an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::attempt::AttemptId;
use super::error::StoreError;
use super::frame;
use super::fs::{Fs, FsFile, sync_dir};
use super::gather::is_gone;

/// Where a frame's payload lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// File name within the folder.
    pub name: String,
    /// Position of the payload's first byte.
    pub offset: u64,
}

/// A sequence of framed files `<attempt>-NNN.<extension>`. The first is created by the first append.
#[derive(Debug)]
pub(super) struct Log {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    attempt: AttemptId,
    extension: &'static str,
    /// Payloads at the start of every file.
    header: Vec<Vec<u8>>,
    next: u32,
    open: Option<OpenLog>,
    written: Vec<PathBuf>,
}

#[derive(Debug)]
struct OpenLog {
    name: String,
    path: PathBuf,
    file: Box<dyn FsFile>,
    length: u64,
}

impl Log {
    pub(super) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        attempt: AttemptId,
        extension: &'static str,
        header: Vec<Vec<u8>>,
    ) -> Self {
        Self { fs, dir, attempt, extension, header, next: 0, open: None, written: Vec::new() }
    }

    /// Appends frames with one fsync; on return they are durable.
    ///
    /// After an error nothing is known about the file's end (a failed fsync may have lost any of it), and frames
    /// behind a bad one are never read: the next append starts a new file.
    pub(super) fn append(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Location>, StoreError> {
        let frames = encode_all(payloads)?;
        let mut log = match self.open.take() {
            Some(log) => log,
            None => self.create()?,
        };
        let mut end = log.length;
        let locate = |payload: &Vec<u8>| {
            let offset = end + frame::HEAD as u64;
            end = offset + payload.len() as u64;
            Location { name: log.name.clone(), offset }
        };
        let locations = payloads.iter().map(locate).collect();
        if let Err(error) = log.append(&frames) {
            // Readers may have seen more of it than was promised: it is not this writer's to remove any more.
            self.written.retain(|path| *path != log.path);
            return Err(error);
        }
        self.open = Some(log);
        Ok(locations)
    }

    /// Ends the current file, and forgets and returns the files that hold nothing but what was appended without error.
    pub(super) fn finish(&mut self) -> Vec<PathBuf> {
        self.open = None;
        std::mem::take(&mut self.written)
    }

    /// Whether the current file, if there is one, can be found under its name still.
    pub(super) fn has_its_name(&self) -> Result<bool, StoreError> {
        let Some(OpenLog { path, .. }) = &self.open else { return Ok(true) };
        // A shared file system may answer from memory whether a file exists, but not open one that has gone.
        match self.fs.open(path) {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(StoreError::io("open", path)(error)),
        }
    }

    fn create(&mut self) -> Result<OpenLog, StoreError> {
        create_dirs(&*self.fs, &self.dir)?;
        let name = format!("{}-{:03}.{}", self.attempt, self.next, self.extension);
        self.next += 1;
        let path = self.dir.join(&name);
        let file = self.fs.create_new(&path).map_err(StoreError::io("create", &path))?;
        let mut log = OpenLog { name, path: path.clone(), file, length: 0 };
        let result = encode_all(&self.header)
            .and_then(|header| log.append(&header))
            .and_then(|()| sync_dir(&*self.fs, &self.dir));
        if let Err(error) = result {
            // Best effort: a file without records says nothing.
            let _ = self.fs.remove(&path);
            return Err(error);
        }
        self.written.push(path);
        Ok(log)
    }
}

impl OpenLog {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.append(bytes).map_err(StoreError::io("write", &self.path));
        let result = written.and_then(|()| self.file.sync().map_err(StoreError::io("sync", &self.path)));
        match result {
            Ok(()) => self.length += bytes.len() as u64,
            // Best effort: a torn end is harmless, but ugly.
            Err(_) => drop(self.file.truncate(self.length)),
        }
        result
    }
}

/// Payloads as frames, joined.
pub(super) fn encode_all(payloads: &[Vec<u8>]) -> Result<Vec<u8>, StoreError> {
    let mut frames = Vec::new();
    for payload in payloads {
        frames.extend(encode_one(payload)?);
    }
    Ok(frames)
}

/// A payload as a frame.
pub(super) fn encode_one(payload: &[u8]) -> Result<Vec<u8>, StoreError> {
    let too_long = || StoreError::Encode(format!("{} bytes do not fit into a frame", payload.len()));
    frame::encode(payload).ok_or_else(too_long)
}

/// Creates a folder of the store and its missing parents, durably.
pub(super) fn create_dirs(fs: &dyn Fs, dir: &Path) -> Result<(), StoreError> {
    if dir.as_os_str().is_empty() || fs.exists(dir).map_err(StoreError::io("look for", dir))? {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dirs(fs, parent)?;
    fs.create_dir(dir).map_err(StoreError::io("create directory", dir))?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    sync_dir(fs, parent)
}
