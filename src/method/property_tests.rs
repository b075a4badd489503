//! D-Flow towards a property, on a closed-form prior and a linear read-out: the optimum is known.

use super::{
    Answer, Ask, Draws, Goal, MethodError, Outcome, Points, Problem, PropertyTarget, Solve, StopReason,
};
use crate::flow::{Cond, GaussianField, Keep, pull_back, solve_taped};
use crate::path::Path;
use crate::random::{Purpose, Stream};
use crate::spec::method::{
    DflowSpec, LossSpace, LossSpec, MethodSpec, NormalizeSpec, NormalizedResult, PerFeatureSpec,
    StandardDeviation,
};
use crate::spec::stop::StopRule;

/// A target that normalised noise is far from: every outer step leaves the normalised columns.
const FAR: f64 = 60.0;
const POINTS: Points = Points { count: 7, columns: 9 };

fn spec(normalize: NormalizeSpec, stop: Vec<StopRule>) -> DflowSpec {
    let json = serde_json::json!({
        "solver": { "midpoint": { "nfe": 20 } },
        "init": "source",
        "optimizer": { "lbfgs": { "inner": 5 } },
    });
    let spec: DflowSpec = serde_json::from_value(json).expect("a spec");
    DflowSpec { loss: LossSpec::SquaredError(LossSpace::Measurement), normalize, stop, ..spec }
}

fn per_feature(result: NormalizedResult) -> NormalizeSpec {
    NormalizeSpec::PerFeature(PerFeatureSpec { std: StandardDeviation::Unbiased, result })
}

fn problem(spec: DflowSpec, value: f64) -> Problem {
    let method = MethodSpec::Dflow(Box::new(spec));
    let goal = Goal::Property(PropertyTarget { points: POINTS, value });
    let draws = Draws::for_method(&method, &goal, |purpose| Stream::new(5, "property", "0", purpose));
    Problem::new(method, goal, draws)
}

/// F(x) = w·x + 1.
fn weights() -> Vec<f32> {
    Stream::new(6, "property", "w", Purpose::Image).normals(POINTS.dim())
}

fn read(x: &[f32]) -> f32 {
    1.0 + x.iter().zip(weights()).map(|(x, w)| x * w).sum::<f32>()
}

/// Solves with every state stored and read back, as a run that is interrupted at every ask; x₀ of every solve.
fn run(problem: &Problem) -> (Result<Outcome, MethodError>, Vec<Vec<f32>>) {
    let variances = (0..POINTS.dim()).map(|i| 0.2 + i as f64 / 100.0).collect();
    let mut field =
        GaussianField::diagonal(Path::CondOt, vec![0.1; POINTS.dim()], variances).expect("a field");
    let mut solve = Solve::new(problem);
    let (mut answer, mut tape, mut starts) = (Answer::Start, None, Vec::new());
    loop {
        let ask = match solve.next(problem, answer, 0.0) {
            Ok(ask) => ask,
            Err(error) => return (Err(error), starts),
        };
        let bytes = postcard::to_allocvec(&solve).expect("plain data");
        solve = postcard::from_bytes(&bytes).expect("plain data");
        answer = match ask {
            Ask::Solve { start, grid } => {
                let (solution, kept) =
                    solve_taped(&mut field, &grid, &start, &[Cond::None], Keep::Inputs).expect("solves");
                tape = Some(kept);
                starts.push(start);
                Answer::State(solution.x)
            }
            Ask::PullBack { cotangent } => {
                let tape = tape.take().expect("a pull-back follows a solve");
                Answer::Gradient(pull_back(&mut field, tape, &[Cond::None], &cotangent).expect("solves").x)
            }
            Ask::ReadOut { x } => Answer::Value(vec![read(&x)]),
            Ask::ReadOutVjp { cotangent, .. } => {
                Answer::Gradient(weights().iter().map(|w| w * cotangent[0]).collect())
            }
            Ask::Done => return (Ok(solve.outcome().expect("an outcome")), starts),
            other => panic!("{other:?} of a property"),
        };
    }
}

fn columns_are_normal(x0: &[f32]) -> bool {
    (0..POINTS.columns).all(|column| {
        let values: Vec<f64> = x0.chunks_exact(POINTS.columns).map(|row| f64::from(row[column])).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5
    })
}

