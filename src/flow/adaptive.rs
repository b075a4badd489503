//! Dormand–Prince 5(4) with step control per row, after torchdiffeq 0.2.5.
//!
//! Rows run in lock-step (each call takes every row that is not at its end), but each has its own time and step size:
//! what a row does is what it would do alone. Differences from torchdiffeq: the last step is clipped to end at t = 1
//! exactly instead of stepping beyond and interpolating, and no stage is evaluated outside [0, 1].

use super::field::{Cond, FieldError, Rows, VelocityField};
use super::grid::Direction;
use super::solve::{Call, Solution, SolveError, SolveTape, Step};
use super::tableau::{DOPRI5_ERROR, Tableau, combine};
use crate::real::Real;
use crate::spec::solver::Adaptive;

/// Order of the method that is propagated.
const ORDER: f64 = 5.0;
/// Factor on the step that the error estimate asks for.
const SAFETY: f64 = 0.9;
/// Largest growth of a step.
const GROWTH: f64 = 10.0;
/// Largest shrinkage of a step.
const SHRINKAGE: f64 = 0.2;
/// Steps, accepted or not, after which a row is given up.
const MAX_STEPS: u32 = 100_000;

const STAGES: usize = Tableau::DOPRI5.stages();

/// One row that is not at its end yet.
#[derive(Clone, Copy)]
struct Active {
    /// Index in the batch.
    row: usize,
    /// Share of the way that is done.
    elapsed: f64,
    /// Size of the next step, unsigned.
    h: f64,
    /// Steps tried.
    tried: u32,
}

/// A batch on its way.
struct Integration<'a, T> {
    field: &'a mut dyn VelocityField<T>,
    tolerances: Adaptive,
    direction: Direction,
    cond: &'a [Cond],
    dim: usize,
    /// States of all rows.
    x: Vec<T>,
    /// Velocities at the states of all rows.
    k1: Vec<T>,
    nfe: Vec<u32>,
    active: Vec<Active>,
}

/// A tried step of the active rows, packed.
struct Trial<T> {
    t: [Vec<f64>; STAGES + 1],
    /// Signed step sizes.
    h: Vec<f64>,
    /// Input of each stage; the last one is the state after the step.
    inputs: Vec<Vec<T>>,
    k: Vec<Vec<T>>,
}

pub(super) fn integrate<T: Real>(
    field: &mut dyn VelocityField<T>,
    tolerances: Adaptive,
    direction: Direction,
    x: Vec<T>,
    cond: &[Cond],
    keep: bool,
) -> Result<(Solution<T>, SolveTape<T>), SolveError> {
    let rows = cond.len();
    let active = (0..rows).map(|row| Active { row, elapsed: 0.0, h: 0.0, tried: 0 }).collect();
    let (dim, k1) = (field.dim(), vec![T::ZERO; x.len()]);
    let mut run = Integration { field, tolerances, direction, cond, dim, x, k1, nfe: vec![0; rows], active };
    run.start()?;
    let mut tape = SolveTape { tableau: &Tableau::DOPRI5, steps: Vec::new(), finish: None };
    while !run.active.is_empty() {
        let trial = run.try_step()?;
        let accepted = run.advance(&trial);
        if keep && accepted.contains(&true) {
            tape.steps.push(run.record(&trial, &accepted));
        }
        run.retire();
    }
    Ok((Solution { x: run.x, nfe: run.nfe }, tape))
}

