//! Log-likelihood of a flow: log p₁(x₁) = log N(x₀; 0, I) − ∫₀¹ ∇·u_t(x_t) dt along the solve from x₁ back to x₀.

use std::f64::consts::{LN_2, TAU};

use super::field::{Cond, FieldError, Rows, VelocityField};
use super::grid::Grid;
use super::solve::{Call, Keep, SolveError, Step, check_shape, integrate};
use crate::real::Real;
use crate::spec::solver::SolverSpec;

/// How the divergence ∇·u = tr ∂u/∂x is computed.
#[derive(Debug, Clone, Copy)]
pub enum Divergence<'a, T> {
    /// One vector–Jacobian product per dimension.
    Exact,
    /// Hutchinson's estimate: the mean of εᵀ(∂u/∂x)ε over probes that stay fixed along the trajectory.
    Hutchinson(Probes<'a, T>),
}

/// Random directions ε with E(εεᵀ) = I (±1 entries), the same for every evaluation of a trajectory.
#[derive(Debug, Clone, Copy)]
pub struct Probes<'a, T> {
    /// Probes per row, ≥ 1.
    pub count: usize,
    /// `rows × count × dim` numbers.
    pub values: &'a [T],
}

impl<T: Real> Probes<'_, T> {
    fn check(&self, rows: usize, dim: usize) -> Result<(), SolveError> {
        if self.count == 0 {
            return Err(SolveError::NoProbes);
        }
        check_shape("the probes", self.values, rows * self.count, dim)
    }

    /// Probe number `probe` of these rows, packed.
    fn gather(&self, probe: usize, rows: &[usize], dim: usize) -> Vec<T> {
        let start = |row: usize| (row * self.count + probe) * dim;
        rows.iter().flat_map(|row| &self.values[start(*row)..][..dim]).copied().collect()
    }
}

/// Log-likelihood of each row.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLikelihood<T> {
    /// log p₁(x₁) in nats.
    pub log_p: Vec<f64>,
    /// The noise x₀ that the solve from x₁ ends on: `rows × dim`.
    pub x0: Vec<T>,
    /// Field evaluations spent on each row.
    pub nfe: Vec<u32>,
    /// Vector–Jacobian products spent on each row.
    pub nfe_vjp: Vec<u32>,
}

/// log p₁ of each row of `x1` (`rows × dim`), for the flow as `solver` discretises it.
///
/// The divergence is integrated with the solver's own weights, as if it were one more state.
pub fn log_likelihood<T: Real>(
    field: &mut dyn VelocityField<T>,
    solver: SolverSpec,
    x1: &[T],
    cond: &[Cond],
    divergence: Divergence<'_, T>,
) -> Result<LogLikelihood<T>, SolveError> {
    let (rows, dim) = (cond.len(), field.dim());
    check_shape("the data", x1, rows, dim)?;
    if let Divergence::Hutchinson(probes) = divergence {
        probes.check(rows, dim)?;
    }
    // In the original coordinates, in which the probes are.
    let (solution, tape) = integrate(field, &Grid::backward(solver), x1.to_vec(), cond, Some(Keep::Inputs))?;
    let mut log_p: Vec<f64> = solution.x.chunks_exact(dim).map(log_standard_normal).collect();
    let mut nfe_vjp = vec![0; rows];
    for step in &tape.steps {
        let cond: Vec<Cond> = step.rows.iter().map(|row| cond[*row]).collect();
        for (call, weight) in step.calls.iter().zip(tape.tableau.weights) {
            let Call::Inputs { t, x } = call else { continue };
            if *weight != 0.0 {
                let traces = trace(field, Rows { t, x, cond: &cond }, step, divergence, &mut nfe_vjp)?;
                for ((row, h), trace) in step.rows.iter().zip(&step.h).zip(traces) {
                    // h is negative: the integral runs from 1 to 0.
                    log_p[*row] += h * weight * trace;
                }
            }
        }
    }
    Ok(LogLikelihood { log_p, x0: solution.x, nfe: solution.nfe, nfe_vjp })
}

/// log N(x; 0, I) in nats.
pub fn log_standard_normal<T: Real>(x: &[T]) -> f64 {
    let norm2: f64 = x.iter().map(|x| x.to_f64() * x.to_f64()).sum();
    -0.5 * (norm2 + x.len() as f64 * libm::log(TAU))
}

/// Bits per dimension of 8-bit data of `dim` numbers that were dequantised and scaled to [−1, 1]:
/// −log₂ p₁/dim + log₂ 128, the latter for the size 2/256 of one level (Song et al. 2021, appendix B).
pub fn bits_per_dimension(log_p: f64, dim: usize) -> f64 {
    -log_p / (dim as f64 * LN_2) + 7.0
}

