//! Whole solves on closed-form priors, driven the way a worker drives them: one ask at a time.

use super::{Answer, Ask, Draws, Goal, MethodError, Outcome, Problem, Restoration, Solve, StopReason};
use crate::flow::{
    Component, Cond, Divergence, GaussianField, GaussianMixture, Keep, Probes, Rows, SolveTape,
    VelocityField, log_likelihood, pull_back, solve, solve_taped,
};
use crate::operator::{Degradation, Shape, measure};
use crate::path::Path;
use crate::random::{Purpose, Stream};
use crate::spec::init::{BlendSpec, InitSpec};
use crate::spec::method::{
    BandsSpec, DflowSpec, InitialHessian, LbfgsSpec, LossSpace, LossSpec, MethodSpec, NllSpec, OptimizerSpec,
    PinvSpec, RegularizerSpec, StopTests,
};
use crate::spec::operator::{CenterMask, Identity, OperatorSpec};
use crate::spec::solver::{Adaptive, FixedSteps, SolverSpec};
use crate::spec::stop::StopRule;

const SHAPE: Shape = Shape::new(1, 6, 6);
const COND: [Cond; 1] = [Cond::None];

fn stream(purpose: Purpose) -> Stream {
    Stream::new(3, "method", "0", purpose)
}

/// Correlated pixels: what is hidden follows from what is seen.
fn prior() -> GaussianField<f32> {
    let dim = SHAPE.dim();
    let place = |i: usize| ((i / SHAPE.width) as f64, (i % SHAPE.width) as f64);
    let covariance = |i: usize| {
        (0..dim).map(move |j| {
            let ((a, b), (c, d)) = (place(i), place(j));
            0.3 * (-((a - c).powi(2) + (b - d).powi(2)) / 8.0).exp() + if i == j { 0.01 } else { 0.0 }
        })
    };
    let covariance: Vec<f64> = (0..dim).flat_map(covariance).collect();
    GaussianField::dense(Path::CondOt, &vec![0.1; dim], &covariance).unwrap()
}

fn spec(stop: Vec<StopRule>) -> DflowSpec {
    DflowSpec {
        stop,
        stop_tests: None,
        condition: crate::spec::method::ConditionSpec::default(),
        name: None,
        tasks: None,
        model: None,
        solver: SolverSpec::default(),
        init: InitSpec::default(),
        loss: LossSpec::default(),
        regularizer: RegularizerSpec::None,
        optimizer: OptimizerSpec::default(),
        normalize: crate::spec::method::NormalizeSpec::None,
        per_task: std::collections::BTreeMap::new(),
    }
}

/// L-BFGS whose directions start from bands of frequency once this PSNR is observed.
fn bands(from_psnr: f64) -> OptimizerSpec {
    let initial = InitialHessian::Bands(BandsSpec { from_psnr, ..BandsSpec::default() });
    OptimizerSpec::Lbfgs(LbfgsSpec { initial: Some(initial), ..LbfgsSpec::default() })
}

fn hole() -> OperatorSpec {
    OperatorSpec::CenterMask(CenterMask { size: 2 })
}

/// A draw from the prior, degraded.
fn problem(method: MethodSpec, operator: &OperatorSpec, sigma: f64) -> Problem {
    let operator = Degradation::new(operator, SHAPE).unwrap().for_sample(&mut stream(Purpose::Mask));
    let noise = stream(Purpose::MethodNoise).normals(SHAPE.dim());
    let truth = solve(&mut prior(), &forward(SolverSpec::Midpoint(FixedSteps { nfe: 40 })), &noise, &COND);
    let y = measure(&operator, &truth.unwrap().x, sigma, &mut stream(Purpose::MeasurementNoise));
    let goal = Goal::Restore(Restoration::new(&method, operator, y, sigma));
    let draws = Draws::for_method(&method, &goal, stream);
    Problem::new(method, goal, draws)
}

fn dflow(spec: DflowSpec, sigma: f64) -> Problem {
    problem(MethodSpec::Dflow(Box::new(spec)), &hole(), sigma)
}

fn forward(solver: SolverSpec) -> super::Grid {
    super::Grid { solver, direction: super::Direction::Forward }
}

