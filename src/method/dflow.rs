//! D-Flow (arXiv 2402.14017, Algorithm 1): minimise L(x(1)) + λR(x₀) over the source point x₀ of the flow.
//!
//! x(1) is the end of the ODE from x₀; its gradient is the exact reverse mode of the steps taken. The optimiser is
//! L-BFGS; each of its evaluations is a forward solve, the loss on the host, and a pull-back.
//! The result is x(1) of the last accepted point, which is kept with the point: no further solve is needed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::loss::{self, Fit};
use super::nll::{Pass, PassStep};
use super::normalize;
use super::problem::{Goal, MethodError, Next, Problem, PropertyTarget, Restoration};
use super::regularizer::penalty;
use super::solve::{Outcome, Progress, Snapshot, TracePoint};
use super::stop::{Moment, State, StopReason, fired};
use super::{Answer, Ask, Direction, Grid};
use crate::optim::{Evaluation, Lbfgs, OuterEnd, OuterReport, Pair, Settings, Step, norm};
use crate::spec::init::{BlendSpec, InitSpec};
use crate::spec::method::{
    BandsSpec, DflowSpec, InitialHessian, NormalizeSpec, NormalizedResult, OptimizerSpec, PerFeatureSpec,
    RegularizerSpec, StopTests,
};

/// The state of one D-Flow solve.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DflowSolve {
    phase: Phase,
    /// Present once x₀ is.
    optimizer: Option<Lbfgs<f32, Point>>,
    evals: u32,
    outer_steps: u32,
    failed_line_searches: u32,
    /// Observed PSNR at the first point and after every outer step.
    psnr_history: Vec<f64>,
    trace: Vec<TracePoint>,
    best: Option<Point>,
    /// Why the solve ends once the normalised x₀ is solved.
    ending: Option<StopReason>,
    /// The accepted point, with its objective, before x₀ was normalised; at an end with the normalised x₀, that.
    unaltered: Option<(Point, f64)>,
    /// Evaluations 1, 2, 4, 8 …, where the problem asks for them.
    snapshots: Vec<Snapshot>,
}

/// What is awaited.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
enum Phase {
    /// To start.
    #[default]
    New,
    /// y(0) of the lifted measurement.
    Inverting,
    /// x(1).
    Solving,
    /// The property of this x(1).
    Reading(Vec<f32>),
    /// The gradient of the data term at x(1).
    ReadingBack(Point),
    /// The gradient at x₀ of the data term at this point.
    Differentiating(Point),
    /// The calls of an evaluation with the likelihood penalty; the point, once x(1) is there.
    Likelihood(Box<Pass>, Option<Point>),
    /// Nothing.
    Done(StopReason),
}

/// What is kept of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x1: Vec<f32>,
    fit: Fit,
}

/// What every step of the solve looks at.
#[derive(Clone, Copy)]
struct Context<'a> {
    spec: &'a DflowSpec,
    problem: &'a Problem,
    seconds: f64,
}

