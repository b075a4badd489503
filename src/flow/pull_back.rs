//! Reverse mode of a solve: the exact gradient of the discrete map that was run, for any tableau.
//!
//! For one step x⁺ = x + h Σᵢ bᵢkᵢ with kᵢ = u(tᵢ, xᵢ), xᵢ = x + h Σⱼ aᵢⱼkⱼ, and the cotangent λ of x⁺, the stages in
//! reverse order give k̄ᵢ = h bᵢλ + h Σⱼ aⱼᵢx̄ⱼ, x̄ᵢ = (∂u/∂x)ᵀk̄ᵢ, and the cotangent of x is λ + Σᵢ x̄ᵢ.

use super::field::{Cond, InBasis, Rows, VelocityField};
use super::solve::{Call, SolveError, SolveTape, Step, check_shape};
use super::tableau::{Tableau, sum_scaled};
use crate::path::Affine;
use crate::real::Real;

/// Cotangent at the start of a solve.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient<T> {
    /// Gradient with respect to the start: `rows × dim`.
    pub x: Vec<T>,
    /// Vector–Jacobian products spent on each row.
    pub nfe_vjp: Vec<u32>,
}

/// Pulls the cotangent of a solve's end (`rows × dim`) back to its start, with the field, batch and conditions of the
/// solve that made `tape`.
///
/// The step sizes of an adaptive solve count as constants.
pub fn pull_back<T: Real>(
    field: &mut dyn VelocityField<T>,
    tape: SolveTape<T>,
    cond: &[Cond],
    cotangent: &[T],
) -> Result<Gradient<T>, SolveError> {
    check_shape("the cotangent", cotangent, cond.len(), field.dim())?;
    let mut lambda = cotangent.to_vec();
    if let Some(InBasis { basis, field }) = field.in_basis() {
        basis.enter(&mut lambda);
        let mut gradient = Reverse::new(field, tape.tableau, cond, lambda).run(tape)?;
        basis.leave(&mut gradient.x);
        return Ok(gradient);
    }
    Reverse::new(field, tape.tableau, cond, lambda).run(tape)
}

/// State of a reverse pass.
struct Reverse<'a, T> {
    field: &'a mut dyn VelocityField<T>,
    tableau: &'static Tableau,
    cond: &'a [Cond],
    /// Cotangent of the state after the step that comes next in reverse order: `rows × dim`.
    lambda: Vec<T>,
    nfe_vjp: Vec<u32>,
    work: Work<T>,
}

/// Buffers of one step, for the rows that took it.
struct Work<T> {
    cond: Vec<Cond>,
    lambda: Vec<T>,
    k_bar: Vec<T>,
    /// x̄ᵢ of each stage.
    x_bar: Vec<Vec<T>>,
}

impl<'a, T: Real> Reverse<'a, T> {
    fn new(
        field: &'a mut dyn VelocityField<T>,
        tableau: &'static Tableau,
        cond: &'a [Cond],
        lambda: Vec<T>,
    ) -> Self {
        let work = Work {
            cond: Vec::new(),
            lambda: Vec::new(),
            k_bar: Vec::new(),
            x_bar: vec![Vec::new(); tableau.stages()],
        };
        Self { field, tableau, nfe_vjp: vec![0; cond.len()], cond, lambda, work }
    }

    fn run(mut self, tape: SolveTape<T>) -> Result<Gradient<T>, SolveError> {
        if let Some((map, call)) = tape.finish {
            self.finish(map, call)?;
        }
        // Steps and tapes are dropped as soon as they are used.
        for step in tape.steps.into_iter().rev() {
            self.step(step)?;
        }
        Ok(Gradient { x: self.lambda, nfe_vjp: self.nfe_vjp })
    }

