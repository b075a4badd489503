//! Networks on their own and other paths.

use super::*;
use crate::flow::testing::{check_vjp, mixture, sines, solvers};
use crate::flow::{Component, GaussianMixture, Grid, Keep, pull_back, solve, solve_taped};
use crate::spec::solver::{FixedSteps, SolverSpec};

/// A network whose output is what a perfect one would give for the mixture, in any parametrisation.
struct Perfect {
    field: GaussianMixture,
    convention: Convention,
}

impl Perfect {
    fn flow_times(&self, t: &[f64]) -> Vec<f64> {
        let back = |t: f64| match self.convention.time {
            NetworkTime::Flow => t,
            NetworkTime::StepIndex { steps } => 1.0 - t / f64::from(steps - 1),
            NetworkTime::NoiseLevel => 1.0 - t,
        };
        t.iter().map(|t| back(*t)).collect()
    }

    fn maps(&self, t: &[f64]) -> Vec<Affine> {
        let at = |t: &f64| self.convention.parametrisation.from_velocity(self.convention.path.at(*t));
        t.iter().map(at).collect()
    }
}

impl RawNetwork<f64> for Perfect {
    fn dim(&self) -> usize {
        2
    }

    fn forward(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<(), FieldError> {
        self.forward_taped(rows, out).map(|_| ())
    }

    fn forward_taped(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<Tape, FieldError> {
        let t = self.flow_times(rows.t);
        let tape = self.field.velocity_taped(Rows { t: &t, ..rows }, out)?;
        scale_add(&self.maps(&t), rows.x, out);
        Ok(Box::new((t, tape)))
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f64], out: &mut [f64]) -> Result<(), FieldError> {
        let (t, tape) = *tape.downcast::<(Vec<f64>, Tape)>().expect("our tape");
        VelocityField::pull_back(&mut self.field, tape, cotangent, out)?;
        scale_add(&self.maps(&t), cotangent, out);
        Ok(())
    }

    fn tape_bytes_per_row(&self) -> usize {
        0
    }
}

fn conventions() -> Vec<Convention> {
    let times = [NetworkTime::Flow, NetworkTime::StepIndex { steps: 1000 }, NetworkTime::NoiseLevel];
    let kinds =
        [Parametrisation::Velocity, Parametrisation::Noise, Parametrisation::Denoiser, Parametrisation::V];
    let mut all = Vec::new();
    for path in [Path::CondOt, Path::vp_linear(), Path::Polynomial2] {
        for parametrisation in kinds {
            all.extend(times.map(|time| Convention {
                path: path.clone(),
                trained: None,
                parametrisation,
                time,
                finish: false,
            }));
        }
    }
    all
}

#[test]
fn every_parametrisation_gives_the_velocity_and_its_vjp() {
    for convention in conventions() {
        let field = mixture(convention.path.clone());
        let network = Perfect { field: field.clone(), convention: convention.clone() };
        let mut wrapped = NetworkField::new(network, convention);
        check_vjp(&mut wrapped, &[0.1, 0.5, 0.9]);
        let (mut plain, x, cond) = (field, sines(6), [Cond::None; 3]);
        let rows = Rows { t: &[0.1, 0.5, 0.9], x: &x, cond: &cond };
        let (mut u, mut exact) = ([0.0; 6], [0.0; 6]);
        wrapped.velocity(rows, &mut u).expect("evaluates");
        plain.velocity(rows, &mut exact).expect("evaluates");
        // The conversions there and back divide by α or σ ≥ 0.007 at these times.
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9 * (1.0 + b.abs());
        assert!(u.iter().zip(&exact).all(close), "{:?}: {u:?} {exact:?}", wrapped.convention());
    }
}

#[test]
fn singular_ends_are_finite() {
    for convention in conventions().into_iter().filter(|c| matches!(c.path, Path::CondOt)) {
        let network = Perfect { field: mixture(Path::CondOt), convention: convention.clone() };
        let mut field = NetworkField::new(network, convention);
        let (x, cond) = (sines(4), [Cond::None; 2]);
        let mut u = [0.0; 4];
        field.velocity(Rows { t: &[0.0, 1.0], x: &x, cond: &cond }, &mut u).expect("evaluates");
        assert!(u.iter().all(|u| u.is_finite()), "{:?}", field.convention());
    }
}

/// A network trained on ADM's diffusion, as its own path or the straight one between its ends.
fn diffusion(
    data: &GaussianMixture,
    kind: Parametrisation,
    straight: bool,
    finish: bool,
) -> NetworkField<f64, Perfect> {
    let path = Path::vp_linear();
    let time = NetworkTime::StepIndex { steps: 1000 };
    let own = Convention { path: path.clone(), trained: None, parametrisation: kind, time, finish };
    let network = Perfect { field: data.clone(), convention: own.clone() };
    let other = || Convention { path: path.straightened(), trained: Some(path.clone()), ..own.clone() };
    NetworkField::new(network, if straight { other() } else { own })
}

#[test]
fn the_straightened_path_has_the_velocity_of_its_own_marginals() {
    let data = mixture(Path::vp_linear());
    let (x, cond, t) = (sines(6), [Cond::None; 3], [0.0, 0.4, 0.97]);
    for kind in [Parametrisation::Noise, Parametrisation::Denoiser, Parametrisation::V] {
        let mut field = diffusion(&data, kind, true, false);
        let mut exact = mixture(Path::vp_linear().straightened());
        let rows = Rows { t: &t, x: &x, cond: &cond };
        let (mut u, mut expected) = ([0.0; 6], [0.0; 6]);
        field.velocity(rows, &mut u).expect("evaluates");
        exact.velocity(rows, &mut expected).expect("evaluates");
        // The time of the diffusion is found to 1e-13; its noise prediction is divided by α = 0.006 at t = 0.
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-8 * (1.0 + b.abs());
        assert!(u.iter().zip(&expected).all(close), "{kind:?}: {u:?} {expected:?}");
        check_vjp(&mut field, &[0.1, 0.5, 0.9]);
    }
}

/// Data N(m, s²) in every entry: the exact flow keeps (x − mα)/√(α²s² + σ²).
#[test]
fn both_paths_of_a_diffusion_come_to_the_same_map_and_the_closed_form() {
    let (m, s2) = (0.3, 0.25);
    let component = Component { weight: 1.0, mean: vec![m; 2], covariance: vec![s2, 0.0, 0.0, s2] };
    let data = GaussianMixture::new(Path::vp_linear(), &[component]).expect("positive definite");
    let ends = [0.0, 1.0].map(|t| Path::vp_linear().at(t));
    let [start, end] = ends.map(|p| (p.alpha, (p.alpha * p.alpha * s2 + p.sigma * p.sigma).sqrt()));
    let x0 = 0.8;
    let x1 = m * end.0 + end.1 / start.1 * (x0 - m * start.0);
    let denoised = m + s2 * end.0 / (end.1 * end.1) * (x1 - end.0 * m);
    for (finish, exact) in [(false, x1), (true, denoised)] {
        let error = |straight, nfe| {
            let mut field = diffusion(&data, Parametrisation::Noise, straight, finish);
            let grid = Grid::forward(SolverSpec::Midpoint(FixedSteps { nfe }));
            let solution = solve(&mut field, &grid, &[x0; 2], &[Cond::None]).expect("solves");
            assert_eq!(solution.nfe, [nfe + u32::from(finish)]);
            (solution.x[0] - exact).abs()
        };
        // Six evaluations differ from the exact map, and from each other; the error falls as steps grow.
        assert!((error(true, 6) - error(false, 6)).abs() > 1e-4);
        for straight in [false, true] {
            let (few, many) = (error(straight, 200), error(straight, 20_000));
            assert!(many < 0.01 * few.max(1e-8) && many < 1e-5, "{straight} {finish}: {few} {many}");
        }
    }
}

#[test]
fn the_finish_is_part_of_the_map_that_is_pulled_back() {
    let data = mixture(Path::vp_linear());
    let (x, c, cond) = (sines(6), sines(11)[5..].to_vec(), [Cond::None; 3]);
    for straight in [false, true] {
        let mut field = diffusion(&data, Parametrisation::Noise, straight, true);
        for solver in solvers() {
            let grid = Grid::forward(solver);
            let mut by = [Keep::Tape, Keep::Inputs].map(|keep| {
                let (solution, tape) = solve_taped(&mut field, &grid, &x, &cond, keep).expect("solves");
                let gradient = pull_back(&mut field, tape, &cond, &c).expect("pulls back");
                // An adaptive solve has steps that were not taken, which are not pulled back.
                if solver.nfe().is_some() {
                    assert_eq!(solution.nfe, gradient.nfe_vjp, "{grid:?}");
                }
                gradient.x
            });
            assert_eq!(by[0], by[1]);
            let [gradient, _] = &mut by;
            // Adaptive steps count as constants: of two solves with other steps, what differs is divided by the step.
            let (step, tolerance) = if solver.nfe().is_some() { (1e-5, 1e-5) } else { (1e-3, 5e-3) };
            for i in 0..x.len() {
                let mut end = |by: f64| {
                    let mut x = x.clone();
                    x[i] += by;
                    solve(&mut field, &grid, &x, &cond).expect("solves").x
                };
                let (plus, minus) = (end(step), end(-step));
                let slope: f64 = (0..6).map(|n| c[n] * (plus[n] - minus[n]) / (2.0 * step)).sum();
                assert!((slope - gradient[i]).abs() < tolerance, "{grid:?} {i}: {slope} {}", gradient[i]);
            }
        }
    }
}

#[test]
fn a_backward_solve_has_no_finish() {
    let mut field = diffusion(&mixture(Path::vp_linear()), Parametrisation::Noise, false, true);
    let grid = Grid::backward(SolverSpec::Midpoint(FixedSteps { nfe: 6 }));
    assert_eq!(solve(&mut field, &grid, &sines(2), &[Cond::None]).expect("solves").nfe, [6]);
}
