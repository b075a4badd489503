//! The operating system's files, with every operation counted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dflow::store::fs::{Fs, FsFile, FsRead, LockGuard, OsFs};

/// Files whose operations are counted. An fsync is counted and not done: no machine loses power here, and a hundred
/// thousand of them take minutes. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct CountedFs(Arc<Counts>);

/// Operations so far.
#[derive(Debug, Default)]
struct Counts {
    creates: AtomicU64,
    removes: AtomicU64,
    renames: AtomicU64,
    listings: AtomicU64,
    listed: AtomicU64,
    opens: AtomicU64,
    syncs: AtomicU64,
    written: AtomicU64,
}

/// Operations at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    /// Files created.
    pub creates: u64,
    /// Files removed.
    pub removes: u64,
    /// Files renamed.
    pub renames: u64,
    /// Directories listed.
    pub listings: u64,
    /// Names in these listings.
    pub listed: u64,
    /// Files opened for reading.
    pub opens: u64,
    /// Files and directories made durable.
    pub syncs: u64,
    /// Bytes written.
    pub written: u64,
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Relaxed);
}

impl CountedFs {
    /// Operations so far.
    pub fn operations(&self) -> Operations {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        let Counts { creates, removes, renames, listings, listed, opens, syncs, written } = &*self.0;
        Operations {
            creates: of(creates),
            removes: of(removes),
            renames: of(renames),
            listings: of(listings),
            listed: of(listed),
            opens: of(opens),
            syncs: of(syncs),
            written: of(written),
        }
    }
}

impl Fs for CountedFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsFs.create_dir(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        count(&self.0.creates, 1);
        Ok(Box::new(CountedFile { file: OsFs.create_new(path)?, counts: Arc::clone(&self.0) }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        count(&self.0.opens, 1);
        OsFs.read(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsRead>> {
        count(&self.0.opens, 1);
        OsFs.open(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        count(&self.0.listings, 1);
        OsFs.list(path).inspect(|names| count(&self.0.listed, names.len() as u64))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsFs.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        count(&self.0.renames, 1);
        OsFs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        count(&self.0.removes, 1);
        OsFs.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        count(&self.0.syncs, 1);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        OsFs.lock(path)
    }
}

#[derive(Debug)]
struct CountedFile {
    file: Box<dyn FsFile>,
    counts: Arc<Counts>,
}

impl FsFile for CountedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        count(&self.counts.written, bytes.len() as u64);
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        count(&self.counts.syncs, 1);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
}
