//! The closed-form field of Gaussian data N(m, S): the oracle of the tests, and a prior that needs no weights.
//!
//! On an affine path x_t ~ N(αm, C) with C = α²S + σ²I, so that x̂₁ = m + αSC⁻¹(x − αm), ε̂ = σC⁻¹(x − αm) and
//! u = α'x̂₁ + σ'ε̂ = α'm + (αα'S + σσ'I)C⁻¹(x − αm): linear, and diagonal in the eigenbasis of S.

use std::sync::Arc;

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd;
use faer::{Mat, Par, Spec};

use super::basis::Basis;
use super::field::{FieldError, InBasis, Rows, Tape, VelocityField};
use crate::path::{Path, PathPoint};
use crate::real::Real;

/// The velocity field of Gaussian data N(m, S), for any condition. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GaussianField<T> {
    diagonal: Diagonal,
    basis: Option<Basis<T>>,
}

/// The field in the eigenbasis of S.
#[derive(Debug, Clone)]
struct Diagonal {
    path: Path,
    /// m in the eigenbasis.
    mean: Arc<[f64]>,
    /// Eigenvalues of S, ≥ 0.
    variances: Arc<[f64]>,
}

/// Why a Gaussian is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GaussianError {
    /// Sizes do not match.
    #[error("a Gaussian in {dim} dimensions needs {need} numbers of {what}, got {got}")]
    Shape {
        /// Which part.
        what: &'static str,
        /// Size of the mean.
        dim: usize,
        /// Size wanted.
        need: usize,
        /// Size given.
        got: usize,
    },
    /// The covariance is not positive semi-definite, or not finite.
    #[error("the covariance must be finite and have no negative eigenvalue")]
    NotSemidefinite,
    /// The eigenvalue decomposition failed.
    #[error("the eigenvalue decomposition of the covariance did not converge")]
    NoConvergence,
}

impl<T: Real> GaussianField<T> {
    /// N(m, diag(variances)).
    pub fn diagonal(path: Path, mean: Vec<f64>, variances: Vec<f64>) -> Result<Self, GaussianError> {
        Self::with_basis(path, mean, variances, None)
    }

    /// N(m, Vᵀ diag(variances) V) with the orthonormal rows of V as `basis`; `mean` in its coordinates.
    pub fn in_eigenbasis(
        path: Path,
        mean: Vec<f64>,
        variances: Vec<f64>,
        basis: Basis<T>,
    ) -> Result<Self, GaussianError> {
        Self::with_basis(path, mean, variances, Some(basis))
    }

    /// N(m, S) with a dense symmetric `covariance` (`dim × dim`, its lower triangle is read).
    pub fn dense(path: Path, mean: &[f64], covariance: &[f64]) -> Result<Self, GaussianError> {
        let dim = mean.len();
        check("covariance", dim, dim * dim, covariance.len())?;
        let eigen = Eigen::new(dim, covariance)?;
        let vectors = eigen.vectors.iter().map(|v| T::from_f64(*v)).collect();
        let mut mean = mean.to_vec();
        let shape = GaussianError::Shape { what: "basis", dim, need: dim * dim, got: eigen.vectors.len() };
        Basis::new(dim, eigen.vectors).ok_or(shape)?.enter(&mut mean);
        Self::with_basis(path, mean, eigen.values, Basis::new(dim, vectors))
    }

    fn with_basis(
        path: Path,
        mean: Vec<f64>,
        variances: Vec<f64>,
        basis: Option<Basis<T>>,
    ) -> Result<Self, GaussianError> {
        let dim = mean.len();
        check("variances", dim, dim, variances.len())?;
        if let Some(basis) = &basis {
            check("basis", dim, dim * dim, basis.dim() * basis.dim())?;
        }
        if !variances.iter().chain(&mean).all(|v| v.is_finite()) || variances.iter().any(|v| *v < 0.0) {
            return Err(GaussianError::NotSemidefinite);
        }
        Ok(Self { diagonal: Diagonal { path, mean: mean.into(), variances: variances.into() }, basis })
    }
}

fn check(what: &'static str, dim: usize, need: usize, got: usize) -> Result<(), GaussianError> {
    if need == got { Ok(()) } else { Err(GaussianError::Shape { what, dim, need, got }) }
}

/// Eigenvalues of a symmetric matrix, ascending and not negative, and its eigenvectors.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    /// Row i is the i-th eigenvector.
    pub(super) vectors: Vec<f64>,
}

