//! Encoded images in files: folders of image files, Parquet files, WebDataset tar files.
//!
//! Opening lists every sample with the hash of its encoded bytes (kept in the user's cache folder, see [`cache`]);
//! pictures are read, decoded and resized when they are asked for.

mod cache;
mod class;
mod decode;
mod files;
mod folder;
mod jpeg;
mod listing;
mod pixels;
mod resample;
mod resize;
mod web_dataset;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::class::ClassSource;
pub(super) use self::class::{Class, ClassList, beside as class_list_beside};
pub use self::folder::FolderLayout;
pub(super) use self::listing::{Listed, Place};
pub use self::resize::ResizeRule;
pub use self::web_dataset::WebDatasetLayout;

use self::decode::decode;
use self::listing::Listing;
use super::description::Description;
use super::manifest::{Entry, Manifest};
use super::parquet::{self, ParquetLayout};
use super::selector::Selector;
use super::{Dataset, DatasetError, Image, SampleError, Split};

/// One way in which encoded images are stored. Files are relative to the dataset's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageSource {
    /// Files below a folder, one an image.
    Folder(FolderLayout),
    /// Rows of Parquet files.
    Parquet(ParquetLayout),
    /// Members of tar files, as WebDataset names them.
    WebDataset(WebDatasetLayout),
}

impl ImageSource {
    /// The first of `sources` of which something of `split` is there, else the first: its error says what is missing.
    pub(super) fn found_in<'a>(sources: &'a [Self], split: Split, folder: &Path) -> Option<&'a Self> {
        sources.iter().find(|source| source.is_there(split, folder)).or(sources.first())
    }

    fn is_there(&self, split: Split, folder: &Path) -> bool {
        match self {
            Self::Folder(layout) => layout.splits.get(&split).is_some_and(|path| folder.join(path).is_dir()),
            Self::Parquet(ParquetLayout { files, .. }) | Self::WebDataset(WebDatasetLayout { files, .. }) => {
                let patterns = files.get(&split).map(Vec::as_slice).unwrap_or_default();
                files::expand(folder, patterns).is_ok_and(|files| files.iter().any(|file| file.exists()))
            }
        }
    }

    /// The files of a split that hold many samples each; none of a folder of images.
    pub(super) fn shards(&self, split: Split, folder: &Path) -> Result<Vec<PathBuf>, String> {
        match self {
            Self::Folder(_) => Ok(Vec::new()),
            Self::Parquet(ParquetLayout { files, .. }) | Self::WebDataset(WebDatasetLayout { files, .. }) => {
                files::expand(folder, files.get(&split).map(Vec::as_slice).unwrap_or_default())
            }
        }
    }
}

/// Most bytes of an encoded image; a larger one is an error of its sample.
const MAX_ENCODED: u64 = 256 << 20;

/// Where the encoded bytes of a sample are.
#[derive(Debug)]
enum Stored {
    /// In memory: small Parquet files, whose rows take long to find again.
    Held(Vec<u8>),
    /// In one of the files.
    At {
        /// Index of the file.
        file: u32,
        /// Where in it.
        place: Place,
    },
}

/// The images of one split.
#[derive(Debug)]
pub(super) struct EncodedImages {
    manifest: Manifest,
    shape: [usize; 3],
    resize: ResizeRule,
    source: ImageSource,
    files: Vec<PathBuf>,
    stored: Vec<Stored>,
}

