//! Bits per dimension against the closed form of a Gaussian, and against the solver of a whole batch.

use crate::flow::{
    Component, Cond, Divergence, GaussianField, GaussianMixture, Probes, Rows, VelocityField, log_likelihood,
};
use crate::method::{Answer, Ask, Draws, Goal, Problem, Restoration, Solve};
use crate::operator::{Degradation, Shape};
use crate::path::Path;
use crate::random::{Purpose, Stream};
use crate::spec::likelihood::{BitsOffset, LikelihoodSpec, MeasuredData};
use crate::spec::method::MethodSpec;
use crate::spec::operator::{Identity, OperatorSpec, RandomMask};
use crate::spec::solver::{FixedSteps, SolverSpec};

const SHAPE: Shape = Shape::new(1, 2, 2);
const IMAGE: [f32; 4] = [0.2, -0.7, 0.5, 0.9];
const MEAN: [f64; 4] = [0.1, -0.2, 0.3, 0.0];

/// A covariance that is not diagonal: the divergence of one probe is then an estimate.
fn covariance() -> Vec<f64> {
    (0..16).map(|n| if n / 4 == n % 4 { 0.5 } else { 0.15 }).collect()
}

fn field() -> GaussianField<f32> {
    GaussianField::dense(Path::CondOt, &MEAN, &covariance()).unwrap()
}

fn spec() -> LikelihoodSpec {
    let solver = SolverSpec::Rk4(FixedSteps { nfe: 400 });
    LikelihoodSpec {
        solver,
        data: MeasuredData::Plain,
        offset: BitsOffset::None,
        ..LikelihoodSpec::default()
    }
}

fn problem(spec: LikelihoodSpec, operator: OperatorSpec) -> Problem {
    let method = MethodSpec::Likelihood(spec);
    let stream = |purpose| Stream::new(0, "data", "sample", purpose);
    let operator = Degradation::new(&operator, SHAPE).unwrap().for_sample(&mut stream(Purpose::Mask));
    let y = operator.apply(&IMAGE);
    let goal = Goal::Restore(Restoration::new(&method, operator, y, 0.0));
    let draws = Draws::for_method(&method, &goal, stream);
    Problem::new(method, goal, draws)
}

/// Answers every ask; the solve is stored and read back in between.
fn run(problem: &Problem) -> Solve {
    let (mut solve, mut field) = (Solve::new(problem), field());
    let mut ask = solve.next(problem, Answer::Start, 0.0).unwrap();
    loop {
        solve = postcard::from_bytes(&postcard::to_allocvec(&solve).unwrap()).unwrap();
        let mut out = vec![0.0; IMAGE.len()];
        let rows = |t: &f64, x: &[f32]| (vec![*t], x.to_vec());
        let answer = match &ask {
            Ask::Velocity { t, x, .. } => {
                let (t, x) = rows(t, x);
                field.velocity(Rows { t: &t, x: &x, cond: &[Cond::None] }, &mut out).unwrap();
                Answer::State(out)
            }
            Ask::Vjp { t, x, cotangent } => {
                let (t, x) = rows(t, x);
                field.vjp(Rows { t: &t, x: &x, cond: &[Cond::None] }, cotangent, &mut out).unwrap();
                Answer::Gradient(out)
            }
            _ => return solve,
        };
        ask = solve.next(problem, answer, 0.0).unwrap();
    }
}

fn bits(problem: &Problem) -> super::Bits {
    run(problem).bits().unwrap()
}

/// −log₂ p/d of the closed form.
fn exact(x: &[f64]) -> f64 {
    let component = Component { weight: 1.0, mean: MEAN.to_vec(), covariance: covariance() };
    let density = GaussianMixture::new(Path::CondOt, &[component]).unwrap();
    -density.log_density(1.0, x) / (x.len() as f64 * std::f64::consts::LN_2)
}

/// Four orthogonal sign vectors: their mean of εᵀAε is the trace of any 4 × 4 matrix.
fn hadamard() -> Vec<Vec<f32>> {
    [[1., 1., 1., 1.], [1., -1., 1., -1.], [1., 1., -1., -1.], [1., -1., -1., 1.]].map(Vec::from).to_vec()
}