impl Eigen {
    /// Of a positive semi-definite `matrix` (`dim × dim`).
    pub(super) fn new(dim: usize, matrix: &[f64]) -> Result<Self, GaussianError> {
        if !matrix.iter().all(|v| v.is_finite()) {
            return Err(GaussianError::NotSemidefinite);
        }
        let matrix = Mat::from_fn(dim, dim, |i, j| matrix[i * dim + j]);
        let (diagonal, u) = decompose(&matrix)?;
        let largest = diagonal.iter().copied().fold(0.0, f64::max);
        // Rounding leaves zero eigenvalues slightly negative.
        let tolerance = 1e-12 * dim as f64 * largest;
        if diagonal.iter().any(|v| *v < -tolerance) {
            return Err(GaussianError::NotSemidefinite);
        }
        let values = diagonal.iter().map(|v| v.max(0.0)).collect();
        let vectors = (0..dim * dim).map(|n| u[(n % dim, n / dim)]).collect();
        Ok(Self { values, vectors })
    }
}

/// Eigenvalues, and eigenvectors as columns, from the lower triangle. On one thread: the bits do not depend on how many
/// there are.
fn decompose(matrix: &Mat<f64>) -> Result<(Vec<f64>, Mat<f64>), GaussianError> {
    let dim = matrix.nrows();
    let (mut values, mut vectors) = (Diag::zeros(dim), Mat::zeros(dim, dim));
    let scratch =
        evd::self_adjoint_evd_scratch::<f64>(dim, evd::ComputeEigenvectors::Yes, Par::Seq, Spec::default());
    evd::self_adjoint_evd(
        matrix.as_ref(),
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| GaussianError::NoConvergence)?;
    Ok((values.column_vector().iter().copied().collect(), vectors))
}

/// (αα'λ + σσ')/(α²λ + σ²): the Jacobian along an eigenvector of eigenvalue λ.
pub(super) fn slope(p: PathPoint, variance: f64) -> f64 {
    let c = p.alpha * p.alpha * variance + p.sigma * p.sigma;
    if c == 0.0 {
        // No variance and no noise: the limit for a variance going to 0.
        return p.d_alpha / p.alpha;
    }
    (p.alpha * p.d_alpha * variance + p.sigma * p.d_sigma) / c
}

impl Diagonal {
    fn velocity<T: Real>(&self, t: &[f64], x: &[T], out: &mut [T]) {
        let dim = self.mean.len();
        for ((t, x), out) in t.iter().zip(x.chunks_exact(dim)).zip(out.chunks_exact_mut(dim)) {
            let p = self.path.at(*t);
            for (((x, out), mean), variance) in x.iter().zip(out).zip(&*self.mean).zip(&*self.variances) {
                let centred = x.to_f64() - p.alpha * mean;
                *out = T::from_f64(p.d_alpha * mean + slope(p, *variance) * centred);
            }
        }
    }

    /// The Jacobian is symmetric: the product with its transpose.
    fn vjp<T: Real>(&self, t: &[f64], cotangent: &[T], out: &mut [T]) {
        let dim = self.mean.len();
        for ((t, c), out) in t.iter().zip(cotangent.chunks_exact(dim)).zip(out.chunks_exact_mut(dim)) {
            let p = self.path.at(*t);
            for ((c, out), variance) in c.iter().zip(out).zip(&*self.variances) {
                *out = T::from_f64(slope(p, *variance) * c.to_f64());
            }
        }
    }

    fn tape(t: &[f64]) -> Tape {
        Box::new(t.to_vec())
    }

    fn times(tape: Tape) -> Result<Vec<f64>, FieldError> {
        tape.downcast().map(|t| *t).map_err(|_| FieldError::foreign_tape("Gaussian field"))
    }
}

impl<T: Real> VelocityField<T> for Diagonal {
    fn dim(&self) -> usize {
        self.mean.len()
    }

