//! Bilinear resizing as the tools for FID do it: three rules for what lies between two pixels.
//!
//! Sources: torch-fidelity 0.4.0 (`interpolate_bilinear_2d_like_tensorflow1x`) and `torch.nn.functional.interpolate` of
//! PyTorch 2.15 (`mode="bilinear", align_corners=False`, with and without `antialias`). Weights and sums are f64.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where an output pixel looks for its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// TensorFlow 1: position = index · in/out, between that pixel and the next. What torch-fidelity does, and
    /// torchmetrics before 1.8, so the paper.
    #[default]
    Tf1,
    /// position = (index + ½) · in/out − ½, between two pixels, also where the image shrinks. What pytorch-fid does.
    HalfPixel,
    /// As `half_pixel`, but where the image shrinks every pixel is the mean of those that it covers, weighted by a
    /// triangle. What torchmetrics does since 1.8.
    Antialias,
}

/// The pixels of a row that one output pixel is a weighted mean of.
#[derive(Debug, Clone, PartialEq)]
struct Taps {
    first: usize,
    weights: Vec<f64>,
}

impl Resize {
    /// `image` of `[channels, height, width]` with every plane resized to `to` rows and columns.
    pub(super) fn apply(self, image: &[f32], sides: [usize; 3], to: [usize; 2]) -> Vec<f32> {
        let [_, height, width] = sides;
        let (rows, columns) = (self.taps(height, to[0]), self.taps(width, to[1]));
        let planes = image.chunks_exact(height * width);
        planes.flat_map(|plane| resize_plane(plane, width, &rows, &columns)).collect()
    }

    /// The taps of all `outputs` pixels of a row of `inputs`.
    fn taps(self, inputs: usize, outputs: usize) -> Vec<Taps> {
        let scale = inputs as f64 / outputs as f64;
        let between = |position: f64| {
            let first = (position as usize).min(inputs - 1);
            let share = position - first as f64;
            let weights = if first + 1 < inputs { vec![1.0 - share, share] } else { vec![1.0] };
            Taps { first, weights }
        };
        let taps = |index: usize| match self {
            Self::Tf1 => between(index as f64 * scale),
            Self::HalfPixel => between(((index as f64 + 0.5) * scale - 0.5).max(0.0)),
            Self::Antialias => triangle((index as f64 + 0.5) * scale, scale.max(1.0), inputs),
        };
        (0..outputs).map(taps).collect()
    }
}

/// A triangle of `radius` around `centre`, on the pixels that exist.
fn triangle(centre: f64, radius: f64, inputs: usize) -> Taps {
    let first = (centre - radius + 0.5).max(0.0) as usize;
    let end = ((centre + radius + 0.5) as usize).min(inputs);
    let weight = |i: usize| (1.0 - ((i as f64 + 0.5 - centre) / radius).abs()).max(0.0);
    let weights: Vec<f64> = (first..end).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    Taps { first, weights: weights.into_iter().map(|weight| weight / sum).collect() }
}

fn resize_plane(plane: &[f32], width: usize, rows: &[Taps], columns: &[Taps]) -> Vec<f32> {
    let along_row = |row: &[f32]| -> Vec<f64> {
        let mean = |taps: &Taps| {
            taps.weights.iter().zip(&row[taps.first..]).map(|(w, x)| w * f64::from(*x)).sum::<f64>()
        };
        columns.iter().map(mean).collect()
    };
    let narrowed: Vec<Vec<f64>> = plane.chunks_exact(width).map(along_row).collect();
    let along_column = |taps: &Taps| {
        let mut sums = vec![0.0_f64; columns.len()];
        for (weight, row) in taps.weights.iter().zip(&narrowed[taps.first..]) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * x);
        }
        sums.into_iter().map(|sum| sum as f32)
    };
    rows.iter().flat_map(along_column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Resize; 3] = [Resize::Tf1, Resize::HalfPixel, Resize::Antialias];

    #[test]
    fn weights_are_a_mean_of_pixels_that_exist() {
        for resize in ALL {
            for (inputs, outputs) in [(1, 299), (2, 5), (32, 299), (299, 299), (300, 299), (1000, 299)] {
                for taps in resize.taps(inputs, outputs) {
                    assert!(taps.first + taps.weights.len() <= inputs, "{resize:?} {inputs}");
                    assert!((taps.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{resize:?} {inputs}");
                    assert!(taps.weights.iter().all(|w| *w >= 0.0), "{resize:?} {inputs}");
                }
            }
        }
    }

    #[test]
    fn an_image_of_the_right_size_stays() {
        let image: Vec<f32> = (0..24).map(|i| i as f32).collect();
        for resize in ALL {
            assert_eq!(resize.apply(&image, [2, 3, 4], [3, 4]), image, "{resize:?}");
        }
    }

    #[test]
    fn the_rules_differ_as_they_should() {
        let row = [0.0, 4.0, 8.0, 12.0];
        let to = |resize: Resize, n| resize.apply(&row, [1, 1, 4], [1, n]);
        assert_eq!(to(Resize::Tf1, 2), [0.0, 8.0]);
        assert_eq!(to(Resize::HalfPixel, 2), [2.0, 10.0]);
        // (0 + 3·4 … )/8: weights ¾, ¾, ¼ of the triangle of radius 2 around 1, cut at the edge.
        let [left, right] = to(Resize::Antialias, 2)[..] else { panic!("two pixels") };
        assert!(
            (left - 20.0 / 7.0).abs() < 1e-6 && (right - (12.0 - 20.0 / 7.0)).abs() < 1e-6,
            "{left} {right}"
        );
        // Without shrinking there is nothing to smooth.
        assert_eq!(to(Resize::Antialias, 8), to(Resize::HalfPixel, 8));
    }
}
