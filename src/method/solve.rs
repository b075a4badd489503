//! One running solve of any method, and what it leaves behind.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::ancestral::AncestralSolve;
use super::dflow::DflowSolve;
use super::guided::{GuidedSolve, Scheme};
use super::likelihood::{Bits, LikelihoodSolve};
use super::loss::{mean_squared_error, psnr};
use super::ot_ode::GuidedFlow;
use super::problem::{MethodError, Next, Problem, Restoration};
use super::red_diff::RedDiffSolve;
use super::sample::SampleSolve;
use super::stop::StopReason;
use super::{Answer, Ask};
use crate::optim::Pair;
use crate::spec::method::{HoleFill, MethodSpec, PigdmForm, PinvSpec};

/// The state of one sample's solve: plain data that can be stored at every ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Solve {
    /// D-Flow.
    Dflow(Box<DflowSolve>),
    /// OT-ODE or ΠGDM.
    Guided(GuidedSolve),
    /// RED-Diff.
    RedDiff(RedDiffSolve),
    /// The pseudo-inverse.
    Pinv(PinvSolve),
    /// A sample of the prior.
    Sample(SampleSolve),
    /// A sample of the prior by the ancestral sampler.
    Ancestral(AncestralSolve),
    /// Bits per dimension.
    Likelihood(LikelihoodSolve),
}

/// How far a solve is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Evaluations of loss and gradient.
    pub evals: u32,
    /// Outer steps of the optimiser.
    pub outer_steps: u32,
    /// Observed PSNR of the last accepted point in dB.
    pub observed_psnr: Option<f64>,
}

/// One evaluation of loss and gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TracePoint {
    /// Its number, from 1.
    pub eval: u32,
    /// Seconds in a slot when it was done. Not reproducible.
    pub seconds: f64,
    /// The objective: data term and penalty.
    pub loss: f64,
    /// Observed PSNR in dB; `None`: the loss compares no images.
    pub psnr: Option<f64>,
}

/// An evaluation that was kept whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its number, from 1.
    pub eval: u32,
    /// The source point: `dim` numbers.
    pub x0: Vec<f32>,
    /// The end of its flow: `dim` numbers.
    pub x1: Vec<f32>,
}

/// What a finished solve leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// x(1) of the last accepted point, not clamped: `dim` numbers.
    pub reconstruction: Vec<f32>,
    /// x(1) of the evaluation with the closest fit.
    pub best: Vec<f32>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Outer steps of the optimiser.
    pub outer_steps: u32,
    /// Evaluations of loss and gradient.
    pub evals: u32,
    /// Line searches that found no lower point.
    pub failed_line_searches: u32,
    /// The objective at the last accepted point.
    pub loss: Option<f64>,
    /// Observed PSNR there in dB: of the loss's pair, not clamped.
    pub observed_psnr: Option<f64>,
    /// The highest observed PSNR of any evaluation.
    pub best_psnr: Option<f64>,
    /// ‖x₀‖ of the last accepted point.
    pub x0_norm: Option<f64>,
    /// Every evaluation.
    pub trace: Vec<TracePoint>,
}

impl Outcome {
    /// What a method of a given number of steps leaves behind: x(1), its loss, and the mean squared residual there.
    pub(super) fn of_steps(x1: Vec<f32>, steps: u32, (loss, mse): (f64, f64), trace: &[TracePoint]) -> Self {
        let observed_psnr = Some(psnr(mse));
        Self {
            stop_reason: StopReason::Steps,
            evals: steps,
            loss: Some(loss),
            observed_psnr,
            best_psnr: observed_psnr,
            trace: trace.to_vec(),
            ..Self::direct(x1)
        }
    }

    /// What a method leaves behind that optimises nothing.
    pub(super) fn direct(x1: Vec<f32>) -> Self {
        Self {
            best: x1.clone(),
            reconstruction: x1,
            stop_reason: StopReason::Direct,
            outer_steps: 0,
            evals: 0,
            failed_line_searches: 0,
            loss: None,
            observed_psnr: None,
            best_psnr: None,
            x0_norm: None,
            trace: Vec::new(),
        }
    }
}

impl Solve {
    /// The solve of `problem`, which begins when it is told [`Answer::Start`].
    pub fn new(problem: &Problem) -> Self {
        match problem.method {
            MethodSpec::Dflow(_) => Self::Dflow(Box::default()),
            MethodSpec::OtOde(_) | MethodSpec::Pigdm(_) => Self::Guided(GuidedSolve::default()),
            MethodSpec::RedDiff(_) => Self::RedDiff(RedDiffSolve::default()),
            MethodSpec::Pinv(_) => Self::Pinv(PinvSolve::default()),
            MethodSpec::Sample(_) => Self::Sample(SampleSolve::default()),
            MethodSpec::Ancestral(_) => Self::Ancestral(AncestralSolve::default()),
            MethodSpec::Likelihood(_) => Self::Likelihood(LikelihoodSolve::default()),
        }
    }

