//! The few file operations that the store needs, as a trait, so that tests can make each of them fail.

use std::any::Any;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
    /// Opens a file for reading: what is read is of this file, also when another gets its name meanwhile.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsRead>>;
    /// `length` bytes from `offset`; fewer is an error.
    fn read_range(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.open(path)?.read_at(offset, length)
    }
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
    /// Waits until nobody else holds the lock of the file `path`, which is created if need be, and holds it until the
    /// guard is dropped or the process ends. `None`: there is no lock to be had (a file system without, another user's
    /// file), or it was not free for long: a process that is stopped while it holds one must not stop all others.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;
}

/// Holds a lock until it is dropped.
pub type LockGuard = Box<dyn Any + Send>;

/// How often, and how far apart, a lock is asked for: ten seconds.
const LOCK_ATTEMPTS: u32 = 200;
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What became of asking for a lock.
pub(super) enum Asked {
    /// It is held.
    Held(LockGuard),
    /// Somebody else held it all the time.
    Busy,
    /// There is none to be had: a file system without, another user's file.
    NoLocks,
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

/// A file open for reading.
pub trait FsRead: fmt::Debug + Send + Sync {
    /// Bytes in it.
    fn size(&self) -> io::Result<u64>;
    /// `length` bytes from `offset`; fewer is an error.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// When it was last written, where the file system tells.
    fn modified(&self) -> Option<SystemTime> {
        None
    }
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

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsRead>> {
        Ok(Arc::new(OsFile(File::open(path)?)))
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
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        Ok(match ask_lock(path, LOCK_ATTEMPTS, LOCK_PAUSE)? {
            Asked::Held(guard) => Some(guard),
            Asked::NoLocks => None,
            Asked::Busy => {
                tracing::warn!("{} is held by another process for long; going on without", path.display());
                None
            }
        })
    }
}

/// As [`Fs::lock`] of [`OsFs`], asked for so often with this pause after each time, with the reason why there is none.
pub(super) fn ask_lock(path: &Path, attempts: u32, pause: Duration) -> io::Result<Asked> {
    let file = match File::options().create(true).truncate(false).write(true).open(path) {
        // Another user's lock in a shared directory; whether we may write there, the write itself will tell.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Asked::NoLocks),
        file => file?,
    };
    for _ in 0..attempts {
        match file.try_lock() {
            Ok(()) => return Ok(Asked::Held(Box::new(file))),
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            Err(TryLockError::Error(error)) => {
                tracing::debug!("no locks in {}: {error}", path.display());
                return Ok(Asked::NoLocks);
            }
        }
    }
    Ok(Asked::Busy)
}

#[derive(Debug)]
struct OsFile(File);

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

impl FsRead for OsFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        // Before the allocation: a damaged length must not ask for all memory.
        if self.size()?.checked_sub(offset).is_none_or(|rest| rest < length as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn modified(&self) -> Option<SystemTime> {
        self.0.metadata().and_then(|metadata| metadata.modified()).ok()
    }
}

/// Writes a file so that its name holds either the old content or the new, whole and durable, never anything
/// between: temporary file, fsync, rename, directory fsync. After an error the temporary file is removed if it can be.
///
/// # Panics
/// If `path` has no parent or file name.
pub fn write_atomic(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_atomic_pieces(fs, path, std::iter::once(Ok(bytes)))
}

/// As [`write_atomic`], for content that is never in memory as a whole: one append per piece. A piece that is an
/// error ends the writing, and the name keeps its old content.
pub fn write_atomic_pieces<T: AsRef<[u8]>>(
    fs: &dyn Fs,
    path: &Path,
    pieces: impl Iterator<Item = Result<T, StoreError>>,
) -> Result<(), StoreError> {
    write_atomic_with(fs, path, |file| {
        for piece in pieces {
            file.append(piece?.as_ref()).map_err(StoreError::io("write", path))?;
        }
        Ok(())
    })
}

/// As [`write_atomic`], for content that `body` appends. An error of it leaves the name its old content.
///
/// # Panics
/// If `path` has no parent or file name.
pub fn write_atomic_with(
    fs: &dyn Fs,
    path: &Path,
    body: impl FnOnce(&mut dyn FsFile) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    write_atomic_if(fs, path, body, |_| Ok(Some(()))).map(drop)
}

/// As [`write_atomic_with`], if `keep` says so when the content is whole, durable, and has a temporary name, which it is
/// given. What `keep` returns (a lock) lives until the name is changed; with `None` the temporary file is removed.
///
/// # Panics
/// If `path` has no parent or file name.
pub fn write_atomic_if<T>(
    fs: &dyn Fs,
    path: &Path,
    body: impl FnOnce(&mut dyn FsFile) -> Result<(), StoreError>,
    keep: impl FnOnce(&Path) -> Result<Option<T>, StoreError>,
) -> Result<Option<T>, StoreError> {
    let dir = path.parent().expect("a file of the store lies in a directory");
    let name = path.file_name().expect("a file of the store has a name").to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}.tmp", AttemptId::new()));
    let rename = |kept: Option<T>| match kept {
        Some(_) => fs.rename(&temporary, path).map(|()| kept).map_err(StoreError::io("rename to", path)),
        None => Ok(None),
    };
    let result = write_and_sync(fs, &temporary, body).and_then(|()| keep(&temporary)).and_then(rename);
    match result {
        Ok(Some(kept)) => sync_dir(fs, dir).map(|()| Some(kept)),
        other => {
            // Best effort: an error is the one to report, and a left-over is harmless.
            let _ = fs.remove(&temporary);
            other
        }
    }
}

