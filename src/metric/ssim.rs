//! Structural similarity (Wang et al. 2004) as TorchMetrics 1.3 and 1.9 compute it.
//!
//! On (x + 1)/2 with R = 1: SSIM is invariant to scale but not to offset, so the range is part of the definition.
//! Gaussian window of 11 taps, σ = 1.5; 5 pixels of reflect padding; C₁ = 0.01², C₂ = 0.03²; biased moments; the map
//! is averaged over channels and pixels.

use crate::operator::Shape;

const TAPS: usize = 11;
const PAD: usize = TAPS / 2;
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// The release whose rules are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// TorchMetrics 1.3 (the paper's era): 5 border pixels cropped from the map, variances as computed.
    Tm13,
    /// TorchMetrics 1.9: whole map, variances clamped at 0.
    Tm19,
}

/// The SSIM maps of one image pair in both profiles, `[channels, height, width]` each.
#[derive(Debug)]
pub struct Maps {
    shape: Shape,
    unclamped: Vec<f64>,
    clamped: Vec<f64>,
}

impl Maps {
    /// Maps of a pair in [−1, 1]; `None` below 6×6 pixels, where reflect padding is not defined.
    pub fn new(x: &[f32], truth: &[f32], shape: Shape) -> Option<Self> {
        if shape.height.min(shape.width) <= PAD {
            return None;
        }
        let mut maps = Self { shape, unclamped: Vec::new(), clamped: Vec::new() };
        let window = window();
        for (p, t) in x.chunks_exact(shape.pixels()).zip(truth.chunks_exact(shape.pixels())) {
            maps.add_plane(&unit_range(p), &unit_range(t), &window);
        }
        Some(maps)
    }

    fn add_plane(&mut self, p: &[f64], t: &[f64], window: &[f64; TAPS]) {
        let blur = |values: &[f64]| filter(values, self.shape, window);
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).collect::<Vec<_>>();
        let (mean_p, mean_t) = (blur(p), blur(t));
        let (square_p, square_t, cross) = (blur(&product(p, p)), blur(&product(t, t)), blur(&product(p, t)));
        for k in 0..p.len() {
            let (mp, mt) = (mean_p[k], mean_t[k]);
            let (var_p, var_t) = (square_p[k] - mp * mp, square_t[k] - mt * mt);
            let luminance = (2.0 * mp * mt + C1) / (mp * mp + mt * mt + C1);
            let upper = 2.0 * (cross[k] - mp * mt) + C2;
            self.unclamped.push(luminance * upper / (var_p + var_t + C2));
            self.clamped.push(luminance * upper / (var_p.max(0.0) + var_t.max(0.0) + C2));
        }
    }

    /// Mean of a profile's map over all channels and the pixels of `region` (`height·width`; all if `None`); `None`
    /// if no pixel is left.
    pub fn mean(&self, profile: Profile, region: Option<&[bool]>) -> Option<f64> {
        let (map, crop) = match profile {
            Profile::Tm13 => (&self.unclamped, PAD),
            Profile::Tm19 => (&self.clamped, 0),
        };
        let Shape { height, width, .. } = self.shape;
        let kept = |index: usize, side: usize| index >= crop && index + crop < side;
        let (mut sum, mut count) = (0.0, 0_usize);
        for (k, value) in map.iter().enumerate() {
            let pixel = k % (height * width);
            let inside = kept(pixel / width, height) && kept(pixel % width, width);
            if inside && region.is_none_or(|region| region[pixel]) {
                sum += value;
                count += 1;
            }
        }
        (count > 0).then(|| sum / count as f64)
    }
}

/// [−1, 1] to [0, 1], rounded to f32 as a float image is before it reaches a metric.
fn unit_range(plane: &[f32]) -> Vec<f64> {
    plane.iter().map(|v| f64::from((v + 1.0) / 2.0)).collect()
}

fn window() -> [f64; TAPS] {
    let weights: [f64; TAPS] =
        std::array::from_fn(|k| libm::exp(-0.5 * ((k as f64 - PAD as f64) / 1.5).powi(2)));
    let total: f64 = weights.iter().sum();
    weights.map(|weight| weight / total)
}

/// Separable window with reflect padding (the edge is not repeated).
fn filter(plane: &[f64], shape: Shape, window: &[f64; TAPS]) -> Vec<f64> {
    let Shape { height, width, .. } = shape;
    let tap_sum = |at: &dyn Fn(usize) -> f64, index: usize, side: usize| -> f64 {
        window.iter().enumerate().map(|(k, weight)| weight * at(reflected(index + k, side))).sum()
    };
    let mut rows = Vec::with_capacity(plane.len());
    for row in plane.chunks_exact(width) {
        rows.extend((0..width).map(|j| tap_sum(&|k| row[k], j, width)));
    }
    let mut out = Vec::with_capacity(plane.len());
    for i in 0..height {
        out.extend((0..width).map(|j| tap_sum(&|k| rows[k * width + j], i, height)));
    }
    out
}

/// The pixel behind index `padded` − PAD of an axis of `side` > PAD pixels.
fn reflected(padded: usize, side: usize) -> usize {
    let index = padded.abs_diff(PAD);
    index.min((2 * (side - 1)).saturating_sub(index))
}
