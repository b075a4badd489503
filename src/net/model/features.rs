//! `models/features/<name>.yaml`: a network whose features of images are compared as sets.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::WeightSource;
use super::find::{find, names_in};
use super::{ModelError, weights};
use crate::fetch::Source;
use crate::net::perceptual::{
    ConvStack, ConvStackConfig, FeatureNet, Inception, InceptionConfig, PerceptualError,
};
use crate::net::weights::Weights;

/// A network of features as its file states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeaturesFile {
    /// What it is and how it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Licence of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The network.
    pub network: FeaturesSpec,
    /// The weight file (safetensors, or a zip file of `torch.save`): relative to this file, or to `folder`.
    pub weights: String,
    /// Sub-folder of the data folder (`DATA=`, `--data`) that holds the weight file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The tensors of the network are those whose names start with this; it is removed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// blake3 of the weight file in hex; checked where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Public files that hold the weights: `dflow model fetch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
}

/// A family of feature networks with its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FeaturesSpec {
    /// A small classifier of 3×3 convolutions, made by `tools/train/train_features.py`.
    ConvStack(ConvStackConfig),
    /// InceptionV3 in the variant that FID is defined with.
    Inception(InceptionConfig),
}

impl FeaturesSpec {
    /// How the images are prepared, if it is the network that FID is defined with: a Fréchet distance by any other bears
    /// its own name.
    pub fn inception(&self) -> Option<InceptionConfig> {
        match self {
            Self::Inception(config) => Some(*config),
            Self::ConvStack(_) => None,
        }
    }

    fn problem(&self) -> Option<String> {
        match self {
            Self::ConvStack(config) => {
                config.problem().map(|problem| format!("network.conv_stack: {problem}"))
            }
            Self::Inception(_) => None,
        }
    }

    fn build(&self, weights: Weights) -> Result<Arc<dyn FeatureNet>, PerceptualError> {
        Ok(match self {
            Self::ConvStack(config) => Arc::new(ConvStack::new(config, &weights)?),
            Self::Inception(config) => Arc::new(Inception::new(*config, weights)?),
        })
    }
}

impl FeaturesFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it cannot be read, does not parse, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let file: Self = super::parse(path)?;
        let problems: Vec<_> = file.source().problem().into_iter().chain(file.network.problem()).collect();
        if problems.is_empty() {
            Ok(file)
        } else {
            Err(ModelError::Invalid { path: path.to_owned(), detail: problems.join("; ") })
        }
    }

    fn source(&self) -> WeightSource<'_> {
        WeightSource {
            weights: &self.weights,
            folder: self.folder.as_deref(),
            prefix: &self.prefix,
            blake3: self.blake3.as_deref(),
        }
    }

    fn identity(&self, weights: &str) -> String {
        super::identity_of(&(weights, &self.prefix, &self.network))
    }
}

/// A loaded feature network with where it comes from.
#[derive(Debug, Clone)]
pub struct LoadedFeatures {
    /// The network.
    pub net: Arc<dyn FeatureNet>,
    /// blake3 in hex of all that determines features: weights and configuration. Notes and places of files do not enter.
    pub identity: String,
    /// The name (or path) that it was asked for by.
    pub name: String,
    /// Its file as written.
    pub file: FeaturesFile,
}

/// Loads `models/features/<name>.yaml` or a path ending in `.yaml`, and its weights.
///
/// `data` is the folder whose sub-folders hold weights that are not shipped.
///
/// # Errors
/// Whatever keeps the network from running is found here; [`PerceptualError::is_missing`] tells weights that are simply not
/// there.
pub fn load_features(
    name: &str,
    home: Option<&Path>,
    data: Option<&Path>,
) -> Result<LoadedFeatures, PerceptualError> {
    let is_path = Path::new(name).extension().is_some_and(|suffix| suffix == "yaml");
    let path = if is_path { name.into() } else { find(&format!("features/{name}"), home)? };
    let file = FeaturesFile::read(&path)?;
    let weights = weights(&path, file.source(), data)?;
    let identity = file.identity(weights.blake3());
    let net = file.network.build(weights)?;
    Ok(LoadedFeatures { net, identity, name: name.to_owned(), file })
}

/// Names of all feature networks that [`load_features`] knows, sorted, each once.
pub fn feature_names(home: Option<&Path>) -> Vec<String> {
    names_in("models/features", home)
}