impl EncodedImages {
    /// Lists a split and puts its samples into the described order.
    pub(super) fn open(
        description: &Description,
        source: &ImageSource,
        split: Split,
        folder: &Path,
    ) -> Result<Self, DatasetError> {
        let (name, shape) = (&description.name, description.image_shape()?);
        let listing = Listing::read(description, source, split, folder)?;
        let classes = ClassList::of(description, &listing.samples)?;
        // The other splits are what priors are fitted to: all of them.
        let all = Selector::All;
        let selector = if split == description.split { &description.selector } else { &all };
        let ids: Vec<String> = listing.samples.iter().map(|sample| sample.listed.id.clone()).collect();
        let chosen = selector.choose(name, &ids, folder)?;
        let mut slots: Vec<_> = listing.samples.into_iter().map(Some).collect();
        let (mut entries, mut stored) = (Vec::with_capacity(chosen.len()), Vec::with_capacity(chosen.len()));
        for (position, label) in chosen {
            // A list that names a sample twice: the manifest says so.
            let Some(sample) = slots[position].take() else {
                return Err(twice(name, &ids[position], position));
            };
            let class = label.map_or(sample.listed.class, Class::Label);
            let label = classes.label(name, &sample.listed.id, &class)?;
            entries.push(Entry { id: sample.listed.id, label, content: sample.listed.content.into() });
            stored.push(sample.stored);
        }
        let manifest =
            Manifest::with_resize(name, split, classes.len(), description.resize.identity(), entries)?;
        let images = Self {
            manifest,
            shape,
            resize: description.resize,
            source: source.clone(),
            files: listing.files,
            stored,
        };
        images.check_first()?;
        Ok(images)
    }

    /// Images of another size are an error of the dataset; they are noticed by its first readable image.
    fn check_first(&self) -> Result<(), DatasetError> {
        for (index, entry) in self.manifest.first(8).iter().enumerate() {
            let Ok(pixels) = self.pixels(index) else { continue };
            let found = self.resize.apply(pixels, self.shape[2], self.shape[1]).shape();
            if found == self.shape {
                return Ok(());
            }
            let (name, id) = (self.manifest.name().to_owned(), entry.id.clone());
            return Err(DatasetError::Shape { name, id, reason: shape_mismatch(found, self.shape) });
        }
        Ok(())
    }

    fn pixels(&self, index: usize) -> Result<pixels::Pixels, String> {
        decode(&self.encoded(index)?, self.shape[0])
    }

    /// The encoded bytes, if they are still those that were listed.
    fn encoded(&self, index: usize) -> Result<Vec<u8>, String> {
        let (file, place) = match &self.stored[index] {
            Stored::Held(bytes) => return Ok(bytes.clone()),
            Stored::At { file, place } => (&self.files[*file as usize], *place),
        };
        let bytes = match (place, &self.source) {
            (Place::Row { group, row }, ImageSource::Parquet(layout)) => {
                parquet::read(file, layout, group, row)
            }
            (Place::Slice { offset, length }, _) => slice(file, offset, Some(length)),
            _ => slice(file, 0, None),
        }?;
        if blake3::hash(&bytes) == self.manifest.entries()[index].content {
            Ok(bytes)
        } else {
            Err(format!("{} changed after it was listed: start again", file.display()))
        }
    }
}

fn twice(name: &str, id: &str, position: usize) -> DatasetError {
    DatasetError::Duplicate { name: name.to_owned(), id: id.to_owned(), first: position, second: position }
}

/// `length` bytes of a file from `offset`; all of it without a length.
fn slice(path: &Path, offset: u64, length: Option<u64>) -> Result<Vec<u8>, String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = length.map_or_else(|| file.metadata().map(|metadata| metadata.len()), Ok)?;
        if length > MAX_ENCODED {
            let reason = format!("an encoded image of {length} bytes; {MAX_ENCODED} are the most");
            return Err(std::io::Error::other(reason));
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}

impl Dataset for EncodedImages {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn image(&self, index: usize) -> Result<Image, SampleError> {
        let id = &self.manifest.entry(index)?.id;
        let fail = |reason| SampleError { id: id.clone(), reason };
        let pixels = self.pixels(index).map_err(fail)?;
        let pixels = self.resize.apply(pixels, self.shape[2], self.shape[1]);
        if pixels.shape() != self.shape {
            return Err(fail(shape_mismatch(pixels.shape(), self.shape)));
        }
        Ok(Image::from_hwc_bytes(&pixels.bytes, pixels.shape()))
    }
}

fn shape_mismatch(found: [usize; 3], expected: [usize; 3]) -> String {
    let text = |[c, h, w]: [usize; 3]| format!("{h}×{w} with {c} channel(s)");
    format!("the image is {}, expected {}", text(found), text(expected))
}

#[cfg(test)]
mod tests;
