//! One evaluation with the likelihood penalty −log p₁(x(1)) (eq. 9), made of single calls of the field.
//!
//! −log p₁(x(1)) = −log N(x₀; 0, I) + ∫₀¹ div u_t(x_t) dt. The integral runs over the solver's own stages (the ODE
//! augmented by the divergence), and the divergence is Hutchinson's estimate εᵀJε with fixed signs ε.
//! Its gradient ∇ₓ εᵀJ(x)ε = d/dη J(x+ηε)ᵀε needs no second derivative of the network: a central difference of two
//! vector–Jacobian products gives it, and their mean gives the divergence itself, both to O(δ²).
//! The way back carries the data term's cotangent and the divergence's gradient at every stage through the exact
//! reverse mode of the solver.

use serde::{Deserialize, Serialize};

use super::Ask;
use super::problem::MethodError;
use crate::flow::{Grid, Tableau};
use crate::optim::dot;
use crate::spec::solver::SolverSpec;

/// Half the distance of the central difference, in units of one standard deviation of the noise in every coordinate:
/// far above the rounding of f32 (1e-7 / 1e-2) and small beside the scale on which a field curves.
const DELTA: f64 = 1e-2;

/// The calls of one evaluation, in order: forward through all stages, then back with the probes at each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pass {
    solver: SolverSpec,
    /// Inputs of the stages so far, step by step.
    states: Vec<Vec<f32>>,
    /// On the way forward: the state at the begin of the step. On the way back: the adjoint at its end.
    x: Vec<f32>,
    /// On the way forward: the slopes kᵢ of this step. On the way back: the adjoints of its stages, last stage first.
    slopes: Vec<Vec<f32>>,
    back: Option<Back>,
}

/// The way back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Back {
    /// Answers for the current stage so far: two for each probe, then the stage's own.
    answers: usize,
    /// Gradient of the divergence at the current stage, summed over probes.
    injection: Vec<f64>,
    /// ∫ div u dt.
    divergence: f64,
}

/// What follows from an answer.
pub(super) enum PassStep {
    /// Another call.
    Ask(Ask),
    /// x(1) is reached; [`Pass::turn`] goes back with the cotangent there.
    Arrived(Vec<f32>),
    /// The evaluation is complete.
    Done {
        /// λ·(−log p₁(x(1))).
        value: f64,
        /// Gradient at x₀ of that and of the data term together.
        gradient: Vec<f32>,
    },
}

/// A solver's tableau and its number of steps.
fn stepping(solver: SolverSpec) -> Result<(&'static Tableau, usize), MethodError> {
    let fixed = Grid::forward(solver).fixed().map_err(|error| MethodError::Solver(error.to_string()))?;
    fixed.ok_or(MethodError::AdaptiveLikelihood)
}

impl Pass {
    /// Begins at `x0`; the first call.
    pub(super) fn start(solver: SolverSpec, x0: Vec<f32>) -> Result<(Self, Ask), MethodError> {
        stepping(solver)?;
        let pass = Self { solver, states: vec![x0.clone()], x: x0.clone(), slopes: Vec::new(), back: None };
        Ok((pass, Ask::Velocity { t: 0.0, x: x0, keep: false }))
    }

    /// Takes the answer to the last call. `weight` is λ; `probes` are the signs ε.
    pub(super) fn next(
        &mut self,
        row: Vec<f32>,
        weight: f64,
        probes: &[Vec<f32>],
    ) -> Result<PassStep, MethodError> {
        if self.back.is_some() { self.go_back(&row, weight, probes) } else { self.go_on(row) }
    }

    fn go_on(&mut self, slope: Vec<f32>) -> Result<PassStep, MethodError> {
        let (tableau, steps) = stepping(self.solver)?;
        let h = 1.0 / steps as f64;
        self.slopes.push(slope);
        if let Some(row) = tableau.coefficients.get(self.slopes.len()) {
            let state = combined(&self.x, h, row, &self.slopes);
            self.states.push(state);
        } else {
            self.x = combined(&self.x, h, tableau.weights, &self.slopes);
            self.slopes.clear();
            if self.states.len() == steps * tableau.stages() {
                return Ok(PassStep::Arrived(self.x.clone()));
            }
            self.states.push(self.x.clone());
        }
        let x = self.current().clone();
        Ok(PassStep::Ask(Ask::Velocity { t: self.time(tableau, steps), x, keep: false }))
    }

    /// The first call of the way back, from the data term's cotangent at x(1).
    pub(super) fn turn(&mut self, cotangent: Vec<f32>, probes: &[Vec<f32>]) -> Result<Ask, MethodError> {
        let (tableau, _) = stepping(self.solver)?;
        self.back = Some(Back {
            answers: first_answer(tableau.weights[tableau.stages() - 1], probes),
            injection: vec![0.0; cotangent.len()],
            divergence: 0.0,
        });
        self.x = cotangent;
        self.ask_back(probes)
    }

