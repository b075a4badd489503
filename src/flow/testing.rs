//! Shared by the tests of this module: fixtures, and finite differences of any field.

use super::{Component, Cond, FieldError, GaussianMixture, Rows, Tape, VelocityField};
use crate::path::Path;
use crate::spec::solver::{Adaptive, FixedSteps, SolverSpec};

/// Fixed numbers in (−1, 1), no two alike.
pub(super) fn sines(n: usize) -> Vec<f64> {
    (0..n).map(|i| (1.7 * i as f64 + 0.4).sin()).collect()
}

/// An orthonormal matrix without zeros: a Householder reflection.
pub(super) fn rotation(dim: usize) -> Vec<f64> {
    let v = sines(dim);
    let norm2: f64 = v.iter().map(|v| v * v).sum();
    let entry = |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j] / norm2;
    (0..dim * dim).map(|n| entry(n / dim, n % dim)).collect()
}

/// A dense positive definite matrix with eigenvalues 0.1, 0.6, 1.1 …
pub(super) fn covariance(dim: usize) -> Vec<f64> {
    let v = rotation(dim);
    let entry = |i: usize, j: usize| -> f64 {
        (0..dim).map(|k| (0.1 + 0.5 * k as f64) * v[k * dim + i] * v[k * dim + j]).sum()
    };
    (0..dim * dim).map(|n| entry(n / dim, n % dim)).collect()
}

/// One path of each kind.
pub(super) fn paths() -> [Path; 3] {
    [Path::CondOt, Path::vp_linear(), Path::Polynomial2]
}

/// Compares a field's VJP (by tape and by `vjp`) with central differences of its velocity at these times.
pub(super) fn check_vjp(field: &mut dyn VelocityField<f64>, times: &[f64]) {
    let (rows, dim) = (times.len(), field.dim());
    let (x, cotangent) = (sines(rows * dim), sines(rows * dim + 5)[5..].to_vec());
    let cond = vec![Cond::None; rows];
    fn at<'a>(t: &'a [f64], x: &'a [f64], cond: &'a [Cond]) -> Rows<'a, f64> {
        Rows { t, x, cond }
    }
    let mut velocity = vec![0.0; rows * dim];
    let mut taped = velocity.clone();
    field.velocity(at(times, &x, &cond), &mut velocity).expect("evaluates");
    let tape = field.velocity_taped(at(times, &x, &cond), &mut taped).expect("evaluates");
    assert_eq!(velocity, taped);
    let (mut by_tape, mut by_input) = (velocity.clone(), velocity.clone());
    field.pull_back(tape, &cotangent, &mut by_tape).expect("pulls back");
    field.vjp(at(times, &x, &cond), &cotangent, &mut by_input).expect("pulls back");
    assert_eq!(by_tape, by_input);
    let h = 1e-5;
    for i in 0..dim {
        let mut moved = |by: f64| {
            let mut x = x.clone();
            x.iter_mut().skip(i).step_by(dim).for_each(|x| *x += by);
            let mut u = vec![0.0; rows * dim];
            field.velocity(at(times, &x, &cond), &mut u).expect("evaluates");
            u
        };
        let (plus, minus) = (moved(h), moved(-h));
        for r in 0..rows {
            let range = r * dim..(r + 1) * dim;
            let slope: f64 = range.map(|n| cotangent[n] * (plus[n] - minus[n]) / (2.0 * h)).sum();
            let exact = by_tape[r * dim + i];
            // Central differences in f64: h² truncation and 1e-11 rounding, on velocities of size up to 1e3.
            assert!((slope - exact).abs() < 1e-6 * (1.0 + exact.abs()), "row {r}, {i}: {slope} {exact}");
        }
    }
}

/// A field that hides its basis.
pub(super) struct WithoutBasis<F>(pub(super) F);

impl<F: VelocityField<f64>> VelocityField<f64> for WithoutBasis<F> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn velocity(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<(), FieldError> {
        self.0.velocity(rows, out)
    }

    fn velocity_taped(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<Tape, FieldError> {
        self.0.velocity_taped(rows, out)
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f64], out: &mut [f64]) -> Result<(), FieldError> {
        self.0.pull_back(tape, cotangent, out)
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.0.tape_bytes_per_row()
    }
}

/// Two anisotropic Gaussians in the plane whose covariances do not commute.
pub(super) fn mixture(path: Path) -> GaussianMixture {
    let components = [
        Component { weight: 0.4, mean: vec![1.0, -0.5], covariance: vec![0.5, 0.3, 0.3, 0.4] },
        Component { weight: 0.6, mean: vec![-0.7, 0.8], covariance: vec![0.2, -0.05, -0.05, 0.6] },
    ];
    GaussianMixture::new(path, &components).expect("positive definite")
}

/// Every solver, coarse enough that discretisation shows.
pub(super) fn solvers() -> [SolverSpec; 5] {
    let steps = |nfe| FixedSteps { nfe };
    [
        SolverSpec::Euler(steps(5)),
        SolverSpec::Midpoint(steps(6)),
        SolverSpec::Heun(steps(6)),
        SolverSpec::Rk4(steps(12)),
        SolverSpec::Dopri5(Adaptive { rtol: 1e-9, atol: 1e-9 }),
    ]
}

/// For each row the four orthogonal ±1 probes of four dimensions: their mean of εᵀAε is the exact trace.
pub(super) fn hadamard_probes(rows: usize) -> Vec<f64> {
    let matrix = [1., 1., 1., 1., 1., -1., 1., -1., 1., 1., -1., -1., 1., -1., -1., 1.];
    matrix.repeat(rows)
}
