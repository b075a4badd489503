//! Tests of the paper's theory (D-Flow, arXiv 2402.14017) on closed-form fields: D_{x₀}x(t) of the affine Gaussian
//! path, eq. 18, 19 and 60 and Theorem 4.2.
//!
//! With γ = (α/σ)², ∂u/∂x = (σ'/σ)I + ½γ̇ Var(x₁|x_t), hence D_{x₀}x(T) = (σ_T/σ_0) 𝒯exp ∫₀ᵀ ½γ̇_t Var(x₁|x_t) dt, later
//! times on the left.

use super::testing::{covariance, mixture, sines};
use super::{
    Cond, FieldError, GaussianField, GaussianMixture, Grid, Keep, Rows, Tape, VelocityField, pull_back,
    solve_taped,
};
use crate::path::Path;
use crate::spec::solver::{FixedSteps, SolverSpec};

/// A field run to time `end` only: u'(s, x) = end·u(end·s, x).
struct Until<F> {
    field: F,
    end: f64,
}

impl<F: VelocityField<f64>> Until<F> {
    fn times(&self, t: &[f64]) -> Vec<f64> {
        t.iter().map(|t| t * self.end).collect()
    }

    fn scale(&self, out: &mut [f64]) {
        out.iter_mut().for_each(|v| *v *= self.end);
    }
}

impl<F: VelocityField<f64>> VelocityField<f64> for Until<F> {
    fn dim(&self) -> usize {
        self.field.dim()
    }

    fn velocity(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<(), FieldError> {
        self.velocity_taped(rows, out).map(|_| ())
    }

    fn velocity_taped(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<Tape, FieldError> {
        let t = self.times(rows.t);
        let tape = self.field.velocity_taped(Rows { t: &t, ..rows }, out)?;
        self.scale(out);
        Ok(tape)
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f64], out: &mut [f64]) -> Result<(), FieldError> {
        self.field.pull_back(tape, cotangent, out)?;
        self.scale(out);
        Ok(())
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.field.tape_bytes_per_row()
    }
}

const STEPS: usize = 1000;

/// D_{x₀}x(1) of a field at one point, row-major: row i is the pull-back of the i-th unit cotangent.
fn jacobian(field: &mut dyn VelocityField<f64>, x0: &[f64]) -> Vec<f64> {
    let dim = x0.len();
    let grid = Grid::forward(SolverSpec::Rk4(FixedSteps { nfe: 4 * STEPS as u32 }));
    let (cond, starts) = (vec![Cond::None; dim], x0.repeat(dim));
    let (_, tape) = solve_taped(field, &grid, &starts, &cond, Keep::Tape).expect("solves");
    let unit: Vec<f64> = (0..dim * dim).map(|n| f64::from(u8::from(n / dim == n % dim))).collect();
    pull_back(field, tape, &cond, &unit).expect("pulls back").x
}

type Matrix = [[f64; 2]; 2];

const IDENTITY: Matrix = [[1.0, 0.0], [0.0, 1.0]];

fn multiply(a: Matrix, b: Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| a[i][0] * b[0][j] + a[i][1] * b[1][j]))
}

/// e^A by its series; A is small here.
fn exponential(a: Matrix) -> Matrix {
    let (mut sum, mut term) = (IDENTITY, IDENTITY);
    for k in 1..12 {
        term = multiply(term, a.map(|row| row.map(|v| v / f64::from(k))));
        sum = std::array::from_fn(|i| std::array::from_fn(|j| sum[i][j] + term[i][j]));
    }
    sum
}

