//! The samples of a split as they are stored, before a selector orders them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cache::{Cache, Unit};
use super::class::Class;
use super::folder::{FolderLayout, ImageFile};
use super::web_dataset::{self, WebDatasetLayout};
use super::{ImageSource, Stored};
use crate::dataset::parquet::{self, Failure, ParquetLayout};
use crate::dataset::{DatasetError, Description, Split};

/// One sample of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::dataset) struct Listed {
    /// Its id; empty: numbered when the files are put together.
    pub(in crate::dataset) id: String,
    /// Its class.
    pub(in crate::dataset) class: Class,
    /// blake3 of its encoded bytes.
    pub(in crate::dataset) content: [u8; 32],
    /// Where in the file.
    pub(in crate::dataset) place: Place,
}

impl Listed {
    /// A sample with its encoded bytes.
    pub(in crate::dataset) fn new(id: Option<String>, class: Class, bytes: &[u8], place: Place) -> Self {
        Self { id: id.unwrap_or_default(), class, content: blake3::hash(bytes).into(), place }
    }
}

/// Where in its file a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::dataset) enum Place {
    /// It is all of it.
    Whole,
    /// Some bytes of it.
    Slice {
        /// Of the first byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// A row of a Parquet file.
    Row {
        /// The row group.
        group: u32,
        /// The row in it.
        row: u32,
    },
}

impl Place {
    /// Bytes of a slice.
    pub(super) const fn length(self) -> Option<u64> {
        if let Self::Slice { length, .. } = self { Some(length) } else { None }
    }
}

/// A sample and where its bytes are.
#[derive(Debug)]
pub(in crate::dataset) struct Sample {
    pub(in crate::dataset) listed: Listed,
    pub(super) stored: Stored,
}

/// All samples of a split.
pub(super) struct Listing {
    /// The files that hold them.
    pub(super) files: Vec<PathBuf>,
    /// In the order of the files, and in that of each file.
    pub(super) samples: Vec<Sample>,
}

/// Parquet files of so many bytes together are held in memory.
const HELD_BYTES: u64 = 256 << 20;

impl Listing {
    /// Lists a split; `folder` is the dataset's.
    pub(super) fn read(
        description: &Description,
        source: &ImageSource,
        split: Split,
        folder: &Path,
    ) -> Result<Self, DatasetError> {
        let lister = Lister { description, split, folder };
        let mut listing = match source {
            ImageSource::Folder(layout) => lister.folder(layout),
            ImageSource::Parquet(layout) => lister.parquet(layout, source),
            ImageSource::WebDataset(layout) => lister.web_dataset(layout, source),
        }?;
        for (row, sample) in listing.samples.iter_mut().enumerate() {
            if sample.listed.id.is_empty() {
                sample.listed.id = format!("{split}/{row:06}");
            }
        }
        Ok(listing)
    }

    /// From what every file holds.
    fn of(files: Vec<PathBuf>, by_file: Vec<Vec<Listed>>) -> Self {
        let samples = by_file.into_iter().zip(0..).flat_map(|(samples, file)| {
            samples.into_iter().map(move |listed| {
                let stored = Stored::At { file, place: listed.place };
                Sample { listed, stored }
            })
        });
        Self { samples: samples.collect(), files }
    }
}

/// Lists, and words what is wrong.
struct Lister<'a> {
    description: &'a Description,
    split: Split,
    folder: &'a Path,
}

impl Lister<'_> {
    fn folder(&self, layout: &FolderLayout) -> Result<Listing, DatasetError> {
        let below = layout.splits.get(&self.split).ok_or_else(|| self.no_split())?;
        let root = self.folder.join(below);
        let found = ImageFile::all_below(&root).map_err(|error| self.unreadable(&root, error))?;
        let units: Vec<Unit<'_>> =
            found.iter().map(|file| Unit { name: &file.id, path: &file.path }).collect();
        let list = |index: usize| -> Result<_, DatasetError> {
            let ImageFile { id, path } = &found[index];
            let content = hash(path).map_err(|error| self.unreadable(path, error))?;
            // What class its name says may change with the description.
            Ok(vec![Listed { id: id.clone(), class: Class::None, content, place: Place::Whole }])
        };
        let mut by_file = self.cache(&"folder").list(&units, list)?;
        for (file, samples) in found.iter().zip(&mut by_file) {
            samples.iter_mut().for_each(|sample| sample.class = file.class(layout.class));
        }
        Ok(Listing::of(found.into_iter().map(|file| file.path).collect(), by_file))
    }

    fn parquet(&self, layout: &ParquetLayout, source: &ImageSource) -> Result<Listing, DatasetError> {
        let files = self.shards(source, layout.files.contains_key(&self.split))?;
        let bytes: u64 = files.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum();
        if bytes > HELD_BYTES {
            return self.shard_by_shard(source, files, |file| {
                let mut samples = Vec::new();
                let scanned = parquet::scan(file, layout, &mut |listed, _| samples.push(listed));
                scanned.map(|()| samples).map_err(|failure| self.failed(file, failure))
            });
        }
        let mut samples = Vec::new();
        for file in &files {
            let mut hold = |listed, bytes: &[u8]| {
                samples.push(Sample { listed, stored: Stored::Held(bytes.to_vec()) });
            };
            parquet::scan(file, layout, &mut hold).map_err(|failure| self.failed(file, failure))?;
        }
        Ok(Listing { files, samples })
    }

    fn web_dataset(&self, layout: &WebDatasetLayout, source: &ImageSource) -> Result<Listing, DatasetError> {
        let files = self.shards(source, layout.files.contains_key(&self.split))?;
        self.shard_by_shard(source, files, |file| {
            web_dataset::list(file, layout).map_err(|error| self.unreadable(file, error))
        })
    }

    fn shard_by_shard(
        &self,
        source: &ImageSource,
        files: Vec<PathBuf>,
        list: impl Fn(&Path) -> Result<Vec<Listed>, DatasetError> + Sync,
    ) -> Result<Listing, DatasetError> {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let units: Vec<Unit<'_>> = names.iter().zip(&files).map(|(name, path)| Unit { name, path }).collect();
        let by_file = self.cache(source).list(&units, |index| list(&files[index]))?;
        Ok(Listing::of(files, by_file))
    }

    fn shards(&self, source: &ImageSource, has_split: bool) -> Result<Vec<PathBuf>, DatasetError> {
        if !has_split {
            return Err(self.no_split());
        }
        source.shards(self.split, self.folder).map_err(|reason| self.unreadable(self.folder, reason))
    }

    /// What is kept of this split in this folder, read in this way.
    fn cache(&self, way: &impl Serialize) -> Cache {
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.to_owned());
        Cache::of_user(&(folder, self.split, way))
    }

    fn failed(&self, path: &Path, failure: Failure) -> DatasetError {
        match failure {
            Failure::Unreadable(reason) => self.unreadable(path, reason),
            Failure::Column { what, columns } => {
                DatasetError::Column { path: path.to_owned(), what, columns }
            }
        }
    }

    fn unreadable(&self, path: &Path, reason: impl ToString) -> DatasetError {
        DatasetError::File {
            name: self.description.name.clone(),
            path: path.to_owned(),
            reason: reason.to_string(),
            source_hint: self.description.source.clone(),
        }
    }

    fn no_split(&self) -> DatasetError {
        DatasetError::NoSplit { name: self.description.name.clone(), split: self.split }
    }
}

/// blake3 of a file.
fn hash(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().into())
}