impl DflowSolve {
    pub(super) fn next(&mut self, spec: &DflowSpec, problem: &Problem, answer: Answer, seconds: f64) -> Next {
        let context = Context { spec, problem, seconds };
        match (std::mem::take(&mut self.phase), answer) {
            (Phase::New, Answer::Start) => self.start(context),
            (Phase::Inverting, Answer::State(y0)) => {
                let x0 = blend(spec, problem, &problem.checked("the backward solve", y0)?);
                self.begin(context, x0)
            }
            (Phase::Solving, Answer::State(x1)) => self.solved(context, x1),
            (Phase::Reading(x1), Answer::Value(value)) => self.read(context, x1, &value),
            (Phase::ReadingBack(point), Answer::Gradient(cotangent)) => {
                let cotangent = problem.checked("the gradient of the read-out", cotangent)?;
                self.phase = Phase::Differentiating(point);
                Ok(Ask::PullBack { cotangent })
            }
            (Phase::Differentiating(point), Answer::Gradient(gradient)) => {
                let gradient = problem.checked("the gradient", gradient)?;
                self.evaluated(context, point, gradient, 0.0)
            }
            (Phase::Likelihood(pass, point), Answer::State(row) | Answer::Gradient(row)) => {
                let row = problem.checked("an answer of the field", row)?;
                self.likelihood(context, pass, point, row)
            }
            (phase, answer) => Err(MethodError::unexpected(&answer, phase.awaited())),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let observed_psnr = self.current().and_then(|(point, _)| point.fit.psnr);
        Progress { evals: self.evals, outer_steps: self.outer_steps, observed_psnr }
    }

    pub(super) fn source_point(&self) -> Option<&[f32]> {
        self.optimizer.as_ref().map(Lbfgs::x)
    }

    pub(super) fn memory(&mut self) -> Option<(u64, &mut VecDeque<Pair<f32>>)> {
        let optimizer = self.optimizer.as_mut()?;
        Some((optimizer.pairs_stored(), optimizer.pairs_mut()))
    }

    pub(super) fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    pub(super) fn stop_reason(&self) -> Option<StopReason> {
        if let Phase::Done(reason) = self.phase { Some(reason) } else { None }
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        let stop_reason = self.stop_reason()?;
        let best = self.best.as_ref()?;
        let (point, loss) = self.current()?;
        Some(Outcome {
            reconstruction: point.x1.clone(),
            best: best.x1.clone(),
            stop_reason,
            outer_steps: self.outer_steps,
            evals: self.evals,
            failed_line_searches: self.failed_line_searches,
            loss: Some(loss),
            observed_psnr: point.fit.psnr,
            best_psnr: best.fit.psnr,
            x0_norm: self.optimizer.as_ref().map(|optimizer| norm(optimizer.x())),
            trace: self.trace.clone(),
        })
    }

    fn accepted(&self) -> Option<&Evaluation<f32, Point>> {
        self.optimizer.as_ref()?.accepted()
    }

    /// The last accepted point and its objective; until a normalised x₀ is evaluated, the point before.
    fn current(&self) -> Option<(&Point, f64)> {
        let accepted = self.accepted().map(|accepted| (&accepted.payload, accepted.loss));
        accepted.or_else(|| self.unaltered.as_ref().map(|(point, loss)| (point, *loss)))
    }

    fn start(&mut self, context: Context<'_>) -> Next {
        let Context { spec, problem, .. } = context;
        let z = || problem.checked("the noise z", problem.draws.z.clone());
        let x0 = match &spec.init {
            InitSpec::Blend(blend) if blend.weight > 0.0 => {
                z()?;
                return self.invert(context, blend);
            }
            InitSpec::Blend(_) | InitSpec::Source => z()?,
            InitSpec::Given(_) => problem
                .checked("the given start", problem.draws.given.clone().ok_or(MethodError::NoStart)?)?,
        };
        self.begin(context, x0)
    }

    fn invert(&mut self, context: Context<'_>, blend: &BlendSpec) -> Next {
        let Restoration { operator, measurement, .. } = context.problem.restoration()?;
        let start = operator.lift(measurement, blend.lift)?;
        let solver = blend.solver.unwrap_or(context.spec.solver);
        self.phase = Phase::Inverting;
        Ok(Ask::Solve { start, grid: Grid { solver, direction: Direction::Backward } })
    }

    fn begin(&mut self, context: Context<'_>, x0: Vec<f32>) -> Next {
        let OptimizerSpec::Lbfgs(options) = &context.spec.optimizer;
        let mut optimizer = Lbfgs::new(Settings::from(options), x0);
        if let Some(InitialHessian::Bands(BandsSpec { pairs, .. })) = options.initial {
            let shape = context.problem.restoration()?.operator.shape();
            optimizer = optimizer.with_bands([shape.channels, shape.height, shape.width], pairs);
        }
        self.optimizer = Some(optimizer);
        self.advance(context, None)
    }

    /// Lets the optimiser go on to the point that it needs next, or ends the solve.
    fn advance(&mut self, context: Context<'_>, mut told: Option<Evaluation<f32, Point>>) -> Next {
        let OptimizerSpec::Lbfgs(options) = &context.spec.optimizer;
        loop {
            let optimizer = self.optimizer.as_mut().expect("advance is called once x₀ is there");
            if let Some(InitialHessian::Bands(BandsSpec { from_psnr, .. })) = options.initial {
                let psnr = optimizer.accepted().and_then(|accepted| accepted.payload.fit.psnr);
                // The PSNR of a bad fit is below 0.
                optimizer.use_bands(from_psnr <= 0.0 || psnr.is_some_and(|psnr| psnr >= from_psnr));
            }
            match optimizer.next(told.take()) {
                Step::Evaluate(x0) => {
                    let x0 = x0.to_vec();
                    let moment = match context.spec.stop_tests.unwrap_or_default() {
                        StopTests::OuterStep => Moment::Evaluation,
                        StopTests::Evaluation => Moment::OuterStep,
                    };
                    return match self.fired(context, moment) {
                        Some(reason) => Ok(self.end(reason)),
                        None => self.ask(context, x0),
                    };
                }
                Step::OuterDone(report) => {
                    let stalled = self.outer_done(report)?;
                    if let Some(reason) = self.fired(context, Moment::OuterStep) {
                        return self.finish(context, reason);
                    }
                    // A normalised x₀ is another one, from which the next outer step may get on.
                    let is_altered = self.normalize(context);
                    if let (Some(reason), false) = (stalled, is_altered) {
                        return Ok(self.end(reason));
                    }
                }
            }
        }
    }

    fn ask(&mut self, context: Context<'_>, x0: Vec<f32>) -> Next {
        let solver = context.spec.solver;
        if let RegularizerSpec::Nll(_) = context.spec.regularizer {
            let (pass, ask) = Pass::start(solver, x0)?;
            self.phase = Phase::Likelihood(Box::new(pass), None);
            return Ok(ask);
        }
        self.phase = Phase::Solving;
        Ok(Ask::Solve { start: x0, grid: Grid { solver, direction: Direction::Forward } })
    }

    fn solved(&mut self, context: Context<'_>, x1: Vec<f32>) -> Next {
        let x1 = context.problem.checked("the forward solve", x1)?;
        if let Goal::Property(_) = context.problem.goal {
            self.phase = Phase::Reading(x1.clone());
            return Ok(Ask::ReadOut { x: x1 });
        }
        let (point, cotangent) = fit(context, x1)?;
        self.phase = Phase::Differentiating(point);
        Ok(Ask::PullBack { cotangent })
    }

    /// Takes the property of x(1).
    fn read(&mut self, context: Context<'_>, x1: Vec<f32>, value: &[f32]) -> Next {
        let (Goal::Property(PropertyTarget { value: target, .. }), &[value]) = (&context.problem.goal, value)
        else {
            return Err(MethodError::Length { what: "the read-out", expected: 1, found: value.len() });
        };
        let (fit, slope) = loss::property(&context.spec.loss, value, *target);
        let point = Point { x1: x1.clone(), fit };
        if let Some(reason) = self.ending {
            self.unaltered = Some((point, fit.loss));
            return Ok(self.end(reason));
        }
        self.phase = Phase::ReadingBack(point);
        Ok(Ask::ReadOutVjp { x: x1, cotangent: vec![slope] })
    }

    /// Ends the solve after an outer step, or solves its normalised x₀ first.
    fn finish(&mut self, context: Context<'_>, reason: StopReason) -> Next {
        let NormalizeSpec::PerFeature(PerFeatureSpec { result: NormalizedResult::Normalized, .. }) =
            context.spec.normalize
        else {
            return Ok(self.end(reason));
        };
        self.normalize(context);
        self.ending = Some(reason);
        let optimizer = self.optimizer.as_ref().expect("an outer step is one of the optimiser");
        let x0 = optimizer.x().to_vec();
        self.ask(context, x0)
    }

    /// Normalises x₀ between two outer steps; whether that altered it.
    fn normalize(&mut self, context: Context<'_>) -> bool {
        let (NormalizeSpec::PerFeature(spec), Some(points)) =
            (context.spec.normalize, context.problem.goal.points())
        else {
            return false;
        };
        let unaltered = self.accepted().map(|accepted| (accepted.payload.clone(), accepted.loss));
        let optimizer = self.optimizer.as_mut().expect("an outer step is one of the optimiser");
        let mut x0 = optimizer.x().to_vec();
        normalize::per_feature(&mut x0, points, spec.std);
        let is_altered = x0 != optimizer.x();
        if is_altered {
            self.unaltered = unaltered;
            optimizer.set_x(x0);
        }
        is_altered
    }

    fn likelihood(
        &mut self,
        context: Context<'_>,
        mut pass: Box<Pass>,
        mut point: Option<Point>,
        row: Vec<f32>,
    ) -> Next {
        let RegularizerSpec::Nll(spec) = context.spec.regularizer else {
            return Err(MethodError::OtherMethod);
        };
        let probes = &context.problem.draws.probes;
        let ask = match pass.next(row, spec.weight, probes)? {
            PassStep::Ask(ask) => ask,
            PassStep::Arrived(x1) => {
                let (arrived, cotangent) = fit(context, x1)?;
                point = Some(arrived);
                pass.turn(cotangent, probes)?
            }
            PassStep::Done { value, gradient } => {
                let point = point.expect("x(1) was reached before the way back");
                return self.evaluated(context, point, gradient, value);
            }
        };
        self.phase = Phase::Likelihood(pass, point);
        Ok(ask)
    }

    /// Takes the gradient of the data term (and of a penalty of this value that is part of it already).
    fn evaluated(
        &mut self,
        context: Context<'_>,
        point: Point,
        mut gradient: Vec<f32>,
        penalty_value: f64,
    ) -> Next {
        let optimizer = self.optimizer.as_mut().expect("an evaluation is of the optimiser's point");
        let Step::Evaluate(x0) = optimizer.next(None) else {
            return Err(MethodError::OtherMethod);
        };
        let loss = point.fit.loss + penalty_value + penalty(&context.spec.regularizer, x0, &mut gradient);
        if context.problem.keeps_trajectory && (self.evals + 1).is_power_of_two() {
            let (x0, x1) = (x0.to_vec(), point.x1.clone());
            self.snapshots.push(Snapshot { eval: self.evals + 1, x0, x1 });
        }
        self.record(&point, loss, context.seconds);
        self.advance(context, Some(Evaluation { loss, gradient, payload: point }))
    }

    fn record(&mut self, point: &Point, loss: f64, seconds: f64) {
        let psnr = point.fit.psnr;
        self.evals += 1;
        self.trace.push(TracePoint { eval: self.evals, seconds, loss, psnr });
        if self.psnr_history.is_empty() {
            self.psnr_history.extend(psnr);
        }
        if self.best.as_ref().is_none_or(|best| point.fit.is_closer_than(&best.fit)) {
            self.best = Some(point.clone());
        }
    }

    /// Counts an outer step; why the optimiser would not get on from here, if it would not.
    fn outer_done(&mut self, report: OuterReport) -> Result<Option<StopReason>, MethodError> {
        let accepted = self.accepted().expect("an outer step evaluates its first point");
        if report.end == OuterEnd::NonFinite {
            return Err(MethodError::NonFinite { loss: accepted.loss });
        }
        let psnr = accepted.payload.fit.psnr;
        self.psnr_history.extend(psnr);
        self.outer_steps += 1;
        self.failed_line_searches += u32::from(report.line_search_failed);
        Ok(match report {
            OuterReport { stalled: false, .. } => None,
            OuterReport { line_search_failed: true, .. } => Some(StopReason::LineSearchFailed),
            _ => Some(StopReason::Converged),
        })
    }

    fn fired(&self, context: Context<'_>, moment: Moment) -> Option<StopReason> {
        let state = State {
            evals: self.evals,
            outer_steps: self.outer_steps,
            seconds: context.seconds,
            fit: self.current()?.0.fit,
            sigma: context.problem.goal.restoration().map_or(0.0, |restoration| restoration.sigma),
            psnr_history: &self.psnr_history,
        };
        fired(&context.spec.stop, moment, &state)
    }

    fn end(&mut self, reason: StopReason) -> Ask {
        self.phase = Phase::Done(reason);
        Ask::Done
    }
}

impl Phase {
    fn awaited(&self) -> &'static str {
        match self {
            Self::New => "the start",
            Self::Inverting | Self::Solving => "a state",
            Self::Reading(_) => "a value",
            Self::ReadingBack(_) | Self::Differentiating(_) => "a gradient",
            Self::Likelihood(..) => "a velocity or a gradient",
            Self::Done(_) => "nothing",
        }
    }
}

/// The data term at x(1), with its gradient there.
fn fit(context: Context<'_>, x1: Vec<f32>) -> Result<(Point, Vec<f32>), MethodError> {
    let Context { spec, problem, .. } = context;
    let x1 = problem.checked("the forward solve", x1)?;
    let restoration = problem.restoration()?;
    let Restoration { operator, measurement, .. } = restoration;
    let (fit, cotangent) = loss::evaluate(&spec.loss, operator, measurement, restoration.target(), &x1);
    Ok((Point { x1, fit }, cotangent))
}

/// √a·y(0) + √(1−a)·z.
fn blend(spec: &DflowSpec, problem: &Problem, y0: &[f32]) -> Vec<f32> {
    let InitSpec::Blend(BlendSpec { weight, .. }) = spec.init else {
        return y0.to_vec();
    };
    let (from_y, from_z) = (weight.sqrt(), (1.0 - weight).sqrt());
    let z = &problem.draws.z;
    y0.iter().zip(z).map(|(&y, &z)| (from_y * f64::from(y) + from_z * f64::from(z)) as f32).collect()
}
