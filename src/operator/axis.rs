//! The one-dimensional factors of the separable operators: one matrix per image axis.

use crate::spec::operator::{Bicubic, BicubicKernel, Boundary, GaussianBlur};

use super::matrix::Matrix;
use super::{MAX_BLUR_TAPS, OperatorError, Shape};

/// The factors for rows (height) and columns (width): Y = rows · X · columnsᵀ.
#[derive(Debug)]
pub(super) struct Axes {
    pub(super) rows: Matrix,
    pub(super) columns: Matrix,
}

impl Axes {
    fn new(shape: Shape, factor: impl Fn(usize) -> Matrix) -> Self {
        Self { rows: factor(shape.height), columns: factor(shape.width) }
    }
}

/// Bicubic downsampling by an integer factor.
pub(super) fn bicubic(spec: &Bicubic, shape: Shape) -> Result<Axes, OperatorError> {
    let factor = spec.factor as usize;
    let Shape { height, width, .. } = shape;
    if factor < 2 || !height.is_multiple_of(factor) || !width.is_multiple_of(factor) {
        return Err(OperatorError::Factor { factor: spec.factor, height, width });
    }
    Ok(Axes::new(shape, |n| match spec.kernel {
        BicubicKernel::Antialiased => antialiased(n, factor),
        BicubicKernel::Interpolate => interpolate(n, factor),
    }))
}

/// Gaussian blur with a normalised kernel of `size` taps exp(−k²/2σ²).
pub(super) fn gaussian_blur(spec: &GaussianBlur, shape: Shape) -> Result<Axes, OperatorError> {
    if spec.size.is_multiple_of(2) || spec.size > MAX_BLUR_TAPS {
        return Err(OperatorError::BlurSize { size: spec.size });
    }
    if !(spec.sigma.is_finite() && spec.sigma > 0.0) {
        return Err(OperatorError::BlurSigma { sigma: spec.sigma });
    }
    let taps = gaussian_taps(spec.size as usize, spec.sigma);
    let radius = (spec.size as usize / 2).cast_signed();
    Ok(Axes::new(shape, |n| {
        let row = |i: usize| {
            taps.iter().enumerate().map(move |(k, &tap)| (i.cast_signed() + k.cast_signed() - radius, tap))
        };
        stencil(n, n, row, |index| extend(index, n, spec.boundary))
    }))
}

/// Taps below this share of the centre's are dropped: they are below f64's rounding of the sum.
const NEGLIGIBLE: f64 = 1e-20;

