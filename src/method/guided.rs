//! Guided samplers: OT-ODE and ΠGDM, one network call and its pull-back per step.
//!
//! At (t, x) the model sees x̂ = E[x₁ | x_t = x], and its pull-back says how x moves it. The residual e = y − Hx̂ pulls x
//! by g = (∂x̂/∂x)ᵀ Hᵀ(r²HHᵀ + σ_y²I)⁻¹ e, the gradient of ln p(y | x) under x₁ ~ N(x̂, r²I) with w = Hᵀ(…)⁻¹e held
//! fixed, r² = σ²/(α² + σ²) (OT-ODE, arXiv 2310.04432, section 3; ΠGDM, Song et al. 2023). What a method makes of g is
//! its [`Scheme`].
//!
//! x̂ = a·x + b·u on every affine path, so that g = a·w + b·(∂u/∂x)ᵀw.

use serde::{Deserialize, Serialize};

use super::loss::{mean_squared_error, psnr};
use super::problem::{MethodError, Next, Problem, Restoration};
use super::solve::{Outcome, Progress, TracePoint};
use super::{Answer, Ask};
use crate::path::{Affine, Parametrisation, Path, PathPoint};

/// How a guided method steps.
pub(super) trait Scheme {
    /// Steps it makes.
    fn steps(&self) -> u32;

    /// The flow time of step `step` on the model's path: inside of (0, 1).
    fn time(&self, path: &Path, step: u32) -> f64;

    /// Whether its last state is that of the path's end, which keeps what noise the path keeps.
    fn ends_at_path_end(&self) -> bool;

    /// The state before the first step: `dim` numbers, on the model's path.
    fn start(&self, problem: &Problem, path: &Path) -> Next<Vec<f32>>;

    /// The state after a step, on the model's path at the time of the next step; after the last one, x(1).
    fn advance(&self, problem: &Problem, path: &Path, step: &Sight<'_>) -> Next<Vec<f32>>;
}

/// What a step has seen.
pub(super) struct Sight<'a> {
    /// Its number, from 0.
    pub(super) step: u32,
    /// The path at its time.
    pub(super) point: PathPoint,
    /// x.
    pub(super) x: &'a [f32],
    /// u_t(x).
    pub(super) velocity: &'a [f32],
    /// g.
    pub(super) guidance: &'a [f32],
}

/// The state of one sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GuidedSolve {
    phase: Phase,
    /// x at the time of the present step; x(1) once it is done.
    x: Vec<f32>,
    /// Steps that are made.
    done: u32,
    /// One point per step: mean squared residual and observed PSNR of x̂.
    trace: Vec<TracePoint>,
}

/// What is awaited.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
enum Phase {
    /// To start.
    #[default]
    New,
    /// u_t(x).
    Seeing,
    /// (∂u/∂x)ᵀw.
    Guiding {
        /// u_t(x).
        velocity: Vec<f32>,
        /// w.
        cotangent: Vec<f32>,
    },
    /// u₁(x) of the last state, for the model's finishing denoise.
    Finishing,
    /// Nothing; the mean squared residual of x(1).
    Done(f64),
}

/// x̂ as an affine map of (x, u).
fn denoiser(point: PathPoint) -> Affine {
    Parametrisation::Denoiser.from_velocity(point)
}

impl GuidedSolve {
    pub(super) fn next(
        &mut self,
        scheme: &dyn Scheme,
        problem: &Problem,
        answer: Answer,
        seconds: f64,
    ) -> Next {
        let path = problem.path()?;
        match (std::mem::take(&mut self.phase), answer) {
            (Phase::New, Answer::Start) => {
                self.x = scheme.start(problem, path)?;
                Ok(self.look(scheme, path))
            }
            (Phase::Seeing, Answer::State(velocity)) => {
                let velocity = problem.checked("the velocity", velocity)?;
                self.seen(scheme.time(path, self.done), problem, velocity, seconds)
            }
            (Phase::Guiding { velocity, cotangent }, Answer::Gradient(gradient)) => {
                let gradient = problem.checked("the gradient", gradient)?;
                let point = path.at(scheme.time(path, self.done));
                let guidance = &denoiser(point).apply(&cotangent, &gradient);
                let sight = Sight { step: self.done, point, x: &self.x, velocity: &velocity, guidance };
                self.x = scheme.advance(problem, path, &sight)?;
                self.done += 1;
                if self.done < scheme.steps() {
                    return Ok(self.look(scheme, path));
                }
                if problem.finish && scheme.ends_at_path_end() {
                    self.phase = Phase::Finishing;
                    return Ok(Ask::Velocity { t: 1.0, x: self.x.clone(), keep: false });
                }
                self.end(problem)
            }
            (Phase::Finishing, Answer::State(velocity)) => {
                let velocity = problem.checked("the velocity", velocity)?;
                self.x = denoiser(path.at(1.0)).apply(&self.x, &velocity);
                self.end(problem)
            }
            (phase, answer) => Err(MethodError::unexpected(&answer, phase.awaited())),
        }
    }

    /// Asks what the model sees in x.
    fn look(&mut self, scheme: &dyn Scheme, path: &Path) -> Ask {
        self.phase = Phase::Seeing;
        Ask::Velocity { t: scheme.time(path, self.done), x: self.x.clone(), keep: true }
    }

    /// Compares what it sees with the measurement, and asks which way x would have to move.
    fn seen(&mut self, t: f64, problem: &Problem, velocity: Vec<f32>, seconds: f64) -> Next {
        let Restoration { operator, measurement, sigma, .. } = problem.restoration()?;
        let point = problem.path()?.at(t);
        let seen = operator.apply(&denoiser(point).apply(&self.x, &velocity));
        let loss = mean_squared_error(&seen, measurement);
        self.trace.push(TracePoint { eval: self.done + 1, seconds, loss, psnr: Some(psnr(loss)) });
        let residual: Vec<f32> = measurement.iter().zip(&seen).map(|(y, seen)| y - seen).collect();
        let cotangent = operator.regularised_inverse(&residual, point.posterior_variance(), sigma * sigma);
        self.phase = Phase::Guiding { velocity, cotangent: cotangent.clone() };
        Ok(Ask::Vjp { t, x: self.x.clone(), cotangent })
    }

    fn end(&mut self, problem: &Problem) -> Next {
        let Restoration { operator, measurement, .. } = problem.restoration()?;
        self.phase = Phase::Done(mean_squared_error(&operator.apply(&self.x), measurement));
        Ok(Ask::Done)
    }

    pub(super) fn progress(&self) -> Progress {
        let observed_psnr = self.trace.last().and_then(|point| point.psnr);
        Progress { evals: self.done, observed_psnr, ..Progress::default() }
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done(_))
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        let Phase::Done(loss) = self.phase else { return None };
        Some(Outcome::of_steps(self.x.clone(), self.done, (loss, loss), &self.trace))
    }
}

impl Phase {
    const fn awaited(&self) -> &'static str {
        match self {
            Self::New => "the start",
            Self::Seeing | Self::Finishing => "a velocity",
            Self::Guiding { .. } => "a gradient",
            Self::Done(_) => "nothing",
        }
    }
}
