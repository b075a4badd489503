//! RED-Diff (Mardani et al. 2023, arXiv 2305.04391): Adam on the image μ, one step per time, from noise to data.
//!
//! At time t, x_t = αμ + σε with a fresh ε ~ N(0, I), and the model's ε̂ = E[ε | x_t] is held fixed:
//! loss = ½‖y − Hμ‖²/m + w_t·(ε̂ − ε)ᵀμ/n (the public code), or ‖y − Hμ‖² + w_t·(ε̂ − ε)ᵀμ (D-Flow's eq. 64), with
//! w_t = λ·f(σ/α). ε̂ is read from the velocity: on the Cond-OT path ε̂ = x_t − t·u_t(x_t) (D-Flow's eq. 63).
//! Means are over one sample: what a batch would do to Adam's ε does not happen here.

use serde::{Deserialize, Serialize};

use super::loss::{mean_squared_error, psnr};
use super::problem::{MethodError, Next, Problem, Restoration};
use super::solve::{Outcome, Progress, TracePoint};
use super::{Answer, Ask};
use crate::path::{Parametrisation, Path, PathPoint, VpTable};
use crate::spec::method::{RedDiffLoss, RedDiffSpec, Times, WeightSpec};

/// The state of one sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RedDiffSolve {
    phase: Phase,
    /// μ.
    image: Vec<f32>,
    /// Adam's means of the gradient.
    first_moment: Vec<f32>,
    /// And of its square.
    second_moment: Vec<f32>,
    /// Steps that are made.
    done: u32,
    /// One point per step: the data term and the observed PSNR of μ before it.
    trace: Vec<TracePoint>,
}

/// What is awaited.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
enum Phase {
    /// To start.
    #[default]
    New,
    /// u_t(x_t).
    Seeing {
        /// ε.
        noise: Vec<f32>,
        /// x_t.
        x: Vec<f32>,
    },
    /// Nothing; the data term at μ, and its mean squared residual.
    Done(f64, f64),
}

impl RedDiffSolve {
    pub(super) fn next(
        &mut self,
        spec: &RedDiffSpec,
        problem: &Problem,
        answer: Answer,
        seconds: f64,
    ) -> Next {
        let path = problem.path()?;
        match (std::mem::take(&mut self.phase), answer) {
            (Phase::New, Answer::Start) => self.start(spec, problem)?,
            (Phase::Seeing { noise, x }, Answer::State(velocity)) => {
                let velocity = problem.checked("the velocity", velocity)?;
                let point = path.at(time(spec, path, self.done));
                let predicted = Parametrisation::Noise.from_velocity(point).apply(&x, &velocity);
                let gradient = self.gradient(spec, problem, point, (&predicted, &noise), seconds)?;
                self.done += 1;
                self.update(spec, &gradient);
            }
            (phase, answer) => return Err(MethodError::unexpected(&answer, phase.awaited())),
        }
        if self.done == spec.steps { self.end(spec, problem) } else { self.look(spec, problem, path) }
    }

    fn start(&mut self, spec: &RedDiffSpec, problem: &Problem) -> Next<()> {
        let Restoration { operator, measurement, .. } = problem.restoration()?;
        self.image = match spec.init.lift() {
            Some(lift) => operator.lift(measurement, lift)?,
            None => vec![0.0; problem.dim()],
        };
        self.first_moment = vec![0.0; problem.dim()];
        self.second_moment = vec![0.0; problem.dim()];
        Ok(())
    }

    /// Asks what the model sees in a noisy μ.
    fn look(&mut self, spec: &RedDiffSpec, problem: &Problem, path: &Path) -> Next {
        let t = time(spec, path, self.done);
        let PathPoint { alpha, sigma, .. } = path.at(t);
        let drawn = problem.step_noise()?;
        let noise = drawn.of(self.done);
        let mut x: Vec<f64> = self.image.iter().map(|x| f64::from(*x)).collect();
        if spec.sigma_x0 > 0.0 {
            // Its own blocks, after those of ε: these are the same with and without it.
            let spread = drawn.of(spec.steps + self.done);
            x.iter_mut().zip(spread).for_each(|(x, n)| *x += spec.sigma_x0 * f64::from(n));
        }
        let noisy = |(x, n): (f64, &f32)| (alpha * x + sigma * f64::from(*n)) as f32;
        let x: Vec<f32> = x.into_iter().zip(&noise).map(noisy).collect();
        self.phase = Phase::Seeing { noise, x: x.clone() };
        Ok(Ask::Velocity { t, x, keep: false })
    }

