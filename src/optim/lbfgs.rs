//! L-BFGS with a strong-Wolfe search, evaluation for evaluation as `torch.optim.LBFGS` (torch 2.9.1).
//!
//! One *outer step* is one call of torch's `step()`: up to `inner` iterations, each a direction and a line search.
//! Differences from torch, none of which changes an iterate: the pair (f, g) at the start of an outer step is reused
//! when x was not altered (torch evaluates it again; the bookkeeping still counts it), a search that found nothing
//! better is reported, and non-finite trials can be guarded against (torch walks into them).
//!
//! Vectors are `T`; dot products, step lengths and the interpolation are f64.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bands::Bands;
use super::line_search::{LineSearch, Terms, Verdict};
use super::memory::{Memory, Pair};
use super::vector::{add_scaled, dot, negated, norm_1, norm_max, scale};
use crate::real::Real;
use crate::spec::method::{LbfgsSpec, LineSearchLimit};

/// The options of [`LbfgsSpec`], defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    inner: u32,
    max_eval: u32,
    history: u32,
    lr: f64,
    tolerance_grad: f64,
    tolerance_change: f64,
    line_search: LineSearchLimit,
    guard_non_finite: bool,
}

impl From<&LbfgsSpec> for Settings {
    fn from(spec: &LbfgsSpec) -> Self {
        let default_max_eval = u32::try_from(u64::from(spec.inner) * 5 / 4).unwrap_or(u32::MAX);
        Self {
            inner: spec.inner,
            max_eval: spec.max_eval.unwrap_or(default_max_eval),
            history: spec.history,
            lr: spec.lr,
            tolerance_grad: spec.tolerance_grad,
            tolerance_change: spec.tolerance_change,
            line_search: spec.line_search,
            guard_non_finite: spec.guard_non_finite,
        }
    }
}

/// The objective at one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "T: Real, P: Serialize + DeserializeOwned")]
pub struct Evaluation<T, P> {
    /// f(x), the number that is minimised.
    pub loss: f64,
    /// ∇f(x).
    pub gradient: Vec<T>,
    /// What the caller wants to find again at the accepted point, such as the data term alone.
    pub payload: P,
}

/// What the optimiser needs next.
#[derive(Debug, PartialEq)]
pub enum Step<'a, T> {
    /// The objective at this point.
    Evaluate(&'a [T]),
    /// Nothing: the outer step has ended. x may now be altered; the next call begins the next outer step.
    OuterDone(OuterReport),
}

/// How an outer step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterReport {
    /// The rule that ended it.
    pub end: OuterEnd,
    /// Iterations of this outer step.
    pub iterations: u32,
    /// Evaluations of this outer step as torch counts them: the first point counts even where it was reused.
    pub evals: u32,
    /// The last line search found no point below its start, and x stayed.
    pub line_search_failed: bool,
    /// The next outer step, from an unaltered x, would change nothing.
    pub stalled: bool,
}

/// The rule that ended an outer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OuterEnd {
    /// All inner iterations were made.
    Iterations,
    /// `max_eval` was reached.
    Evaluations,
    /// ‖g‖∞ ≤ `tolerance_grad`.
    Gradient,
    /// gᵀd > −`tolerance_change`: no direction of descent.
    Direction,
    /// ‖t·d‖∞ ≤ `tolerance_change`.
    StepLength,
    /// The loss changed by less than `tolerance_change`.
    LossChange,
    /// The loss or gradient at the start is not finite (only with `guard_non_finite`).
    NonFinite,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "T: Real, P: Serialize + DeserializeOwned")]
enum Phase<T, P> {
    /// Between outer steps.
    Idle,
    /// The evaluation at x is awaited.
    Start,
    /// A trial of a line search is awaited.
    Search(LineSearch<Evaluation<T, P>>),
}

/// The optimiser of one x.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "T: Real, P: Serialize + DeserializeOwned")]
pub struct Lbfgs<T, P> {
    settings: Settings,
    /// The last accepted point.
    x: Vec<T>,
    /// The objective at `x`; absent before the first evaluation and after x was altered.
    accepted: Option<Evaluation<T, P>>,
    memory: Memory<T>,
    /// Direction and step length of the last iteration, and the gradient at its start.
    direction: Vec<T>,
    step: f64,
    previous_gradient: Vec<T>,
    /// Iterations over all outer steps.
    iterations: u64,
    /// Iterations and evaluations of this outer step.
    outer: (u32, u32),
    phase: Phase<T, P>,
    /// The point under evaluation, recomputed after a restart.
    #[serde(skip)]
    trial: Vec<T>,
}

