//! Why a model cannot be used.

use std::path::PathBuf;

use crate::net::NetError;
use crate::net::weights::WeightsError;

/// Why a model cannot be used: what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No model file of this name.
    #[error(
        "no model `{name}`{}; looked for models/{name}.yaml under {}; `dflow model list` shows what there is, and \
         --home says where else to look",
        .nearest.as_ref().map(|nearest| format!(" (nearest: `{nearest}`)")).unwrap_or_default(),
        .searched.iter().map(|home| home.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Unknown {
        /// As given.
        name: String,
        /// The most similar name there is.
        nearest: Option<String>,
        /// The homes that were searched.
        searched: Vec<PathBuf>,
    },
    /// The model file cannot be read.
    #[error("model file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model file, or what one is to be made of, is wrong.
    #[error("{}: {detail}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every problem in it.
        detail: String,
    },
    /// The weights lie in the data folder, and none is given.
    #[error(
        "model file {}: its weights are {folder}/{weights} in the data folder, and none is given: say --data FOLDER \
         (make: DATA=FOLDER)",
        file.display()
    )]
    NoDataFolder {
        /// The model file.
        file: PathBuf,
        /// Sub-folder of the data folder.
        folder: String,
        /// The weight file in it.
        weights: String,
    },
    /// The weight file is not the one that the model file names.
    #[error(
        "weight file {} is not the one that {} describes: its blake3 is {found}, expected is {expected}; get the right \
         file, or correct `blake3` there if the new one is meant",
        weights.display(), file.display()
    )]
    Hash {
        /// The model file.
        file: PathBuf,
        /// The weight file.
        weights: PathBuf,
        /// As the model file says.
        expected: String,
        /// Of the weight file.
        found: String,
    },
    /// The weights cannot be read or do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The network cannot be built.
    #[error("model file {}: {source}", file.display())]
    Network {
        /// The model file.
        file: PathBuf,
        /// Why.
        source: Box<NetError>,
    },
}

impl ModelError {
    /// Whether the weights are simply not there: a file that does not exist, or no data folder given.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::NoDataFolder { .. } => true,
            Self::Weights(error) => error.is_absent(),
            _ => false,
        }
    }
}
