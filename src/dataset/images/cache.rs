//! Listings of image files, kept in the user's cache folder: hashing ImageNet's validation images takes half a minute.
//!
//! A file is listed again when its size or its time of change differ. One that changed in the last seconds is not kept:
//! it could change again within the same tick of the file system's clock.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::listing::Listed;
use crate::atomic;
use crate::user_cache;

/// Raised whenever what is kept, or what a reader lists, changes.
const VERSION: u32 = 1;

/// Files of fewer bytes together are listed every time: it takes no time.
const KEPT_FROM: u64 = 64 << 20;

/// A file that changed later than this ago is not kept.
const SETTLED: Duration = Duration::from_secs(3);

/// A file with its name in the cache.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
}

/// What was found in a file.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    stamp: Stamp,
    samples: Vec<Listed>,
}

/// Size, and time of change in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp(u64, u64, u32);

impl Stamp {
    fn of(metadata: &Metadata) -> Option<Self> {
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self(metadata.len(), changed.as_secs(), changed.subsec_nanos()))
    }

    fn is_settled(self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::new(self.1, self.2)) > SETTLED
    }
}

/// The listings of one split of one dataset.
pub(super) struct Cache {
    file: Option<PathBuf>,
    kept_from: u64,
}

impl Cache {
    /// That of a key in the user's cache folder.
    pub(super) fn of_user(key: &impl Serialize) -> Self {
        Self { file: user_cache::folder().map(|folder| folder.join(name(key))), kept_from: KEPT_FROM }
    }

    /// The samples of every file: as kept, else as `list` finds them in the file of an index, several at a time.
    ///
    /// A cache that cannot be read or written costs time, not the run.
    pub(super) fn list<E: Send>(
        &self,
        units: &[Unit<'_>],
        list: impl Fn(usize) -> Result<Vec<Listed>, E> + Sync,
    ) -> Result<Vec<Vec<Listed>>, E> {
        let stamps: Vec<Option<Stamp>> =
            units.par_iter().map(|unit| Stamp::of(&fs::metadata(unit.path).ok()?)).collect();
        let bytes: u64 = stamps.iter().flatten().map(|stamp| stamp.0).sum();
        let file = self.file.as_deref().filter(|_| bytes >= self.kept_from);
        let mut kept = file.and_then(read).unwrap_or_default();
        let found: Vec<Option<Vec<Listed>>> = units
            .iter()
            .zip(&stamps)
            .map(|(unit, stamp)| {
                let kept = kept.remove(unit.name)?;
                (Some(kept.stamp) == *stamp).then_some(kept.samples)
            })
            .collect();
        let is_current = kept.is_empty() && found.iter().all(Option::is_some);
        let listed: Vec<Vec<Listed>> = found
            .into_par_iter()
            .enumerate()
            .map(|(index, kept)| kept.map_or_else(|| list(index), Ok))
            .collect::<Result<_, E>>()?;
        if let Some(file) = file.filter(|_| !is_current) {
            keep(file, units, &stamps, &listed);
        }
        Ok(listed)
    }
}

fn name(key: &impl Serialize) -> String {
    let key = serde_json::to_vec(&(VERSION, key)).unwrap_or_default();
    format!("images-{}", &blake3::hash(&key).to_hex()[..32])
}

/// A hash, then what is hashed.
fn read(file: &Path) -> Option<HashMap<String, Kept>> {
    let bytes = fs::read(file).ok()?;
    let (hash, rest) = bytes.split_first_chunk::<32>()?;
    (blake3::hash(rest) == *hash).then(|| postcard::from_bytes(rest).ok())?
}

fn keep(file: &Path, units: &[Unit<'_>], stamps: &[Option<Stamp>], listed: &[Vec<Listed>]) {
    let settled = units.iter().zip(stamps).zip(listed).filter_map(|((unit, stamp), samples)| {
        let stamp = stamp.filter(|stamp| stamp.is_settled())?;
        Some((unit.name.to_owned(), Kept { stamp, samples: samples.clone() }))
    });
    let kept: HashMap<String, Kept> = settled.collect();
    let write = || -> io::Result<()> {
        let bytes = postcard::to_stdvec(&kept).map_err(io::Error::other)?;
        atomic::write_bytes(file, &[blake3::hash(&bytes).as_bytes(), &bytes[..]].concat())
    };
    if let Err(error) = write() {
        tracing::warn!("the list of images could not be kept in {}: {error}", file.display());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::class::Class;
    use super::super::listing::Place;
    use super::*;

    fn write(path: &Path, bytes: &[u8], ago: u64) {
        fs::write(path, bytes).unwrap();
        let time = SystemTime::now() - Duration::from_secs(ago);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    /// Lists a folder's files a, b, c; returns their first bytes, and how many were read.
    fn list(cache: &Cache, folder: &Path) -> (Vec<u8>, usize) {
        let reads = AtomicUsize::new(0);
        let paths: Vec<PathBuf> = ["a", "b", "c"].map(|name| folder.join(name)).into();
        let paths: Vec<_> = paths.into_iter().filter(|path| path.exists()).collect();
        let names: Vec<_> = paths.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        let units: Vec<_> = names.iter().zip(&paths).map(|(name, path)| Unit { name, path }).collect();
        let listed = cache.list(&units, |index| {
            reads.fetch_add(1, Ordering::Relaxed);
            let bytes = fs::read(&paths[index])?;
            Ok::<_, io::Error>(vec![Listed::new(
                None,
                Class::Label(i64::from(bytes[0])),
                &bytes,
                Place::Whole,
            )])
        });
        let label = |samples: &Vec<Listed>| match samples[0].class {
            Class::Label(label) => label as u8,
            _ => panic!("a label"),
        };
        (listed.unwrap().iter().map(label).collect(), reads.into_inner())
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let cache = Cache { file: Some(root.join("cache/list")), kept_from: 0 };
        write(&root.join("a"), b"1", 100);
        write(&root.join("b"), b"2", 100);
        assert_eq!(list(&cache, root), (vec![1 + b'0', 2 + b'0'], 2));
        assert_eq!(list(&cache, root), (b"12".to_vec(), 0));
        // Another time, another size, a new file, a file that is gone.
        write(&root.join("a"), b"3", 50);
        assert_eq!(list(&cache, root), (b"32".to_vec(), 1));
        write(&root.join("b"), b"44", 100);
        write(&root.join("c"), b"5", 100);
        assert_eq!(list(&cache, root), (b"345".to_vec(), 2));
        fs::remove_file(root.join("b")).unwrap();
        assert_eq!(list(&cache, root), (b"35".to_vec(), 0));
        // A damaged cache is none.
        let file = root.join("cache/list");
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(list(&cache, root), (b"35".to_vec(), 2));
    }

    #[test]
    fn a_file_that_just_changed_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let cache = Cache { file: Some(root.join("list")), kept_from: 0 };
        write(&root.join("a"), b"1", 0);
        write(&root.join("b"), b"2", 100);
        assert_eq!(list(&cache, root).1, 2);
        assert_eq!(list(&cache, root).1, 1);
    }

    #[test]
    fn few_bytes_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { file: Some(folder.path().join("list")), kept_from: 2 };
        write(&folder.path().join("a"), b"1", 100);
        assert_eq!(list(&cache, folder.path()).1, 1);
        assert!(!folder.path().join("list").exists());
    }
}
