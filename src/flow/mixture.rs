//! The closed-form field of a mixture of Gaussians: a nonlinear oracle whose Jacobian is known exactly.
//!
//! With responsibilities rₖ(x) ∝ πₖ N(x; αmₖ, Cₖ), Cₖ = α²Sₖ + σ²I, the velocity is u = Σ rₖuₖ of the components'
//! velocities, and ∂u/∂x = Σ rₖ ∂uₖ/∂x + Σ rₖ uₖ (sₖ − s̄)ᵀ with the scores sₖ = −Cₖ⁻¹(x − αmₖ) and s̄ = Σ rₖsₖ.

use std::f64::consts::TAU;

use super::field::{FieldError, Rows, Tape, VelocityField};
use super::gaussian::{Eigen, GaussianError, slope};
use crate::path::{Path, PathPoint};
use crate::real::Real;

/// One component of a [`GaussianMixture`].
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Weight π > 0; the weights are normalised to sum 1.
    pub weight: f64,
    /// Mean: `dim` numbers.
    pub mean: Vec<f64>,
    /// Symmetric positive definite covariance, row-major `dim × dim`.
    pub covariance: Vec<f64>,
}

/// The velocity field of a Gaussian mixture, for any condition. Dense and computed in f64: for few dimensions.
#[derive(Debug, Clone)]
pub struct GaussianMixture {
    path: Path,
    dim: usize,
    parts: Vec<Part>,
}

/// A component in the eigenbasis of its covariance.
#[derive(Debug, Clone)]
struct Part {
    log_weight: f64,
    mean: Vec<f64>,
    variances: Vec<f64>,
    /// Row i is the i-th eigenvector.
    vectors: Vec<f64>,
}

/// A component's quantities at one (t, x), in the original coordinates.
struct AtPoint {
    /// log πₖ N(x; αmₖ, Cₖ) without its factor of 2π.
    log_density: f64,
    velocity: Vec<f64>,
    score: Vec<f64>,
}

impl GaussianMixture {
    /// The field on `path` of at least one component of equal dimensions.
    pub fn new(path: Path, components: &[Component]) -> Result<Self, GaussianError> {
        let dim = components.first().map_or(0, |c| c.mean.len());
        if dim == 0 {
            return Err(GaussianError::Shape { what: "means", dim, need: 1, got: 0 });
        }
        let total: f64 = components.iter().map(|c| c.weight).sum();
        let parts = components.iter().map(|c| Part::new(c, dim, total)).collect::<Result<_, _>>()?;
        Ok(Self { path, dim, parts })
    }

    /// log p_t(x) of one state, in nats.
    pub fn log_density(&self, t: f64, x: &[f64]) -> f64 {
        let p = self.path.at(t);
        let logs: Vec<f64> = self.parts.iter().map(|part| part.at(p, x).log_density).collect();
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logs.iter().map(|log| libm::exp(log - largest)).sum();
        largest + libm::log(sum) - 0.5 * self.dim as f64 * libm::log(TAU)
    }

    /// Var(x₁ | x_t = x), row-major `dim × dim`.
    pub fn posterior_variance(&self, t: f64, x: &[f64]) -> Vec<f64> {
        let p = self.path.at(t);
        let (weights, _) = self.at(p, x);
        let means: Vec<Vec<f64>> = self.parts.iter().map(|part| part.posterior_mean(p, x)).collect();
        let centre = mean(&weights, means.iter().map(Vec::as_slice), self.dim);
        let mut out = vec![0.0; self.dim * self.dim];
        for ((weight, part), part_mean) in weights.iter().zip(&self.parts).zip(&means) {
            for (i, row) in out.chunks_exact_mut(self.dim).enumerate() {
                let mut axis = vec![0.0; self.dim];
                axis[i] = 1.0;
                // Within the component: S − α²SC⁻¹S = σ²SC⁻¹.
                let within = part.map(&axis, |v| v * p.sigma * p.sigma / marginal(p, v));
                let offset = part_mean[i] - centre[i];
                for (j, out) in row.iter_mut().enumerate() {
                    *out += weight * (within[j] + offset * (part_mean[j] - centre[j]));
                }
            }
        }
        out
    }

