//! A small dense matrix in f64 whose rows know where they are not zero.

use std::ops::Range;

/// Row-major matrix; products run over the non-zero range of each row, in one fixed order.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f64>,
    support: Vec<Range<usize>>,
}

impl Matrix {
    /// A matrix from row-major entries.
    pub(super) fn new(rows: usize, cols: usize, data: Vec<f64>) -> Self {
        debug_assert_eq!(data.len(), rows * cols);
        let support = data.chunks_exact(cols).map(non_zero_range).collect();
        Self { rows, cols, data, support }
    }

    /// A matrix from a function of (row, column).
    pub(super) fn from_fn(rows: usize, cols: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        Self::new(rows, cols, (0..rows * cols).map(|k| entry(k / cols, k % cols)).collect())
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn cols(&self) -> usize {
        self.cols
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.cols..(row + 1) * self.cols]
    }

    pub(super) fn at(&self, row: usize, col: usize) -> f64 {
        self.data[row * self.cols + col]
    }

    pub(super) fn transpose(&self) -> Self {
        Self::from_fn(self.cols, self.rows, |i, j| self.at(j, i))
    }

    /// self · other.
    pub(super) fn product(&self, other: &Self) -> Self {
        let mut out = vec![0.0; self.rows * other.cols];
        self.times(&other.data, other.cols, &mut out);
        Self::new(self.rows, other.cols, out)
    }

    /// out += self · x, with x `[cols, width]` and out `[rows, width]`.
    fn times(&self, x: &[f64], width: usize, out: &mut [f64]) {
        for (i, target) in out.chunks_exact_mut(width).enumerate() {
            for k in self.support[i].clone() {
                add_scaled(target, self.at(i, k), &x[k * width..(k + 1) * width]);
            }
        }
    }

    /// out += x · self, with x `[height, rows]` and out `[height, cols]`.
    fn times_right(&self, x: &[f64], out: &mut [f64]) {
        for (row, target) in x.chunks_exact(self.rows).zip(out.chunks_exact_mut(self.cols)) {
            for (k, &scale) in row.iter().enumerate() {
                let range = self.support[k].clone();
                add_scaled(&mut target[range.clone()], scale, &self.row(k)[range]);
            }
        }
    }
}

/// left · x · right for one plane x of shape `[left.cols, right.rows]`.
pub(super) fn sandwich(left: &Matrix, x: &[f64], right: &Matrix) -> Vec<f64> {
    let mut half = vec![0.0; left.rows * right.rows];
    left.times(x, right.rows, &mut half);
    let mut out = vec![0.0; left.rows * right.cols];
    right.times_right(&half, &mut out);
    out
}

fn add_scaled(target: &mut [f64], scale: f64, source: &[f64]) {
    for (t, &s) in target.iter_mut().zip(source) {
        *t += scale * s;
    }
}

fn non_zero_range(row: &[f64]) -> Range<usize> {
    let first = row.iter().position(|&v| v != 0.0).unwrap_or(0);
    let end = row.iter().rposition(|&v| v != 0.0).map_or(first, |last| last + 1);
    first..end
}