fn doubles(x: &[f32]) -> Vec<f64> {
    x.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn orthogonal_probes_give_the_likelihood_of_a_gaussian() {
    let mask = OperatorSpec::RandomMask(RandomMask { keep: 0.5 });
    for operator in [OperatorSpec::Identity(Identity {}), mask] {
        let mut problem = problem(spec(), operator);
        problem.draws.probes = hadamard();
        let Restoration { operator, measurement, .. } = problem.goal.restoration().unwrap();
        let lifted = operator.pinv(measurement);
        // Fourth order with 100 steps, states in f32.
        let (ours, exact) = (bits(&problem).mean, exact(&doubles(&lifted)));
        assert!((ours - exact).abs() < 1e-5, "{ours} {exact}");
        assert_eq!(run(&problem).outcome().unwrap().reconstruction, lifted);
    }
}

#[test]
fn the_error_bar_holds_the_truth_and_shrinks_with_the_probes() {
    let error = |probes| {
        let problem = problem(LikelihoodSpec { probes, ..spec() }, OperatorSpec::Identity(Identity {}));
        let bits = bits(&problem);
        let error = bits.error.unwrap();
        assert!((bits.mean - exact(&doubles(&IMAGE))).abs() < 4.0 * error + 1e-5, "{probes}: {bits:?}");
        error
    };
    let (few, many) = (error(16), error(400));
    // 1/√n: a factor of 5.
    assert!(many > 0.0 && few / many > 3.0 && few / many < 8.0, "{few} {many}");
    let one = LikelihoodSpec { probes: 1, ..spec() };
    assert_eq!(bits(&problem(one, OperatorSpec::Identity(Identity {}))).error, None);
}

#[test]
fn it_equals_the_likelihood_of_a_whole_batch_at_any_step() {
    for solver in [SolverSpec::Midpoint(FixedSteps { nfe: 6 }), SolverSpec::Heun(FixedSteps { nfe: 4 })] {
        let problem = problem(LikelihoodSpec { solver, ..spec() }, OperatorSpec::Identity(Identity {}));
        let values: Vec<f32> = problem.draws.probes.concat();
        let probes = Divergence::Hutchinson(Probes { count: 8, values: &values });
        let whole = log_likelihood(&mut field(), solver, &IMAGE, &[Cond::None], probes).unwrap();
        let whole = -whole.log_p[0] / (4.0 * std::f64::consts::LN_2);
        // The batch solves in the eigenbasis: rounding of f32.
        assert!((bits(&problem).mean - whole).abs() < 1e-5, "{solver:?}");
    }
}

#[test]
fn bytes_are_dequantised_within_their_level_and_the_offset_counts_its_width() {
    let identity = || OperatorSpec::Identity(Identity {});
    let problem_of = |data, offset| problem(LikelihoodSpec { data, offset, ..spec() }, identity());
    let plain = problem_of(MeasuredData::Plain, BitsOffset::None);
    let MethodSpec::Likelihood(dequantized) = problem_of(MeasuredData::Dequantized, BitsOffset::None).method
    else {
        panic!("the method")
    };
    let dequantised = problem_of(MeasuredData::Dequantized, BitsOffset::None);
    let x = super::measured(&dequantized, &dequantised, &IMAGE).unwrap();
    for (x, plain) in x.iter().zip(IMAGE) {
        let byte = ((plain + 1.0) * 127.5).round();
        let level = (f64::from(*x) + 1.0) * 128.0 - f64::from(byte);
        assert!(level > 0.0 && level < 1.0, "{level}");
    }
    let none = bits(&plain).mean;
    for (offset, constant) in [(BitsOffset::Signed, 7.0), (BitsOffset::Unit, 8.0)] {
        let with = bits(&problem_of(MeasuredData::Plain, offset)).mean;
        assert!((with - none - constant).abs() < 1e-12);
    }
}

#[test]
fn adaptive_solvers_and_wrong_answers_are_refused() {
    let identity = || OperatorSpec::Identity(Identity {});
    let adaptive = SolverSpec::Dopri5(crate::spec::solver::Adaptive { rtol: 1e-5, atol: 1e-5 });
    let problem_of = |solver| problem(LikelihoodSpec { solver, ..spec() }, identity());
    let error = |problem: &Problem, answer| Solve::new(problem).next(problem, answer, 0.0).unwrap_err();
    assert!(error(&problem_of(adaptive), Answer::Start).to_string().contains("fixed steps"));
    let fixed = problem_of(spec().solver);
    assert!(error(&fixed, Answer::State(vec![0.0; 4])).to_string().contains("waited for the start"));
}
