//! Networks that metrics see images through: `features/mini`, `lpips/alex`.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::net::model::how_to_get;
use crate::net::perceptual::{PerceptualError, Trunk, feature_names, load_features, load_lpips};

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
        let (text, value) = self.describe(global).map_err(CliError::usage)?;
        print_lossy(&if global.json { value.to_string() } else { text });
        Ok(exit::OK)
    }

    /// An error, with what to do about weights that are not there.
    fn missing(&self, error: &PerceptualError, home: Option<&Path>) -> String {
        let advice = match self {
            _ if !error.is_missing() => String::new(),
            Self::Features(name) => how_to_get(&format!("features/{name}"), home),
            Self::Lpips(name) => how_to_get(&format!("lpips/{name}"), home),
        };
        format!("{error}{advice}")
    }

    /// What it is, as text and as JSON.
    fn describe(&self, global: &Global) -> Result<(String, Value), String> {
        let (home, data) = (global.home.as_deref(), global.data.as_deref());
        match self {
            Self::Features(name) => {
                let loaded = load_features(name, home, data).map_err(|error| self.missing(&error, home))?;
                let (dims, identity) = (loaded.net.dims(), loaded.identity);
                Ok((
                    format!("features/{name}: {dims} features, identity {identity}"),
                    json!({ "name": format!("features/{name}"), "dims": dims, "identity": identity, "error": null }),
                ))
            }
            Self::Lpips(name) => {
                let trunk = Trunk::ALL.into_iter().find(|trunk| trunk.name() == *name);
                let trunk =
                    trunk.ok_or_else(|| format!("lpips/{name}: the trunks are alex, vgg and squeeze"))?;
                let loaded = load_lpips(trunk, home, data).map_err(|error| self.missing(&error, home))?;
                let (layers, identity) = (trunk.channels().len(), loaded.identity);
                Ok((
                    format!("lpips/{name}: {layers} layers, identity {identity}"),
                    json!({ "name": format!("lpips/{name}"), "layers": layers, "identity": identity, "error": null }),
                ))
            }
        }
    }
}

/// Every network of metrics for `dflow model list`; one that cannot be loaded says why.
pub(super) fn listed(global: &Global) -> Vec<(String, Value)> {
    let features = feature_names(global.home.as_deref()).into_iter().map(|name| format!("features/{name}"));
    let trunks = Trunk::ALL.map(|trunk| format!("lpips/{}", trunk.name()));
    let describe = |name: String| {
        let network = Perceptual::of(&name)?;
        let failed = |error| (format!("{name}: {error}"), json!({ "name": name, "error": error }));
        Some(network.describe(global).unwrap_or_else(failed))
    };
    features.chain(trunks).filter_map(describe).collect()
}
