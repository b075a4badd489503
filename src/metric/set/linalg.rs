//! Dense f64 linear algebra whose bits do not depend on the number of threads.
//!
//! faer's own parallel products and decompositions may cut a sum differently for every number of threads. Here a
//! product is cut into panels of output columns of one width, each computed on one thread, and decompositions run on one.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::matmul::matmul;
use faer::linalg::{evd, svd};
use faer::{Accum, Mat, MatMut, MatRef, Par, Spec};
use rayon::prelude::*;

use super::SetError;

/// Output columns of one task.
const PANEL: usize = 128;

/// `a · b`.
pub(super) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    for_panels(out.as_mut(), |columns, panel| {
        matmul(panel, Accum::Replace, a, b.subcols(columns.start, columns.len()), 1.0, Par::Seq);
    });
    out
}

/// Adds the lower triangle of `a · b`, whose product must be symmetric, to `out` (entries above the diagonal become
/// arbitrary).
pub(super) fn add_lower_product(out: MatMut<'_, f64>, a: MatRef<'_, f64>, b: MatRef<'_, f64>) {
    for_panels(out, |columns, panel| {
        let (from, rows) = (columns.start, a.nrows() - columns.start);
        let (a, b) = (a.subrows(from, rows), b.subcols(from, columns.len()));
        matmul(panel.subrows_mut(from, rows), Accum::Add, a, b, 1.0, Par::Seq);
    });
}

/// Calls `body` with every panel of columns and its place.
fn for_panels(out: MatMut<'_, f64>, body: impl Fn(std::ops::Range<usize>, MatMut<'_, f64>) + Sync) {
    out.par_col_chunks_mut(PANEL).enumerate().for_each(|(i, panel)| {
        let start = i * PANEL;
        body(start..start + panel.ncols(), panel);
    });
}

/// Copies the lower triangle above the diagonal.
pub(super) fn mirror_lower(matrix: &mut Mat<f64>) {
    for j in 0..matrix.ncols() {
        for i in 0..j {
            matrix[(i, j)] = matrix[(j, i)];
        }
    }
}

/// Eigenvalues, ascending, of a symmetric matrix given by its lower triangle.
pub(super) fn eigenvalues(matrix: MatRef<'_, f64>) -> Result<Vec<f64>, SetError> {
    let dim = matrix.nrows();
    let mut values = Diag::zeros(dim);
    let scratch =
        evd::self_adjoint_evd_scratch::<f64>(dim, evd::ComputeEigenvectors::No, Par::Seq, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    evd::self_adjoint_evd(
        matrix,
        values.as_mut(),
        None,
        Par::Seq,
        MemStack::new(&mut memory),
        Spec::default(),
    )
    .map_err(|_| SetError::NoConvergence(dim))?;
    Ok(values.column_vector().iter().copied().collect())
}

/// F with F · Fᵀ = `matrix`, positive semi-definite and given by its lower triangle: eigenvectors times the roots of
/// their eigenvalues. Unlike Cholesky's, this factor exists where the matrix is singular.
pub(super) fn factor(matrix: MatRef<'_, f64>) -> Result<Mat<f64>, SetError> {
    let dim = matrix.nrows();
    let (mut values, mut vectors) = (Diag::zeros(dim), Mat::zeros(dim, dim));
    let scratch =
        evd::self_adjoint_evd_scratch::<f64>(dim, evd::ComputeEigenvectors::Yes, Par::Seq, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    evd::self_adjoint_evd(
        matrix,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        Spec::default(),
    )
    .map_err(|_| SetError::NoConvergence(dim))?;
    let values: Vec<f64> = values.column_vector().iter().copied().collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    // Rounding leaves zero eigenvalues slightly negative.
    let tolerance = 1e-10 * dim as f64 * largest;
    if let Some(value) = values.iter().find(|value| **value < -tolerance) {
        return Err(SetError::Statistics(format!("the covariance has the negative eigenvalue {value:e}")));
    }
    for (j, value) in values.iter().enumerate() {
        let root = value.max(0.0).sqrt();
        vectors.col_mut(j).iter_mut().for_each(|x| *x *= root);
    }
    Ok(vectors)
}

/// Sum of the singular values.
pub(super) fn nuclear_norm(matrix: MatRef<'_, f64>) -> Result<f64, SetError> {
    let (rows, columns) = matrix.shape();
    let none = svd::ComputeSvdVectors::No;
    let mut values = Diag::zeros(rows.min(columns));
    let scratch = svd::svd_scratch::<f64>(rows, columns, none, none, Par::Seq, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    svd::svd(matrix, values.as_mut(), None, None, Par::Seq, stack, Spec::default())
        .map_err(|_| SetError::NoConvergence(rows.min(columns)))?;
    Ok(values.column_vector().iter().sum())
}