    /// Takes an answer and says what is needed next. `seconds` is the time in which the sample has held a slot.
    ///
    /// After an error, or once it has said [`Ask::Done`], the solve cannot go on.
    pub fn next(&mut self, problem: &Problem, answer: Answer, seconds: f64) -> Next {
        match (self, &problem.method) {
            (Self::Dflow(solve), MethodSpec::Dflow(spec)) => solve.next(spec, problem, answer, seconds),
            (Self::Guided(solve), MethodSpec::OtOde(spec)) => {
                solve.next(&GuidedFlow::from(spec), problem, answer, seconds)
            }
            (Self::Guided(solve), MethodSpec::Pigdm(spec)) => {
                solve.next(&*scheme(&spec.form), problem, answer, seconds)
            }
            (Self::RedDiff(solve), MethodSpec::RedDiff(spec)) => solve.next(spec, problem, answer, seconds),
            (Self::Pinv(solve), MethodSpec::Pinv(spec)) => solve.next(spec, problem, &answer),
            (Self::Sample(solve), MethodSpec::Sample(spec)) => solve.next(spec, problem, answer),
            (Self::Ancestral(solve), MethodSpec::Ancestral(spec)) => solve.next(spec, problem, answer),
            (Self::Likelihood(solve), MethodSpec::Likelihood(spec)) => solve.next(spec, problem, answer),
            _ => Err(MethodError::OtherMethod),
        }
    }

    /// Whether it pulls the ends of its forward solves back.
    pub const fn is_differentiated(&self) -> bool {
        matches!(self, Self::Dflow(_))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        match self {
            Self::Dflow(solve) => solve.progress(),
            Self::Guided(solve) => solve.progress(),
            Self::RedDiff(solve) => solve.progress(),
            Self::Ancestral(solve) => Progress { outer_steps: solve.steps(), ..Progress::default() },
            Self::Pinv(_) | Self::Sample(_) | Self::Likelihood(_) => Progress::default(),
        }
    }

    /// The point x₀ that it is to evaluate next, once there is one: before the first evaluation, its start.
    pub fn source_point(&self) -> Option<&[f32]> {
        match self {
            Self::Dflow(solve) => solve.source_point(),
            _ => None,
        }
    }

    /// Why it ended, if it has.
    pub fn stop_reason(&self) -> Option<StopReason> {
        match self {
            Self::Dflow(solve) => solve.stop_reason(),
            Self::Guided(solve) => solve.is_done().then_some(StopReason::Steps),
            Self::RedDiff(solve) => solve.is_done().then_some(StopReason::Steps),
            Self::Pinv(solve) => solve.done.as_ref().map(|_| StopReason::Direct),
            Self::Sample(solve) => solve.is_done().then_some(StopReason::Direct),
            Self::Ancestral(solve) => solve.is_done().then_some(StopReason::Direct),
            Self::Likelihood(solve) => solve.bits().map(|_| StopReason::Direct),
        }
    }

    /// The result, if it has ended.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Dflow(solve) => solve.outcome(),
            Self::Guided(solve) => solve.outcome(),
            Self::RedDiff(solve) => solve.outcome(),
            Self::Pinv(solve) => solve.outcome(),
            Self::Sample(solve) => solve.outcome(),
            Self::Ancestral(solve) => solve.outcome(),
            Self::Likelihood(solve) => solve.outcome(),
        }
    }

    /// The bits per dimension that it measured, if that was its task and it has ended.
    pub fn bits(&self) -> Option<Bits> {
        if let Self::Likelihood(solve) = self { solve.bits() } else { None }
    }

    /// The memory of its optimiser, if it has one: how many pairs were ever stored, and the last of them. They are most
    /// of the state's bytes and never change, so that a store may take them out, keep each once, and put them back.
    pub fn memory(&mut self) -> Option<(u64, &mut VecDeque<Pair<f32>>)> {
        if let Self::Dflow(solve) = self { solve.memory() } else { None }
    }

    /// What was kept of its way, if it was to be kept.
    pub fn snapshots(&self) -> &[Snapshot] {
        if let Self::Dflow(solve) = self { solve.snapshots() } else { &[] }
    }
}

/// How ΠGDM steps.
fn scheme(form: &PigdmForm) -> Box<dyn Scheme> {
    match form {
        PigdmForm::Flow(flow) => Box::new(GuidedFlow::from(flow)),
        PigdmForm::Ddim(ddim) => Box::new(*ddim),
    }
}

/// The pseudo-inverse H†y: no evaluation, no prior.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PinvSolve {
    /// x = H†y, its hole filled as asked, and the PSNR of (Hx, y).
    done: Option<(Vec<f32>, f64)>,
}

impl PinvSolve {
    fn next(&mut self, spec: &PinvSpec, problem: &Problem, answer: &Answer) -> Next {
        if *answer != Answer::Start {
            return Err(MethodError::unexpected(answer, "nothing"));
        }
        let Restoration { operator, measurement, .. } = problem.restoration()?;
        let x = match spec.fill {
            None => operator.pinv(measurement),
            Some(HoleFill::ObservedMean) => operator.mean_fill(measurement),
        };
        let observed = psnr(mean_squared_error(&operator.apply(&x), measurement));
        self.done = Some((x, observed));
        Ok(Ask::Done)
    }

    fn outcome(&self) -> Option<Outcome> {
        let (x, observed) = self.done.clone()?;
        Some(Outcome { observed_psnr: Some(observed), best_psnr: Some(observed), ..Outcome::direct(x) })
    }
}
