//! Integration of a batch of rows in lock-step.

use super::adaptive;
use super::field::{Cond, FieldError, InBasis, Rows, Tape, VelocityField};
use super::grid::{Direction, Grid, Stepping};
use super::tableau::{Tableau, combine};
use crate::path::Affine;
use crate::real::Real;

/// Why a solve could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The field failed.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The cost is no whole number of steps.
    #[error(
        "{solver} takes {per_step} evaluations a step: nfe {nfe} is not a positive multiple of {per_step}"
    )]
    Nfe {
        /// The solver.
        solver: &'static str,
        /// Its evaluations per step.
        per_step: u32,
        /// What was asked.
        nfe: u32,
    },
    /// An adaptive solver needs tolerances.
    #[error("dopri5 needs positive, finite tolerances: rtol {rtol}, atol {atol}")]
    Tolerance {
        /// Relative tolerance.
        rtol: f64,
        /// Absolute tolerance.
        atol: f64,
    },
    /// A divergence cannot be estimated from nothing.
    #[error("the divergence needs at least one probe per row")]
    NoProbes,
    /// Arguments of different sizes.
    #[error("{what} has {got} numbers where {rows} rows of {dim} need {}", rows * dim)]
    Shape {
        /// Which argument.
        what: &'static str,
        /// Its size.
        got: usize,
        /// Rows.
        rows: usize,
        /// Numbers in a row.
        dim: usize,
    },
}

/// What a solve keeps of each field call for [`super::pull_back`]. The gradient is the same, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The field's tape: no recompute, memory grows with NFE × one tape.
    Tape,
    /// The call's input, from which the tape is made again: memory grows with NFE × one state only.
    Inputs,
}

/// End of a solve.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution<T> {
    /// End points: `rows × dim`.
    ///
    /// A row that an adaptive solver cannot carry to the end (a state that is not finite, a step that underflows,
    /// 100,000 steps) is NaN; its batch mates are not touched.
    pub x: Vec<T>,
    /// Field evaluations spent on each row.
    pub nfe: Vec<u32>,
}

/// The steps that a solve took, for one [`super::pull_back`].
pub struct SolveTape<T> {
    pub(super) tableau: &'static Tableau,
    pub(super) steps: Vec<Step<T>>,
    /// The last step of all rows, if the field has one.
    pub(super) finish: Option<(Affine, Call<T>)>,
}

/// One step of some rows.
pub(super) struct Step<T> {
    /// Which rows of the batch, ascending.
    pub(super) rows: Vec<usize>,
    /// Signed step size of each of them.
    pub(super) h: Vec<f64>,
    /// One call per stage.
    pub(super) calls: Vec<Call<T>>,
}

/// One field call.
pub(super) enum Call<T> {
    Tape(Tape),
    Inputs { t: Vec<f64>, x: Vec<T> },
}

/// Integrates each row of `x0` (`rows × dim`, rows = `cond.len()`) over the grid.
pub fn solve<T: Real>(
    field: &mut dyn VelocityField<T>,
    grid: &Grid,
    x0: &[T],
    cond: &[Cond],
) -> Result<Solution<T>, SolveError> {
    run(field, grid, x0, cond, None).map(|(solution, _)| solution)
}

/// As [`solve`], keeping what [`super::pull_back`] needs.
///
/// An adaptive solve always keeps inputs: its rows take different steps.
pub fn solve_taped<T: Real>(
    field: &mut dyn VelocityField<T>,
    grid: &Grid,
    x0: &[T],
    cond: &[Cond],
    keep: Keep,
) -> Result<(Solution<T>, SolveTape<T>), SolveError> {
    run(field, grid, x0, cond, Some(keep))
}

/// Refuses `x` unless it has `rows × dim` numbers.
pub(super) fn check_shape<T>(what: &'static str, x: &[T], rows: usize, dim: usize) -> Result<(), SolveError> {
    if x.len() == rows * dim { Ok(()) } else { Err(SolveError::Shape { what, got: x.len(), rows, dim }) }
}

