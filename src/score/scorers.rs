//! The networks of a plan's metrics.

use std::path::Path;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::net::perceptual::{InceptionConfig, LoadedFeatures, LoadedLpips};
use crate::operator::Shape;
use crate::spec::metric::{LpipsTrunk, MetricSpec};
use crate::store::attempt::AttemptId;
use crate::store::fs::Fs;
use crate::store::layout::Layout;
use crate::store::{FeatureNet, FeatureWriter, NetKind, StoreError};

/// The networks that a plan's metrics need, as far as their weights are there; cheap to clone.
#[derive(Clone, Default)]
pub struct Scorers {
    lpips: Option<(LpipsTrunk, LoadedLpips)>,
    features: Vec<LoadedFeatures>,
    missing: Vec<Missing>,
}

/// A metric whose weights are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The metric.
    pub metric: MetricSpec,
    /// What is missing, and where it belongs.
    pub reason: String,
}

/// LPIPS of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct LpipsValue {
    /// Trunk and hash of the weights: the column `lpips_network`.
    pub network: String,
    /// The sum of the layer terms.
    pub total: f64,
    /// One term per layer.
    pub layers: Vec<f64>,
}

impl Scorers {
    /// Opens what `metrics` name. Weights that are not there are [`missing`](Self::missing); the metric is then left out.
    ///
    /// # Errors
    /// A whole sentence, where weights are there and wrong.
    pub fn open(metrics: &[MetricSpec], catalog: &Catalog) -> Result<Self, String> {
        let mut scorers = Self::default();
        for metric in metrics {
            let missing = match metric {
                MetricSpec::Lpips(trunk) => match catalog.open_lpips(*trunk)? {
                    Ok(lpips) => {
                        scorers.lpips = Some((*trunk, lpips));
                        None
                    }
                    Err(reason) => Some(reason),
                },
                MetricSpec::Features(name) => match catalog.open_features(name)? {
                    Ok(features) => {
                        scorers.features.push(features);
                        None
                    }
                    Err(reason) => Some(reason),
                },
                MetricSpec::Psnr | MetricSpec::Ssim | MetricSpec::Molecule => None,
            };
            scorers.missing.extend(missing.map(|reason| Missing { metric: metric.clone(), reason }));
        }
        Ok(scorers)
    }

    /// Metrics that were asked for and whose weights are not there.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The feature networks, in the order of the metrics.
    pub fn features(&self) -> &[LoadedFeatures] {
        &self.features
    }

    /// LPIPS of a reconstruction and its ground truth (`shape.dim()` numbers each), if it is measured.
    ///
    /// # Errors
    /// A sentence: an image that is too small, or not finite.
    pub fn lpips(&self, x: &[f32], truth: &[f32], shape: Shape) -> Result<Option<LpipsValue>, String> {
        let Some((trunk, loaded)) = &self.lpips else { return Ok(None) };
        let score = loaded.lpips.distance(x, truth, sides(shape)).map_err(|error| error.to_string())?;
        let network = format!("{trunk}:{}", loaded.identity);
        Ok(Some(LpipsValue { network, total: score.total, layers: score.layers }))
    }

    /// A writer of features for each of [`Self::features`].
    ///
    /// # Errors
    /// As [`FeatureWriter::new`].
    pub fn writers(
        &self,
        fs: &Arc<dyn Fs>,
        layout: &Layout,
        attempt: &AttemptId,
    ) -> Result<Vec<FeatureWriter>, StoreError> {
        let new = |loaded| FeatureWriter::new(Arc::clone(fs), layout, attempt, stored(loaded));
        self.features.iter().map(new).collect()
    }

    /// The feature vector of an image for each of [`Self::features`].
    ///
    /// # Errors
    /// As [`Self::lpips`].
    pub fn feature_vectors(&self, x: &[f32], shape: Shape) -> Result<Vec<Vec<f32>>, String> {
        (0..self.features.len()).map(|index| self.feature_vector(index, x, shape)).collect()
    }

    /// The feature vector of an image for one of [`Self::features`], by its place.
    ///
    /// # Errors
    /// As [`Self::lpips`].
    pub fn feature_vector(&self, index: usize, x: &[f32], shape: Shape) -> Result<Vec<f32>, String> {
        let loaded = &self.features[index];
        let features = loaded.net.features(x, sides(shape));
        features.map_err(|error| format!("features of {}: {error}", loaded.name))
    }

    /// Trunk and hash of the weights of LPIPS, if it is measured: the column `lpips_network`.
    pub fn lpips_network(&self) -> Option<String> {
        self.lpips.as_ref().map(|(trunk, loaded)| format!("{trunk}:{}", loaded.identity))
    }
}

/// The name of a network's files in a run: that of its model file, where it is named by a path.
pub(super) fn file_name(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// The network as the store names it.
pub(crate) fn stored(loaded: &LoadedFeatures) -> FeatureNet {
    let kind = match loaded.file.network.inception() {
        Some(config) if config == InceptionConfig::default() => NetKind::Inception,
        Some(_) => NetKind::InceptionVariant,
        None => NetKind::Other,
    };
    let (name, identity) = (file_name(&loaded.name), loaded.identity.clone());
    FeatureNet { name, identity, dims: loaded.net.dims(), kind }
}

const fn sides(shape: Shape) -> [usize; 3] {
    [shape.channels, shape.height, shape.width]
}
