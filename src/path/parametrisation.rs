//! What a network's output means, and the linear maps between it and the velocity.
//!
//! On an affine path, x = αx₁ + σε and u = α'x₁ + σ'ε are two equations in (x, u, x₁, ε): every output is an affine
//! function of x and u at fixed t, so that velocity, pull-back and the conversions between parametrisations are two
//! numbers each (D-Flow, arXiv 2402.14017, appendix A.4, in closed form).

use super::{Path, PathPoint};

/// What a network's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Parametrisation {
    /// The velocity u_t(x).
    #[default]
    Velocity,
    /// The noise ε̂ = E[x₀ | x_t = x].
    Noise,
    /// The denoiser x̂₁ = E[x₁ | x_t = x].
    Denoiser,
    /// v = αε̂ − σx̂₁.
    V,
}

/// The map (x, y) ↦ `x`·x + `y`·y at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Factor of the state.
    pub x: f64,
    /// Factor of the other argument: the network's output, or the velocity.
    pub y: f64,
}

impl Affine {
    /// `self.x`·x + `self.y`·y, entry by entry; each is rounded once.
    pub fn apply(self, x: &[f32], y: &[f32]) -> Vec<f32> {
        let entry = |(&x, &y): (&f32, &f32)| (self.x * f64::from(x) + self.y * f64::from(y)) as f32;
        x.iter().zip(y).map(entry).collect()
    }
}

/// Distance that [`Parametrisation::usable_time`] keeps from an end at which the velocity is 0/0.
const SINGULAR_MARGIN: f64 = 1e-3;

impl Parametrisation {
    /// u = `x`·x + `y`·output at a point of the path.
    ///
    /// Infinite where the output does not determine the velocity: noise at α = 0, denoiser at σ = 0. Evaluate at
    /// [`Self::usable_time`].
    pub fn to_velocity(self, p: PathPoint) -> Affine {
        let PathPoint { alpha, sigma, d_alpha, d_sigma } = p;
        match self {
            Self::Velocity => Affine { x: 0.0, y: 1.0 },
            Self::Noise => Affine { x: d_alpha / alpha, y: -p.wronskian() / alpha },
            Self::Denoiser => Affine { x: d_sigma / sigma, y: p.wronskian() / sigma },
            Self::V => {
                let norm = alpha * alpha + sigma * sigma;
                Affine { x: (d_alpha * alpha + d_sigma * sigma) / norm, y: -p.wronskian() / norm }
            }
        }
    }

    /// output = `x`·x + `y`·u at a point of the path: the inverse of [`Self::to_velocity`].
    ///
    /// Infinite only where the path stands still (both ends of [`Path::Polynomial2`]): u is 0 there.
    pub fn from_velocity(self, p: PathPoint) -> Affine {
        let PathPoint { alpha, sigma, d_alpha, d_sigma } = p;
        let w = p.wronskian();
        match self {
            Self::Velocity => Affine { x: 0.0, y: 1.0 },
            Self::Noise => Affine { x: d_alpha / w, y: -alpha / w },
            Self::Denoiser => Affine { x: -d_sigma / w, y: sigma / w },
            Self::V => {
                let norm = alpha * alpha + sigma * sigma;
                Affine { x: (d_alpha * alpha + d_sigma * sigma) / w, y: -norm / w }
            }
        }
    }

    /// The time at which a network of this parametrisation is evaluated for flow time `t`.
    ///
    /// It is `t`, kept 1e-3 away from an end at which the output does not determine the velocity: on the Cond-OT path
    /// t = 0 for a noise and t = 1 for a denoiser network. Forward solves by Euler or midpoint start at t = 0 and end
    /// before 1, backward solves start at 1.
    pub fn usable_time(self, path: &Path, t: f64) -> f64 {
        match (path, self) {
            (Path::CondOt, Self::Noise) => t.max(SINGULAR_MARGIN),
            (Path::CondOt, Self::Denoiser) => t.min(1.0 - SINGULAR_MARGIN),
            _ => t,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Parametrisation; 4] =
        [Parametrisation::Velocity, Parametrisation::Noise, Parametrisation::Denoiser, Parametrisation::V];

    /// The output of each parametrisation for given x₁ and ε.
    fn output(kind: Parametrisation, p: PathPoint, x1: f64, eps: f64) -> f64 {
        match kind {
            Parametrisation::Velocity => p.d_alpha * x1 + p.d_sigma * eps,
            Parametrisation::Noise => eps,
            Parametrisation::Denoiser => x1,
            Parametrisation::V => p.alpha * eps - p.sigma * x1,
        }
    }

    #[test]
    fn both_directions_agree_with_the_definitions() {
        let (x1, eps) = (0.7, -1.3);
        for path in [Path::CondOt, Path::vp_linear(), Path::Polynomial2] {
            for t in [0.01, 0.3, 0.5, 0.8, 0.99] {
                let p = path.at(t);
                let x = p.alpha * x1 + p.sigma * eps;
                let u = output(Parametrisation::Velocity, p, x1, eps);
                for kind in ALL {
                    let out = output(kind, p, x1, eps);
                    let (to, from) = (kind.to_velocity(p), kind.from_velocity(p));
                    // Cancellation at t = 0.01 costs up to 1/α of the digits.
                    let close = |a: f64, b: f64| (a - b).abs() < 1e-10 * (1.0 + b.abs());
                    assert!(close(to.x * x + to.y * out, u), "{path:?} {kind:?} {t} to");
                    assert!(close(from.x * x + from.y * u, out), "{path:?} {kind:?} {t} from");
                }
            }
        }
    }

    #[test]
    fn variance_preserving_velocities_have_the_closed_forms() {
        let p = Path::vp_linear().at(0.4);
        let d_log_alpha = p.d_alpha / p.alpha;
        let noise = Parametrisation::Noise.to_velocity(p);
        let v = Parametrisation::V.to_velocity(p);
        // u = (d ln α/dt)(x − ε/σ) and u = −(α'/σ) v, to rounding.
        assert!((noise.x - d_log_alpha).abs() < 1e-13 * d_log_alpha.abs());
        assert!((noise.y + d_log_alpha / p.sigma).abs() < 1e-13 * noise.y.abs());
        assert!(v.x.abs() < 1e-13);
        assert!((v.y + p.d_alpha / p.sigma).abs() < 1e-13 * v.y.abs());
    }

    #[test]
    fn usable_times_give_finite_velocities() {
        for path in [Path::CondOt, Path::vp_linear(), Path::Polynomial2] {
            for kind in ALL {
                for t in [0.0, 0.5, 1.0] {
                    let usable = kind.usable_time(&path, t);
                    let map = kind.to_velocity(path.at(usable));
                    assert!(map.x.is_finite() && map.y.is_finite(), "{path:?} {kind:?} {t}");
                    // The margin, and the rounding of 1 − margin.
                    assert!((usable - t).abs() < SINGULAR_MARGIN + 1e-15);
                }
            }
        }
    }
}
