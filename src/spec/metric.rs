//! Metrics and artifacts of a row.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One metric family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricSpec {
    /// MSE, PSNR (R = 2) and the 8-bit wrap-around variant, whole image and hole.
    Psnr,
    /// SSIM in both TorchMetrics eras, whole image and hole.
    Ssim,
    /// Stability, validity and graph of a molecule (its property is always read).
    Molecule,
    /// LPIPS of one trunk, with its layer terms: `models/lpips/<trunk>.yaml`. At most one in a pipeline.
    Lpips(LpipsTrunk),
    /// Features of a network, which Fréchet and kernel distances between sets are made of:
    /// `models/features/<name>.yaml`, or a path ending in `.yaml`.
    Features(String),
}

/// The trunks of LPIPS (arXiv 1801.03924): classifiers of ImageNet without their classifying layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LpipsTrunk {
    /// torchvision's AlexNet, five layers: the default of the public packages.
    Alex,
    /// torchvision's VGG16 without batch normalisation: five layers.
    Vgg,
    /// torchvision's SqueezeNet 1.1: seven layers.
    Squeeze,
}

impl LpipsTrunk {
    /// Every trunk.
    pub const ALL: [Self; 3] = [Self::Alex, Self::Vgg, Self::Squeeze];

    /// Its name in pipelines and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alex => "alex",
            Self::Vgg => "vgg",
            Self::Squeeze => "squeeze",
        }
    }
}

impl fmt::Display for LpipsTrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl MetricSpec {
    /// The families that need no weights; those of the other kind of sample are left out of a plan.
    pub const WITHOUT_WEIGHTS: [Self; 3] = [Self::Psnr, Self::Ssim, Self::Molecule];

    /// Whether it is of images (else of molecules).
    pub const fn is_of_images(&self) -> bool {
        !matches!(self, Self::Molecule)
    }
}

impl fmt::Display for MetricSpec {
    /// As the command line takes it: `psnr`, `lpips:alex`, `features:mini`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psnr => f.write_str("psnr"),
            Self::Ssim => f.write_str("ssim"),
            Self::Molecule => f.write_str("molecule"),
            Self::Lpips(trunk) => write!(f, "lpips:{trunk}"),
            Self::Features(name) => write!(f, "features:{name}"),
        }
    }
}

/// A text that names no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no metric: write psnr, ssim, lpips:alex, lpips:vgg, lpips:squeeze or features:NAME")]
pub struct UnknownMetric(String);

impl FromStr for MetricSpec {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        let trunk = |name: &str| LpipsTrunk::ALL.into_iter().find(|trunk| trunk.name() == name);
        match text.split_once(':') {
            None => Self::WITHOUT_WEIGHTS.into_iter().find(|metric| metric.to_string() == text),
            Some(("lpips", name)) => trunk(name).map(Self::Lpips),
            Some(("features", name)) if !name.is_empty() => Some(Self::Features(name.to_owned())),
            Some(_) => None,
        }
        .ok_or_else(|| UnknownMetric(text.to_owned()))
    }
}

/// What is kept beside the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaveSpec {
    /// Lossless f32 reconstructions; for eyes PNG, or XYZ and SDF of molecules.
    Reconstructions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_metric_reads_back() {
        let metrics = [
            MetricSpec::Psnr,
            MetricSpec::Molecule,
            MetricSpec::Lpips(LpipsTrunk::Squeeze),
            MetricSpec::Features("a/b.yaml".to_owned()),
        ];
        for metric in metrics {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
        for wrong in ["", "lpips", "lpips:alexnet", "features:", "psnr:", "fid"] {
            assert!(wrong.parse::<MetricSpec>().is_err(), "{wrong}");
        }
    }
}