impl<T: Real> Integration<'_, T> {
    /// Velocities at the start and the first step size of every row (Hairer, Nørsett, Wanner, II.4).
    fn start(&mut self) -> Result<(), FieldError> {
        let rows = self.cond.len();
        let mut k1 = std::mem::take(&mut self.k1);
        self.evaluate(&vec![self.direction.time(0.0); rows], &self.x.clone(), &mut k1)?;
        self.k1 = k1;
        let guesses: Vec<(f64, f64)> = (0..rows).map(|r| self.first_guess(r)).collect();
        let h: Vec<f64> = guesses.iter().map(|(h, _)| h * self.direction.sign()).collect();
        let mut probe = self.x.clone();
        combine(&mut probe, &self.x, &h, &[1.0], std::slice::from_ref(&self.k1), self.dim);
        let t: Vec<f64> = guesses.iter().map(|(h, _)| self.direction.time(*h)).collect();
        let mut k2 = vec![T::ZERO; self.x.len()];
        self.evaluate(&t, &probe, &mut k2)?;
        for r in 0..rows {
            self.active[r].h = self.first_step(r, guesses[r], &k2[r * self.dim..][..self.dim]);
        }
        Ok(())
    }

    /// A trial step small against |x|/|u|, and |u| in the norm of the tolerances.
    fn first_guess(&self, row: usize) -> (f64, f64) {
        let (x, k) = (self.state(&self.x, row), self.state(&self.k1, row));
        let d0 = rms(x.iter().map(|x| x.to_f64() / self.scale(*x)));
        let d1 = rms(x.iter().zip(k).map(|(x, k)| k.to_f64() / self.scale(*x)));
        let h = if d0 < 1e-5 || d1 < 1e-5 { 1e-6 } else { 0.01 * d0 / d1 };
        (h.min(1.0), d1)
    }

    /// The first step from the velocities at the start and after the trial step.
    fn first_step(&self, row: usize, (h0, d1): (f64, f64), k2: &[T]) -> f64 {
        let (x, k1) = (self.state(&self.x, row), self.state(&self.k1, row));
        let change = x.iter().zip(k1.iter().zip(k2));
        let d2 = rms(change.map(|(x, (k1, k2))| (k2.to_f64() - k1.to_f64()) / self.scale(*x))) / h0;
        let h1 = if d1 <= 1e-15 && d2 <= 1e-15 {
            f64::max(1e-6, h0 * 1e-3)
        } else {
            libm::pow(0.01 / d1.max(d2), 1.0 / ORDER)
        };
        h1.min(100.0 * h0)
    }

    /// The numbers of a row's state that errors are measured over.
    fn state<'b>(&self, x: &'b [T], row: usize) -> &'b [T] {
        &self.row(x, row)[..self.field.extent(&self.cond[row])]
    }

    fn row<'b>(&self, x: &'b [T], row: usize) -> &'b [T] {
        &x[row * self.dim..][..self.dim]
    }

    fn scale(&self, x: T) -> f64 {
        self.tolerances.atol + self.tolerances.rtol * x.to_f64().abs()
    }

    /// The field at all active rows, packed.
    fn evaluate(&mut self, t: &[f64], x: &[T], out: &mut [T]) -> Result<(), FieldError> {
        let cond: Vec<Cond> = self.active.iter().map(|a| self.cond[a.row]).collect();
        for a in &self.active {
            self.nfe[a.row] += 1;
        }
        self.field.velocity(Rows { t, x, cond: &cond }, out)
    }

    /// Rows of `all` that are active, packed.
    fn pack(&self, all: &[T]) -> Vec<T> {
        self.active.iter().flat_map(|a| self.row(all, a.row)).copied().collect()
    }

    fn try_step(&mut self) -> Result<Trial<T>, FieldError> {
        for a in &mut self.active {
            // The last step ends at the end exactly.
            a.h = a.h.min(1.0 - a.elapsed);
            a.tried += 1;
        }
        let time = |a: &Active, c: f64| self.direction.time((a.elapsed + c * a.h).min(1.0));
        let node = |i: usize| Tableau::DOPRI5.nodes.get(i).copied().unwrap_or(1.0);
        let t = std::array::from_fn(|i| self.active.iter().map(|a| time(a, node(i))).collect());
        let h = self.active.iter().map(|a| a.h * self.direction.sign()).collect();
        let (x, k1) = (self.pack(&self.x), self.pack(&self.k1));
        let mut trial = Trial { t, h, inputs: vec![x], k: vec![k1] };
        for i in 1..=STAGES {
            let weights = Tableau::DOPRI5.coefficients.get(i).copied().unwrap_or(Tableau::DOPRI5.weights);
            let mut input = vec![T::ZERO; trial.inputs[0].len()];
            combine(&mut input, &trial.inputs[0], &trial.h, weights, &trial.k, self.dim);
            let mut k = vec![T::ZERO; input.len()];
            self.evaluate(&trial.t[i], &input, &mut k)?;
            trial.inputs.push(input);
            trial.k.push(k);
        }
        Ok(trial)
    }

    /// Moves the rows whose error is within tolerance, and sets every next step size.
    fn advance(&mut self, trial: &Trial<T>) -> Vec<bool> {
        let mut active = std::mem::take(&mut self.active);
        let accepted = active.iter_mut().enumerate().map(|(p, a)| self.advance_row(trial, p, a)).collect();
        self.active = active;
        accepted
    }

    fn advance_row(&mut self, trial: &Trial<T>, packed: usize, a: &mut Active) -> bool {
        let ratio = self.error_ratio(trial, packed, self.field.extent(&self.cond[a.row]));
        let accepted = ratio <= 1.0;
        let h = a.h;
        a.h = h * step_factor(ratio);
        if accepted {
            let at_end = a.elapsed + h >= 1.0 || h >= 1.0 - a.elapsed;
            a.elapsed = if at_end { 1.0 } else { a.elapsed + h };
            let (to, from) = (a.row * self.dim, packed * self.dim..(packed + 1) * self.dim);
            self.x[to..to + self.dim].copy_from_slice(&trial.inputs[STAGES][from.clone()]);
            self.k1[to..to + self.dim].copy_from_slice(&trial.k[STAGES][from]);
        }
        accepted
    }

    /// Root mean square of error over tolerance, over the first `extent` numbers of the state.
    fn error_ratio(&self, trial: &Trial<T>, packed: usize, extent: usize) -> f64 {
        let (before, after) = (self.row(&trial.inputs[0], packed), self.row(&trial.inputs[STAGES], packed));
        let k: Vec<&[T]> = trial.k.iter().map(|k| self.row(k, packed)).collect();
        rms((0..extent).map(|i| {
            let error: f64 = DOPRI5_ERROR.iter().zip(&k).map(|(w, k)| w * k[i].to_f64()).sum();
            let size = before[i].to_f64().abs().max(after[i].to_f64().abs());
            trial.h[packed] * error / (self.tolerances.atol + self.tolerances.rtol * size)
        }))
    }

    /// What the pull-back needs of the accepted rows.
    fn record(&self, trial: &Trial<T>, accepted: &[bool]) -> Step<T> {
        let pick = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(accepted).filter(|(_, ok)| **ok).map(|(v, _)| *v).collect()
        };
        let pick_rows = |x: &[T]| -> Vec<T> {
            x.chunks_exact(self.dim)
                .zip(accepted)
                .filter(|(_, ok)| **ok)
                .flat_map(|(x, _)| x)
                .copied()
                .collect()
        };
        let stages = trial.t.iter().zip(&trial.inputs).take(STAGES);
        Step {
            rows: self.active.iter().zip(accepted).filter(|(_, ok)| **ok).map(|(a, _)| a.row).collect(),
            h: pick(&trial.h),
            calls: stages.map(|(t, x)| Call::Inputs { t: pick(t), x: pick_rows(x) }).collect(),
        }
    }

    /// Takes rows out that are at their end or cannot go on; the latter become NaN.
    fn retire(&mut self) {
        let mut active = std::mem::take(&mut self.active);
        active.retain(|a| {
            let stuck = !a.h.is_finite() || a.elapsed + a.h <= a.elapsed || a.tried >= MAX_STEPS;
            if a.elapsed < 1.0 && stuck {
                self.x[a.row * self.dim..][..self.dim].fill(T::from_f64(f64::NAN));
            }
            a.elapsed < 1.0 && !stuck
        });
        self.active = active;
    }
}