/// ∇·u, or its estimate, of each row of one call.
fn trace<T: Real>(
    field: &mut dyn VelocityField<T>,
    rows: Rows<'_, T>,
    step: &Step<T>,
    divergence: Divergence<'_, T>,
    nfe_vjp: &mut [u32],
) -> Result<Vec<f64>, FieldError> {
    let dim = field.dim();
    let mut traces = vec![0.0; rows.len()];
    let mut out = vec![T::ZERO; rows.x.len()];
    let count = match divergence {
        Divergence::Exact => dim,
        Divergence::Hutchinson(probes) => probes.count,
    };
    for probe in 0..count {
        let direction = match divergence {
            Divergence::Exact => unit_rows(rows.len(), probe, dim),
            Divergence::Hutchinson(probes) => probes.gather(probe, &step.rows, dim),
        };
        field.vjp(rows, &direction, &mut out)?;
        for (trace, (a, b)) in traces.iter_mut().zip(direction.chunks_exact(dim).zip(out.chunks_exact(dim))) {
            *trace += dot(a, b);
        }
    }
    for row in &step.rows {
        nfe_vjp[*row] += count as u32;
    }
    if let Divergence::Hutchinson(probes) = divergence {
        for trace in &mut traces {
            *trace /= probes.count as f64;
        }
    }
    Ok(traces)
}

/// The unit vector of one axis in every row.
fn unit_rows<T: Real>(rows: usize, axis: usize, dim: usize) -> Vec<T> {
    let mut out = vec![T::ZERO; rows * dim];
    out.iter_mut().skip(axis).step_by(dim).for_each(|v| *v = T::from_f64(1.0));
    out
}

/// Product in f64.
fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::testing::{covariance, hadamard_probes, mixture, sines};
    use crate::flow::{Component, GaussianField, GaussianMixture};
    use crate::path::Path;
    use crate::spec::solver::{Adaptive, FixedSteps};

    const FINE: SolverSpec = SolverSpec::Rk4(FixedSteps { nfe: 4 * 100 });

    fn log_p(
        field: &mut dyn VelocityField<f64>,
        solver: SolverSpec,
        x: &[f64],
        how: Divergence<'_, f64>,
    ) -> Vec<f64> {
        let cond = vec![Cond::None; x.len() / field.dim()];
        log_likelihood(field, solver, x, &cond, how).expect("solves").log_p
    }

    #[test]
    fn gaussian_likelihoods_are_exact_by_trace_and_by_probes() {
        let (mean, covariance) = (sines(4), covariance(4));
        let component = Component { weight: 1.0, mean: mean.clone(), covariance: covariance.clone() };
        let density = GaussianMixture::new(Path::CondOt, &[component]).expect("valid");
        let mut field = GaussianField::<f64>::dense(Path::CondOt, &mean, &covariance).expect("valid");
        let x = sines(8);
        // Four orthogonal ±1 probes give the exact trace of any 4 × 4 matrix.
        let values = hadamard_probes(2);
        let probes = Divergence::Hutchinson(Probes { count: 4, values: &values });
        for how in [Divergence::Exact, probes] {
            let ours = log_p(&mut field, FINE, &x, how);
            for (ours, x) in ours.into_iter().zip(x.chunks_exact(4)) {
                // Fourth order with 100 steps.
                assert!((ours - density.log_density(1.0, x)).abs() < 1e-5, "{ours}");
            }
        }
    }

    #[test]
    fn mixture_likelihood_converges_to_the_density() {
        let mut field = mixture(Path::CondOt);
        let x = [0.4, -0.3, -1.0, 1.1];
        let adaptive = SolverSpec::Dopri5(Adaptive { rtol: 1e-8, atol: 1e-8 });
        for (solver, tolerance) in [(FINE, 1e-5), (adaptive, 1e-6)] {
            let ours = log_p(&mut field, solver, &x, Divergence::Exact);
            for (ours, x) in ours.into_iter().zip(x.chunks_exact(2)) {
                assert!((ours - field.log_density(1.0, x)).abs() < tolerance, "{ours} {solver:?}");
            }
        }
    }

    #[test]
    fn uniform_bytes_have_eight_bits_per_dimension() {
        // The uniform density on [−1, 1]^d is 2^−d.
        assert!((bits_per_dimension(-100.0 * LN_2, 100) - 8.0).abs() < 1e-12);
    }

    #[test]
    fn probes_of_another_size_are_refused() {
        let probes = Divergence::Hutchinson(Probes { count: 1, values: &[1.0; 3] });
        let solver = SolverSpec::default();
        let error = log_likelihood(&mut mixture(Path::CondOt), solver, &[0.0; 2], &[Cond::None], probes);
        assert!(error.expect_err("refused").to_string().contains("the probes"));
    }
}
