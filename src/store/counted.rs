//! A file system for tests that counts listings and bytes read, and may be away for a while.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::fault::FaultFs;
use super::fs::{Fs, FsFile, FsRead, LockGuard};

/// Counts what is asked of it; its clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// The files.
    pub(crate) fs: FaultFs,
    /// Listings so far.
    pub(crate) listings: Arc<AtomicUsize>,
    /// Bytes read so far.
    pub(crate) bytes: Arc<AtomicUsize>,
    /// Whether every listing fails.
    pub(crate) is_away: Arc<AtomicBool>,
}

impl Counted {
    /// An empty file system with the directory `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { fs: FaultFs::new(root), ..Self::default() }
    }
}

#[derive(Debug)]
struct CountedFile(Arc<dyn FsRead>, Arc<AtomicUsize>);

impl FsRead for CountedFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.1.fetch_add(length, Ordering::Relaxed);
        self.0.read_at(offset, length)
    }
}

impl Fs for Counted {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.create_dir(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.fs.create_new(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.fs.read(path).inspect(|bytes| {
            self.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        })
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsRead>> {
        Ok(Arc::new(CountedFile(self.fs.open(path)?, Arc::clone(&self.bytes))))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        if self.is_away.load(Ordering::Relaxed) {
            return Err(io::Error::other("stale file handle"));
        }
        self.fs.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.fs.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.fs.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.fs.lock(path)
    }
}