/// Answers asks with a field, as a worker with one slot. After a restart the tape is made anew.
struct Driver<F> {
    field: F,
    seconds: f64,
    last: Option<(Vec<f32>, super::Grid)>,
    tape: Option<SolveTape<f32>>,
}

impl<F: VelocityField<f32>> Driver<F> {
    fn new(field: F) -> Self {
        Self { field, seconds: 0.0, last: None, tape: None }
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Solve { start, grid } => {
                self.last = Some((start.clone(), *grid));
                let (solution, tape) = self.taped();
                self.tape = Some(tape);
                Answer::State(solution)
            }
            Ask::PullBack { cotangent } => {
                let tape = self.tape.take().unwrap_or_else(|| self.taped().1);
                Answer::Gradient(pull_back(&mut self.field, tape, &COND, cotangent).unwrap().x)
            }
            Ask::Velocity { t, x, .. } => {
                let mut out = vec![0.0; x.len()];
                self.field.velocity(Rows { t: &[*t], x, cond: &COND }, &mut out).unwrap();
                Answer::State(out)
            }
            Ask::Vjp { t, x, cotangent } => {
                let mut out = vec![0.0; x.len()];
                self.field.vjp(Rows { t: &[*t], x, cond: &COND }, cotangent, &mut out).unwrap();
                Answer::Gradient(out)
            }
            Ask::Noise { .. } | Ask::ReadOut { .. } | Ask::ReadOutVjp { .. } => panic!("{ask:?} of an image"),
            Ask::Done => panic!("nothing was asked"),
        }
    }

    fn taped(&mut self) -> (Vec<f32>, SolveTape<f32>) {
        let (start, grid) = self.last.clone().expect("a pull-back follows a solve");
        let (solution, tape) = solve_taped(&mut self.field, &grid, &start, &COND, Keep::Inputs).unwrap();
        (solution.x, tape)
    }

    /// Solves to the end; with `restart`, the state is written and read back at every ask.
    fn run(&mut self, problem: &Problem, restart: bool) -> Result<Outcome, MethodError> {
        let mut state = Solve::new(problem);
        let mut ask = state.next(problem, Answer::Start, self.seconds)?;
        while ask != Ask::Done {
            if restart {
                let bytes = postcard::to_stdvec(&(&state, &ask)).unwrap();
                (state, ask) = postcard::from_bytes(&bytes).unwrap();
                self.tape = None;
            }
            let answer = self.answer(&ask);
            self.seconds += 1.0;
            ask = state.next(problem, answer, self.seconds)?;
        }
        assert_eq!(state.progress().evals, state.outcome().unwrap().evals);
        Ok(state.outcome().unwrap())
    }
}

fn run(problem: &Problem) -> Outcome {
    Driver::new(prior()).run(problem, false).unwrap()
}

fn restored(problem: &Problem) -> &Restoration {
    problem.goal.restoration().unwrap()
}

fn observed_psnr(problem: &Problem, x: &[f32]) -> f64 {
    let seen = restored(problem).operator.apply(x);
    super::loss::psnr(super::loss::mean_squared_error(&seen, &restored(problem).measurement))
}

#[test]
fn noiseless_inpainting_reaches_its_target_and_fills_the_hole() {
    let problem = dflow(spec(vec![StopRule::TargetPsnr(45.0), StopRule::Evals(600)]), 0.0);
    let outcome = run(&problem);
    assert_eq!(outcome.stop_reason, StopReason::TargetPsnr);
    assert!(outcome.observed_psnr.unwrap() >= 45.0);
    assert_eq!(outcome.observed_psnr.unwrap(), observed_psnr(&problem, &outcome.reconstruction));
    assert!(outcome.best_psnr >= outcome.observed_psnr);
    assert_eq!(observed_psnr(&problem, &outcome.best), outcome.best_psnr.unwrap());
    // The pseudo-inverse leaves zeros in the hole; correlated neighbours tell more.
    let truth_noise = stream(Purpose::MethodNoise).normals(SHAPE.dim());
    let truth =
        solve(&mut prior(), &forward(SolverSpec::Midpoint(FixedSteps { nfe: 40 })), &truth_noise, &COND);
    let truth = truth.unwrap().x;
    let hole = restored(&problem).operator.hole().unwrap();
    let error = |x: &[f32]| -> f64 {
        (0..SHAPE.dim()).filter(|&i| hole[i]).map(|i| f64::from(x[i] - truth[i]).powi(2)).sum()
    };
    assert!(
        error(&outcome.reconstruction)
            < 0.5 * error(&restored(&problem).operator.pinv(&restored(&problem).measurement))
    );
}

