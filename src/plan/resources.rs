//! What a plan has to know of datasets, models and files.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::dataset::DatasetRef;
use crate::spec::metric::MetricSpec;
use crate::spec::model::ModelRef;
use crate::spec::operator::OperatorSpec;
use crate::spec::property::Property;

/// Looks up what a pipeline names. Errors are whole sentences: what is missing or wrong, where, and what to do.
pub trait Resources {
    /// The dataset, with every sample of its manifest.
    fn dataset(&self, reference: &DatasetRef) -> Result<DatasetInfo, String>;

    /// A model; a Gaussian is fitted to the training images of `dataset`.
    fn model(&self, reference: &ModelRef, dataset: &DatasetRef) -> Result<ModelInfo, String>;

    /// A property classifier.
    fn classifier(&self, reference: &str) -> Result<ClassifierInfo, String>;

    /// Whether a metric can be measured; weights that are not there are no error, wrong ones are.
    fn metric(&self, metric: &MetricSpec) -> Result<(), String>;

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
    /// Shape of every sample.
    pub shape: StateShape,
    /// Number of classes; 0: no labels.
    pub classes: u32,
    /// Sample ids in manifest order.
    pub samples: Vec<String>,
}

/// Shape of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateShape {
    /// An image.
    Image(ImageShape),
    /// A molecule.
    Molecule(MoleculeShape),
}

/// Shape of a molecule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoleculeShape {
    /// Most atoms.
    pub max_atoms: u32,
}

impl StateShape {
    /// The shape of an image, if it is one.
    pub const fn image(self) -> Option<ImageShape> {
        if let Self::Image(shape) = self { Some(shape) } else { None }
    }

    /// What a sample is, in the plural.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Image(_) => "images",
            Self::Molecule(_) => "molecules",
        }
    }
}

impl fmt::Display for StateShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(shape) => write!(f, "{shape}"),
            Self::Molecule(MoleculeShape { max_atoms }) => write!(f, "up to {max_atoms} atoms"),
        }
    }
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
    /// From channels, rows, columns.
    pub fn from_sides(sides: [usize; 3]) -> Self {
        let [channels, height, width] = sides.map(|side| side as u32);
        Self { channels, height, width }
    }

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
    /// Shape of its samples.
    pub shape: StateShape,
    /// Number of classes; 0: unconditional.
    pub classes: u32,
    /// Whether it can give noise predictions, which the ancestral sampler needs.
    pub predicts_noise: bool,
    /// Whether forward solves end with one more evaluation (a finishing denoise).
    #[serde(default)]
    pub finish: bool,
    /// Whether only a GPU does what its file says (`matmul: tf32`).
    #[serde(default)]
    pub gpu_only: bool,
}

impl ModelInfo {
    /// That of a closed form: it has no classes, and no network that predicts noise.
    pub fn of_closed_form(identity: String, shape: StateShape) -> Self {
        Self { identity, shape, classes: 0, predicts_noise: false, finish: false, gpu_only: false }
    }
}

/// A property classifier as a plan sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassifierInfo {
    /// Hash in hex of weights, network and normalisation.
    pub identity: String,
    /// What it reads.
    pub property: Property,
    /// Whether it is a small one, shipped in the place of a real one.
    pub small: bool,
    /// Its error on real molecules that it was not trained on, if its file states it.
    pub held_out: Option<HeldOut>,
}

/// The error of a classifier on real molecules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Number of molecules.
    pub molecules: u32,
    /// Mean absolute error in the property's unit.
    pub mae: f64,
}