fn run<T: Real>(
    field: &mut dyn VelocityField<T>,
    grid: &Grid,
    x0: &[T],
    cond: &[Cond],
    keep: Option<Keep>,
) -> Result<(Solution<T>, SolveTape<T>), SolveError> {
    check_shape("the start of a solve", x0, cond.len(), field.dim())?;
    let mut x = x0.to_vec();
    if let Some(InBasis { basis, field }) = field.in_basis() {
        basis.enter(&mut x);
        let (mut solution, tape) = integrate(field, grid, x, cond, keep)?;
        basis.leave(&mut solution.x);
        return Ok((solution, tape));
    }
    integrate(field, grid, x, cond, keep)
}

/// Integrates in the coordinates of `field` itself.
pub(super) fn integrate<T: Real>(
    field: &mut dyn VelocityField<T>,
    grid: &Grid,
    x: Vec<T>,
    cond: &[Cond],
    keep: Option<Keep>,
) -> Result<(Solution<T>, SolveTape<T>), SolveError> {
    let (mut solution, mut tape) = match grid.stepping()? {
        Stepping::Fixed { tableau, steps } => {
            FixedSteps { tableau, steps, direction: grid.direction }.integrate(field, x, cond, keep)
        }
        Stepping::Adaptive(tolerances) => {
            adaptive::integrate(field, tolerances, grid.direction, x, cond, keep.is_some())
        }
    }?;
    if let Some(map) = field.finish().filter(|_| grid.direction == Direction::Forward) {
        tape.finish = finish(field, map, &mut solution, cond, keep)?.map(|call| (map, call));
    }
    Ok((solution, tape))
}

/// Replaces every row's x by `map.x`·x + `map.y`·u(1, x).
fn finish<T: Real>(
    field: &mut dyn VelocityField<T>,
    map: Affine,
    solution: &mut Solution<T>,
    cond: &[Cond],
    keep: Option<Keep>,
) -> Result<Option<Call<T>>, FieldError> {
    let (t, mut u) = (vec![1.0; cond.len()], vec![T::ZERO; solution.x.len()]);
    let call = call(field, Rows { t: &t, x: &solution.x, cond }, &mut u, keep)?;
    let (a, b) = (T::from_f64(map.x), T::from_f64(map.y));
    solution.x.iter_mut().zip(&u).for_each(|(x, u)| *x = a * *x + b * *u);
    solution.nfe.iter_mut().for_each(|nfe| *nfe += 1);
    Ok(call)
}

/// Equal steps of one tableau.
struct FixedSteps {
    tableau: &'static Tableau,
    steps: usize,
    direction: Direction,
}

impl FixedSteps {
    fn integrate<T: Real>(
        &self,
        field: &mut dyn VelocityField<T>,
        mut x: Vec<T>,
        cond: &[Cond],
        keep: Option<Keep>,
    ) -> Result<(Solution<T>, SolveTape<T>), SolveError> {
        let (rows, dim, stages) = (cond.len(), field.dim(), self.tableau.stages());
        let h = vec![self.direction.sign() / self.steps as f64; rows];
        let mut k = vec![vec![T::ZERO; x.len()]; stages];
        let mut stage = x.clone();
        let mut t = vec![0.0; rows];
        let (kept, kept_calls) = if keep.is_some() { (self.steps, stages) } else { (0, 0) };
        let mut tape = SolveTape { tableau: self.tableau, steps: Vec::with_capacity(kept), finish: None };
        for step in 0..self.steps {
            let mut calls = Vec::with_capacity(kept_calls);
            for i in 0..stages {
                // From integers, never accumulated: exact ends, no evaluation outside [0, 1].
                t.fill(self.direction.time((step as f64 + self.tableau.nodes[i]) / self.steps as f64));
                combine(&mut stage, &x, &h, self.tableau.coefficients[i], &k, dim);
                let rows = Rows { t: &t, x: &stage, cond };
                calls.extend(call(field, rows, &mut k[i], keep)?);
            }
            combine(&mut stage, &x, &h, self.tableau.weights, &k, dim);
            std::mem::swap(&mut x, &mut stage);
            if keep.is_some() {
                tape.steps.push(Step { rows: (0..rows).collect(), h: h.clone(), calls });
            }
        }
        Ok((Solution { x, nfe: vec![(self.steps * stages) as u32; rows] }, tape))
    }
}