#[test]
fn the_trace_holds_every_evaluation_and_the_outcome_is_one_of_them() {
    let outcome = run(&dflow(spec(vec![StopRule::Evals(40)]), 0.05));
    assert_eq!(outcome.evals, 40);
    assert_eq!(outcome.trace.len(), 40);
    assert!(outcome.trace.iter().enumerate().all(|(i, point)| point.eval as usize == i + 1));
    let accepted = outcome.trace.iter().find(|point| point.loss == outcome.loss.unwrap()).unwrap();
    assert_eq!(accepted.psnr, outcome.observed_psnr);
    // Without a penalty, −PSNR is the loss.
    assert_eq!(accepted.loss, -accepted.psnr.unwrap());
}

#[test]
fn a_solve_cut_at_any_evaluation_returns_a_point_no_worse_than_an_earlier_cut() {
    let mut before = f64::INFINITY;
    for evals in 1..60 {
        let outcome = run(&dflow(spec(vec![StopRule::Evals(evals)]), 0.05));
        assert_eq!((outcome.evals, outcome.stop_reason), (evals, StopReason::Evals));
        let loss = outcome.loss.unwrap();
        assert!(loss <= before, "{evals} evaluations");
        before = loss;
    }
}

/// Every kind of option, for the tests that hold for all of them.
fn variants() -> Vec<DflowSpec> {
    let base = || spec(vec![StopRule::Evals(45)]);
    let midpoint = |nfe| SolverSpec::Midpoint(FixedSteps { nfe });
    let nll = RegularizerSpec::Nll(NllSpec { weight: 0.01, probes: 2 });
    let backward = BlendSpec { solver: Some(midpoint(10)), ..BlendSpec::new(0.25) };
    vec![
        base(),
        DflowSpec {
            regularizer: RegularizerSpec::Chi(0.01),
            loss: LossSpec::NegPsnr(LossSpace::Pinv),
            ..base()
        },
        DflowSpec { regularizer: RegularizerSpec::Gaussian(0.01), init: InitSpec::Source, ..base() },
        DflowSpec {
            loss: LossSpec::SquaredError(LossSpace::Measurement),
            init: InitSpec::Blend(backward),
            ..base()
        },
        DflowSpec { regularizer: nll, solver: SolverSpec::Rk4(FixedSteps { nfe: 8 }), ..base() },
        DflowSpec { regularizer: nll, solver: midpoint(4), ..base() },
        DflowSpec { solver: SolverSpec::Dopri5(Adaptive { rtol: 1e-4, atol: 1e-4 }), ..base() },
        DflowSpec { optimizer: bands(20.0), stop_tests: Some(StopTests::Evaluation), ..base() },
    ]
}

#[test]
fn a_solve_stored_at_every_ask_is_bit_identical() {
    for spec in variants() {
        let problem = dflow(spec, 0.05);
        let whole = Driver::new(prior()).run(&problem, false).unwrap();
        let interrupted = Driver::new(prior()).run(&problem, true).unwrap();
        assert_eq!(whole, interrupted);
        assert_eq!(whole.evals, 45);
    }
}

#[test]
fn rules_tested_at_evaluations_end_a_solve_at_the_first_accepted_point_that_meets_them() {
    let stop = vec![StopRule::TargetPsnr(45.0), StopRule::Evals(600)];
    let whole = run(&dflow(spec(stop.clone()), 0.0));
    let early = run(&dflow(DflowSpec { stop_tests: Some(StopTests::Evaluation), ..spec(stop) }, 0.0));
    assert_eq!((whole.stop_reason, early.stop_reason), (StopReason::TargetPsnr, StopReason::TargetPsnr));
    // The same steps, ended earlier, with no point before that was accepted and met the rule.
    assert_eq!(early.trace[..], whole.trace[..early.trace.len()]);
    assert!(early.evals < whole.evals, "{} of {}", early.evals, whole.evals);
    assert!(early.observed_psnr.unwrap() >= 45.0);
    assert_eq!(early.trace.last().unwrap().psnr, early.observed_psnr, "the point is the last evaluated");
}

