//! Separable operators Y = A X Bᵀ by the SVD of their one-dimensional factors.
//!
//! With A = UΣVᵀ (rows) and B likewise (columns), the two-dimensional singular values are the products s_i·s_j. A
//! cut-off on one axis leaves H† separable; a cut-off on the products does not, and H† is then applied in the basis
//! of singular vectors.

use crate::spec::operator::PinvCutoff;

use super::axis::Axes;
use super::matrix::{Matrix, sandwich};
use super::svd::Svd;
use super::{OperatorError, Shape, cutoff_value};

/// A separable operator with its pseudo-inverse, for `channels` planes.
#[derive(Debug)]
pub(super) struct Separable {
    image: Shape,
    measurement: Shape,
    forward: Pair,
    adjoint: Pair,
    modes: Modes,
    inverse: Inverse,
}

/// The singular value decomposition in two dimensions: Uᵀ Y U', values s_i·s_j, V Z V'ᵀ.
#[derive(Debug)]
struct Modes {
    analyse_y: Pair,
    synthesise: Pair,
    /// Row-major over (i, j); 0 where it is so up to rounding.
    values: Vec<f64>,
}

/// X ↦ left · X · right.
#[derive(Debug)]
struct Pair {
    left: Matrix,
    right: Matrix,
}

impl Pair {
    fn apply(&self, plane: &[f64]) -> Vec<f64> {
        sandwich(&self.left, plane, &self.right)
    }

    fn transpose(&self) -> Self {
        Self { left: self.left.transpose(), right: self.right.transpose() }
    }
}

/// H† and the projection H†H.
#[derive(Debug)]
enum Inverse {
    /// Both are separable themselves.
    PerAxis { pinv: Pair, projection: Pair },
    /// Products of singular values decide: the [`Modes`] with (inverse) gains; Vᵀ X V' for the projection.
    Product { analyse_x: Pair, gains: Vec<f64> },
}

impl Separable {
    /// Decomposes both factors and applies the cut-off.
    pub(super) fn new(axes: Axes, cutoff: PinvCutoff, image: Shape) -> Result<Self, OperatorError> {
        let rows = Svd::new(&axes.rows);
        let columns = if image.height == image.width { None } else { Some(Svd::new(&axes.columns)) };
        let columns = columns.as_ref().unwrap_or(&rows);
        let inverse = Inverse::new(&rows, columns, cutoff)?;
        let modes = Modes::new(&rows, columns);
        let measurement = Shape::new(image.channels, axes.rows.rows(), axes.columns.rows());
        let forward = Pair { left: axes.rows, right: axes.columns.transpose() };
        Ok(Self { image, measurement, adjoint: forward.transpose(), forward, modes, inverse })
    }

    pub(super) const fn measurement_shape(&self) -> Shape {
        self.measurement
    }

    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        per_plane(x, self.image, |plane| self.forward.apply(plane))
    }

    pub(super) fn adjoint(&self, y: &[f32]) -> Vec<f32> {
        per_plane(y, self.measurement, |plane| self.adjoint.apply(plane))
    }

    pub(super) fn pinv(&self, y: &[f32]) -> Vec<f32> {
        per_plane(y, self.measurement, |plane| self.inverse.pinv(&self.modes, plane))
    }

    /// V diag(s/(r²s² + σ²)) Uᵀ y over all singular values s > 0, for σ > 0.
    pub(super) fn regularised_inverse(&self, y: &[f32], r2: f64, sigma2: f64) -> Vec<f32> {
        let gain = |s: &f64| if *s > 0.0 { s / (r2 * s * s + sigma2) } else { 0.0 };
        let gains: Vec<f64> = self.modes.values.iter().map(gain).collect();
        per_plane(y, self.measurement, |plane| self.modes.filtered(plane, &gains))
    }

    pub(super) fn range_projection(&self, x: &[f32]) -> Vec<f32> {
        per_plane(x, self.image, |plane| self.inverse.projection(&self.modes, plane))
    }
}

impl Modes {
    fn new(rows: &Svd, columns: &Svd) -> Self {
        let (left, right) = (kept(rows, 0.0), kept(columns, 0.0));
        let value = |i: usize, j: usize| {
            if left[i] && right[j] { rows.values[i] * columns.values[j] } else { 0.0 }
        };
        let count = columns.values.len();
        Self {
            analyse_y: Pair { left: rows.u.transpose(), right: columns.u.clone() },
            synthesise: Pair { left: rows.v.clone(), right: columns.v.transpose() },
            values: (0..rows.values.len() * count).map(|k| value(k / count, k % count)).collect(),
        }
    }

    /// V diag(gains) Uᵀ y for one plane.
    fn filtered(&self, y: &[f64], gains: &[f64]) -> Vec<f64> {
        let mut spectrum = self.analyse_y.apply(y);
        spectrum.iter_mut().zip(gains).for_each(|(entry, gain)| *entry *= gain);
        self.synthesise.apply(&spectrum)
    }
}

impl Inverse {
    fn new(rows: &Svd, columns: &Svd, cutoff: PinvCutoff) -> Result<Self, OperatorError> {
        let per_axis = !matches!(cutoff, PinvCutoff::Product(_));
        let largest = match (rows.values[0], columns.values[0]) {
            (r, c) if per_axis => r.min(c),
            (r, c) => r * c,
        };
        let value = cutoff_value(cutoff);
        if !(value >= 0.0 && value < largest) {
            return Err(OperatorError::Cutoff { cutoff: value, largest });
        }
        Ok(if per_axis { Self::per_axis(rows, columns, value) } else { Self::product(rows, columns, value) })
    }

