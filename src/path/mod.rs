//! Affine probability paths x_t = α_t x₁ + σ_t x₀ from noise x₀ ~ N(0, I) (t = 0) to data x₁ (t = 1), and the
//! parametrisations in which a network may give their velocity.

mod parametrisation;
mod vp;

use std::sync::Arc;

pub use parametrisation::{Affine, Parametrisation};
pub use vp::VpTable;

/// α and σ of a path at one time, with their derivatives in t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathPoint {
    /// α_t, the weight of the data.
    pub alpha: f64,
    /// σ_t, the weight of the noise.
    pub sigma: f64,
    /// dα/dt ≥ 0.
    pub d_alpha: f64,
    /// dσ/dt ≤ 0.
    pub d_sigma: f64,
}

impl PathPoint {
    /// α'σ − ασ' = ασ · d ln(α/σ)/dt ≥ 0: what x and u are divided by when x̂₁ and ε are read from them.
    pub fn wronskian(self) -> f64 {
        self.d_alpha * self.sigma - self.alpha * self.d_sigma
    }

    /// σ²·d ln(α/σ)/dt: what a gradient of ln p(y | x_t) is multiplied by in the velocity of x given y.
    ///
    /// On the Cond-OT path (1 − t)/t, on a variance-preserving one d ln α/dt. Infinite at α = 0.
    pub fn guidance(self) -> f64 {
        self.sigma * self.wronskian() / self.alpha
    }

    /// σ²/(α² + σ²): the variance of x₁ given x_t where the data are N(0, I).
    pub fn posterior_variance(self) -> f64 {
        let noise = self.sigma * self.sigma;
        noise / (self.alpha * self.alpha + noise)
    }

    /// The point of a variance-preserving path at λ = ln(α/σ), moving with dλ/dt.
    fn variance_preserving(lambda: f64, d_lambda: f64) -> Self {
        // α² and σ² are logistic in 2λ; each from its own exponential, so that neither loses digits when small.
        let alpha = (1.0 + libm::exp(-2.0 * lambda)).sqrt().recip();
        let sigma = (1.0 + libm::exp(2.0 * lambda)).sqrt().recip();
        Self {
            alpha,
            sigma,
            d_alpha: alpha * sigma * sigma * d_lambda,
            d_sigma: -sigma * alpha * alpha * d_lambda,
        }
    }
}

/// A probability path.
#[derive(Debug, Clone)]
pub enum Path {
    /// Conditional optimal transport: α = t, σ = 1 − t.
    CondOt,
    /// A variance-preserving diffusion given by a table of discrete steps (ADM, Stable Diffusion).
    VpDiscrete(Arc<VpTable>),
    /// The `polynomial_2` schedule of the molecule diffusion EDM (precision s = 1e-5), in closed form:
    /// α² = (1 − 2s)(1 − τ²)² + s with τ = 1 − t. The velocity is 0 at t = 0 and t = 1.
    Polynomial2,
    /// α and σ linear in t: see [`Path::straightened`].
    Straight {
        /// α and σ at t = 0.
        start: (f64, f64),
        /// α and σ at t = 1.
        end: (f64, f64),
    },
}

/// Smallest α² and σ² of [`Path::Polynomial2`].
const POLYNOMIAL_PRECISION: f64 = 1e-5;

impl Path {
    /// The discrete VP path of ADM: β from 1e-4 to 0.02 in 1000 linear steps.
    pub fn vp_linear() -> Self {
        Self::VpDiscrete(Arc::new(VpTable::standard().clone()))
    }

    /// α, σ and their derivatives at `t` in [0, 1] (a `t` outside is clamped).
    pub fn at(&self, t: f64) -> PathPoint {
        let t = t.clamp(0.0, 1.0);
        match self {
            Self::CondOt => PathPoint { alpha: t, sigma: 1.0 - t, d_alpha: 1.0, d_sigma: -1.0 },
            Self::VpDiscrete(table) => table.at(t),
            Self::Polynomial2 => polynomial_2(t),
            Self::Straight { start, end } => {
                let (d_alpha, d_sigma) = (end.0 - start.0, end.1 - start.1);
                // From both ends, so that each is exact.
                let between = |a: f64, b: f64| (1.0 - t) * a + t * b;
                let (alpha, sigma) = (between(start.0, end.0), between(start.1, end.1));
                PathPoint { alpha, sigma, d_alpha, d_sigma }
            }
        }
    }

    /// The straight path between this one's ends: the Cond-OT re-parametrisation of a diffusion.
    ///
    /// Its points are those of the Cond-OT path at t = α/(α + σ), from the noisiest to the least noisy step that the
    /// diffusion knows (ADM: 0.00631 to 0.990), each scaled so that the ends are the diffusion's own: exact solves on
    /// both paths are the same map, and solves of few steps are not.
    #[must_use]
    pub fn straightened(&self) -> Self {
        let [start, end] = [0.0, 1.0].map(|t| self.at(t)).map(|p| (p.alpha, p.sigma));
        Self::Straight { start, end }
    }