    /// Responsibilities and the components' quantities.
    fn at(&self, p: PathPoint, x: &[f64]) -> (Vec<f64>, Vec<AtPoint>) {
        let points: Vec<AtPoint> = self.parts.iter().map(|part| part.at(p, x)).collect();
        let largest = points.iter().map(|q| q.log_density).fold(f64::NEG_INFINITY, f64::max);
        let mut weights: Vec<f64> = points.iter().map(|q| libm::exp(q.log_density - largest)).collect();
        let total: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= total;
        }
        (weights, points)
    }

    fn velocity_row(&self, t: f64, x: &[f64]) -> Vec<f64> {
        let (weights, points) = self.at(self.path.at(t), x);
        mean(&weights, points.iter().map(|q| q.velocity.as_slice()), self.dim)
    }

    fn vjp_row(&self, t: f64, x: &[f64], cotangent: &[f64]) -> Vec<f64> {
        let p = self.path.at(t);
        let (weights, points) = self.at(p, x);
        let score = mean(&weights, points.iter().map(|q| q.score.as_slice()), self.dim);
        let mut out = vec![0.0; self.dim];
        for ((weight, point), part) in weights.iter().zip(&points).zip(&self.parts) {
            let along: f64 = point.velocity.iter().zip(cotangent).map(|(u, c)| u * c).sum();
            let within = part.map(cotangent, |variance| slope(p, variance));
            for (i, out) in out.iter_mut().enumerate() {
                *out += weight * (within[i] + along * (point.score[i] - score[i]));
            }
        }
        out
    }
}

impl Part {
    fn new(component: &Component, dim: usize, total: f64) -> Result<Self, GaussianError> {
        let shape = |what, need, got| GaussianError::Shape { what, dim, need, got };
        if component.mean.len() != dim {
            return Err(shape("mean", dim, component.mean.len()));
        }
        if component.covariance.len() != dim * dim {
            return Err(shape("covariance", dim * dim, component.covariance.len()));
        }
        let Eigen { values, vectors } = Eigen::new(dim, &component.covariance)?;
        let positive = |v: f64| v.is_finite() && v > 0.0;
        if !positive(component.weight) || !values.iter().all(|v| positive(*v)) {
            return Err(GaussianError::NotSemidefinite);
        }
        let log_weight = libm::log(component.weight / total);
        Ok(Self { log_weight, mean: component.mean.clone(), variances: values, vectors })
    }

    /// Vᵀ diag(f(variance)) V x.
    fn map(&self, x: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut out = vec![0.0; x.len()];
        for (variance, vector) in self.variances.iter().zip(self.vectors.chunks_exact(x.len())) {
            let coordinate: f64 = vector.iter().zip(x).map(|(v, x)| v * x).sum();
            let scaled = f(*variance) * coordinate;
            out.iter_mut().zip(vector).for_each(|(out, v)| *out += scaled * v);
        }
        out
    }

    /// x − αm.
    fn centred(&self, p: PathPoint, x: &[f64]) -> Vec<f64> {
        x.iter().zip(&self.mean).map(|(x, m)| x - p.alpha * m).collect()
    }

    /// m + αSC⁻¹(x − αm).
    fn posterior_mean(&self, p: PathPoint, x: &[f64]) -> Vec<f64> {
        let moved = self.map(&self.centred(p, x), |variance| p.alpha * variance / marginal(p, variance));
        moved.iter().zip(&self.mean).map(|(v, m)| v + m).collect()
    }

    fn at(&self, p: PathPoint, x: &[f64]) -> AtPoint {
        let centred = self.centred(p, x);
        let score = self.map(&centred, |variance| -1.0 / marginal(p, variance));
        let moved = self.map(&centred, |variance| slope(p, variance));
        let quadratic: f64 = score.iter().zip(&centred).map(|(s, c)| s * c).sum();
        let log_det: f64 = self.variances.iter().map(|v| libm::log(marginal(p, *v))).sum();
        AtPoint {
            log_density: self.log_weight + 0.5 * (quadratic - log_det),
            velocity: moved.iter().zip(&self.mean).map(|(v, m)| v + p.d_alpha * m).collect(),
            score,
        }
    }
}