fn distance(a: &[f64], b: Matrix) -> f64 {
    assert!(a.iter().chain(b.as_flattened()).all(|v| v.is_finite()), "{a:?} {b:?}");
    a.iter().zip(b.as_flattened()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// ½γ̇_t Var(x₁|x_t = x), the variance from the components' posteriors.
fn generator(field: &GaussianMixture, path: &Path, t: f64, x: &[f64]) -> Matrix {
    let (p, variance) = (path.at(t), field.posterior_variance(t, x));
    let half_gamma_rate = p.alpha * p.wronskian() / p.sigma.powi(3);
    std::array::from_fn(|i| std::array::from_fn(|j| half_gamma_rate * variance[2 * i + j]))
}

/// Time-ordered exponentials over [0, end]: (later times on the left, later times on the right).
fn ordered_exponentials(path: &Path, end: f64, x0: &[f64]) -> (Matrix, Matrix) {
    let (field, mut x) = (mixture(path.clone()), x0.to_vec());
    let (mut left, mut right) = (IDENTITY, IDENTITY);
    let h = end / STEPS as f64;
    for k in 0..STEPS {
        // The state in the middle of the step by half a step of midpoint, then the whole step.
        let t = end * k as f64 / STEPS as f64;
        let middle = step(&field, t, h / 2.0, &x);
        let factor = exponential(generator(&field, path, t + h / 2.0, &middle).map(|row| row.map(|v| v * h)));
        left = multiply(factor, left);
        right = multiply(right, factor);
        x = step(&field, t, h, &x);
    }
    let scale = path.at(end).sigma / path.at(0.0).sigma;
    (left.map(|row| row.map(|v| v * scale)), right.map(|row| row.map(|v| v * scale)))
}

fn step(field: &GaussianMixture, t: f64, h: f64, x: &[f64]) -> Vec<f64> {
    let mut field = field.clone();
    let mut u = |t: f64, x: &[f64]| {
        let mut u = [0.0; 2];
        field.velocity(Rows { t: &[t], x, cond: &[Cond::None] }, &mut u).expect("closed form");
        u
    };
    let first = u(t, x);
    let middle = [x[0] + h / 2.0 * first[0], x[1] + h / 2.0 * first[1]];
    let second = u(t + h / 2.0, &middle);
    vec![x[0] + h * second[0], x[1] + h * second[1]]
}

#[test]
fn theorem_4_2_time_ordered_exponential_of_a_mixture() {
    let x0 = [0.9, -0.4];
    for path in [Path::CondOt, Path::vp_linear(), Path::Polynomial2] {
        for end in [0.5, 0.9] {
            let exact = jacobian(&mut Until { field: mixture(path.clone()), end }, &x0);
            let (left, right) = ordered_exponentials(&path, end, &x0);
            // Second order in 1/1000, on generators up to 1e2.
            assert!(distance(&exact, left) < 2e-4, "{path:?} {end}: {exact:?} {left:?}");
            // The variances do not commute along the way: the other order is another matrix.
            if end == 0.9 {
                assert!(distance(&exact, right) > 5e-3, "{path:?}: {exact:?} {right:?}");
            }
        }
    }
}

#[test]
fn eq_60_differential_of_a_gaussian_flow_is_the_root_of_its_covariance() {
    // α_0 = 0 and σ_1 = 0: x(1) = m + S^½x₀. The exponents of all times commute.
    let covariance = covariance(3);
    let mut field = GaussianField::<f64>::dense(Path::CondOt, &sines(3), &covariance).expect("valid");
    let root = jacobian(&mut field, &[0.3, -0.2, 0.9]);
    for i in 0..3 {
        for j in 0..3 {
            let square: f64 = (0..3).map(|k| root[3 * i + k] * root[3 * k + j]).sum();
            assert!((root[3 * i + j] - root[3 * j + i]).abs() < 1e-12, "symmetric");
            // Fourth order in 1/1000.
            assert!((square - covariance[3 * i + j]).abs() < 1e-9, "{square} {}", covariance[3 * i + j]);
        }
    }
}

#[test]
fn eq_19_differential_solves_the_variational_equation() {
    // dD/dt = ((σ'/σ)I + ½γ̇ Var(x₁|x_t)) D at t = 1/2, by differences of D over the end time.
    let (x0, path, h) = ([0.9, -0.4], Path::CondOt, 1e-3);
    let at = |end: f64| jacobian(&mut Until { field: mixture(Path::CondOt), end }, &x0);
    let (before, here, after) = (at(0.5 - h), at(0.5), at(0.5 + h));
    let mut x = x0.to_vec();
    for k in 0..STEPS {
        x = step(&mixture(Path::CondOt), 0.5 * k as f64 / STEPS as f64, 0.5 / STEPS as f64, &x);
    }
    let (p, mut rate) = (path.at(0.5), generator(&mixture(Path::CondOt), &path, 0.5, &x));
    (0..2).for_each(|i| rate[i][i] += p.d_sigma / p.sigma);
    let expected = multiply(rate, [[here[0], here[1]], [here[2], here[3]]]);
    let slope: Vec<f64> = before.iter().zip(&after).map(|(b, a)| (a - b) / (2.0 * h)).collect();
    // Central differences: h².
    assert!(distance(&slope, expected) < 1e-4, "{slope:?} {expected:?}");
}

#[test]
fn gradients_are_projected_on_the_span_of_the_data() {
    // Data on a line in three dimensions: σ_1 = 0 removes every other direction, at any number of steps.
    let direction = [0.6, -0.48, 0.64];
    let covariance: Vec<f64> = (0..9).map(|n| 2.0 * direction[n / 3] * direction[n % 3]).collect();
    let mut field = GaussianField::<f64>::dense(Path::CondOt, &[0.0; 3], &covariance).expect("valid");
    let grid = Grid::forward(SolverSpec::Midpoint(FixedSteps { nfe: 6 }));
    let (_, tape) =
        solve_taped(&mut field, &grid, &[0.5, 1.0, -0.2], &[Cond::None], Keep::Inputs).expect("solves");
    let gradient = pull_back(&mut field, tape, &[Cond::None], &[1.0, 2.0, 3.0]).expect("pulls back").x;
    let along: f64 = gradient.iter().zip(direction).map(|(g, d)| g * d).sum();
    assert!(along.abs() > 0.1);
    for (g, d) in gradient.iter().zip(direction) {
        // Rounding of the eigenvectors.
        assert!((g - along * d).abs() < 1e-12, "{gradient:?}");
    }
}
