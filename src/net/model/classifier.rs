//! `models/classifiers/<name>.yaml`: a property classifier's configuration and its weight file.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::WeightSource;
use super::find::{find, names_in};
use super::{ModelError, weights};
use crate::fetch::Source;
use crate::net::egnn::{Classifier, ClassifierConfig, classifier_tensors};

/// A property classifier as its file states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifierFile {
    /// What it is and how it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Licence of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The classifier.
    pub classifier: ClassifierConfig,
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

impl ClassifierFile {
    /// Reads and checks a classifier's file.
    ///
    /// # Errors
    /// If it cannot be read, does not parse, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
        let invalid = |detail| ModelError::Invalid { path: path.to_owned(), detail };
        let file: Self = serde_yaml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let mut problems: Vec<_> = file.source().problem().into_iter().collect();
        problems.extend(file.classifier.check().err().map(|error| error.to_string()));
        if problems.is_empty() { Ok(file) } else { Err(invalid(problems.join("; "))) }
    }

    fn source(&self) -> WeightSource<'_> {
        WeightSource {
            weights: &self.weights,
            folder: self.folder.as_deref(),
            prefix: &self.prefix,
            blake3: self.blake3.as_deref(),
        }
    }

    /// blake3 in hex of all that determines predictions, given the blake3 of the weight file.
    fn identity(&self, weights: &str) -> String {
        let ClassifierConfig { property, nf, n_layers, attention, mean, mad, .. } = &self.classifier;
        let parts =
            serde_json::to_vec(&(weights, &self.prefix, property, nf, n_layers, attention, mean, mad))
                .expect("a classifier's file came from text");
        blake3::hash(&parts).to_hex().to_string()
    }
}

/// A loaded property classifier with where it comes from.
#[derive(Debug, Clone)]
pub struct LoadedClassifier {
    /// The classifier.
    pub classifier: Classifier,
    /// Its file as written.
    pub file: ClassifierFile,
    /// blake3 in hex of all that determines predictions: weights, configuration, mean and mad. Notes, the unit's
    /// spelling, reported figures and places of files do not enter.
    pub identity: String,
}

/// Loads `models/classifiers/<name>.yaml` or a path ending in `.yaml`, and its weights.
///
/// `data` is the folder whose sub-folders hold weights that are not shipped.
///
/// # Errors
/// Whatever keeps the classifier from running is found here: see [`ModelError`].
pub fn load_classifier(
    name: &str,
    home: Option<&Path>,
    data: Option<&Path>,
) -> Result<LoadedClassifier, ModelError> {
    let path = place(name, home)?;
    let file = ClassifierFile::read(&path)?;
    let weights = weights(&path, file.source(), data)?;
    weights.check(&classifier_tensors(&file.classifier))?;
    let classifier = Classifier::new(&file.classifier, &weights).map_err(|error| error.of_model(&path))?;
    let identity = file.identity(weights.blake3());
    Ok(LoadedClassifier { classifier, file, identity })
}

/// The file of a classifier as [`load_classifier`] finds it, without its weights.
///
/// # Errors
/// An unknown name; a file that cannot be read, does not parse, or contradicts itself.
pub fn read_classifier(name: &str, home: Option<&Path>) -> Result<ClassifierFile, ModelError> {
    ClassifierFile::read(&place(name, home)?)
}

fn place(name: &str, home: Option<&Path>) -> Result<PathBuf, ModelError> {
    let is_path = Path::new(name).extension().is_some_and(|suffix| suffix == "yaml");
    if is_path { Ok(name.into()) } else { find(&format!("classifiers/{name}"), home) }
}

/// Names of all classifiers that [`load_classifier`] knows, sorted, each once.
pub fn classifier_names(home: Option<&Path>) -> Vec<String> {
    names_in("models/classifiers", home)
}
