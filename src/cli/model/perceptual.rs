//! `dflow model check` of a network that metrics see images through: `features/mini`, `lpips/alex`.

use serde_json::json;

use crate::cli::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::net::perceptual::{Trunk, load_features, load_lpips};

/// A network of metrics, as its file lies under `models/`.
pub(super) enum Perceptual<'a> {
    /// `features/NAME`.
    Features(&'a str),
    /// `lpips/TRUNK`.
    Lpips(&'a str),
}

impl<'a> Perceptual<'a> {
    /// Which one a name is of, if any.
    pub(super) fn of(name: &'a str) -> Option<Self> {
        let features = name.strip_prefix("features/").map(Self::Features);
        features.or_else(|| name.strip_prefix("lpips/").map(Self::Lpips))
    }

    /// Loads it, and says what it is.
    pub(super) fn check(&self, global: &Global) -> CliResult {
        let (home, data) = (global.home.as_deref(), global.data.as_deref());
        let (text, value) = match self {
            Self::Features(name) => {
                let loaded = load_features(name, home, data).map_err(CliError::usage)?;
                let (dims, identity) = (loaded.net.dims(), &loaded.identity);
                (
                    format!("features/{name}: {dims} features, identity {identity}"),
                    json!({ "features": name, "dims": dims, "identity": identity }),
                )
            }
            Self::Lpips(name) => {
                let trunk = Trunk::ALL.into_iter().find(|trunk| trunk.name() == *name).ok_or_else(|| {
                    CliError::usage(format!("lpips/{name}: the trunks are alex, vgg and squeeze"))
                })?;
                let loaded = load_lpips(trunk, home, data).map_err(CliError::usage)?;
                let (layers, identity) = (trunk.channels().len(), &loaded.identity);
                (
                    format!("lpips/{name}: {layers} layers, identity {identity}"),
                    json!({ "lpips": name, "layers": layers, "identity": identity }),
                )
            }
        };
        print_lossy(&if global.json { value.to_string() } else { text });
        Ok(exit::OK)
    }
}
