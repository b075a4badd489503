//! ΠGDM in its original form (Song et al. 2023, algorithm 1): the DDIM sampler with pseudo-inverse guidance.
//!
//! From ᾱ_t to ᾱ_s, x_s = √ᾱ_s·x̂ + c₁z + c₂ε̂ + √ᾱ_t·(∂x̂/∂x)ᵀHᵀ(HHᵀ + σ_y²/r²·I)⁻¹(y − Hx̂) with r² = 1 − ᾱ_t,
//! c₁ = η√((1 − ᾱ_t/ᾱ_s)(1 − ᾱ_s)/(1 − ᾱ_t)) and c₂ = √(1 − ᾱ_s − c₁²); without noise the last factor is H†.
//!
//! The diffusion is that of the public code, 1000 steps, of which those with index i·1000/N are visited from noise to
//! data, and ᾱ = 1 at last. A model of another path sees each state at the time of the same α/σ, scaled by the ratio of
//! the two α: so the state is kept on the model's own path.

use super::guided::{Scheme, Sight};
use super::problem::{Next, Problem, Restoration};
use crate::path::{Parametrisation, Path, PathPoint, VpTable};
use crate::spec::method::{DdimInit, DdimSpec, GuidanceScale};

impl Scheme for DdimSpec {
    fn steps(&self) -> u32 {
        self.steps
    }

    fn time(&self, path: &Path, step: u32) -> f64 {
        path.time_of(VpTable::standard().log_ratio(index(self.steps, step)))
    }

    /// Its last step is the denoiser's own.
    fn ends_at_path_end(&self) -> bool {
        false
    }

    fn start(&self, problem: &Problem, path: &Path) -> Next<Vec<f32>> {
        let mut x = problem.checked("the noise z", problem.draws.z.clone())?;
        let level = VpTable::standard().step(index(self.steps, 0));
        if self.init == DdimInit::Pinv {
            let Restoration { operator, measurement, .. } = problem.restoration()?;
            let lifted = operator.pinv(measurement);
            let entry = |(x, y): (&mut f32, &f32)| {
                *x = (level.alpha * f64::from(*y) + level.sigma * f64::from(*x)) as f32;
            };
            x.iter_mut().zip(&lifted).for_each(entry);
        }
        let scale = path.at(self.time(path, 0)).alpha / level.alpha;
        Ok(x.iter().map(|x| (scale * f64::from(*x)) as f32).collect())
    }

    fn advance(&self, problem: &Problem, path: &Path, sight: &Sight<'_>) -> Next<Vec<f32>> {
        let step = self.coefficients(path, sight);
        let drawn =
            if step.fresh > 0.0 { problem.step_noise()?.of(sight.step) } else { vec![0.0; sight.x.len()] };
        let Restoration { operator, measurement, .. } = problem.restoration()?;
        let mut denoised =
            Parametrisation::Denoiser.from_velocity(sight.point).apply(sight.x, sight.velocity);
        let predicted = Parametrisation::Noise.from_velocity(sight.point).apply(sight.x, sight.velocity);
        let mut guidance = sight.guidance.to_vec();
        if let (true, Some(hole)) = (self.replace_observed, operator.hole()) {
            let seen = operator.adjoint(measurement);
            let pixels = hole.iter().cycle();
            for (((x, g), y), _) in
                denoised.iter_mut().zip(&mut guidance).zip(seen).zip(pixels).filter(|(_, hidden)| !**hidden)
            {
                (*x, *g) = (y, 0.0);
            }
        }
        let entry = |i: usize| {
            let mean = step.denoised * f64::from(denoised[i]) + step.predicted * f64::from(predicted[i]);
            (mean + step.fresh * f64::from(drawn[i]) + step.guidance * f64::from(guidance[i])) as f32
        };
        Ok((0..sight.x.len()).map(entry).collect())
    }
}

/// The index in the diffusion of step `step` of `steps`.
fn index(steps: u32, step: u32) -> usize {
    let all = VpTable::standard().steps();
    (steps - 1 - step) as usize * all / steps as usize
}

/// Factors of a DDIM step, for a state on the model's path.
struct Coefficients {
    denoised: f64,
    predicted: f64,
    fresh: f64,
    guidance: f64,
}

impl DdimSpec {
    fn coefficients(&self, path: &Path, sight: &Sight<'_>) -> Coefficients {
        let table = VpTable::standard();
        let from = table.step(index(self.steps, sight.step));
        let next = sight.step + 1;
        // The state's scale on the model's path now, and after the step.
        let scale = sight.point.alpha / from.alpha;
        let (alpha, sigma, next_scale) = if next == self.steps {
            (1.0, 0.0, 1.0)
        } else {
            let PathPoint { alpha, sigma, .. } = table.step(index(self.steps, next));
            (alpha, sigma, path.at(self.time(path, next)).alpha / alpha)
        };
        let ratio = from.alpha / alpha;
        let fresh = self.eta * (1.0 - ratio * ratio).max(0.0).sqrt() * sigma / from.sigma;
        let guidance = match self.scale {
            GuidanceScale::From => from.alpha,
            GuidanceScale::Product => from.alpha * alpha,
        };
        // g is a gradient with respect to the model's x, and its w is H†e/r² where the sampler's is H†e.
        let guidance = guidance * scale * sight.point.posterior_variance();
        Coefficients {
            denoised: next_scale * alpha,
            predicted: next_scale * (sigma * sigma - fresh * fresh).max(0.0).sqrt(),
            fresh: next_scale * fresh,
            guidance: next_scale * guidance,
        }
    }
}