    /// The time in [0, 1] at which ln(α/σ) is `log_ratio`, or the end that is nearer to it than any other time.
    ///
    /// States of two paths at equal α/σ differ by the factor of their α: this is how a state of one diffusion is shown
    /// to the model of another path.
    pub fn time_of(&self, log_ratio: f64) -> f64 {
        if let Self::CondOt = self {
            return 1.0 / (1.0 + libm::exp(-log_ratio));
        }
        let (mut below, mut above) = (0.0, 1.0);
        // α/σ rises with t. Every step gains a bit, of which f64 has 53 and small times some more.
        for _ in 0..64 {
            let middle = 0.5 * (below + above);
            let PathPoint { alpha, sigma, .. } = self.at(middle);
            if libm::log(alpha / sigma) < log_ratio {
                below = middle;
            } else {
                above = middle;
            }
        }
        above
    }
}

fn polynomial_2(t: f64) -> PathPoint {
    let tau = 1.0 - t;
    let (one_minus, scale) = (1.0 - tau * tau, 1.0 - 2.0 * POLYNOMIAL_PRECISION);
    let alpha2 = scale * one_minus * one_minus + POLYNOMIAL_PRECISION;
    // 1 − α² without cancellation near τ = 0: 1 − (1 − τ²)² = τ²(2 − τ²).
    let sigma2 = scale * tau * tau * (2.0 - tau * tau) + POLYNOMIAL_PRECISION;
    let (alpha, sigma) = (alpha2.sqrt(), sigma2.sqrt());
    let half_d_alpha2 = 2.0 * scale * tau * one_minus;
    PathPoint { alpha, sigma, d_alpha: half_d_alpha2 / alpha, d_sigma: -half_d_alpha2 / sigma }
}

/// A time as the network takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkTime {
    /// The flow time t in [0, 1].
    #[default]
    Flow,
    /// The diffusion step index (N − 1)(1 − t) of a table of N steps; fractional between steps.
    StepIndex {
        /// N.
        steps: u32,
    },
    /// The noise level τ = 1 − t of EDM and EquiFM: 0 at data, 1 at noise.
    NoiseLevel,
}

