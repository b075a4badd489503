//! Metrics of one sample, and the list of all image metrics that tables iterate over; [`molecule`] has those of
//! molecules.
//!
//! Every image metric compares the reconstruction, clamped to [−1, 1], with the ground truth in [−1, 1]; both are
//! `[channels, height, width]`. Definitions follow TorchMetrics, in the profiles of the paper's era (1.3) and of
//! today (1.9), because published values depend on the release: SSIM's border rule changed in 1.4.2, PSNR of bytes
//! in 1.5.0. All sums are f64 in one fixed order.

pub mod molecule;
pub mod psnr;
pub mod set;
pub mod ssim;

use serde::{Deserialize, Serialize};

use crate::operator::Shape;
use crate::spec::metric::MetricSpec;

/// Metrics of one sample; `None` where a metric was not asked for or does not apply (no hole, image too small).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageScores {
    /// Mean squared error over all entries.
    pub mse: Option<f64>,
    /// PSNR of `mse` in dB with R = 2; infinite if exact.
    pub psnr: Option<f64>,
    /// PSNR in dB of bytes whose differences wrap, as TorchMetrics < 1.5.0 gave it on uint8; infinite if exact.
    pub psnr_u8wrap: Option<f64>,
    /// SSIM as TorchMetrics 1.3: interior only.
    pub ssim_tm13: Option<f64>,
    /// SSIM as TorchMetrics 1.9: whole map.
    pub ssim_tm19: Option<f64>,
    /// `mse` over the hole.
    pub hole_mse: Option<f64>,
    /// `psnr` over the hole.
    pub hole_psnr: Option<f64>,
    /// Mean of the 1.3 map over the hole's pixels that the crop leaves.
    pub hole_ssim_tm13: Option<f64>,
    /// Mean of the 1.9 map over the hole's pixels.
    pub hole_ssim_tm19: Option<f64>,
    /// LPIPS, which needs a network: [`image_scores`] leaves it empty.
    pub lpips: Option<f64>,
}

/// Scores of one reconstruction for the asked families.
///
/// `hole` marks the pixels (`height·width`) that were not observed, if the operator is a mask.
///
/// # Panics
/// If an image has not `shape.dim()` entries or the hole not `shape.pixels()`.
pub fn image_scores(
    reconstruction: &[f32],
    truth: &[f32],
    shape: Shape,
    hole: Option<&[bool]>,
    families: &[MetricSpec],
) -> ImageScores {
    assert_eq!(reconstruction.len(), shape.dim(), "a reconstruction of shape {shape} is needed");
    assert_eq!(truth.len(), shape.dim(), "a ground truth of shape {shape} is needed");
    let x: Vec<f32> = reconstruction.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let mut scores = ImageScores::default();
    for family in families {
        match family {
            MetricSpec::Psnr => add_psnr(&mut scores, &x, truth, hole),
            MetricSpec::Ssim => add_ssim(&mut scores, &x, truth, shape, hole),
            MetricSpec::Molecule | MetricSpec::Lpips(_) | MetricSpec::Features(_) => {}
        }
    }
    scores
}

fn add_psnr(scores: &mut ImageScores, x: &[f32], truth: &[f32], hole: Option<&[bool]>) {
    let mse = psnr::mse(x, truth);
    scores.mse = Some(mse);
    scores.psnr = Some(psnr::psnr(mse, psnr::RANGE));
    scores.psnr_u8wrap = Some(psnr::psnr_u8wrap(x, truth));
    scores.hole_mse = hole.and_then(|hole| psnr::hole_mse(x, truth, hole));
    scores.hole_psnr = scores.hole_mse.map(|mse| psnr::psnr(mse, psnr::RANGE));
}

fn add_ssim(scores: &mut ImageScores, x: &[f32], truth: &[f32], shape: Shape, hole: Option<&[bool]>) {
    let Some(maps) = ssim::Maps::new(x, truth, shape) else { return };
    scores.ssim_tm13 = maps.mean(ssim::Profile::Tm13, None);
    scores.ssim_tm19 = maps.mean(ssim::Profile::Tm19, None);
    if hole.is_some() {
        scores.hole_ssim_tm13 = maps.mean(ssim::Profile::Tm13, hole);
        scores.hole_ssim_tm19 = maps.mean(ssim::Profile::Tm19, hole);
    }
}

/// Whether larger or smaller values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Larger is better.
    Higher,
    /// Smaller is better.
    Lower,
}

impl Better {
    /// `↑` or `↓`, as tables mark it.
    pub const fn arrow(self) -> &'static str {
        match self {
            Self::Higher => "↑",
            Self::Lower => "↓",
        }
    }
}

/// What a table must know of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Column name in `samples.parquet`.
    pub name: &'static str,
    /// Name in tables.
    pub display: &'static str,
    /// Unit, empty if none.
    pub unit: &'static str,
    /// Direction.
    pub better: Better,
    /// Digits after the point in tables.
    pub digits: usize,
    /// Key of the paper's value, if the paper prints this metric.
    pub paper: Option<&'static str>,
    /// The value of one sample.
    pub value: fn(&ImageScores) -> Option<f64>,
}

/// Every per-sample image metric, in the order of tables.
pub const METRICS: &[Metric] = &[
    Metric { paper: Some("psnr"), ..decibel("psnr", "PSNR", |s| s.psnr) },
    Metric { paper: Some("ssim"), ..similarity("ssim_tm13", "SSIM", |s| s.ssim_tm13) },
    Metric { paper: Some("lpips"), better: Better::Lower, ..similarity("lpips", "LPIPS", |s| s.lpips) },
    decibel("hole_psnr", "hole PSNR", |s| s.hole_psnr),
    similarity("hole_ssim_tm19", "hole SSIM", |s| s.hole_ssim_tm19),
    Metric { paper: Some("psnr"), ..decibel("psnr_u8wrap", "PSNR u8-wrap", |s| s.psnr_u8wrap) },
    similarity("ssim_tm19", "SSIM 1.9", |s| s.ssim_tm19),
    similarity("hole_ssim_tm13", "hole SSIM 1.3", |s| s.hole_ssim_tm13),
    Metric { better: Better::Lower, digits: 5, ..similarity("mse", "MSE", |s| s.mse) },
    Metric { better: Better::Lower, digits: 5, ..similarity("hole_mse", "hole MSE", |s| s.hole_mse) },
];

const fn decibel(
    name: &'static str,
    display: &'static str,
    value: fn(&ImageScores) -> Option<f64>,
) -> Metric {
    Metric { name, display, unit: "dB", better: Better::Higher, digits: 2, paper: None, value }
}

const fn similarity(
    name: &'static str,
    display: &'static str,
    value: fn(&ImageScores) -> Option<f64>,
) -> Metric {
    Metric { name, display, unit: "", better: Better::Higher, digits: 3, paper: None, value }
}

/// The metric of a column.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

#[cfg(test)]
mod tests;