fn gaussian_taps(size: usize, sigma: f64) -> Vec<f64> {
    let centre = (size / 2) as f64;
    let weights: Vec<f64> = (0..size)
        .map(|k| libm::exp(-0.5 * ((k as f64 - centre) / sigma).powi(2)))
        .map(|weight| if weight < NEGLIGIBLE { 0.0 } else { weight })
        .collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Keys kernel (a = −0.5) stretched by the factor, borders reflected with edge repeat. For even factors these are
/// DDRM's taps; for odd ones the filter is centred on the block, where DDRM's is half a pixel off.
fn antialiased(n: usize, factor: usize) -> Matrix {
    let scale = factor as f64;
    let row = move |i: usize| {
        let centre = block_centre(i, factor);
        let (first, last) = ((centre - 2.0 * scale).ceil() as isize, (centre + 2.0 * scale).floor() as isize);
        let weight = move |j: isize| keys((j as f64 - centre) / scale, -0.5);
        let total: f64 = (first..=last).map(weight).sum();
        (first..=last).map(move |j| (j, weight(j) / total))
    };
    stencil(n / factor, n, row, |index| Some(reflect_repeating_edge(index, n)))
}

/// Keys kernel (a = −0.75) at the block's centre, four taps, borders clamped: `torch.nn.functional.interpolate` with
/// `mode="bicubic"`, `align_corners=False`, `antialias=False` (torch 2.15).
fn interpolate(n: usize, factor: usize) -> Matrix {
    let row = move |i: usize| {
        let centre = block_centre(i, factor);
        let base = centre.floor() as isize;
        (base - 1..=base + 2).map(move |j| (j, keys(j as f64 - centre, -0.75)))
    };
    let last = n.cast_signed() - 1;
    stencil(n / factor, n, row, |index| Some(index.clamp(0, last) as usize))
}

/// Position of output pixel `i`'s centre on the input grid.
fn block_centre(i: usize, factor: usize) -> f64 {
    (i * factor) as f64 + (factor as f64 - 1.0) / 2.0
}

/// The cubic convolution kernel of Keys (1981).
fn keys(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// A matrix from the taps (input index, weight) of each row; `fold` maps an index into the image or drops it.
fn stencil<Taps: Iterator<Item = (isize, f64)>>(
    rows: usize,
    cols: usize,
    taps: impl Fn(usize) -> Taps,
    fold: impl Fn(isize) -> Option<usize>,
) -> Matrix {
    let mut data = vec![0.0; rows * cols];
    for (i, row) in data.chunks_exact_mut(cols).enumerate() {
        for (index, weight) in taps(i) {
            if let Some(j) = fold(index) {
                row[j] += weight;
            }
        }
    }
    Matrix::new(rows, cols, data)
}

/// The pixel that stands at `index` of the extended axis, if any.
fn extend(index: isize, n: usize, boundary: Boundary) -> Option<usize> {
    let side = n.cast_signed();
    match boundary {
        Boundary::Reflect if n == 1 => Some(0),
        Boundary::Reflect => {
            let folded = index.rem_euclid(2 * (side - 1));
            Some(folded.min(2 * (side - 1) - folded) as usize)
        }
        Boundary::Zero => (0..side).contains(&index).then_some(index as usize),
        Boundary::Circular => Some(index.rem_euclid(side) as usize),
    }
}

/// −1 → 0, n → n−1, and so on.
fn reflect_repeating_edge(index: isize, n: usize) -> usize {
    let side = n.cast_signed();
    let folded = index.rem_euclid(2 * side);
    folded.min(2 * side - 1 - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::operator::PinvCutoff;

    #[test]
    fn the_first_antialiased_row_is_the_printed_one() {
        let matrix = antialiased(128, 2);
        let printed = [0.546875, 0.398438, 0.101562, -0.035156, -0.011719, 0.0];
        // Printed with six digits.
        assert!(
            matrix.row(0).iter().zip(printed).all(|(a, b)| (a - b).abs() < 1e-6),
            "{:?}",
            &matrix.row(0)[..6]
        );
        let inner = [-0.011719, -0.035156, 0.113281, 0.433594, 0.433594, 0.113281, -0.035156, -0.011719];
        assert!(matrix.row(10)[17..25].iter().zip(inner).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn the_interpolating_kernel_has_the_printed_taps() {
        let matrix = interpolate(16, 2);
        assert_eq!(&matrix.row(3)[5..9], &[-0.09375, 0.59375, 0.59375, -0.09375]);
        // The tap at −1 is clamped onto pixel 0.
        assert_eq!(&matrix.row(0)[..3], &[0.5, 0.59375, -0.09375]);
    }

    #[test]
    fn every_rule_but_zero_keeps_a_constant_image() {
        let spec = |boundary| GaussianBlur { size: 61, sigma: 1.5, boundary, pinv_cutoff: PinvCutoff::None };
        let sums = |matrix: &Matrix| {
            (0..matrix.rows()).map(|i| matrix.row(i).iter().sum::<f64>()).collect::<Vec<_>>()
        };
        let shape = Shape::new(1, 9, 9);
        let blur = |boundary| gaussian_blur(&spec(boundary), shape).unwrap().rows;
        for matrix in
            [blur(Boundary::Reflect), blur(Boundary::Circular), antialiased(12, 3), interpolate(12, 3)]
        {
            // 1e-14: rounding of a sum of 61 taps.
            assert!(sums(&matrix).iter().all(|sum| (sum - 1.0).abs() < 1e-14));
        }
        assert!(sums(&blur(Boundary::Zero))[0] < 0.9);
    }

    #[test]
    fn odd_factors_are_centred_on_the_block() {
        let row = antialiased(30, 3);
        let centre = row.row(4);
        assert!((0..13).all(|k| (centre[13 - k] - centre[13 + k]).abs() < 1e-15));
    }
}