    /// The cotangent before the last step x ↦ a·x + b·u(1, x) of all rows: aλ + (∂u/∂x)ᵀbλ.
    fn finish(&mut self, map: Affine, call: Call<T>) -> Result<(), SolveError> {
        let (a, b) = (T::from_f64(map.x), T::from_f64(map.y));
        let scaled: Vec<T> = self.lambda.iter().map(|lambda| b * *lambda).collect();
        let mut x_bar = vec![T::ZERO; scaled.len()];
        match call {
            Call::Tape(tape) => self.field.pull_back(tape, &scaled, &mut x_bar)?,
            Call::Inputs { t, x } => {
                self.field.vjp(Rows { t: &t, x: &x, cond: self.cond }, &scaled, &mut x_bar)?;
            }
        }
        self.lambda.iter_mut().zip(&x_bar).for_each(|(lambda, x_bar)| *lambda = a * *lambda + *x_bar);
        self.nfe_vjp.iter_mut().for_each(|nfe| *nfe += 1);
        Ok(())
    }

    fn step(&mut self, step: Step<T>) -> Result<(), SolveError> {
        let dim = self.field.dim();
        self.work.gather(&step.rows, &self.lambda, self.cond, dim);
        let Step { rows, h, calls } = step;
        for (i, call) in calls.into_iter().enumerate().rev() {
            self.stage(i, call, &rows, &h)?;
        }
        for (at, row) in rows.iter().enumerate() {
            for x_bar in &self.work.x_bar {
                add(&mut self.lambda[row * dim..][..dim], &x_bar[at * dim..][..dim]);
            }
        }
        Ok(())
    }

    /// x̄ᵢ from λ and the x̄ⱼ of later stages.
    fn stage(&mut self, i: usize, call: Call<T>, index: &[usize], h: &[f64]) -> Result<(), SolveError> {
        let (dim, tableau) = (self.field.dim(), self.tableau);
        let Work { cond, lambda, k_bar, x_bar } = &mut self.work;
        let (x_bar, later) = x_bar.split_at_mut(i + 1);
        let later =
            tableau.coefficients[i + 1..].iter().map(|row| row[i]).zip(later.iter().map(Vec::as_slice));
        let terms = std::iter::once((tableau.weights[i], lambda.as_slice())).chain(later);
        sum_scaled(k_bar, h, terms, dim);
        let out = &mut x_bar[i];
        match call {
            Call::Tape(tape) => self.field.pull_back(tape, k_bar, out)?,
            Call::Inputs { t, x } => self.field.vjp(Rows { t: &t, x: &x, cond }, k_bar, out)?,
        }
        for row in index {
            self.nfe_vjp[*row] += 1;
        }
        Ok(())
    }
}

impl<T: Real> Work<T> {
    /// Takes the rows of a step out of the batch, and sizes the buffers for them.
    fn gather(&mut self, rows: &[usize], lambda: &[T], cond: &[Cond], dim: usize) {
        self.cond.clear();
        self.cond.extend(rows.iter().map(|r| cond[*r]));
        self.lambda.clear();
        for r in rows {
            self.lambda.extend_from_slice(&lambda[r * dim..][..dim]);
        }
        // Every one of them is overwritten.
        for buffer in self.x_bar.iter_mut().chain([&mut self.k_bar]) {
            buffer.resize(self.lambda.len(), T::ZERO);
        }
    }
}

