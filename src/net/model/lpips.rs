//! `models/lpips/<trunk>.yaml`: the trunk's weights and the heads of LPIPS.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::WeightSource;
use super::find::find;
use super::{ModelError, weights};
use crate::fetch::Source;
use crate::net::perceptual::{Lpips, Normalization, PerceptualError, Trunk};

/// LPIPS with one trunk as its file states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LpipsFile {
    /// What it is and where its weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Licences of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The classifier that it looks through.
    pub trunk: Trunk,
    /// How features are brought to length 1.
    #[serde(default)]
    pub normalization: Normalization,
    /// The trunk's weight file (safetensors, or a zip file of `torch.save`): relative to this file, or to `folder`.
    pub weights: String,
    /// Sub-folder of the data folder (`DATA=`, `--data`) that holds the weight file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The tensors of the trunk are those whose names start with this; it is removed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// blake3 of the weight file in hex; checked where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Public files that hold the weights: `dflow model fetch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The weights of the layers' channels.
    pub heads: HeadsFile,
}

/// The weight file of the heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadsFile {
    /// The file, of tensors `lin0.model.1.weight` and so on: relative to the file that names it, or to `folder`.
    pub weights: String,
    /// Sub-folder of the data folder that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// blake3 of the file in hex; checked where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

impl LpipsFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it cannot be read, does not parse, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let file: Self = super::parse(path)?;
        let trunk = file.trunk_source().problem();
        let heads = file.heads_source().problem().map(|problem| format!("heads.{problem}"));
        match trunk.or(heads) {
            None => Ok(file),
            Some(detail) => Err(ModelError::Invalid { path: path.to_owned(), detail }),
        }
    }

    fn trunk_source(&self) -> WeightSource<'_> {
        WeightSource {
            weights: &self.weights,
            folder: self.folder.as_deref(),
            prefix: &self.prefix,
            blake3: self.blake3.as_deref(),
        }
    }

    fn heads_source(&self) -> WeightSource<'_> {
        WeightSource {
            weights: &self.heads.weights,
            folder: self.heads.folder.as_deref(),
            prefix: "",
            blake3: self.heads.blake3.as_deref(),
        }
    }

    fn identity(&self, [trunk, heads]: [&str; 2]) -> String {
        super::identity_of(&(trunk, heads, &self.prefix, self.trunk, self.normalization))
    }
}

/// LPIPS with where it comes from.
#[derive(Debug, Clone)]
pub struct LoadedLpips {
    /// The metric.
    pub lpips: Lpips,
    /// blake3 in hex of all that determines distances: both weight files and the configuration.
    pub identity: String,
    /// Its file as written.
    pub file: LpipsFile,
}

/// Loads `models/lpips/<trunk>.yaml` and the weights that it names.
///
/// `data` is the folder whose sub-folders hold weights that are not shipped.
///
/// # Errors
/// Whatever keeps the metric from running is found here; [`PerceptualError::is_missing`] tells weights that are simply not
/// there.
pub fn load_lpips(
    trunk: Trunk,
    home: Option<&Path>,
    data: Option<&Path>,
) -> Result<LoadedLpips, PerceptualError> {
    let path = find(&format!("lpips/{trunk}"), home)?;
    let file = LpipsFile::read(&path)?;
    if file.trunk != trunk {
        let detail = format!("trunk: `{}` in the file of `{trunk}`", file.trunk);
        return Err(ModelError::Invalid { path, detail }.into());
    }
    let heads = weights(&path, file.heads_source(), data);
    let trunk_weights = weights(&path, file.trunk_source(), data);
    let (heads, trunk_weights) = match (heads, trunk_weights) {
        (Ok(heads), Ok(trunk)) => (heads, trunk),
        (Err(heads), Err(trunk)) => return Err(PerceptualError::both(heads.into(), trunk.into())),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error.into()),
    };
    let identity = file.identity([trunk_weights.blake3(), heads.blake3()]);
    let lpips = Lpips::new(trunk, file.normalization, &trunk_weights, &heads)?;
    Ok(LoadedLpips { lpips, identity, file })
}