/// Writes a new file and makes its content (not yet its name) durable.
fn write_and_sync(
    fs: &dyn Fs,
    path: &Path,
    body: impl FnOnce(&mut dyn FsFile) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut file = fs.create_new(path).map_err(StoreError::io("create", path))?;
    body(&mut *file)?;
    file.sync().map_err(StoreError::io("sync", path))
}

/// Makes creations, renames and removals in a directory durable, as far as its file system can: some of clusters
/// refuse the fsync of a directory as such (EINVAL, ENOTSUP), and then no program can do better.
pub fn sync_dir(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    match fs.sync_dir(path) {
        Err(error) if is_unsupported(&error) => {
            tracing::debug!("{} cannot be synced: {error}", path.display());
            Ok(())
        }
        result => result.map_err(StoreError::io("sync directory", path)),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // Not every version of the standard library gives ENOTSUP a kind.
    let codes = [Errno::NOTSUP, Errno::OPNOTSUPP].map(|code| Some(code.raw_os_error()));
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
        || codes.contains(&error.raw_os_error())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault::{Fault, FaultFs};

    #[test]
    fn a_file_system_that_cannot_sync_directories_is_no_error() {
        let path = Path::new("/run/file");
        for kind in [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported] {
            let fs = FaultFs::new(Path::new("/run"));
            fs.inject(4, Fault::Fail(kind)); // create, write, sync, rename, then the directory
            write_atomic(&fs, path, b"abc").unwrap();
            assert_eq!(fs.read(path).unwrap(), b"abc");
        }
        for code in [22, 95] {
            assert!(is_unsupported(&io::Error::from_raw_os_error(code)), "EINVAL and ENOTSUP on Linux");
        }
        let fs = FaultFs::new(Path::new("/run"));
        fs.inject(4, Fault::Fail(io::ErrorKind::Other));
        assert!(write_atomic(&fs, path, b"abc").is_err(), "any other error stays one");
    }

    #[test]
    fn a_piece_that_cannot_be_made_leaves_the_old_file() {
        let fs = FaultFs::new(Path::new("/run"));
        let path = Path::new("/run/file");
        write_atomic(&fs, path, b"old").unwrap();
        let pieces = [Ok(b"new".to_vec()), Err(StoreError::Encode("too long".to_owned()))];
        assert!(write_atomic_pieces(&fs, path, pieces.into_iter()).is_err());
        assert_eq!(fs.read(path).unwrap(), b"old");
        assert_eq!(fs.list(Path::new("/run")).unwrap(), ["file"]);
    }

    #[test]
    fn a_lock_is_held_until_its_guard_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let guard = OsFs.lock(&path).unwrap().expect("free");
        let other = File::options().write(true).open(&path).unwrap();
        assert!(other.try_lock().is_err());
        drop(guard);
        other.try_lock().unwrap();
    }
}