impl<T: Real, P> Lbfgs<T, P> {
    /// An optimiser that starts at `x`.
    pub fn new(settings: Settings, x: Vec<T>) -> Self {
        Self {
            settings,
            x,
            accepted: None,
            memory: Memory::new(settings.history as usize),
            direction: Vec::new(),
            step: 0.0,
            previous_gradient: Vec::new(),
            iterations: 0,
            outer: (0, 0),
            phase: Phase::Idle,
            trial: Vec::new(),
        }
    }

    /// The optimiser with an initial inverse Hessian by bands of spatial frequency, learnt from the newest `pairs` pairs;
    /// x is an image of `[channels, rows, columns]`. Directions start from it as soon as it is [used](Self::use_bands).
    ///
    /// # Panics
    /// If x has another length.
    #[must_use]
    pub fn with_bands(mut self, shape: [usize; 3], pairs: u32) -> Self {
        assert_eq!(shape.iter().product::<usize>(), self.x.len(), "length of x");
        self.memory.learn_bands(Bands::new(shape, pairs as usize));
        self
    }

    /// Whether the next directions start from the inverse Hessian by bands, instead of the scalar yᵀs / yᵀy.
    pub fn use_bands(&mut self, are_used: bool) {
        self.memory.use_bands(are_used);
    }

    /// The last accepted point, also inside a line search.
    pub fn x(&self) -> &[T] {
        &self.x
    }

    /// The objective at [`Self::x`], if it is known.
    pub fn accepted(&self) -> Option<&Evaluation<T, P>> {
        self.accepted.as_ref()
    }

    /// Iterations over all outer steps.
    pub fn iterations(&self) -> u64 {
        self.iterations
    }

    /// Pairs (s, y) ever stored.
    pub fn pairs_stored(&self) -> u64 {
        self.memory.stored()
    }

    /// The pairs in memory, oldest first, the newest being the [`pairs_stored`](Self::pairs_stored)-th: most of the
    /// state's bytes, and the part that is written once. Whoever takes them out puts them back before the next step.
    pub fn pairs_mut(&mut self) -> &mut VecDeque<Pair<T>> {
        self.memory.pairs_mut()
    }

    /// Replaces x between two outer steps. The next one evaluates it anew, unless it is equal.
    ///
    /// # Panics
    /// Inside an outer step, and if the length differs.
    pub fn set_x(&mut self, x: Vec<T>) {
        assert!(matches!(self.phase, Phase::Idle), "x is altered inside an outer step");
        assert_eq!(x.len(), self.x.len(), "length of x");
        if x != self.x {
            self.accepted = None;
            self.x = x;
        }
    }

