//! The few file operations that the store needs, as a trait, so that tests can make each of them fail.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use super::attempt::AttemptId;
use super::error::StoreError;

/// A file system as the store uses it. Paths are used as given.
pub trait Fs: fmt::Debug + Send + Sync {
    /// Creates a directory; one that exists already is no error. The parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a file for appending; an error if it exists.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// `length` bytes from `offset`; fewer is an error.
    fn read_range(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Names in a directory, sorted; names that are not UTF-8 are no names of ours and are left out.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a file or directory of that name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Atomically gives a file another name, in place of any file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// A file open for appending.
pub trait FsFile: fmt::Debug + Send {
    /// Appends all bytes. After an error, any prefix of them may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFs;

impl Fs for OsFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = std::fs::OpenOptions::new().append(true).create_new(true).open(path)?;
        Ok(Box::new(OsFile(file)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::open(path)?;
        // Before the allocation: a damaged length must not ask for all memory.
        if file.metadata()?.len().checked_sub(offset).is_none_or(|rest| rest < length as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }
}

#[derive(Debug)]
struct OsFile(std::fs::File);

impl FsFile for OsFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

/// Writes a file so that its name holds either the old content or the new, whole and durable, never anything
/// between: temporary file, fsync, rename, directory fsync. After an error the temporary file is removed if it can be.
///
/// # Panics
/// If `path` has no parent or file name.
pub fn write_atomic(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let dir = path.parent().expect("a file of the store lies in a directory");
    let name = path.file_name().expect("a file of the store has a name").to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}.tmp", AttemptId::new()));
    let result = write_and_sync(fs, &temporary, bytes)
        .and_then(|()| fs.rename(&temporary, path).map_err(StoreError::io("rename to", path)));
    if result.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs.remove(&temporary);
        return result;
    }
    fs.sync_dir(dir).map_err(StoreError::io("sync directory", dir))
}

/// Writes a new file and makes its content (not yet its name) durable.
fn write_and_sync(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = fs.create_new(path).map_err(StoreError::io("create", path))?;
    file.append(bytes).map_err(StoreError::io("write", path))?;
    file.sync().map_err(StoreError::io("sync", path))
}

/// The content of a file, or `None` if there is none.
pub fn read_if_exists(fs: &dyn Fs, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// Names in a directory, sorted; none if it does not exist.
pub fn list_if_exists(fs: &dyn Fs, path: &Path) -> Result<Vec<String>, StoreError> {
    match fs.list(path) {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(StoreError::io("list", path)(error)),
    }
}
