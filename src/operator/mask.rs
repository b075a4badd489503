//! Masks: H keeps the observed pixels (of all channels) and drops the hole.

use crate::random::Stream;

use super::{OperatorError, Shape};

/// Which pixels of an image are observed.
#[derive(Debug)]
pub(super) struct Mask {
    hole: Vec<bool>,
    observed: usize,
}

impl Mask {
    /// A square hole whose first row and column are ⌊(side − size)/2⌋: 44…83 for 40 of 128.
    pub(super) fn center(size: u32, shape: Shape) -> Result<Self, OperatorError> {
        let Shape { height, width, .. } = shape;
        let side = size as usize;
        let all = side == height && side == width;
        if side == 0 || side > height.min(width) || all {
            let largest = height.min(width) - usize::from(height == width);
            return Err(OperatorError::HoleSize { size, height, width, largest });
        }
        let (top, left) = ((height - side) / 2, (width - side) / 2);
        let inside = |start: usize, index: usize| (start..start + side).contains(&index);
        let hole = (0..height * width).map(|p| inside(top, p / width) && inside(left, p % width)).collect();
        Ok(Self::new(hole))
    }

    /// Every pixel is observed with probability `keep`. At least one is: the one with the smallest draw.
    pub(super) fn random(keep: f64, shape: Shape, stream: &mut Stream) -> Self {
        let draws: Vec<f64> = (0..shape.pixels()).map(|_| stream.uniform()).collect();
        let smallest = draws.iter().copied().fold(f64::INFINITY, f64::min);
        Self::new(draws.iter().map(|&draw| draw >= keep && draw > smallest).collect())
    }

    fn new(hole: Vec<bool>) -> Self {
        let observed = hole.iter().filter(|&&hidden| !hidden).count();
        Self { hole, observed }
    }

    pub(super) fn hole(&self) -> &[bool] {
        &self.hole
    }

    pub(super) const fn observed_pixels(&self) -> usize {
        self.observed
    }

    /// H: the observed entries, channel by channel.
    pub(super) fn gather(&self, x: &[f32]) -> Vec<f32> {
        let planes = x.chunks_exact(self.hole.len());
        let mut observed = Vec::with_capacity(self.observed * planes.len());
        for plane in planes {
            observed.extend(plane.iter().zip(&self.hole).filter(|&(_, &hidden)| !hidden).map(|(&v, _)| v));
        }
        observed
    }

    /// The observed entries in place; the hole of each channel holds `fill` of the channel's entries. Zeros (mid-grey
    /// in [−1, 1]) give Hᵀ = H†.
    pub(super) fn scatter(&self, y: &[f32], fill: impl Fn(&[f32]) -> f32) -> Vec<f32> {
        let planes = y.chunks_exact(self.observed);
        let mut image = Vec::with_capacity(self.hole.len() * planes.len());
        for observed in planes {
            let filled = fill(observed);
            let mut entries = observed.iter();
            let entry = |&hidden: &bool| if hidden { None } else { entries.next() };
            image.extend(self.hole.iter().map(entry).map(|entry| entry.copied().unwrap_or(filled)));
        }
        image
    }
}

/// Checks that `keep` is a probability in the open interval.
pub(super) fn probability(keep: f64) -> Result<f64, OperatorError> {
    if keep > 0.0 && keep < 1.0 { Ok(keep) } else { Err(OperatorError::Keep { keep }) }
}