    fn per_axis(rows: &Svd, columns: &Svd, cutoff: f64) -> Self {
        let (left, right) = (kept(rows, cutoff), kept(columns, cutoff));
        Self::PerAxis {
            pinv: Pair {
                left: pseudo_inverse(rows, &left),
                right: pseudo_inverse(columns, &right).transpose(),
            },
            projection: Pair { left: projector(rows, &left), right: projector(columns, &right) },
        }
    }

    fn product(rows: &Svd, columns: &Svd, cutoff: f64) -> Self {
        let (left, right) = (kept(rows, 0.0), kept(columns, 0.0));
        let gain = |i: usize, j: usize| {
            let value = rows.values[i] * columns.values[j];
            if left[i] && right[j] && value > cutoff { 1.0 / value } else { 0.0 }
        };
        let count = columns.values.len();
        Self::Product {
            analyse_x: Pair { left: rows.v.transpose(), right: columns.v.clone() },
            gains: (0..rows.values.len() * count).map(|k| gain(k / count, k % count)).collect(),
        }
    }

    fn pinv(&self, modes: &Modes, y: &[f64]) -> Vec<f64> {
        match self {
            Self::PerAxis { pinv, .. } => pinv.apply(y),
            Self::Product { gains, .. } => modes.filtered(y, gains),
        }
    }

    fn projection(&self, modes: &Modes, x: &[f64]) -> Vec<f64> {
        match self {
            Self::PerAxis { projection, .. } => projection.apply(x),
            Self::Product { analyse_x, gains } => {
                let mut spectrum = analyse_x.apply(x);
                let dropped = spectrum.iter_mut().zip(gains).filter(|(_, gain)| **gain == 0.0);
                dropped.for_each(|(entry, _)| *entry = 0.0);
                modes.synthesise.apply(&spectrum)
            }
        }
    }
}

/// Which singular values count: those above the cut-off and above rounding (as numpy's `matrix_rank`).
fn kept(svd: &Svd, cutoff: f64) -> Vec<bool> {
    let side = svd.u.rows().max(svd.v.rows()) as f64;
    let rounding = svd.values[0] * side * f64::EPSILON;
    // DDRM zeroes values strictly below its threshold: a value equal to the cut-off stays.
    svd.values.iter().map(|&value| value >= cutoff && value > rounding).collect()
}

/// V Σ⁺ Uᵀ.
fn pseudo_inverse(svd: &Svd, kept: &[bool]) -> Matrix {
    let scale = |j: usize| if kept[j] { 1.0 / svd.values[j] } else { 0.0 };
    Matrix::from_fn(svd.v.rows(), svd.v.cols(), |i, j| svd.v.at(i, j) * scale(j)).product(&svd.u.transpose())
}

/// V_k V_kᵀ.
fn projector(svd: &Svd, kept: &[bool]) -> Matrix {
    let chosen =
        Matrix::from_fn(svd.v.rows(), svd.v.cols(), |i, j| if kept[j] { svd.v.at(i, j) } else { 0.0 });
    chosen.product(&chosen.transpose())
}

/// Maps every channel's plane, widened to f64 and rounded once at the end.
fn per_plane(data: &[f32], shape: Shape, map: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f32> {
    let mut out = Vec::new();
    for plane in data.chunks_exact(shape.pixels()) {
        let plane: Vec<f64> = plane.iter().map(|&v| f64::from(v)).collect();
        out.extend(map(&plane).iter().map(|&v| v as f32));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::axis;
    use super::*;
    use crate::spec::operator::{Bicubic, BicubicKernel, Boundary, GaussianBlur};

    fn blur_values(boundary: Boundary) -> Vec<f64> {
        let spec = GaussianBlur { size: 61, sigma: 1.0, boundary, pinv_cutoff: PinvCutoff::None };
        Svd::new(&axis::gaussian_blur(&spec, Shape::new(1, 128, 128)).unwrap().rows).values
    }

    #[test]
    fn singular_values_of_the_paper_s_blur_are_the_printed_ones() {
        let values = blur_values(Boundary::Reflect);
        // Printed with five to six digits.
        assert!((values[127] - 0.014351).abs() < 1e-6, "{}", values[127]);
        assert!((values[0] - 1.00656).abs() < 1e-5, "{}", values[0]);
        assert!(((values[0] / values[127]).powi(2) - 4919.0).abs() < 1.0);
    }

    #[test]
    fn ddrm_s_cut_off_keeps_the_printed_number_of_modes() {
        let count = |boundary| blur_values(boundary).iter().filter(|&&value| value >= 3e-2).count();
        assert_eq!(count(Boundary::Reflect), 108);
        assert_eq!(count(Boundary::Zero), 109);
        assert_eq!(count(Boundary::Circular), 109);
    }

    #[test]
    fn bicubic_singular_values_lie_between_the_printed_bounds() {
        let kernel = BicubicKernel::Antialiased;
        let spec = Bicubic { factor: 2, kernel, pinv_cutoff: PinvCutoff::None };
        let values = Svd::new(&axis::bicubic(&spec, Shape::new(1, 128, 128)).unwrap().rows).values;
        assert_eq!(values.len(), 64);
        // Printed with three digits.
        assert!((values[63] - 0.486).abs() < 1e-3 && (values[0] - 0.707).abs() < 1e-3, "{values:?}");
    }
}