    fn velocity(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError> {
        Self::velocity(self, rows.t, rows.x, out);
        Ok(())
    }

    fn velocity_taped(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<Tape, FieldError> {
        Self::velocity(self, rows.t, rows.x, out);
        Ok(Self::tape(rows.t))
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        Self::vjp(self, &Self::times(tape)?, cotangent, out);
        Ok(())
    }

    fn tape_bytes_per_row(&self) -> usize {
        size_of::<f64>()
    }

    fn vjp(&mut self, rows: Rows<'_, T>, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        Self::vjp(self, rows.t, cotangent, out);
        Ok(())
    }
}

impl<T: Real> VelocityField<T> for GaussianField<T> {
    fn dim(&self) -> usize {
        self.diagonal.mean.len()
    }

    fn velocity(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError> {
        let Some(basis) = &self.basis else {
            self.diagonal.velocity(rows.t, rows.x, out);
            return Ok(());
        };
        let mut x = rows.x.to_vec();
        basis.enter(&mut x);
        self.diagonal.velocity(rows.t, &x, out);
        basis.leave(out);
        Ok(())
    }

    fn velocity_taped(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<Tape, FieldError> {
        let tape = Diagonal::tape(rows.t);
        VelocityField::velocity(self, rows, out).map(|()| tape)
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        let t = Diagonal::times(tape)?;
        let Some(basis) = &self.basis else {
            self.diagonal.vjp(&t, cotangent, out);
            return Ok(());
        };
        let mut c = cotangent.to_vec();
        basis.enter(&mut c);
        self.diagonal.vjp(&t, &c, out);
        basis.leave(out);
        Ok(())
    }

    fn tape_bytes_per_row(&self) -> usize {
        size_of::<f64>()
    }

    fn vjp(&mut self, rows: Rows<'_, T>, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        VelocityField::pull_back(self, Diagonal::tape(rows.t), cotangent, out)
    }

    fn in_basis(&mut self) -> Option<InBasis<'_, T>> {
        let basis = self.basis.as_ref()?;
        Some(InBasis { basis, field: &mut self.diagonal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::testing::{check_vjp, covariance, paths, sines};
    use crate::flow::{Cond, Direction, Grid, solve};
    use crate::spec::solver::{FixedSteps, SolverSpec};

    #[test]
    fn vjp_matches_finite_differences() {
        for path in paths() {
            let mut field = GaussianField::dense(path, &sines(4), &covariance(4)).expect("a covariance");
            check_vjp(&mut field, &[0.0, 0.3, 0.9, 1.0]);
        }
    }

    #[test]
    fn velocity_is_the_posterior_mean_of_the_path_s_velocity() {
        // One dimension, Cond-OT: u = (x̂₁ − x)/(1 − t) with x̂₁ = m + tS(x − tm)/(t²S + (1 − t)²).
        let (m, s, t, x) = (0.5, 2.0, 0.3, -1.1);
        let mut field = GaussianField::<f64>::diagonal(Path::CondOt, vec![m], vec![s]).expect("valid");
        let mut u = [0.0];
        let rows = Rows { t: &[t], x: &[x], cond: &[Cond::None] };
        VelocityField::velocity(&mut field, rows, &mut u).expect("closed form");
        let denoised = m + t * s * (x - t * m) / (t * t * s + (1.0 - t) * (1.0 - t));
        assert!((u[0] - (denoised - x) / (1.0 - t)).abs() < 1e-14);
    }

    #[test]
    fn flow_maps_noise_to_the_gaussian() {
        // Φ(x₀) = m + S^½ x₀ in the eigenbasis, backwards its inverse.
        let (mean, variances) = (vec![0.4, -0.2], vec![2.25, 0.04]);
        let mut field = GaussianField::<f64>::diagonal(Path::CondOt, mean, variances).expect("valid");
        let solver = SolverSpec::Rk4(FixedSteps { nfe: 4 * 200 });
        let there = Grid { solver, direction: Direction::Forward };
        let x = solve(&mut field, &there, &[1.0, -2.0], &[Cond::None]).expect("solves").x;
        // Fourth order at 200 steps: the stiffest direction (σ = 0.2) leaves 1e-6.
        assert!((x[0] - 1.9).abs() < 1e-7 && (x[1] + 0.6).abs() < 1e-5, "{x:?}");
        let back = Grid { solver, direction: Direction::Backward };
        let x0 = solve(&mut field, &back, &x, &[Cond::None]).expect("solves").x;
        assert!((x0[0] - 1.0).abs() < 1e-6 && (x0[1] + 2.0).abs() < 1e-4, "{x0:?}");
    }

    #[test]
    fn solving_in_the_eigenbasis_changes_nothing() {
        let dense = covariance(3);
        let mut field = GaussianField::<f64>::dense(Path::CondOt, &sines(3), &dense).expect("a covariance");
        let grid = Grid::forward(SolverSpec::Midpoint(FixedSteps { nfe: 6 }));
        let x = solve(&mut field, &grid, &[0.3, -1.0, 0.8], &[Cond::None]).expect("solves").x;
        let mut plain = crate::flow::testing::WithoutBasis(field);
        let y = solve(&mut plain, &grid, &[0.3, -1.0, 0.8], &[Cond::None]).expect("solves").x;
        // Rounding of the basis changes.
        assert!(x.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-13), "{x:?} {y:?}");
    }

    #[test]
    fn bad_gaussians_are_refused() {
        let refused = |mean: &[f64], covariance: &[f64]| {
            GaussianField::<f64>::dense(Path::CondOt, mean, covariance).expect_err("refused")
        };
        assert!(matches!(refused(&[0.0], &[1.0, 2.0]), GaussianError::Shape { .. }));
        assert_eq!(refused(&[0.0], &[-1.0]), GaussianError::NotSemidefinite);
        assert_eq!(refused(&[0.0], &[f64::NAN]), GaussianError::NotSemidefinite);
    }
}
