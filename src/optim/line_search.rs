//! The strong-Wolfe line search of `torch.optim.LBFGS` as an ask/tell machine over φ(t) = f(x + t·d).
//!
//! It sees only t, φ(t) and φ'(t); whatever belongs to a trial (its gradient, what the caller wants back) rides along.
//! The rules, tie-breaks and counters included, are those of torch 2.9.1, which descend from minFunc.

use serde::{Deserialize, Serialize};

/// Sufficient decrease: φ(t) ≤ φ(0) + C1·t·φ'(0).
const C1: f64 = 1e-4;
/// Curvature: |φ'(t)| ≤ −C2·φ'(0).
const C2: f64 = 0.9;
/// A bracket whose largest change of a coordinate is below this is not refined (torch: not the user's tolerance).
const SMALLEST_BRACKET: f64 = 1e-9;

/// One point of the search. The point t = 0 is the caller's own and carries nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial<Q> {
    pub(super) t: f64,
    pub(super) value: f64,
    pub(super) slope: f64,
    pub(super) point: Option<Q>,
}

/// What the search is about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Terms {
    /// φ(0).
    pub(super) value: f64,
    /// φ'(0) < 0.
    pub(super) slope: f64,
    /// ‖d‖∞.
    pub(super) direction_norm: f64,
    /// Evaluations allowed after the first one.
    pub(super) limit: u32,
    /// Non-finite trials count as +∞, and the search bisects towards them.
    pub(super) guard: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Stage<Q> {
    /// Steps grow until an interval holds an acceptable point.
    Bracketing { previous: Trial<Q> },
    /// The interval shrinks. Its ends stay in the order in which they were found: ties depend on it.
    Zooming { ends: [Trial<Q>; 2], low: usize, insufficient: bool },
}

/// A search that waits for the evaluation at [`LineSearch::t`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LineSearch<Q> {
    terms: Terms,
    t: f64,
    evals: u32,
    stage: Stage<Q>,
}

/// What follows from an evaluation.
pub(super) enum Verdict<Q> {
    /// The search goes on; it waits for the next evaluation.
    Continue(LineSearch<Q>),
    /// The search ends at this point, which may be t = 0: no trial was better.
    Accept(Trial<Q>),
}

impl<Q> LineSearch<Q> {
    /// A search whose first trial is `t`.
    pub(super) fn new(terms: Terms, t: f64) -> Self {
        let previous = Trial { t: 0.0, value: terms.value, slope: terms.slope, point: None };
        Self { terms, t, evals: 0, stage: Stage::Bracketing { previous } }
    }

    /// The step to evaluate.
    pub(super) fn t(&self) -> f64 {
        self.t
    }

    /// Evaluations told so far.
    pub(super) fn evals(&self) -> u32 {
        self.evals
    }

    /// φ(0).
    pub(super) fn initial_value(&self) -> f64 {
        self.terms.value
    }

    /// Takes the evaluation at `t`. A non-finite one is guarded by the caller as (+∞, NaN).
    pub(super) fn tell(mut self, value: f64, slope: f64, point: Q) -> Verdict<Q> {
        self.evals += 1;
        let trial = Trial { t: self.t, value, slope, point: Some(point) };
        match self.stage {
            Stage::Bracketing { previous } => Progress::new(self.terms, self.evals).bracket(previous, trial),
            Stage::Zooming { ends, low, insufficient } => {
                Progress::new(self.terms, self.evals).zoom(ends, low, insufficient, trial)
            }
        }
    }
}

/// The counters while a trial is judged.
#[derive(Clone, Copy)]
struct Progress {
    terms: Terms,
    evals: u32,
}

impl Progress {
    fn new(terms: Terms, evals: u32) -> Self {
        Self { terms, evals }
    }

    /// Evaluations after the first one.
    fn used(self) -> u32 {
        self.evals - 1
    }

    fn exhausted(self) -> bool {
        self.used() >= self.terms.limit
    }

    fn too_high<Q>(self, trial: &Trial<Q>) -> bool {
        trial.value > self.terms.value + C1 * trial.t * self.terms.slope
    }

    fn flat_enough<Q>(self, trial: &Trial<Q>) -> bool {
        trial.slope.abs() <= -C2 * self.terms.slope
    }

    fn wait<Q>(self, t: f64, stage: Stage<Q>) -> Verdict<Q> {
        Verdict::Continue(LineSearch { terms: self.terms, t, evals: self.evals, stage })
    }

