//! Datasets: ordered manifests of samples, and the readers behind them.
//!
//! There are three kinds: images, molecules with their properties, and targets that molecules are generated for.
//! `datasets/<name>.yaml` says where a dataset comes from and how it is laid out ([`Description`]); opening it gives a
//! [`Dataset`] (or [`MoleculeSet`], [`MoleculeTargets`]): a [`Manifest`] (ids, labels, content hashes, in the order in
//! which a limit counts) and images by index.
//! A sample that cannot be read is a [`SampleError`] of that sample only; everything wrong with the dataset as a whole
//! is a [`DatasetError`], raised when it is opened.

mod description;
mod export;
mod images;
mod manifest;
mod mixture;
pub mod molecules;
pub mod mt19937;
mod parquet;
pub mod procedural;
mod selector;
mod statistics;
mod targets;

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use description::{
    Description, FileCheck, Kind, Layout, Opened, ProceduralLayout, SHIPPED, open, open_any, open_molecules,
    open_targets,
};
pub use export::export_npy;
pub use images::{ClassSource, FolderLayout, ImageSource, ResizeRule, WebDatasetLayout};
pub use manifest::{Entry, Manifest};
pub use mixture::{MixtureLayout, MixturePoints, PlaneComponent};
pub use molecules::{LabelledMolecule, MoleculeSet};
pub use parquet::{IdSource, ParquetLayout};
pub use selector::{Seeded, Selector};
pub use statistics::{BINS, Histogram, Statistics};
pub use targets::{MoleculeTargets, TargetsLayout};

/// An ordered set of labelled images.
pub trait Dataset: Send + Sync {
    /// Ids, labels and hashes of all samples, in order.
    fn manifest(&self) -> &Manifest;

    /// The image of a sample.
    ///
    /// # Errors
    /// If this sample cannot be read, or `index` is outside the manifest.
    fn image(&self, index: usize) -> Result<Image, SampleError>;

    /// Channels, height and width of every image.
    fn shape(&self) -> [usize; 3];

    /// Number of samples.
    fn len(&self) -> usize {
        self.manifest().entries().len()
    }

    /// False: a dataset without samples cannot be opened.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What priors are trained on and the Gaussian is fitted to.
    Train,
    /// What choices are made on while training; only some datasets have it.
    Valid,
    /// What is evaluated.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        })
    }
}

/// An image: channels × height × width values in [−1, 1], byte v ↦ v / 127.5 − 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Values, channel first, rows from the top.
    pub data: Vec<f32>,
    /// Channels, height, width.
    pub shape: [usize; 3],
}

impl Image {
    /// From bytes in the same order.
    fn from_chw_bytes(bytes: &[u8], shape: [usize; 3]) -> Self {
        Self { data: bytes.iter().map(|&b| f32::from(b) / 127.5 - 1.0).collect(), shape }
    }

    /// From interleaved bytes (height × width × channels).
    fn from_hwc_bytes(bytes: &[u8], shape: [usize; 3]) -> Self {
        let [channels, height, width] = shape;
        let mut data = vec![0.0; channels * height * width];
        for (place, pixel) in bytes.chunks_exact(channels).enumerate() {
            for (channel, &byte) in pixel.iter().enumerate() {
                data[channel * height * width + place] = f32::from(byte) / 127.5 - 1.0;
            }
        }
        Self { data, shape }
    }

    /// Back to bytes, the exact inverse of the conversion above.
    fn to_hwc_bytes(&self) -> Vec<u8> {
        let [channels, height, width] = self.shape;
        let plane = height * width;
        (0..plane * channels)
            .map(|i| {
                let value = self.data[(i % channels) * plane + i / channels];
                ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
            })
            .collect()
    }
}

/// Why one sample cannot be used; the others can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sample {id}: {reason}")]
pub struct SampleError {
    /// Sample id.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a dataset cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// No such name and no such file.
    #[error("unknown dataset `{name}`: shipped are {known}; for your own give the path of a .yaml file")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Shipped names.
        known: String,
    },
    /// The description does not parse.
    #[error("{file}: {message}")]
    Description {
        /// Name or path of the description.
        file: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// It lives in files, and nobody said where.
    #[error(
        "dataset `{name}` needs files: give the folder that holds `{folder}/` (--data, or DATA= with make)"
    )]
    NoDataFolder {
        /// Dataset.
        name: String,
        /// Expected sub-folder.
        folder: String,
    },
    /// A file cannot be opened or read.
    #[error("dataset `{name}`: cannot read {path}: {reason}\n  from: {source_hint}")]
    File {
        /// Dataset.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system or the Parquet reader said.
        reason: String,
        /// Where the dataset can be had.
        source_hint: String,
    },
    /// A file can be read, and its content is wrong.
    #[error("dataset `{name}`: {path}: {reason}\n  from: {source_hint}")]
    Content {
        /// Dataset.
        name: String,
        /// The file.
        path: PathBuf,
        /// Where in the file, and what is wrong.
        reason: String,
        /// Where a sound copy can be had.
        source_hint: String,
    },
    /// It holds something else.
    #[error("dataset `{name}` has {found}, not {wanted}; `dflow data list` says what the known ones have")]
    Kind {
        /// Dataset.
        name: String,
        /// What it has.
        found: Kind,
        /// What is needed.
        wanted: Kind,
    },
    /// A column is missing or has another type.
    #[error(
        "{path}: {what}; the file has: {columns}. Set `image`, `label` or `id` in the dataset's description"
    )]
    Column {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: String,
        /// What there is.
        columns: String,
    },
    /// The images are not what the description says.
    #[error(
        "dataset `{name}`, sample {id}: {reason}. Correct `shape` in the description, or convert the images"
    )]
    Shape {
        /// Dataset.
        name: String,
        /// First sample that shows it.
        id: String,
        /// Found and expected shape.
        reason: String,
    },
    /// No samples.
    #[error("dataset `{name}`, split {split}: no samples")]
    Empty {
        /// Dataset.
        name: String,
        /// Split.
        split: Split,
    },
    /// Two samples share an id.
    #[error(
        "dataset `{name}`: sample id `{id}` occurs twice (samples {first} and {second}); ids must be unique"
    )]
    Duplicate {
        /// Dataset.
        name: String,
        /// The id.
        id: String,
        /// Position of the first.
        first: usize,
        /// Position of the second.
        second: usize,
    },
    /// A label outside 0..classes.
    #[error("dataset `{name}`, sample {id}: label {label} is out of range: there are {classes} classes, 0..={}", classes - 1)]
    Label {
        /// Dataset.
        name: String,
        /// Sample.
        id: String,
        /// The label found.
        label: i64,
        /// Number of classes.
        classes: usize,
    },
    /// A class that the dataset does not have.
    #[error(
        "dataset `{name}`, sample {id}: there is no class `{class}` among its {classes} classes; correct `classes` or \
         `class_list` in the description"
    )]
    Class {
        /// Dataset.
        name: String,
        /// Sample.
        id: String,
        /// The class found.
        class: String,
        /// Number of classes.
        classes: usize,
    },
    /// A list of samples does not fit the dataset.
    #[error("dataset `{name}`, selector from_file, {file}: {reason}")]
    Selector {
        /// Dataset.
        name: String,
        /// The list.
        file: PathBuf,
        /// The line, and what is wrong with it.
        reason: String,
    },
    /// The split is not part of the dataset.
    #[error("dataset `{name}` has no {split} split")]
    NoSplit {
        /// Dataset.
        name: String,
        /// Split asked for.
        split: Split,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An image needed for an export cannot be read.
    #[error(transparent)]
    Sample(#[from] SampleError),
}