    /// The gradient of the loss at μ; records its data term.
    fn gradient(
        &mut self,
        spec: &RedDiffSpec,
        problem: &Problem,
        point: PathPoint,
        (predicted, noise): (&[f32], &[f32]),
        seconds: f64,
    ) -> Next<Vec<f64>> {
        let Restoration { operator, measurement, .. } = problem.restoration()?;
        let seen = operator.apply(&self.image);
        let mse = mean_squared_error(&seen, measurement);
        let loss = data_term(spec.loss, mse, measurement.len());
        self.trace.push(TracePoint { eval: self.done + 1, seconds, loss, psnr: Some(psnr(mse)) });
        let residual: Vec<f32> = seen.iter().zip(measurement).map(|(seen, y)| seen - y).collect();
        let weight = spec.lambda * shape(spec.weight, point.sigma / point.alpha);
        let (of_data, of_prior) = match spec.loss {
            RedDiffLoss::Mean => (1.0 / measurement.len() as f64, weight / problem.dim() as f64),
            RedDiffLoss::Sum => (2.0, weight),
        };
        let prior = predicted.iter().zip(noise).map(|(p, n)| f64::from(*p) - f64::from(*n));
        let data = operator.adjoint(&residual);
        Ok(data.iter().zip(prior).map(|(d, p)| of_data * f64::from(*d) + of_prior * p).collect())
    }

    /// Adam without weight decay (arXiv 1412.6980, algorithm 1).
    fn update(&mut self, spec: &RedDiffSpec, gradient: &[f64]) {
        let [beta1, beta2] = spec.betas;
        let steps = f64::from(self.done);
        let (bias1, bias2) = (1.0 - libm::pow(beta1, steps), 1.0 - libm::pow(beta2, steps));
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        for ((x, (m, v)), g) in self.image.iter_mut().zip(moments).zip(gradient) {
            *m = (beta1 * f64::from(*m) + (1.0 - beta1) * g) as f32;
            *v = (beta2 * f64::from(*v) + (1.0 - beta2) * g * g) as f32;
            let step = f64::from(*m) / bias1 / ((f64::from(*v) / bias2).sqrt() + spec.eps);
            *x = (f64::from(*x) - spec.lr * step) as f32;
        }
    }

    fn end(&mut self, spec: &RedDiffSpec, problem: &Problem) -> Next {
        let Restoration { operator, measurement, .. } = problem.restoration()?;
        let mse = mean_squared_error(&operator.apply(&self.image), measurement);
        self.phase = Phase::Done(data_term(spec.loss, mse, measurement.len()), mse);
        Ok(Ask::Done)
    }

    pub(super) fn progress(&self) -> Progress {
        let observed_psnr = self.trace.last().and_then(|point| point.psnr);
        Progress { evals: self.done, observed_psnr, ..Progress::default() }
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done(..))
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        let Phase::Done(loss, mse) = self.phase else { return None };
        Some(Outcome::of_steps(self.image.clone(), self.done, (loss, mse), &self.trace))
    }
}

impl Phase {
    const fn awaited(&self) -> &'static str {
        match self {
            Self::New => "the start",
            Self::Seeing { .. } => "a velocity",
            Self::Done(..) => "nothing",
        }
    }
}

/// The data term of a mean squared residual over so many entries.
fn data_term(loss: RedDiffLoss, mse: f64, entries: usize) -> f64 {
    match loss {
        RedDiffLoss::Mean => 0.5 * mse,
        RedDiffLoss::Sum => mse * entries as f64,
    }
}

/// f(r) of a noise-to-signal ratio.
fn shape(weight: WeightSpec, ratio: f64) -> f64 {
    match weight {
        WeightSpec::Linear => ratio,
        WeightSpec::Sqrt => ratio.sqrt(),
        WeightSpec::Square => ratio * ratio,
        WeightSpec::Log => libm::log1p(ratio),
        WeightSpec::Clip => ratio.min(1.0),
        WeightSpec::PowerTwoThirds => {
            let root = libm::cbrt(ratio);
            root * root
        }
        WeightSpec::Const => 1.0,
    }
}

/// The flow time of step `step` on the model's path.
fn time(spec: &RedDiffSpec, path: &Path, step: u32) -> f64 {
    match spec.times {
        Times::VpMatched => {
            let table = VpTable::standard();
            let index = (spec.steps - 1 - step) as usize * table.steps() / spec.steps as usize;
            path.time_of(table.log_ratio(index))
        }
        Times::Uniform(uniform) => {
            let share = f64::from(step) / f64::from((spec.steps - 1).max(1));
            uniform.min + share * (uniform.last(spec.steps) - uniform.min)
        }
    }
}