#[test]
fn bands_are_used_from_their_psnr_on() {
    let solve = |optimizer| run(&dflow(DflowSpec { optimizer, ..spec(vec![StopRule::Evals(60)]) }, 0.0));
    let (scalar, from_30, never) = (solve(OptimizerSpec::default()), solve(bands(30.0)), solve(bands(99.0)));
    assert_eq!(scalar, never);
    let parting = scalar.trace.iter().zip(&from_30.trace).position(|(a, b)| a != b).expect("they part");
    // The first direction with bands starts from a point of 30 dB, the first there is.
    let best = |points: &[super::TracePoint]| points.iter().filter_map(|p| p.psnr).fold(0.0, f64::max);
    let reached = scalar.trace.iter().position(|point| point.psnr >= Some(30.0)).unwrap();
    assert!((reached..reached + 3).contains(&parting), "parted at {parting}, 30 dB at {reached}");
    assert!(best(&from_30.trace) >= best(&scalar.trace[..=parting]));
}

#[test]
fn a_given_start_is_the_first_source_point() {
    let given = InitSpec::Given("starts.safetensors".to_owned());
    let mut problem = dflow(DflowSpec { init: given, ..spec(vec![StopRule::Evals(1)]) }, 0.0);
    assert_eq!(Driver::new(prior()).run(&problem, false), Err(MethodError::NoStart));
    let start = stream(Purpose::Init).normals(SHAPE.dim());
    problem.draws.given = Some(start.clone());
    let outcome = run(&problem);
    assert_eq!(outcome.x0_norm, Some(crate::optim::norm(&start)));
    problem.draws.given = Some(vec![0.0; 5]);
    assert!(matches!(Driver::new(prior()).run(&problem, false), Err(MethodError::Length { found: 5, .. })));
}

#[test]
fn a_blend_without_weight_is_the_source() {
    let blend = InitSpec::Blend(BlendSpec::new(0.0));
    let from = |init| run(&dflow(DflowSpec { init, ..spec(vec![StopRule::Evals(5)]) }, 0.0));
    let (blended, source) = (from(blend), from(InitSpec::Source));
    assert_eq!(blended.reconstruction, source.reconstruction);
    let whole = from(InitSpec::Blend(BlendSpec::new(1.0)));
    // The backward solve of the measurement, forward again, is close to it where it was seen.
    assert!(whole.trace[0].psnr > source.trace[0].psnr);
}

#[test]
fn the_clock_ends_a_solve_at_the_next_evaluation() {
    // One second an ask; an evaluation is two asks, and the backward solve is one.
    let outcome = run(&dflow(spec(vec![StopRule::TimeLimit(10.0)]), 0.0));
    assert_eq!((outcome.evals, outcome.stop_reason), (5, StopReason::TimeLimit));
}

#[test]
fn a_minimum_ends_a_solve_before_its_rules_do() {
    let gaussian = DflowSpec {
        loss: LossSpec::SquaredError(LossSpace::Measurement),
        regularizer: RegularizerSpec::Gaussian(1.0),
        ..spec(vec![StopRule::Evals(5000)])
    };
    let outcome = run(&dflow(gaussian, 0.05));
    assert!(outcome.evals < 5000);
    assert!(matches!(outcome.stop_reason, StopReason::Converged | StopReason::LineSearchFailed));
}

#[test]
fn a_field_of_nan_is_an_error_at_the_first_point() {
    struct Broken;
    impl VelocityField<f32> for Broken {
        fn dim(&self) -> usize {
            SHAPE.dim()
        }
        fn velocity(&mut self, _: Rows<'_, f32>, out: &mut [f32]) -> Result<(), crate::flow::FieldError> {
            out.fill(f32::NAN);
            Ok(())
        }
        fn velocity_taped(
            &mut self,
            rows: Rows<'_, f32>,
            out: &mut [f32],
        ) -> Result<crate::flow::Tape, crate::flow::FieldError> {
            self.velocity(rows, out)?;
            Ok(Box::new(()))
        }
        fn pull_back(
            &mut self,
            _: crate::flow::Tape,
            _: &[f32],
            out: &mut [f32],
        ) -> Result<(), crate::flow::FieldError> {
            out.fill(f32::NAN);
            Ok(())
        }
        fn tape_bytes_per_row(&self) -> usize {
            0
        }
    }
    let problem = dflow(spec(vec![StopRule::Evals(50)]), 0.0);
    let error = Driver::new(Broken).run(&problem, false).unwrap_err();
    assert!(matches!(error, MethodError::NonFinite { .. }), "{error}");
}

