//! Resampling of 8-bit images, bit for bit as Pillow does it (`Image.resize` of mode RGB or L, Pillow 10.2,
//! of the paper's time).
//!
//! Two passes, along rows first: each new pixel is a weighted sum over the old pixels under the filter, which is stretched
//! by the reduction (so that it averages), with weights in fixed point of 22 bits, rounded and clipped to a byte after
//! each pass (Pillow's `Resample.c`). Pillow 13.0 may begin with the other pass, by the sizes: its bytes then differ by 1
//! at most.

use super::pixels::Pixels;

/// Weights are integers in units of 2⁻²²: 32 bits less 8 of a pixel and 2 for overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// How old pixels are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// The mean over the area of the new pixel.
    Box,
    /// Keys' cubic with a = −0.5.
    Bicubic,
}

impl Filter {
    /// Half its width in pixels, before it is stretched.
    const fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bicubic => keys(x.abs()),
        }
    }
}

/// Keys' cubic at x ≥ 0, in Pillow's order of operations.
fn keys(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Weights of one new pixel along an axis.
struct Window {
    /// First old pixel.
    first: usize,
    /// Fixed-point weight of it and those after it.
    weights: Vec<i32>,
}

/// The windows of all new pixels along an axis of `from` pixels.
fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |new: usize| {
        let centre = (new as f64 + 0.5) * scale;
        // Truncation, as of a C cast: the left end is clamped at 0 afterwards.
        let first = ((centre - support + 0.5) as i64).max(0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let raw: Vec<f64> =
            (first..end).map(|old| filter.at((old as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = raw.iter().sum();
        let weights = raw.iter().map(|w| fixed(if sum == 0.0 { *w } else { w / sum })).collect();
        Window { first, weights }
    };
    (0..to).map(window).collect()
}

/// Rounded half away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    if weight < 0.0 { (scaled - 0.5) as i32 } else { (scaled + 0.5) as i32 }
}

fn clipped(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The image in `width` × `height` pixels, both at least 1.
pub(super) fn resize(image: &Pixels, width: usize, height: usize, filter: Filter) -> Pixels {
    // An axis that keeps its length keeps its bytes.
    let wide = (width != image.width).then(|| along_rows(image, width, filter));
    let image = wide.as_ref().unwrap_or(image);
    if height == image.height { image.clone() } else { along_columns(image, height, filter) }
}

fn along_rows(image: &Pixels, width: usize, filter: Filter) -> Pixels {
    let (windows, channels) = (windows(image.width, width, filter), image.channels);
    let mut bytes = Vec::with_capacity(width * image.height * channels);
    for row in image.bytes.chunks_exact(image.width * channels) {
        for Window { first, weights } in &windows {
            for channel in 0..channels {
                let old = row[first * channels + channel..].iter().step_by(channels);
                bytes.push(weighed(weights, old));
            }
        }
    }
    Pixels { width, bytes, ..*image }
}

fn along_columns(image: &Pixels, height: usize, filter: Filter) -> Pixels {
    let row = image.width * image.channels;
    let mut bytes = Vec::with_capacity(row * height);
    for Window { first, weights } in &windows(image.height, height, filter) {
        bytes
            .extend((0..row).map(|at| weighed(weights, image.bytes[first * row + at..].iter().step_by(row))));
    }
    Pixels { height, bytes, ..*image }
}

/// Σ weight·pixel, rounded and clipped.
fn weighed<'a>(weights: &[i32], pixels: impl Iterator<Item = &'a u8>) -> u8 {
    let half = 1 << (PRECISION_BITS - 1);
    clipped(weights.iter().zip(pixels).fold(half, |sum, (weight, pixel)| sum + weight * i32::from(*pixel)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_every_window_sum_to_one() {
        for filter in [Filter::Box, Filter::Bicubic] {
            for (from, to) in [(500, 128), (375, 128), (7, 20), (129, 128), (1, 3), (9, 1)] {
                for (new, window) in windows(from, to, filter).iter().enumerate() {
                    let sum: i32 = window.weights.iter().sum();
                    // Each weight is rounded to half a unit.
                    let slack = window.weights.len() as i32;
                    assert!((sum - (1 << PRECISION_BITS)).abs() <= slack, "{filter:?} {from} {to} {new}");
                    assert!(window.first + window.weights.len() <= from);
                }
            }
        }
    }

    #[test]
    fn a_constant_image_stays_constant() {
        for filter in [Filter::Box, Filter::Bicubic] {
            let image = Pixels { width: 31, height: 17, channels: 3, bytes: vec![200; 31 * 17 * 3] };
            assert!(resize(&image, 12, 40, filter).bytes.iter().all(|byte| *byte == 200));
        }
    }
}