    fn go_back(&mut self, row: &[f32], weight: f64, probes: &[Vec<f32>]) -> Result<PassStep, MethodError> {
        let (tableau, steps) = stepping(self.solver)?;
        let stage = self.stage(tableau);
        let share = tableau.weights[stage] / steps as f64 / probes.len().max(1) as f64;
        let back = self.back.as_mut().expect("the way back has begun");
        if let Some(probe) = probes.get(back.answers / 2) {
            let sign = if back.answers.is_multiple_of(2) { 1.0 } else { -1.0 };
            back.divergence += 0.5 * share * dot(probe, row);
            let factor = weight * share * sign / (2.0 * DELTA);
            back.injection.iter_mut().zip(row).for_each(|(g, &r)| *g += factor * f64::from(r));
            back.answers += 1;
            return Ok(PassStep::Ask(self.ask_back(probes)?));
        }
        let adjoint = row.iter().zip(&mut back.injection);
        self.slopes.push(adjoint.map(|(&r, g)| (f64::from(r) + std::mem::take(g)) as f32).collect());
        let state = self.states.pop().expect("every stage has its input");
        if stage == 0 {
            for adjoint in self.slopes.drain(..) {
                self.x.iter_mut().zip(adjoint).for_each(|(x, a)| *x += a);
            }
        }
        if self.states.is_empty() {
            return Ok(self.done(&state, weight));
        }
        let next_weight = tableau.weights[self.stage(tableau)];
        if let Some(back) = &mut self.back {
            back.answers = first_answer(next_weight, probes);
        }
        Ok(PassStep::Ask(self.ask_back(probes)?))
    }

    fn done(&self, x0: &[f32], weight: f64) -> PassStep {
        let divergence = self.back.as_ref().map_or(0.0, |back| back.divergence);
        let log_two_pi = libm::log(std::f64::consts::TAU);
        let value = weight * (0.5 * dot(x0, x0) + 0.5 * x0.len() as f64 * log_two_pi + divergence);
        let gradient =
            self.x.iter().zip(x0).map(|(&a, &x)| (f64::from(a) + weight * f64::from(x)) as f32).collect();
        PassStep::Done { value, gradient }
    }

    /// The next call at the current stage: its probes at x ± δε, then the solver's own cotangent at x.
    fn ask_back(&self, probes: &[Vec<f32>]) -> Result<Ask, MethodError> {
        let (tableau, steps) = stepping(self.solver)?;
        let (t, state) = (self.time(tableau, steps), self.current());
        let answers = self.back.as_ref().map_or(0, |back| back.answers);
        if let Some(probe) = probes.get(answers / 2) {
            let step = if answers.is_multiple_of(2) { DELTA } else { -DELTA };
            let x = combined(state, step, &[1.0], std::slice::from_ref(probe));
            return Ok(Ask::Vjp { t, x, cotangent: probe.clone() });
        }
        let stage = self.stage(tableau);
        let h = 1.0 / steps as f64;
        // Adjoints of the later stages, last stage first: the column of the tableau below this stage.
        let column: Vec<f64> =
            (stage + 1..tableau.stages()).rev().map(|later| h * tableau.coefficients[later][stage]).collect();
        let from_end: Vec<f32> =
            self.x.iter().map(|&a| (h * tableau.weights[stage] * f64::from(a)) as f32).collect();
        let cotangent = combined(&from_end, 1.0, &column, &self.slopes);
        Ok(Ask::Vjp { t, x: state.clone(), cotangent })
    }

    fn current(&self) -> &Vec<f32> {
        self.states.last().expect("a stage is evaluated")
    }

    fn stage(&self, tableau: &Tableau) -> usize {
        (self.states.len() - 1) % tableau.stages()
    }

    fn time(&self, tableau: &Tableau, steps: usize) -> f64 {
        let step = (self.states.len() - 1) / tableau.stages();
        (step as f64 + tableau.nodes[self.stage(tableau)]) / steps as f64
    }
}

/// Where the answers of a stage begin: a stage without weight adds nothing to the integral and needs no probes.
fn first_answer(weight: f64, probes: &[Vec<f32>]) -> usize {
    if weight == 0.0 { 2 * probes.len() } else { 0 }
}

/// x + h Σⱼ weights[j]·k[j], summed in f64.
fn combined(x: &[f32], h: f64, weights: &[f64], k: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0_f64; x.len()];
    for (weight, k) in weights.iter().zip(k).filter(|(weight, _)| **weight != 0.0) {
        sum.iter_mut().zip(k).for_each(|(sum, &k)| *sum += weight * f64::from(k));
    }
    x.iter().zip(sum).map(|(&x, sum)| (f64::from(x) + h * sum) as f32).collect()
}