#[test]
fn answers_that_do_not_belong_are_refused() {
    let problem = dflow(spec(vec![StopRule::Evals(50)]), 0.0);
    let mut state = Solve::new(&problem);
    assert!(state.next(&problem, Answer::Gradient(vec![0.0; SHAPE.dim()]), 0.0).is_err());
    let mut state = Solve::new(&problem);
    state.next(&problem, Answer::Start, 0.0).unwrap();
    let error = state.next(&problem, Answer::State(vec![0.0; 3]), 0.0).unwrap_err();
    assert_eq!(error, MethodError::Length { what: "the backward solve", expected: SHAPE.dim(), found: 3 });
}

#[test]
fn the_pseudo_inverse_needs_no_evaluation() {
    let problem = problem(MethodSpec::Pinv(PinvSpec::default()), &hole(), 0.05);
    let outcome = run(&problem);
    assert_eq!(outcome.reconstruction, restored(&problem).operator.pinv(&restored(&problem).measurement));
    assert_eq!((outcome.evals, outcome.stop_reason), (0, StopReason::Direct));
    assert_eq!(outcome.x0_norm, None);
}

#[test]
fn the_likelihood_penalty_refuses_an_adaptive_solver() {
    let adaptive = SolverSpec::Dopri5(Adaptive { rtol: 1e-4, atol: 1e-4 });
    let nll = RegularizerSpec::Nll(NllSpec { weight: 1.0, probes: 1 });
    let problem =
        dflow(DflowSpec { solver: adaptive, regularizer: nll, ..spec(vec![StopRule::Evals(3)]) }, 0.0);
    assert_eq!(Driver::new(prior()).run(&problem, false), Err(MethodError::AdaptiveLikelihood));
}

/// Loss and its gradient at `x0` of the objective `nll`-penalised, by its own asks.
fn likelihood<F: VelocityField<f32>>(
    driver: &mut Driver<F>,
    solver: SolverSpec,
    x0: &[f32],
    (weight, probes): (f64, &[Vec<f32>]),
    cotangent: &[f32],
) -> (f64, Vec<f32>, Vec<f32>) {
    let (mut pass, mut ask) = super::nll::Pass::start(solver, x0.to_vec()).unwrap();
    let mut x1 = Vec::new();
    loop {
        let (Answer::State(row) | Answer::Gradient(row)) = driver.answer(&ask) else { panic!("no answer") };
        ask = match pass.next(row, weight, probes).unwrap() {
            super::nll::PassStep::Ask(ask) => ask,
            super::nll::PassStep::Arrived(end) => {
                x1 = end;
                pass.turn(cotangent.to_vec(), probes).unwrap()
            }
            super::nll::PassStep::Done { value, gradient } => return (value, gradient, x1),
        };
    }
}

fn signs(dim: usize, probes: usize) -> Vec<Vec<f32>> {
    let mut stream = stream(Purpose::NllProbe);
    (0..probes).map(|_| (0..dim).map(|_| stream.rademacher() as f32).collect()).collect()
}

#[test]
fn the_likelihood_of_a_diagonal_gaussian_is_exact() {
    let (mean, variances) = (vec![0.3, -0.2, 0.0, 1.0], vec![0.5, 2.0, 1.0, 0.1]);
    let field = GaussianField::<f32>::diagonal(Path::CondOt, mean.clone(), variances.clone()).unwrap();
    let mut driver = Driver::new(field);
    let solver = SolverSpec::Rk4(FixedSteps { nfe: 400 });
    let x0 = [0.4, -1.0, 0.7, 0.2];
    let (value, gradient, x1) = likelihood(&mut driver, solver, &x0, (1.0, &signs(4, 1)), &[0.0; 4]);
    let expected: f64 = (0..4)
        .map(|i| {
            let e = f64::from(x1[i]) - mean[i];
            0.5 * (e * e / variances[i] + (std::f64::consts::TAU * variances[i]).ln())
        })
        .sum();
    // One sign vector gives the trace of a diagonal exactly; f32 states remain, over 100 steps.
    assert!((value - expected).abs() < 1e-4, "{value} {expected}");
    // x(1) is affine in x₀ with slope √variance: −log p₁ is ½x₀² + constant.
    for (g, x) in gradient.iter().zip(x0) {
        // Rounding of f32 over the central difference: 1e-7 / 1e-2 at each of 400 stages of weight 1/400.
        assert!((g - x).abs() < 1e-3, "{g} {x}");
    }
}