fn add<T: Real>(out: &mut [T], x: &[T]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += *x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::testing::{WithoutBasis, covariance, mixture, sines, solvers};
    use crate::flow::{Direction, GaussianField, Grid, Keep, solve, solve_taped};
    use crate::path::Path;
    use crate::spec::solver::{Adaptive, SolverSpec};

    const COND: [Cond; 3] = [Cond::None; 3];

    fn gradient(
        field: &mut dyn VelocityField<f64>,
        grid: &Grid,
        x: &[f64],
        c: &[f64],
        keep: Keep,
    ) -> Gradient<f64> {
        let cond = vec![Cond::None; x.len() / field.dim()];
        let (_, tape) = solve_taped(field, grid, x, &cond, keep).expect("solves");
        pull_back(field, tape, &cond, c).expect("pulls back")
    }

    #[test]
    fn gradients_match_finite_differences_for_every_solver() {
        let (x, c) = (sines(6), sines(11)[5..].to_vec());
        for solver in solvers() {
            for direction in [Direction::Forward, Direction::Backward] {
                let (grid, mut field) = (Grid { solver, direction }, mixture(Path::CondOt));
                let exact = gradient(&mut field, &grid, &x, &c, Keep::Tape);
                for i in 0..x.len() {
                    let mut end = |by: f64| {
                        let mut x = x.clone();
                        x[i] += by;
                        solve(&mut field, &grid, &x, &COND).expect("solves").x
                    };
                    let (plus, minus) = (end(1e-5), end(-1e-5));
                    let slope: f64 = (0..6).map(|n| c[n] * (plus[n] - minus[n]) / 2e-5).sum();
                    // Adaptive steps count as constants: their change is of the size of the tolerance, 1e-9.
                    assert!((slope - exact.x[i]).abs() < 1e-6, "{grid:?} {i}: {slope} {}", exact.x[i]);
                }
            }
        }
    }

    #[test]
    fn tape_and_inputs_give_the_same_bits() {
        let (x, c) = (sines(6), sines(11)[5..].to_vec());
        for solver in solvers() {
            let grid = Grid::forward(solver);
            let mut gaussian =
                GaussianField::<f64>::dense(Path::vp_linear(), &sines(2), &covariance(2)).expect("valid");
            for field in [&mut gaussian as &mut dyn VelocityField<f64>, &mut mixture(Path::CondOt)] {
                let by_tape = gradient(field, &grid, &x, &c, Keep::Tape);
                assert_eq!(by_tape, gradient(field, &grid, &x, &c, Keep::Inputs), "{grid:?}");
            }
        }
    }

    #[test]
    fn rows_do_not_depend_on_their_batch_mates() {
        let (x, c) = (sines(6), sines(11)[5..].to_vec());
        for solver in solvers() {
            let (grid, mut field) = (Grid::forward(solver), mixture(Path::CondOt));
            let together = solve(&mut field, &grid, &x, &COND).expect("solves");
            let gradients = gradient(&mut field, &grid, &x, &c, Keep::Inputs);
            for r in 0..3 {
                let (row, c) = (&x[2 * r..][..2], &c[2 * r..][..2]);
                let alone = solve(&mut field, &grid, row, &COND[..1]).expect("solves");
                assert_eq!((&alone.x[..], alone.nfe[0]), (&together.x[2 * r..][..2], together.nfe[r]));
                let alone = gradient(&mut field, &grid, row, c, Keep::Inputs);
                assert_eq!(
                    (&alone.x[..], alone.nfe_vjp[0]),
                    (&gradients.x[2 * r..][..2], gradients.nfe_vjp[r])
                );
            }
        }
    }

    #[test]
    fn the_eigenbasis_gives_the_same_gradient() {
        let mut field = GaussianField::<f64>::dense(Path::CondOt, &sines(3), &covariance(3)).expect("valid");
        let mut plain = WithoutBasis(field.clone());
        let (x, c) = (sines(6), sines(11)[5..].to_vec());
        for solver in solvers().into_iter().filter(|s| !matches!(s, SolverSpec::Dopri5(_))) {
            let grid = Grid::forward(solver);
            let a = gradient(&mut field, &grid, &x, &c, Keep::Tape);
            let b = gradient(&mut plain, &grid, &x, &c, Keep::Tape);
            // Rounding of the basis changes.
            assert!(a.x.iter().zip(&b.x).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_row_that_cannot_go_on_leaves_its_mates_alone() {
        let mut field = mixture(Path::CondOt);
        let grid = Grid::forward(SolverSpec::Dopri5(Adaptive { rtol: 1e-6, atol: 1e-6 }));
        let x = [0.5, -0.5, f64::NAN, 0.0];
        let together = solve(&mut field, &grid, &x, &COND[..2]).expect("solves");
        let alone = solve(&mut field, &grid, &x[..2], &COND[..1]).expect("solves");
        assert_eq!(together.x[..2], alone.x);
        assert!(together.x[2..].iter().all(|v| v.is_nan()));
    }
}
