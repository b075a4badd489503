//! What a plan has to know of datasets, models and files.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::dataset::DatasetRef;
use crate::spec::model::ModelRef;
use crate::spec::operator::OperatorSpec;

/// Looks up what a pipeline names. Errors are whole sentences: what is missing or wrong, where, and what to do.
pub trait Resources {
    /// The dataset, with every sample of its manifest.
    fn dataset(&self, reference: &DatasetRef) -> Result<DatasetInfo, String>;

    /// A model; a Gaussian is fitted to the training images of `dataset`.
    fn model(&self, reference: &ModelRef, dataset: &DatasetRef) -> Result<ModelInfo, String>;

    /// Whether an operator can be built for images of this shape.
    fn operator(&self, operator: &OperatorSpec, shape: ImageShape) -> Result<(), String>;

    /// blake3 in hex of a file of initial points, which must hold one tensor of the dataset's shape for every sample.
    fn initial_points(&self, path: &str, dataset: &DatasetInfo) -> Result<String, String>;
}

/// A dataset as a plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// Identity that enters the random streams.
    pub id: String,
    /// Hash of the manifest in hex: sample ids, order and content.
    pub manifest: String,
    /// The split.
    pub split: String,
    /// Shape of every image.
    pub shape: ImageShape,
    /// Number of classes; 0: no labels.
    pub classes: u32,
    /// Sample ids in manifest order.
    pub samples: Vec<String>,
}

/// Shape of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    /// Colour channels.
    pub channels: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl ImageShape {
    /// Channels, rows, columns: the order in memory.
    pub const fn sides(self) -> [u32; 3] {
        [self.channels, self.height, self.width]
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

/// A model as a plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Hash in hex of all that determines the field: weights (blake3), network, path and parametrisation,
    /// or the manifest of the images that a Gaussian is fitted to.
    pub identity: String,
    /// Shape of its images.
    pub shape: ImageShape,
    /// Number of classes; 0: unconditional.
    pub classes: u32,
}