#[test]
fn the_target_is_met() {
    let problem = problem(spec(NormalizeSpec::None, vec![StopRule::OuterSteps(3)]), 4.0);
    let (outcome, starts) = run(&problem);
    let outcome = outcome.expect("solves");
    // A quadratic with one curved direction: exact line searches would end in one step.
    assert!(f64::from(read(&outcome.reconstruction) - 4.0).abs() < 1e-3, "{}", read(&outcome.reconstruction));
    assert_eq!(outcome.evals as usize, starts.len());
    assert_eq!(outcome.trace.len(), starts.len());
    assert!(outcome.trace.iter().all(|point| point.psnr.is_none()));
    assert_eq!(outcome.observed_psnr, None);
    let loss = |x: &[f32]| (f64::from(read(x)) - 4.0).powi(2);
    assert!((outcome.loss.expect("a loss") - loss(&outcome.reconstruction)).abs() < 1e-9);
    assert!(loss(&outcome.best) <= loss(&outcome.reconstruction));
}

#[test]
fn noise_of_molecules_has_no_centre_of_gravity() {
    let problem = problem(spec(NormalizeSpec::None, vec![StopRule::OuterSteps(1)]), 4.0);
    for axis in 0..3 {
        let sum: f32 = problem.draws.z.iter().skip(axis).step_by(POINTS.columns).sum();
        assert!(sum.abs() < 1e-6, "{sum}");
    }
    assert!(problem.draws.z.iter().skip(3).step_by(POINTS.columns).sum::<f32>().abs() > 1e-3);
}

#[test]
fn every_outer_step_begins_with_normalised_columns() {
    let problem_of = |normalize| problem(spec(normalize, vec![StopRule::OuterSteps(4)]), FAR);
    let (outcome, starts) = run(&problem_of(per_feature(NormalizedResult::Accepted)));
    let outcome = outcome.expect("solves");
    assert_eq!((outcome.stop_reason, outcome.outer_steps), (StopReason::OuterSteps, 4));
    // The first point is drawn; each of the three later outer steps evaluates its normalised point first.
    assert!(!columns_are_normal(&starts[0]));
    // (Trials of a line search that finds nothing are as good as normalised too.)
    assert!(starts.iter().filter(|x0| columns_are_normal(x0)).count() >= 3);
    assert_eq!(outcome.evals as usize, starts.len());
    let unaltered = problem_of(NormalizeSpec::None);
    assert!(!run(&unaltered).1.iter().any(|x0| columns_are_normal(x0)));
}

#[test]
fn the_result_can_be_that_of_the_last_normalised_point() {
    let rules = vec![StopRule::OuterSteps(4)];
    let of = |result| run(&problem(spec(per_feature(result), rules.clone()), FAR));
    let ((accepted, before), (normalized, after)) =
        (of(NormalizedResult::Accepted), of(NormalizedResult::Normalized));
    let (accepted, normalized) = (accepted.expect("solves"), normalized.expect("solves"));
    assert_eq!(after[..before.len()], before[..], "the same way, and one solve more");
    assert_eq!(after.len(), before.len() + 1);
    assert!(columns_are_normal(after.last().expect("a start")));
    assert_eq!(normalized.evals, accepted.evals);
    assert_ne!(normalized.reconstruction, accepted.reconstruction);
    let value = f64::from(read(&normalized.reconstruction));
    assert!((normalized.loss.expect("a loss") - (value - FAR).powi(2)).abs() < 1e-6 * FAR * FAR);
}

#[test]
fn a_limit_of_evaluations_right_after_a_normalisation_keeps_the_point_before() {
    let of = |limit| {
        let rules = vec![StopRule::Evals(limit)];
        run(&problem(spec(per_feature(NormalizedResult::Accepted), rules), FAR))
    };
    let (_, starts) = of(40);
    let first = starts.iter().position(|x0| columns_are_normal(x0)).expect("a normalised start") as u32;
    let (outcome, starts) = of(first);
    let outcome = outcome.expect("solves");
    assert_eq!((outcome.evals, starts.len()), (first, first as usize));
    let loss = (f64::from(read(&outcome.reconstruction)) - FAR).powi(2);
    assert!((outcome.loss.expect("a loss") - loss).abs() < 1e-6 * FAR * FAR);
}

#[test]
fn a_target_that_is_no_number_fails_the_solve() {
    let problem = problem(spec(NormalizeSpec::None, vec![StopRule::OuterSteps(1)]), f64::NAN);
    assert!(matches!(run(&problem).0, Err(MethodError::NonFinite { .. })));
}
