//! Penalties on the source point x₀ that need no network: the χ law of its norm, and the Gaussian.

use crate::optim::dot;
use crate::spec::method::RegularizerSpec;

/// λ·R(x₀), whose gradient is added to `gradient`. The likelihood penalty is no function of x₀ alone: it is 0 here.
pub fn penalty(spec: &RegularizerSpec, x0: &[f32], gradient: &mut [f32]) -> f64 {
    let square = dot(x0, x0);
    let (value, factor) = match *spec {
        RegularizerSpec::None | RegularizerSpec::Nll(_) => return 0.0,
        RegularizerSpec::Chi(weight) => {
            let (value, factor) = chi(x0.len(), square);
            (weight * value, weight * factor)
        }
        RegularizerSpec::Gaussian(weight) => (weight * 0.5 * square, weight),
    };
    for (g, &x) in gradient.iter_mut().zip(x0) {
        *g = (f64::from(*g) + factor * f64::from(x)) as f32;
    }
    value
}

/// ½r² − (d−1) ln r, shifted to 0 at its minimum r² = d−1, from the dimension and r²; and the factor c of its gradient
/// c·x₀. This is the negative log-likelihood of r ~ χ_d: eq. 10 of the paper with its sign corrected.
///
/// The shifted form (d−1)·[(q−1)/2 − ½ ln q], q = r²/(d−1), keeps the digits that a line search needs: the raw value is
/// near −2.4e5 for d = 49152. +∞ at x₀ = 0 (for d > 1).
pub fn chi(dim: usize, square: f64) -> (f64, f64) {
    let freedom = dim as f64 - 1.0;
    if freedom <= 0.0 {
        return (0.5 * square, 1.0);
    }
    let excess = (square - freedom) / freedom;
    (0.5 * freedom * (excess - libm::log1p(excess)), 1.0 - freedom / square)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn chi_is_zero_and_flat_at_its_minimum() {
        for dim in [2, 3072, 49152] {
            let (value, factor) = chi(dim, dim as f64 - 1.0);
            assert_eq!((value, factor), (0.0, 0.0));
            for square in [0.5, 0.99, 1.01, 2.0].map(|q| q * (dim as f64 - 1.0)) {
                assert!(chi(dim, square).0 > 0.0);
            }
        }
    }

    #[test]
    fn chi_differs_from_the_raw_form_by_a_constant() {
        let dim = 12;
        let raw = |r: f64| 0.5 * r * r - (dim as f64 - 1.0) * r.ln();
        let constant = raw(1.0) - chi(dim, 1.0).0;
        for r in [0.3, 2.0, 3.3, 10.0] {
            // A few units in the last place of 50.
            assert!((raw(r) - chi(dim, r * r).0 - constant).abs() < 1e-12);
        }
    }

    #[test]
    fn chi_is_a_parabola_in_r_near_its_minimum() {
        // (r − r*)² to third order: 1 at a distance of 1 from 221.7, with λ = 0.01 one dB at 10.
        let r = (49151.0_f64).sqrt();
        let value = chi(49152, (r + 10.0) * (r + 10.0)).0;
        assert!((value / 100.0 - 1.0).abs() < 0.02, "{value}");
    }

    #[test]
    fn one_dimension_is_half_normal() {
        assert_eq!(chi(1, 9.0), (4.5, 1.0));
    }

    #[test]
    fn gradients_equal_central_differences_and_are_added() {
        let mut stream = Stream::new(0, "regularizer", "0", Purpose::Init);
        let x = stream.normals(50);
        let direction = stream.normals(50);
        for spec in [RegularizerSpec::None, RegularizerSpec::Chi(0.3), RegularizerSpec::Gaussian(0.7)] {
            let mut gradient = vec![1.0; 50];
            penalty(&spec, &x, &mut gradient);
            let along: f64 =
                gradient.iter().zip(&direction).map(|(&g, &d)| (f64::from(g) - 1.0) * f64::from(d)).sum();
            let value = |step: f32| {
                let moved: Vec<f32> = x.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
                penalty(&spec, &moved, &mut [0.0; 50])
            };
            let difference = (value(1e-3) - value(-1e-3)) / 2e-3;
            // f32 points: rounding of 1e-7 over a step of 1e-3.
            assert!((along - difference).abs() < 2e-3, "{spec:?}: {along} {difference}");
        }
    }
}