/// Evaluates the field, keeping what was asked for.
fn call<T: Real>(
    field: &mut dyn VelocityField<T>,
    rows: Rows<'_, T>,
    out: &mut [T],
    keep: Option<Keep>,
) -> Result<Option<Call<T>>, FieldError> {
    match keep {
        None => field.velocity(rows, out).map(|()| None),
        Some(Keep::Tape) => field.velocity_taped(rows, out).map(|tape| Some(Call::Tape(tape))),
        Some(Keep::Inputs) => {
            field.velocity(rows, out)?;
            Ok(Some(Call::Inputs { t: rows.t.to_vec(), x: rows.x.to_vec() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::testing::mixture;
    use crate::path::Path;
    use crate::spec::solver::{self, Adaptive, SolverSpec};

    /// Records the times of its calls.
    struct Clock(Vec<f64>);

    impl VelocityField<f64> for Clock {
        fn dim(&self) -> usize {
            1
        }

        fn velocity(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<(), FieldError> {
            self.0.extend_from_slice(rows.t);
            // Stiff towards the end, so that an adaptive solver works.
            for ((t, x), out) in rows.t.iter().zip(rows.x).zip(out) {
                *out = (8.0 * t).sin() - 3.0 * x;
            }
            Ok(())
        }

        fn velocity_taped(&mut self, _: Rows<'_, f64>, _: &mut [f64]) -> Result<Tape, FieldError> {
            Err(FieldError::Other("not differentiated here".into()))
        }

        fn pull_back(&mut self, _: Tape, _: &[f64], _: &mut [f64]) -> Result<(), FieldError> {
            Err(FieldError::Other("not differentiated here".into()))
        }

        fn tape_bytes_per_row(&self) -> usize {
            0
        }
    }

    fn times(grid: &Grid) -> (Vec<f64>, u32) {
        let mut clock = Clock(Vec::new());
        let solution = solve(&mut clock, grid, &[0.5], &[Cond::None]).expect("solves");
        (clock.0, solution.nfe[0])
    }

    #[test]
    fn midpoint_six_evaluates_at_sixths() {
        let solver = SolverSpec::Midpoint(solver::FixedSteps { nfe: 6 });
        let sixths: Vec<f64> = (0..6).map(|k| f64::from(k) / 6.0).collect();
        assert_eq!(times(&Grid::forward(solver)), (sixths.clone(), 6));
        let (back, _) = times(&Grid::backward(solver));
        assert!(back.iter().zip(&sixths).all(|(b, s)| (b - (1.0 - s)).abs() < 1e-16), "{back:?}");
    }

    #[test]
    fn adaptive_solves_stay_within_the_unit_interval_and_end_on_it() {
        for solver in [1e-2, 1e-5, 1e-9].map(|tol| SolverSpec::Dopri5(Adaptive { rtol: tol, atol: tol })) {
            for grid in [Grid::forward(solver), Grid::backward(solver)] {
                let (times, nfe) = times(&grid);
                assert_eq!(times.len(), nfe as usize);
                assert!(times.iter().all(|t| (0.0..=1.0).contains(t)));
                assert_eq!(times.last(), Some(&grid.direction.time(1.0)));
            }
        }
    }

    #[test]
    fn bad_requests_are_refused_with_the_reason() {
        let mut field = mixture(Path::CondOt);
        let mut refused = |solver, x: &[f64]| {
            solve(&mut field, &Grid::forward(solver), x, &[Cond::None]).expect_err("refused").to_string()
        };
        let midpoint = |nfe| SolverSpec::Midpoint(solver::FixedSteps { nfe });
        assert!(refused(midpoint(5), &[0.0; 2]).contains("nfe 5 is not a positive multiple of 2"));
        assert!(refused(midpoint(0), &[0.0; 2]).contains("nfe 0"));
        assert!(refused(midpoint(6), &[0.0; 3]).contains("3 numbers where 1 rows of 2 need 2"));
        let tolerances = Adaptive { rtol: f64::NAN, atol: 1e-5 };
        assert!(refused(SolverSpec::Dopri5(tolerances), &[0.0; 2]).contains("tolerances"));
    }
}