    fn bracket<Q>(self, previous: Trial<Q>, trial: Trial<Q>) -> Verdict<Q> {
        if self.exhausted() {
            let start = Trial { t: 0.0, value: self.terms.value, slope: self.terms.slope, point: None };
            return Verdict::Accept(lower_of([start, trial]));
        }
        // The comparison with the previous trial is skipped for the first two trials, as torch does.
        if self.too_high(&trial) || (self.used() > 1 && trial.value >= previous.value) {
            return self.start_zoom([previous, trial]);
        }
        if self.flat_enough(&trial) {
            return Verdict::Accept(trial);
        }
        if trial.slope >= 0.0 {
            return self.start_zoom([previous, trial]);
        }
        let bounds = (trial.t + 0.01 * (trial.t - previous.t), trial.t * 10.0);
        let t = self.interpolate(&previous, &trial, bounds);
        self.wait(t, Stage::Bracketing { previous: trial })
    }

    fn start_zoom<Q>(self, ends: [Trial<Q>; 2]) -> Verdict<Q> {
        let low = low_index(&ends);
        self.shrink(ends, low, false)
    }

    fn zoom<Q>(
        self,
        mut ends: [Trial<Q>; 2],
        mut low: usize,
        insufficient: bool,
        trial: Trial<Q>,
    ) -> Verdict<Q> {
        let high = 1 - low;
        if self.too_high(&trial) || trial.value >= ends[low].value {
            ends[high] = trial;
            low = low_index(&ends);
        } else {
            if self.flat_enough(&trial) {
                return Verdict::Accept(trial);
            }
            if trial.slope * (ends[high].t - ends[low].t) >= 0.0 {
                ends.swap(0, 1);
            }
            ends[low] = trial;
        }
        self.shrink(ends, low, insufficient)
    }

    /// Proposes the next trial inside the interval, or ends with its lower end.
    fn shrink<Q>(self, ends: [Trial<Q>; 2], low: usize, insufficient: bool) -> Verdict<Q> {
        let (t0, t1) = (ends[0].t, ends[1].t);
        if self.exhausted() || (t1 - t0).abs() * self.terms.direction_norm < SMALLEST_BRACKET {
            return Verdict::Accept(take(ends, low));
        }
        let bounds = if t0 <= t1 { (t0, t1) } else { (t1, t0) };
        let t = self.interpolate(&ends[0], &ends[1], bounds);
        let (t, insufficient) = away_from_ends(t, bounds, insufficient);
        self.wait(t, Stage::Zooming { ends, low, insufficient })
    }

    fn interpolate<Q>(self, first: &Trial<Q>, second: &Trial<Q>, bounds: (f64, f64)) -> f64 {
        let t = cubic_minimum(first, second, bounds);
        if self.terms.guard && !t.is_finite() { f64::midpoint(bounds.0, bounds.1) } else { t }
    }
}

/// Index of the lower end; the first one at a tie.
fn low_index<Q>(ends: &[Trial<Q>; 2]) -> usize {
    usize::from(ends[0].value > ends[1].value || ends[0].value.is_nan() || ends[1].value.is_nan())
}

fn take<Q>(ends: [Trial<Q>; 2], index: usize) -> Trial<Q> {
    let [first, second] = ends;
    if index == 0 { first } else { second }
}

fn lower_of<Q>(ends: [Trial<Q>; 2]) -> Trial<Q> {
    let low = low_index(&ends);
    take(ends, low)
}

/// Moves a trial that would hardly shrink the interval a tenth of its length away from the nearer end,
/// when this is the second such trial or it lies on an end. Returns the trial and the new flag.
fn away_from_ends(t: f64, (least, most): (f64, f64), insufficient: bool) -> (f64, bool) {
    let margin = 0.1 * (most - least);
    let near = most - t < margin || t - least < margin;
    if !near {
        return (t, false);
    }
    if !(insufficient || t >= most || t <= least) {
        return (t, true);
    }
    let moved = if (t - most).abs() < (t - least).abs() { most - margin } else { least + margin };
    (moved, false)
}

/// Minimum of the cubic through two points with their slopes, clamped to `bounds`; their midpoint if it has none.
fn cubic_minimum<Q>(first: &Trial<Q>, second: &Trial<Q>, (least, most): (f64, f64)) -> f64 {
    let d1 = first.slope + second.slope - 3.0 * (first.value - second.value) / (first.t - second.t);
    let square = d1 * d1 - first.slope * second.slope;
    if square < 0.0 || square.is_nan() {
        return f64::midpoint(least, most);
    }
    let (near, far) = if first.t <= second.t { (first, second) } else { (second, first) };
    let d2 = square.sqrt();
    let position = far.t - (far.t - near.t) * ((far.slope + d2 - d1) / (far.slope - near.slope + 2.0 * d2));
    // Not `clamp`: a NaN must stay NaN, as in torch.
    let position = if least > position { least } else { position };
    if most < position { most } else { position }
}