/// Variance of x_t along an eigenvector of variance `variance` in the data.
fn marginal(p: PathPoint, variance: f64) -> f64 {
    p.alpha * p.alpha * variance + p.sigma * p.sigma
}

/// Σ weightₖ·vectorₖ.
fn mean<'a>(weights: &[f64], vectors: impl Iterator<Item = &'a [f64]>, dim: usize) -> Vec<f64> {
    let mut out = vec![0.0; dim];
    for (weight, vector) in weights.iter().zip(vectors) {
        out.iter_mut().zip(vector).for_each(|(out, v)| *out += weight * v);
    }
    out
}

/// What the pull-back needs: times and states of the call.
struct MixtureTape<T> {
    t: Vec<f64>,
    x: Vec<T>,
}

fn widen<T: Real>(row: &[T]) -> Vec<f64> {
    row.iter().map(|v| v.to_f64()).collect()
}

fn store<T: Real>(out: &mut [T], values: &[f64]) {
    out.iter_mut().zip(values).for_each(|(out, v)| *out = T::from_f64(*v));
}

impl<T: Real> VelocityField<T> for GaussianMixture {
    fn dim(&self) -> usize {
        self.dim
    }

    fn velocity(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError> {
        let states = rows.x.chunks_exact(self.dim).zip(out.chunks_exact_mut(self.dim));
        for (t, (x, out)) in rows.t.iter().zip(states) {
            store(out, &self.velocity_row(*t, &widen(x)));
        }
        Ok(())
    }

    fn velocity_taped(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<Tape, FieldError> {
        self.velocity(rows, out)?;
        Ok(Box::new(MixtureTape { t: rows.t.to_vec(), x: rows.x.to_vec() }))
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        let tape: MixtureTape<T> =
            *tape.downcast().map_err(|_| FieldError::foreign_tape("Gaussian mixture field"))?;
        let states = tape.x.chunks_exact(self.dim).zip(cotangent.chunks_exact(self.dim));
        for ((t, (x, c)), out) in tape.t.iter().zip(states).zip(out.chunks_exact_mut(self.dim)) {
            store(out, &self.vjp_row(*t, &widen(x), &widen(c)));
        }
        Ok(())
    }

    fn tape_bytes_per_row(&self) -> usize {
        size_of::<f64>() + self.dim * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::testing::{check_vjp, covariance, mixture, paths, sines};
    use crate::flow::{Cond, GaussianField};

    #[test]
    fn vjp_matches_finite_differences() {
        for path in paths() {
            check_vjp(&mut mixture(path), &[0.0, 0.3, 0.7, 1.0]);
        }
    }

    #[test]
    fn one_component_is_the_gaussian_field() {
        let (mean, covariance) = (sines(3), covariance(3));
        let part = Component { weight: 2.0, mean: mean.clone(), covariance: covariance.clone() };
        let mut mixture = GaussianMixture::new(Path::CondOt, &[part]).expect("valid");
        let mut gaussian = GaussianField::<f64>::dense(Path::CondOt, &mean, &covariance).expect("valid");
        let rows = Rows { t: &[0.4], x: &[0.2, -0.6, 1.4], cond: &[Cond::None] };
        let (mut a, mut b) = ([0.0; 3], [0.0; 3]);
        mixture.velocity(rows, &mut a).expect("closed form");
        gaussian.velocity(rows, &mut b).expect("closed form");
        // Same formula, other order of sums.
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13), "{a:?} {b:?}");
    }

    #[test]
    fn degenerate_components_are_refused() {
        let part = |weight, covariance: &[f64]| Component {
            weight,
            mean: vec![0.0],
            covariance: covariance.to_vec(),
        };
        for bad in [part(0.0, &[1.0]), part(1.0, &[0.0]), part(1.0, &[1.0, 2.0])] {
            assert!(GaussianMixture::new(Path::CondOt, &[bad]).is_err());
        }
        assert!(GaussianMixture::new(Path::CondOt, &[]).is_err());
    }
}