    /// Takes the answer to the last [`Step::Evaluate`], or `None` to begin an outer step or to hear a pending
    /// request again (after a restart).
    ///
    /// # Panics
    /// If an evaluation is told that was not asked for, or its gradient has another length than x.
    pub fn next(&mut self, answer: Option<Evaluation<T, P>>) -> Step<'_, T> {
        if let Some(evaluation) = &answer {
            assert_eq!(evaluation.gradient.len(), self.x.len(), "length of the gradient");
        }
        match self.advance(answer) {
            Some(report) => Step::OuterDone(report),
            None => Step::Evaluate(self.pending()),
        }
    }

    /// The point that is to be evaluated.
    fn pending(&mut self) -> &[T] {
        self.trial.clone_from(&self.x);
        if let Phase::Search(search) = &self.phase {
            add_scaled(&mut self.trial, search.t(), &self.direction);
        }
        &self.trial
    }

    fn advance(&mut self, answer: Option<Evaluation<T, P>>) -> Option<OuterReport> {
        match (std::mem::replace(&mut self.phase, Phase::Idle), answer) {
            (Phase::Idle, None) => {
                self.outer = (0, 1);
                if self.accepted.is_some() {
                    return self.begin();
                }
                self.phase = Phase::Start;
                None
            }
            (Phase::Start, Some(evaluation)) => {
                self.accepted = Some(evaluation);
                self.begin()
            }
            (Phase::Search(search), Some(evaluation)) => self.search(search, evaluation),
            (pending, None) => {
                self.phase = pending;
                None
            }
            (Phase::Idle, Some(_)) => panic!("an evaluation was told that was not asked for"),
        }
    }

    /// The tests at the start of an outer step, x being evaluated.
    fn begin(&mut self) -> Option<OuterReport> {
        let start = self.evaluated();
        if self.settings.guard_non_finite && !is_finite(start) {
            return Some(OuterReport { stalled: true, ..self.report(OuterEnd::NonFinite) });
        }
        if norm_max(&start.gradient) <= self.settings.tolerance_grad {
            return Some(OuterReport { stalled: true, ..self.report(OuterEnd::Gradient) });
        }
        if self.settings.inner == 0 {
            return Some(OuterReport { stalled: true, ..self.report(OuterEnd::Iterations) });
        }
        self.iterate()
    }

    /// Begins one iteration: direction, first step length, line search.
    fn iterate(&mut self) -> Option<OuterReport> {
        self.outer.0 += 1;
        self.iterations += 1;
        self.update_direction();
        self.step = self.first_step();
        let start = self.evaluated();
        let (value, slope) = (start.loss, dot(&start.gradient, &self.direction));
        if slope > -self.settings.tolerance_change {
            // The same x gives the same direction again.
            return Some(OuterReport { stalled: true, ..self.report(OuterEnd::Direction) });
        }
        let terms = Terms {
            value,
            slope,
            direction_norm: norm_max(&self.direction),
            limit: self.line_search_limit(),
            guard: self.settings.guard_non_finite,
        };
        self.phase = Phase::Search(LineSearch::new(terms, self.step));
        None
    }

    fn update_direction(&mut self) {
        let gradient = self.evaluated().gradient.clone();
        if self.iterations == 1 {
            self.direction = negated(&gradient);
        } else {
            let mut s = std::mem::take(&mut self.direction);
            scale(&mut s, self.step);
            let y =
                gradient.iter().zip(&self.previous_gradient).map(|(&g, &previous)| g - previous).collect();
            self.memory.push(s, y);
            self.direction = self.memory.direction(&gradient);
        }
        self.previous_gradient = gradient;
    }

    fn first_step(&self) -> f64 {
        if self.iterations > 1 {
            return self.settings.lr;
        }
        let scaled = 1.0 / norm_1(&self.previous_gradient);
        self.settings.lr * if scaled < 1.0 { scaled } else { 1.0 }
    }

    fn line_search_limit(&self) -> u32 {
        match self.settings.line_search {
            LineSearchLimit::Fixed => 25,
            LineSearchLimit::Remaining => self.settings.max_eval.saturating_sub(self.outer.1),
        }
    }

    fn search(
        &mut self,
        search: LineSearch<Evaluation<T, P>>,
        evaluation: Evaluation<T, P>,
    ) -> Option<OuterReport> {
        let (evals, before) = (search.evals() + 1, search.initial_value());
        let (value, slope) = if self.settings.guard_non_finite && !is_finite(&evaluation) {
            (f64::INFINITY, f64::NAN)
        } else {
            (evaluation.loss, dot(&evaluation.gradient, &self.direction))
        };
        match search.tell(value, slope, evaluation) {
            Verdict::Continue(search) => {
                self.phase = Phase::Search(search);
                None
            }
            Verdict::Accept(trial) => {
                self.outer.1 += evals;
                self.step = trial.t;
                let failed = trial.point.is_none();
                if trial.point.is_some() {
                    add_scaled(&mut self.x, trial.t, &self.direction);
                    self.accepted = trial.point;
                }
                self.end_iteration(before, failed)
            }
        }
    }

    /// The tests after a line search, in torch's order; goes on with the next iteration if none fires.
    fn end_iteration(&mut self, loss_before: f64, failed: bool) -> Option<OuterReport> {
        let Settings { inner, max_eval, tolerance_grad, tolerance_change, .. } = self.settings;
        let now = self.evaluated();
        let end = if self.outer.0 == inner {
            OuterEnd::Iterations
        } else if self.outer.1 >= max_eval {
            OuterEnd::Evaluations
        } else if norm_max(&now.gradient) <= tolerance_grad {
            OuterEnd::Gradient
        } else if self.step.abs() * norm_max(&self.direction) <= tolerance_change {
            OuterEnd::StepLength
        } else if (now.loss - loss_before).abs() < tolerance_change {
            OuterEnd::LossChange
        } else {
            return self.iterate();
        };
        let stalled = failed && self.repeats_search();
        Some(OuterReport { line_search_failed: failed, stalled, ..self.report(end) })
    }

    /// Whether the next outer step would repeat the search of this iteration, x being unaltered.
    fn repeats_search(&self) -> bool {
        let same_limit = self.settings.line_search == LineSearchLimit::Fixed || self.outer.0 == 1;
        same_limit && self.first_step() == self.settings.lr
    }

    fn report(&self, end: OuterEnd) -> OuterReport {
        OuterReport {
            end,
            iterations: self.outer.0,
            evals: self.outer.1,
            line_search_failed: false,
            stalled: false,
        }
    }

    fn evaluated(&self) -> &Evaluation<T, P> {
        self.accepted.as_ref().expect("an outer step starts with the evaluation at x")
    }
}

fn is_finite<T: Real, P>(evaluation: &Evaluation<T, P>) -> bool {
    evaluation.loss.is_finite() && evaluation.gradient.iter().all(|g| g.to_f64().is_finite())
}