/// Next step over this one.
fn step_factor(ratio: f64) -> f64 {
    if ratio == 0.0 {
        return GROWTH;
    }
    // An accepted step never shrinks the next one. A ratio that is no number stays one: the row is retired.
    let least = if ratio < 1.0 { 1.0 } else { SHRINKAGE };
    let wanted = SAFETY / libm::pow(ratio, 1.0 / ORDER);
    if wanted.is_nan() { wanted } else { wanted.clamp(least, GROWTH) }
}

fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    (values.map(|v| v * v).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::field::Tape;
    use super::*;
    use crate::flow::{Grid, solve};
    use crate::spec::solver::SolverSpec;

    /// u_i = cos(5t + i)·(1 + x_i²) for the entries that are there, 0 for the others.
    struct Entries {
        dim: usize,
    }

    impl VelocityField<f32> for Entries {
        fn dim(&self) -> usize {
            self.dim
        }

        fn velocity(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
            let states = rows.x.chunks_exact(self.dim).zip(out.chunks_exact_mut(self.dim));
            for ((x, out), (t, cond)) in states.zip(rows.t.iter().zip(rows.cond)) {
                let extent = self.extent(cond);
                for i in 0..self.dim {
                    let slope = libm::cos(5.0 * t + i as f64) as f32;
                    out[i] = if i < extent { slope * (1.0 + x[i] * x[i]) } else { 0.0 };
                }
            }
            Ok(())
        }

        fn velocity_taped(&mut self, _: Rows<'_, f32>, _: &mut [f32]) -> Result<Tape, FieldError> {
            Err(FieldError::Other("not differentiated".to_owned()))
        }

        fn pull_back(&mut self, _: Tape, _: &[f32], _: &mut [f32]) -> Result<(), FieldError> {
            Err(FieldError::Other("not differentiated".to_owned()))
        }

        fn tape_bytes_per_row(&self) -> usize {
            0
        }

        fn extent(&self, cond: &Cond) -> usize {
            if let Cond::Atoms(n) = cond { *n as usize } else { self.dim }
        }
    }

    #[test]
    fn padding_changes_neither_steps_nor_states() {
        let solver = SolverSpec::Dopri5(Adaptive { rtol: 1e-4, atol: 1e-5 });
        let grid = Grid { solver, direction: Direction::Forward };
        let start = [0.3, -0.2, 0.1];
        let alone = solve(&mut Entries { dim: 3 }, &grid, &start, &[Cond::Atoms(3)]).expect("solves");
        // With padding, and beside a row of another size.
        let mut padded = vec![0.0; 2 * 40];
        padded[..3].copy_from_slice(&start);
        padded[40..60].fill(0.2);
        let cond = [Cond::Atoms(3), Cond::Atoms(20)];
        let both = solve(&mut Entries { dim: 40 }, &grid, &padded, &cond).expect("solves");
        assert_eq!(both.x[..3], alone.x[..]);
        assert!(both.x[3..40].iter().all(|x| *x == 0.0));
        assert_eq!(both.nfe[0], alone.nfe[0]);
    }
}
