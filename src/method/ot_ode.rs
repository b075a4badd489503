//! OT-ODE (Pokle et al. 2023, arXiv 2310.04432), and ΠGDM as it is compared with there: Euler steps of a guided flow.
//!
//! On the grid t_k = k/N, x ← x + (u + σ²·d ln(α/σ)/dt·γ·g)/N with g of [`super::guided`]. OT-ODE starts at t₀ > 0 from
//! α·ỹ + σ·z with the lifted measurement ỹ and takes γ = 1; ΠGDM starts at the first point of the grid from z and takes
//! γ = √(α/(α² + σ²)). For data N(0, I), γ = 1 and a start at 1/N, x(1) is a sample of the posterior up to O(1/N).

use super::guided::{Scheme, Sight};
use super::problem::{Next, Problem, Restoration};
use crate::path::{Path, PathPoint};
use crate::spec::init::Lift;
use crate::spec::method::{FlowInit, FlowSpec, GammaSpec, OtOdeSpec};

/// A guided flow.
pub(super) struct GuidedFlow {
    /// N.
    steps: u32,
    /// Index of the grid's point that it starts at.
    first: u32,
    gamma: GammaSpec,
    /// How y is lifted into the first state; `None`: it is noise alone.
    lift: Option<Lift>,
}

impl From<&OtOdeSpec> for GuidedFlow {
    fn from(spec: &OtOdeSpec) -> Self {
        Self { steps: spec.steps, first: spec.first(), gamma: spec.gamma, lift: Some(spec.lift) }
    }
}

impl From<&FlowSpec> for GuidedFlow {
    fn from(spec: &FlowSpec) -> Self {
        let lift = match spec.init {
            FlowInit::Noise => None,
            FlowInit::Lifted(lift) => Some(lift),
        };
        Self { steps: spec.steps, first: spec.first(), gamma: spec.gamma, lift }
    }
}

/// γ_t.
fn weight(gamma: GammaSpec, point: PathPoint) -> f64 {
    let PathPoint { alpha, sigma, .. } = point;
    match gamma {
        GammaSpec::One => 1.0,
        GammaSpec::Adaptive => (alpha / (alpha * alpha + sigma * sigma)).sqrt(),
    }
}

impl Scheme for GuidedFlow {
    fn steps(&self) -> u32 {
        self.steps - self.first
    }

    fn time(&self, _: &Path, step: u32) -> f64 {
        f64::from(self.first + step) / f64::from(self.steps)
    }

    fn ends_at_path_end(&self) -> bool {
        true
    }

    fn start(&self, problem: &Problem, path: &Path) -> Next<Vec<f32>> {
        let z = problem.checked("the noise z", problem.draws.z.clone())?;
        let Some(lift) = self.lift else { return Ok(z) };
        let Restoration { operator, measurement, .. } = problem.restoration()?;
        let PathPoint { alpha, sigma, .. } = path.at(self.time(path, 0));
        let lifted = operator.lift(measurement, lift)?;
        let entry = |(&y, &z): (&f32, &f32)| (alpha * f64::from(y) + sigma * f64::from(z)) as f32;
        Ok(lifted.iter().zip(&z).map(entry).collect())
    }

    fn advance(&self, _: &Problem, _: &Path, sight: &Sight<'_>) -> Next<Vec<f32>> {
        let h = 1.0 / f64::from(self.steps);
        let pull = sight.point.guidance() * weight(self.gamma, sight.point);
        let entry = |((&x, &u), &g): ((&f32, &f32), &f32)| {
            (f64::from(x) + h * (f64::from(u) + pull * f64::from(g))) as f32
        };
        Ok(sight.x.iter().zip(sight.velocity).zip(sight.guidance).map(entry).collect())
    }
}
