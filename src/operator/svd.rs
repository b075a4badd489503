//! Singular value decomposition by one-sided Jacobi rotations (Hestenes 1958), f64.
//!
//! Small singular values come out with high relative accuracy, and plain scalar arithmetic in a fixed order gives the
//! same bits on every machine, which a blocked library routine does not promise.

use super::matrix::Matrix;

/// A = U Σ Vᵀ with min(rows, cols) singular values in descending order.
#[derive(Debug)]
pub(super) struct Svd {
    /// `[rows, k]`; a column is zero where the singular value is.
    pub(super) u: Matrix,
    /// Singular values, descending.
    pub(super) values: Vec<f64>,
    /// `[cols, k]`; a column is zero where the singular value is, unless A is at least as tall as wide.
    pub(super) v: Matrix,
}

impl Svd {
    /// Decomposes `a`.
    pub(super) fn new(a: &Matrix) -> Self {
        if a.rows() >= a.cols() {
            let (u, values, v) = jacobi(a);
            Self { u, values, v }
        } else {
            let (v, values, u) = jacobi(&a.transpose());
            Self { u, values, v }
        }
    }
}

/// Sweeps after which rotations stop anyway; 6 to 10 are usual.
const MAX_SWEEPS: usize = 60;

/// Rotates the columns of a tall matrix until they are orthogonal.
fn jacobi(a: &Matrix) -> (Matrix, Vec<f64>, Matrix) {
    let n = a.cols();
    // Columns as rows: the inner loops run over contiguous memory.
    let mut w: Vec<Vec<f64>> = (0..n).map(|j| (0..a.rows()).map(|i| a.at(i, j)).collect()).collect();
    let mut v: Vec<Vec<f64>> =
        (0..n).map(|j| (0..n).map(|i| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..MAX_SWEEPS {
        if !sweep(&mut w, &mut v) {
            break;
        }
    }
    sorted(&w, &v, a.rows())
}

/// One rotation of every pair of columns; whether any was needed.
fn sweep(w: &mut [Vec<f64>], v: &mut [Vec<f64>]) -> bool {
    let mut rotated = false;
    for p in 0..w.len() {
        for q in p + 1..w.len() {
            let (alpha, beta, gamma) = (dot(&w[p], &w[p]), dot(&w[q], &w[q]), dot(&w[p], &w[q]));
            if gamma.abs() <= f64::EPSILON * (alpha * beta).sqrt() {
                continue;
            }
            rotated = true;
            let zeta = (beta - alpha) / (2.0 * gamma);
            let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
            let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
            rotate(w, p, q, cosine, cosine * tangent);
            rotate(v, p, q, cosine, cosine * tangent);
        }
    }
    rotated
}

fn rotate(columns: &mut [Vec<f64>], p: usize, q: usize, cosine: f64, sine: f64) {
    let (head, tail) = columns.split_at_mut(q);
    for (a, b) in head[p].iter_mut().zip(&mut tail[0]) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}

/// Norms of the rotated columns are the singular values; in descending order, columns normalised.
fn sorted(w: &[Vec<f64>], v: &[Vec<f64>], rows: usize) -> (Matrix, Vec<f64>, Matrix) {
    let n = w.len();
    let norms: Vec<f64> = w.iter().map(|column| dot(column, column).sqrt()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| norms[j].total_cmp(&norms[i]).then(i.cmp(&j)));
    let unit = |i: usize, k: usize| if norms[k] > 0.0 { w[k][i] / norms[k] } else { 0.0 };
    let u = Matrix::from_fn(rows, n, |i, j| unit(i, order[j]));
    let v = Matrix::from_fn(n, n, |i, j| v[order[j]][i]);
    (u, order.iter().map(|&k| norms[k]).collect(), v)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest_difference(a: &Matrix, b: &Matrix) -> f64 {
        (0..a.rows())
            .flat_map(|i| (0..a.cols()).map(move |j| (i, j)))
            .map(|(i, j)| (a.at(i, j) - b.at(i, j)).abs())
            .inspect(|difference| assert!(difference.is_finite()))
            .fold(0.0, f64::max)
    }

    fn identity(n: usize) -> Matrix {
        Matrix::from_fn(n, n, |i, j| f64::from(u8::from(i == j)))
    }

    #[test]
    fn factors_reproduce_tall_and_wide_matrices_and_are_orthonormal() {
        for (rows, cols) in [(7, 4), (4, 7), (5, 5)] {
            let a = Matrix::from_fn(rows, cols, |i, j| ((i * 13 + j * 7 + i * j) % 11) as f64 - 4.0);
            let Svd { u, values, v } = Svd::new(&a);
            let scaled = Matrix::from_fn(u.rows(), u.cols(), |i, j| u.at(i, j) * values[j]);
            // 1e-13: rounding of sums of ten terms of size ≤ 20.
            assert!(largest_difference(&scaled.product(&v.transpose()), &a) < 1e-13);
            assert!(largest_difference(&u.transpose().product(&u), &identity(values.len())) < 1e-14);
            assert!(largest_difference(&v.transpose().product(&v), &identity(values.len())) < 1e-14);
            assert!(values.is_sorted_by(|x, y| x >= y));
        }
    }

    #[test]
    fn small_singular_values_keep_their_relative_accuracy() {
        // diag(1, 1e-8) rotated on both sides.
        let (c, s) = (0.6, 0.8);
        let a = Matrix::new(
            2,
            2,
            vec![c * c + s * s * 1e-8, c * s - s * c * 1e-8, c * s - s * c * 1e-8, s * s + c * c * 1e-8],
        );
        let values = Svd::new(&a).values;
        assert!((values[0] - 1.0).abs() < 1e-15);
        // The entries themselves carry 1e-16 of absolute rounding: 1e-8 relative to the small value.
        assert!((values[1] / 1e-8 - 1.0).abs() < 1e-7);
    }

    #[test]
    fn a_singular_matrix_has_a_zero_value() {
        let values = Svd::new(&Matrix::new(2, 2, vec![1.0, 2.0, 2.0, 4.0])).values;
        assert!((values[0] - 5.0).abs() < 1e-14 && values[1].abs() < 1e-15);
    }
}
