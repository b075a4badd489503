//! The log-likelihood of H†y under the flow, in bits per dimension, with the error of its estimate.
//!
//! log p₁(x) = log N(x₀; 0, I) − ∫₀¹ ∇·u_t(x_t) dt along the solve from x back to x₀; the divergence is Hutchinson's
//! εᵀ(∂u/∂x)ε with signs ε that stay fixed along the trajectory, integrated with the solver's own weights, as
//! [`crate::flow::log_likelihood`] does it for a whole batch. Here every probe keeps an integral of its own: their spread
//! is the error bar.

use serde::{Deserialize, Serialize};

use super::nll::combined;
use super::problem::{MethodError, Next, Problem, Restoration};
use super::solve::Outcome;
use super::{Answer, Ask, Grid};
use crate::flow::{Tableau, log_standard_normal};
use crate::optim::dot;
use crate::spec::likelihood::{LikelihoodSpec, MeasuredData};
use crate::spec::solver::SolverSpec;

/// The state of one sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LikelihoodSolve {
    /// Present once it has begun.
    walk: Option<Walk>,
    /// H†y.
    lifted: Vec<f32>,
    done: Option<Bits>,
}

/// Bits per dimension, and the standard error of their mean over the probes (from two probes on).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bits {
    /// −log₂ p₁(x)/d + offset.
    pub mean: f64,
    /// Standard error.
    pub error: Option<f64>,
}

/// The way from t = 1 to t = 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Walk {
    /// State at the begin of the step.
    x: Vec<f32>,
    /// Input of the present stage.
    point: Vec<f32>,
    /// Slopes of the step's stages so far.
    slopes: Vec<Vec<f32>>,
    /// Steps that are done.
    steps: usize,
    /// Probes whose divergence at the present stage is known.
    probes: usize,
    /// ∫₁⁰ of each probe's divergence.
    integrals: Vec<f64>,
}

/// A solver's tableau and its number of steps.
fn stepping(solver: SolverSpec) -> Result<(&'static Tableau, usize), MethodError> {
    let fixed = Grid::backward(solver).fixed().map_err(|error| MethodError::Solver(error.to_string()))?;
    fixed.ok_or_else(|| {
        MethodError::Solver(
            "the likelihood needs a solver with fixed steps; use midpoint, heun, rk4 or euler".into(),
        )
    })
}

impl LikelihoodSolve {
    pub(super) fn next(&mut self, spec: &LikelihoodSpec, problem: &Problem, answer: Answer) -> Next {
        let (tableau, steps) = stepping(spec.solver)?;
        let probes = &problem.draws.probes;
        let Some(walk) = &mut self.walk else {
            let Answer::Start = answer else { return Err(MethodError::unexpected(&answer, "the start")) };
            let Restoration { operator, measurement, .. } = problem.restoration()?;
            self.lifted = operator.pinv(measurement);
            let x = measured(spec, problem, &self.lifted)?;
            let walk = Walk::begin(x, probes.len());
            let ask = walk.velocity(tableau, steps);
            self.walk = Some(walk);
            return Ok(ask);
        };
        match answer {
            Answer::State(slope) => {
                walk.slopes.push(problem.checked("a velocity", slope)?);
                walk.probes = 0;
                // A stage without weight has no part in the integral.
                if tableau.weights[walk.slopes.len() - 1] == 0.0 {
                    walk.probes = probes.len();
                }
            }
            Answer::Gradient(row) if walk.probes < probes.len() && !walk.slopes.is_empty() => {
                let row = problem.checked("a vector–Jacobian product", row)?;
                let weight = tableau.weights[walk.slopes.len() - 1];
                walk.integrals[walk.probes] -= weight / steps as f64 * dot(&probes[walk.probes], &row);
                walk.probes += 1;
            }
            other => return Err(MethodError::unexpected(&other, "a velocity or a gradient")),
        }
        if let Some(cotangent) = probes.get(walk.probes) {
            let (t, x) = (walk.time(tableau, steps), walk.point.clone());
            return Ok(Ask::Vjp { t, x, cotangent: cotangent.clone() });
        }
        if walk.go_on(tableau, steps) {
            return Ok(walk.velocity(tableau, steps));
        }
        self.done = Some(walk.bits(spec));
        Ok(Ask::Done)
    }

    pub(super) fn bits(&self) -> Option<Bits> {
        self.done
    }

    /// H†y, which was measured, as the row's reconstruction.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.done.map(|_| Outcome::direct(self.lifted.clone()))
    }
}

impl Walk {
    fn begin(x: Vec<f32>, probes: usize) -> Self {
        let integrals = vec![0.0; probes];
        Self { point: x.clone(), x, slopes: Vec::new(), steps: 0, probes: 0, integrals }
    }

    /// Time of the present stage: that of the last slope, or of the slope that is asked for.
    fn time_of(&self, stage: usize, tableau: &Tableau, steps: usize) -> f64 {
        1.0 - (self.steps as f64 + tableau.nodes[stage]) / steps as f64
    }

    fn time(&self, tableau: &Tableau, steps: usize) -> f64 {
        self.time_of(self.slopes.len() - 1, tableau, steps)
    }

    fn velocity(&self, tableau: &Tableau, steps: usize) -> Ask {
        let keep = tableau.weights[self.slopes.len()] != 0.0;
        Ask::Velocity { t: self.time_of(self.slopes.len(), tableau, steps), x: self.point.clone(), keep }
    }

    /// Goes to the next stage or step; whether there is one.
    fn go_on(&mut self, tableau: &Tableau, steps: usize) -> bool {
        let h = -1.0 / steps as f64;
        if let Some(row) = tableau.coefficients.get(self.slopes.len()) {
            self.point = combined(&self.x, h, row, &self.slopes);
            return true;
        }
        self.x = combined(&self.x, h, tableau.weights, &self.slopes);
        self.point.clone_from(&self.x);
        self.slopes.clear();
        self.steps += 1;
        self.steps < steps
    }

    /// x₀ is reached.
    fn bits(&self, spec: &LikelihoodSpec) -> Bits {
        let at_noise = log_standard_normal(&self.x);
        let nats_to_bits = -1.0 / (self.x.len() as f64 * std::f64::consts::LN_2);
        let bits = |integral: &f64| (at_noise + integral) * nats_to_bits + spec.offset.bits();
        let values: Vec<f64> = self.integrals.iter().map(bits).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Bits { mean, error: (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()) }
    }
}

/// H†y, dequantised if the options say so.
fn measured(spec: &LikelihoodSpec, problem: &Problem, lifted: &[f32]) -> Result<Vec<f32>, MethodError> {
    let mut x = lifted.to_vec();
    if spec.data == MeasuredData::Dequantized {
        let uniform = problem.draws.steps.first().cloned().unwrap_or_default();
        for (x, u) in x.iter_mut().zip(problem.checked("the dequantisation noise", uniform)?) {
            let byte = ((f64::from(*x) + 1.0) * 127.5).round().clamp(0.0, 255.0);
            *x = (2.0 * (byte + f64::from(u)) / 256.0 - 1.0) as f32;
        }
    }
    Ok(x)
}

#[cfg(test)]
#[path = "likelihood_tests.rs"]
mod tests;
