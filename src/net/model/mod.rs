//! Models by name: a model file, its weights, and the velocity field they make.

pub mod check;
mod classifier;
mod error;
mod features;
mod file;
mod find;
mod import;
mod infer;
mod lpips;
mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use classifier::{ClassifierFile, LoadedClassifier, classifier_names, load_classifier, read_classifier};
pub use error::ModelError;
pub use features::{FeaturesFile, FeaturesSpec, LoadedFeatures, feature_names, load_features};
pub use file::{
    Finish, Matmul, ModelFile, NetworkSpec, PathSpec, Prediction, Reparametrise, TimeSpec, VpLinear,
};
pub use find::{find, names_under};
pub use import::{Import, Imported, Precision};
pub use infer::Given;
pub use lpips::{HeadsFile, LoadedLpips, LpipsFile, load_lpips};
pub use sources::{PublicFile, how_to_get, public_files, with_advice};

use super::adm;
use super::egnn::{self, EgnnNetwork, EquiFmVelocity};
use super::weights::Weights;
use super::{DeviceNetwork, NetError, Network};
use crate::flow::{FieldError, NetworkField, RawNetwork, VelocityField};
use crate::molecule::Representation;
use file::WeightSource;

/// A loaded model; clones share the weights.
#[derive(Debug, Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: ModelFile,
    weights_blake3: String,
    network: CpuNetwork,
}

/// A network of any family.
#[derive(Debug)]
enum CpuNetwork {
    Adm(Network),
    Egnn(EgnnNetwork),
}

/// What the states of a model are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StateShape {
    /// Channels, height and width of an image.
    Image([usize; 3]),
    /// A molecule, as rows of atoms.
    Molecule(Representation),
}

impl StateShape {
    /// Numbers of a state.
    pub fn dim(&self) -> usize {
        match self {
            Self::Image(sides) => sides.iter().product(),
            Self::Molecule(representation) => representation.dim(),
        }
    }
}

impl Model {
    /// Loads `models/<name>.yaml` (see [`find`]) or a path ending in `.yaml`, and its weights.
    ///
    /// `data` is the folder whose sub-folders hold weights that are not shipped.
    ///
    /// # Errors
    /// Whatever keeps the model from running is found here: see [`ModelError`].
    pub fn load(name: &str, home: Option<&Path>, data: Option<&Path>) -> Result<Self, ModelError> {
        let path = find(name, home)?;
        let file = read(&path)?;
        let mut weights = weights(&path, file.source(), data)?;
        if matches!(file.network, NetworkSpec::Egnn(_)) && file.prefix.is_empty() {
            weights = without_edm_prefix(weights);
        }
        let network = CpuNetwork::new(&file.network, &weights).map_err(|error| error.of_model(&path))?;
        let weights_blake3 = weights.blake3().to_owned();
        Ok(Self { inner: Arc::new(Inner { path, file, weights_blake3, network }) })
    }

    /// As [`Self::load`] with random weights in the place of its own, which need not be there: for times and memory.
    ///
    /// # Errors
    /// As [`Self::load`], of the model file.
    pub fn with_random_weights(name: &str, home: Option<&Path>) -> Result<Self, ModelError> {
        let path = find(name, home)?;
        let file = read(&path)?;
        let weights = Weights::random(0, file.network.tensors());
        let network = CpuNetwork::new(&file.network, &weights).map_err(|error| error.of_model(&path))?;
        let weights_blake3 = weights.blake3().to_owned();
        Ok(Self { inner: Arc::new(Inner { path, file, weights_blake3, network }) })
    }

    /// The velocity field on a candle device, evaluated in batches of fixed size.
    ///
    /// # Errors
    /// What the device says, for example that its memory is too small for the weights; networks of molecules run on the
    /// CPU only.
    pub fn field_on(
        &self,
        device: &candle_core::Device,
        batch: usize,
    ) -> Result<Box<dyn VelocityField<f32>>, FieldError> {
        let CpuNetwork::Adm(network) = &self.inner.network else {
            return Err(FieldError::Other(
                "networks of molecules run on CPU devices only: use --devices cpu".to_owned(),
            ));
        };
        let network = DeviceNetwork::new(network, device, batch)?.with_matmul(self.inner.file.matmul);
        Ok(Box::new(NetworkField::new(network, self.inner.file.convention())))
    }

    /// The velocity field, for one worker.
    pub fn field(&self) -> Box<dyn VelocityField<f32>> {
        let raw: Box<dyn RawNetwork<f32>> = match (&self.inner.network, self.state()) {
            (CpuNetwork::Egnn(network), StateShape::Molecule(representation))
                if self.inner.file.prediction == Prediction::Equifm =>
            {
                Box::new(EquiFmVelocity::new(network.clone(), &representation))
            }
            (CpuNetwork::Egnn(network), _) => Box::new(network.clone()),
            (CpuNetwork::Adm(network), _) => Box::new(network.clone()),
        };
        Box::new(NetworkField::new(raw, self.inner.file.convention()))
    }