#[test]
fn the_likelihood_gradient_equals_differences_where_the_divergence_varies() {
    let component = |weight, mean: [f64; 2], covariance: [f64; 4]| Component {
        weight,
        mean: mean.to_vec(),
        covariance: covariance.to_vec(),
    };
    let components = [
        component(0.6, [1.0, 0.5], [0.3, 0.1, 0.1, 0.2]),
        component(0.4, [-0.8, 0.2], [0.2, -0.05, -0.05, 0.4]),
    ];
    let field = GaussianMixture::new(Path::CondOt, &components).unwrap();
    let mut driver = Driver::new(field);
    let (probes, x0, cotangent) = (signs(2, 2), [0.3_f32, -0.4], [0.7_f32, -0.2]);
    for solver in [
        SolverSpec::Euler(FixedSteps { nfe: 5 }),
        SolverSpec::Midpoint(FixedSteps { nfe: 8 }),
        SolverSpec::Heun(FixedSteps { nfe: 8 }),
        SolverSpec::Rk4(FixedSteps { nfe: 12 }),
    ] {
        let mut objective = |x0: &[f32]| {
            let (value, gradient, x1) = likelihood(&mut driver, solver, x0, (0.7, &probes), &cotangent);
            let linear: f64 = x1.iter().zip(&cotangent).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            (value + linear, gradient)
        };
        let (_, gradient) = objective(&x0);
        for i in 0..2 {
            let step = 0.01_f32;
            let mut moved = |sign: f32| {
                let mut x = x0;
                x[i] += sign * step;
                objective(&x).0
            };
            let difference = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
            // f32 rounding over the step (1e-5), and the O(δ²) of either difference.
            assert!(
                (f64::from(gradient[i]) - difference).abs() < 2e-3,
                "{solver:?}: {gradient:?} {difference}"
            );
        }
    }
}

#[test]
fn a_likelihood_evaluation_fits_as_well_as_a_plain_one() {
    let nll = RegularizerSpec::Nll(NllSpec { weight: 1e-4, probes: 1 });
    let stop = vec![StopRule::TargetPsnr(32.0), StopRule::Evals(300)];
    let outcome = run(&dflow(DflowSpec { regularizer: nll, ..spec(stop) }, 0.05));
    assert_eq!(outcome.stop_reason, StopReason::TargetPsnr);
}

#[test]
fn denoising_uses_the_whole_image() {
    let spec = spec(vec![StopRule::TargetPsnr(32.0), StopRule::Evals(300)]);
    let problem = problem(MethodSpec::Dflow(Box::new(spec)), &OperatorSpec::Identity(Identity {}), 0.05);
    assert_eq!(run(&problem).stop_reason, StopReason::TargetPsnr);
}

#[test]
fn the_likelihood_equals_that_of_a_solve_from_the_data() {
    let dim = SHAPE.dim();
    let (x0, probes) = (stream(Purpose::Init).normals(dim), signs(dim, 2));
    let solver = SolverSpec::Rk4(FixedSteps { nfe: 80 });
    let mut driver = Driver::new(prior());
    let (value, _, x1) = likelihood(&mut driver, solver, &x0, (1.0, &probes), &vec![0.0; dim]);
    let values = probes.concat();
    let divergence = Divergence::Hutchinson(Probes { count: 2, values: &values });
    let backward = log_likelihood(&mut driver.field, solver, &x1, &COND, divergence).unwrap();
    // Forward and backward steps differ by the solver's error, and f32 remains: 1e-3 of some 50 nats.
    assert!((value + backward.log_p[0]).abs() < 0.05, "{value} {:?}", backward.log_p);
}