impl NetworkTime {
    /// What the network is told at flow time `t`.
    pub fn at(self, t: f64) -> f64 {
        match self {
            Self::Flow => t,
            Self::StepIndex { steps } => f64::from(steps.saturating_sub(1)) * (1.0 - t),
            Self::NoiseLevel => 1.0 - t,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> [Path; 4] {
        [Path::CondOt, Path::vp_linear(), Path::Polynomial2, Path::vp_linear().straightened()]
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let h = 1e-6;
        for path in paths() {
            // Between, and on, the knots 333 and 666 of the VP table.
            for t in [0.1, 0.25, 0.333_333, 1.0 - 666.0 / 999.0, 1.0 - 333.0 / 999.0, 0.9, 0.99] {
                let (before, here, after) = (path.at(t - h), path.at(t), path.at(t + h));
                let slopes =
                    [(after.alpha - before.alpha) / (2.0 * h), (after.sigma - before.sigma) / (2.0 * h)];
                for (slope, exact) in slopes.into_iter().zip([here.d_alpha, here.d_sigma]) {
                    // Second derivatives jump at a knot: O(h) there, O(h²) elsewhere.
                    assert!(
                        (slope - exact).abs() < 1e-4 * (1.0 + exact.abs()),
                        "{path:?} {t}: {slope} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn diffusion_paths_preserve_variance() {
        for path in &paths()[1..3] {
            for k in 0..=100 {
                let p = path.at(f64::from(k) / 100.0);
                // Two roundings in the exponentials, two in the squares.
                assert!((p.alpha * p.alpha + p.sigma * p.sigma - 1.0).abs() < 1e-15, "{path:?} {k}");
            }
        }
    }

    #[test]
    fn the_straightened_diffusion_is_cond_ot_between_its_ends() {
        let vp = Path::vp_linear();
        let straight = vp.straightened();
        for t in [0.0, 1.0] {
            let (a, b) = (vp.at(t), straight.at(t));
            assert_eq!((a.alpha, a.sigma), (b.alpha, b.sigma));
        }
        let ratio = |p: PathPoint| p.alpha / (p.alpha + p.sigma);
        let (first, last) = (ratio(straight.at(0.0)), ratio(straight.at(1.0)));
        // α_min/(α_min + σ) of ADM, five digits.
        assert!((first - 0.00631).abs() < 5e-6 && (last - 0.990).abs() < 2e-4, "{first} {last}");
        let p = straight.at(0.37);
        // The scale: the Cond-OT path has α + σ = 1 throughout.
        let scale = p.alpha + p.sigma;
        assert!((1.0..1.01).contains(&scale), "{scale}");
    }

    #[test]
    fn polynomial_2_matches_the_table_of_edm() {
        // (k, α², γ = ln(σ²/α²), α, σ) of EDM's noise schedule, τ = k/1000.
        let table = [
            (0.0, 0.99999, -11.51291546, 0.999995, 0.00316227766),
            (1.0, 0.999988000041, -11.33059532, 0.999994, 0.003464095697),
            (100.0, 0.980090398, -3.896442682, 0.9899951505, 0.1411013891),
            (250.0, 0.878898671875, -1.982041997, 0.9374959583, 0.3479961611),
            (500.0, 0.56249875, -0.2513093489, 0.7499991667, 0.6614387727),
            (750.0, 0.191412421875, 1.440858618, 0.4375070535, 0.8992149788),
            (900.0, 0.036109278, 3.284428089, 0.1900244142, 0.9817793652),
            (999.0, 1.399592108e-5, 11.17673063, 0.003741112278, 0.999993002),
        ];
        for (k, alpha2, gamma, alpha, sigma) in table {
            let p = Path::Polynomial2.at(1.0 - k / 1000.0);
            let ours = [p.alpha * p.alpha, 2.0 * (p.sigma / p.alpha).ln(), p.alpha, p.sigma];
            for (ours, printed) in ours.into_iter().zip([alpha2, gamma, alpha, sigma]) {
                // The table prints ten significant digits.
                assert!(
                    (ours - printed).abs() < 6e-10 * f64::max(printed.abs(), 1e-12),
                    "{k}: {ours} {printed}"
                );
            }
        }
    }

    #[test]
    fn ends_are_noise_and_data() {
        for path in paths() {
            let (start, end) = (path.at(0.0), path.at(1.0));
            // The least noisy step of the VP table keeps σ = 0.01, the noisiest α = 0.0064.
            assert!(start.alpha < 0.0064 && start.sigma > 0.9999);
            assert!(end.sigma < 0.0101 && end.alpha > 0.9999);
        }
    }

    #[test]
    fn times_of_a_ratio_are_found_again() {
        for path in paths() {
            for t in [1e-3, 0.1, 0.333, 0.5, 0.9, 0.999] {
                let PathPoint { alpha, sigma, .. } = path.at(t);
                let found = path.time_of((alpha / sigma).ln());
                // The ratio is known to 1e-16, and moves by at least one unit per unit of time.
                assert!((found - t).abs() < 1e-13, "{path:?} {t}: {found}");
            }
        }
        assert_eq!(Path::Polynomial2.time_of(100.0), 1.0);
        assert_eq!(Path::CondOt.time_of(f64::NEG_INFINITY), 0.0);
        // Steps of the diffusion on its own path.
        for k in [0, 1, 333, 990, 999] {
            let found = Path::vp_linear().time_of(VpTable::standard().log_ratio(k));
            assert!((found - (1.0 - k as f64 / 999.0)).abs() < 1e-13, "{k}: {found}");
        }
    }

    #[test]
    fn on_cond_ot_a_step_of_the_diffusion_is_at_its_closed_form() {
        for k in [0, 10, 500, 990] {
            let PathPoint { alpha, sigma, .. } = VpTable::standard().step(k);
            let t = Path::CondOt.time_of(VpTable::standard().log_ratio(k));
            // Rounding of two roots and an exponential.
            assert!((t - alpha / (alpha + sigma)).abs() < 1e-14, "{k}: {t}");
        }
    }

    #[test]
    fn guidance_has_the_closed_forms() {
        let (t, vp) = (0.3, Path::vp_linear().at(0.3));
        let flow = Path::CondOt.at(t);
        assert!((flow.guidance() - (1.0 - t) / t).abs() < 1e-15 * flow.guidance());
        assert!((flow.posterior_variance() - 0.49 / 0.58).abs() < 1e-15);
        // d ln α/dt, through one more rounding or two.
        assert!((vp.guidance() - vp.d_alpha / vp.alpha).abs() < 1e-13 * vp.guidance());
        assert!((vp.posterior_variance() - vp.sigma * vp.sigma).abs() < 1e-15);
    }

    #[test]
    fn step_index_counts_down() {
        let time = NetworkTime::StepIndex { steps: 1000 };
        assert_eq!([time.at(0.0), time.at(0.5), time.at(1.0)], [999.0, 499.5, 0.0]);
        assert_eq!(NetworkTime::Flow.at(0.3), 0.3);
        assert_eq!([0.0, 0.25, 1.0].map(|t| NetworkTime::NoiseLevel.at(t)), [1.0, 0.75, 0.0]);
    }
}