    /// blake3 in hex of all that determines the field: weights, network, path, parametrisation and time.
    ///
    /// Names, notes and places of files do not enter.
    pub fn identity(&self) -> String {
        let ModelFile { network, prefix, path, prediction, time, reparametrise, finish, matmul, .. } =
            &self.inner.file;
        let parts = (&self.inner.weights_blake3, network, prefix, path, prediction, time);
        // Models without these options keep the identity that they had before there were any.
        let parts = match (reparametrise, finish, matmul) {
            (None, None, None) => serde_json::to_vec(&parts),
            (reparametrise, finish, None) => serde_json::to_vec(&(parts, (reparametrise, finish))),
            options => serde_json::to_vec(&(parts, options)),
        };
        blake3::hash(&parts.expect("a model file came from text")).to_hex().to_string()
    }

    /// What its states are.
    pub fn state(&self) -> StateShape {
        self.inner.file.state()
    }

    /// Number of classes; 0: unconditional.
    pub fn classes(&self) -> usize {
        self.inner.file.classes()
    }

    /// blake3 of the weight file in hex.
    pub fn weights_blake3(&self) -> &str {
        &self.inner.weights_blake3
    }

    /// The model file as written.
    pub fn file(&self) -> &ModelFile {
        &self.inner.file
    }

    /// Where the model file is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

/// Where the names of a public EDM or EquiFM checkpoint's network start so, what it also holds (`buffer`, the noise
/// schedule `gamma.gamma`) is left out.
fn without_edm_prefix(weights: Weights) -> Weights {
    const PREFIX: &str = "dynamics.egnn.";
    let has_prefix = weights.iter().any(|(name, _)| name.starts_with(PREFIX));
    if has_prefix { weights.strip_prefix(PREFIX) } else { weights }
}

impl NetworkSpec {
    /// Names and shapes of the network's tensors.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Adm(config) => adm::tensors(config),
            Self::Egnn(config) => egnn::tensors(config),
        }
    }
}

impl CpuNetwork {
    fn new(spec: &NetworkSpec, weights: &Weights) -> Result<Self, NetError> {
        match spec {
            NetworkSpec::Adm(config) => {
                weights.check(&spec.tensors())?;
                Network::adm(config, weights).map(Self::Adm)
            }
            NetworkSpec::Egnn(config) => {
                weights.check(&spec.tensors())?;
                EgnnNetwork::new(config, weights).map(Self::Egnn)
            }
        }
    }
}

impl NetError {
    /// As the error of a model file.
    fn of_model(self, file: &Path) -> ModelError {
        match self {
            Self::Weights(error) => error.into(),
            source => ModelError::Network { file: file.to_owned(), source: source.into() },
        }
    }
}

/// Reads and checks a model file.
///
/// # Errors
/// If it cannot be read, does not parse, or contradicts itself.
pub fn read(path: &Path) -> Result<ModelFile, ModelError> {
    let file: ModelFile = parse(path)?;
    let problems = file.problems();
    if problems.is_empty() {
        Ok(file)
    } else {
        Err(ModelError::Invalid { path: path.to_owned(), detail: problems.join("; ") })
    }
}

/// Reads a file of any kind of model, without checking what it says.
fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
    let invalid = |detail| ModelError::Invalid { path: path.to_owned(), detail };
    serde_yaml::from_str(&text).map_err(|error| invalid(error.to_string()))
}

/// blake3 in hex of what determines a network's results.
fn identity_of(parts: &impl serde::Serialize) -> String {
    let parts = serde_json::to_vec(parts).expect("a model file came from text");
    blake3::hash(&parts).to_hex().to_string()
}

/// Reads the weights that a file names, and checks their hash.
fn weights(path: &Path, source: WeightSource<'_>, data: Option<&Path>) -> Result<Weights, ModelError> {
    let folder = match source.folder {
        None => path.parent().unwrap_or(Path::new(".")).to_owned(),
        Some(folder) => data.map(|data| data.join(folder)).ok_or_else(|| ModelError::NoDataFolder {
            file: path.to_owned(),
            folder: folder.to_owned(),
            weights: source.weights.to_owned(),
        })?,
    };
    let weights = Weights::read(&folder.join(source.weights))?;
    match source.blake3 {
        Some(expected) if !expected.eq_ignore_ascii_case(weights.blake3()) => Err(ModelError::Hash {
            file: path.to_owned(),
            weights: weights.path().to_owned(),
            expected: expected.to_owned(),
            found: weights.blake3().to_owned(),
        }),
        _ => Ok(weights.strip_prefix(source.prefix)),
    }
}

#[cfg(test)]
mod molecule_tests;
#[cfg(test)]
mod tests;
