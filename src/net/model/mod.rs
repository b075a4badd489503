//! Models by name: a model file, its weights, and the velocity field they make.

pub mod check;
mod error;
mod file;
mod find;
mod import;
mod infer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::ModelError;
pub use file::{ModelFile, NetworkSpec, PathSpec, Prediction, TimeSpec, VpLinear};
pub use find::{find, names_under};
pub use import::{Import, Imported, Precision};
pub use infer::Given;

use super::adm;
use super::weights::Weights;
use super::{DeviceNetwork, Network};
use crate::flow::{FieldError, NetworkField, VelocityField};

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
    network: Network,
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
        let weights = weights(&path, &file, data)?;
        let NetworkSpec::Adm(config) = &file.network;
        weights.check(&adm::tensors(config))?;
        let network = Network::adm(config, &weights)
            .map_err(|source| ModelError::Network { file: path.clone(), source: source.into() })?;
        let weights_blake3 = weights.blake3().to_owned();
        Ok(Self { inner: Arc::new(Inner { path, file, weights_blake3, network }) })
    }

    /// The velocity field on a candle device, evaluated in batches of fixed size.
    ///
    /// # Errors
    /// What the device says, for example that its memory is too small for the weights.
    pub fn field_on(
        &self,
        device: &candle_core::Device,
        batch: usize,
    ) -> Result<Box<dyn VelocityField<f32>>, FieldError> {
        let network = DeviceNetwork::new(&self.inner.network, device, batch)?;
        Ok(Box::new(NetworkField::new(network, self.inner.file.convention())))
    }

    /// The velocity field, for one worker.
    pub fn field(&self) -> Box<dyn VelocityField<f32>> {
        Box::new(NetworkField::new(self.inner.network.clone(), self.inner.file.convention()))
    }

    /// blake3 in hex of all that determines the field: weights, network, path, parametrisation and time.
    ///
    /// Names, notes and places of files do not enter.
    pub fn identity(&self) -> String {
        let ModelFile { network, prefix, path, prediction, time, .. } = &self.inner.file;
        let parts =
            serde_json::to_vec(&(&self.inner.weights_blake3, network, prefix, path, prediction, time))
                .expect("a model file came from text");
        blake3::hash(&parts).to_hex().to_string()
    }

    /// Channels, height and width of its images.
    pub fn shape(&self) -> [usize; 3] {
        let NetworkSpec::Adm(config) = &self.inner.file.network;
        [config.in_channels, config.image_size, config.image_size]
    }

    /// Number of classes; 0: unconditional.
    pub fn classes(&self) -> usize {
        let NetworkSpec::Adm(config) = &self.inner.file.network;
        config.num_classes.unwrap_or(0)
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

/// Reads and checks a model file.
///
/// # Errors
/// If it cannot be read, does not parse, or contradicts itself.
pub fn read(path: &Path) -> Result<ModelFile, ModelError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
    let invalid = |detail| ModelError::Invalid { path: path.to_owned(), detail };
    let file: ModelFile = serde_yaml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let problems = file.problems();
    if problems.is_empty() { Ok(file) } else { Err(invalid(problems.join("; "))) }
}

/// Reads the weights that a model file names, and checks their hash.
fn weights(path: &Path, file: &ModelFile, data: Option<&Path>) -> Result<Weights, ModelError> {
    let folder = match &file.folder {
        None => path.parent().unwrap_or(Path::new(".")).to_owned(),
        Some(folder) => data.map(|data| data.join(folder)).ok_or_else(|| ModelError::NoDataFolder {
            file: path.to_owned(),
            folder: folder.clone(),
            weights: file.weights.clone(),
        })?,
    };
    let weights = Weights::read(&folder.join(&file.weights))?;
    match &file.blake3 {
        Some(expected) if !expected.eq_ignore_ascii_case(weights.blake3()) => Err(ModelError::Hash {
            file: path.to_owned(),
            weights: weights.path().to_owned(),
            expected: expected.clone(),
            found: weights.blake3().to_owned(),
        }),
        _ => Ok(weights.strip_prefix(&file.prefix)),
    }
}

#[cfg(test)]
mod tests;
