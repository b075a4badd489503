//! OT-ODE, ΠGDM and RED-Diff on Gaussian data N(m, S) with a full covariance, against dense recursions in f64 that are
//! written from the papers: x̂ = m + αSC⁻¹(x − αm) with C = α²S + σ²I, all products and inverses explicit.

mod guided;
mod red_diff;

use super::{Answer, Ask, Draws, Goal, Outcome, Problem, Restoration, Solve, StopReason};
use crate::flow::{Cond, GaussianField, Rows, VelocityField};
use crate::operator::{Degradation, Operator, Shape, measure};
use crate::path::{Path, PathPoint};
use crate::random::{Purpose, Stream};
use crate::spec::method::MethodSpec;
use crate::spec::operator::OperatorSpec;

const SHAPE: Shape = Shape::new(1, 4, 4);
const DIM: usize = SHAPE.dim();

type Matrix = Vec<Vec<f64>>;

fn stream(purpose: Purpose) -> Stream {
    Stream::new(11, "baselines", "0", purpose)
}

fn identity() -> Matrix {
    (0..DIM).map(|i| (0..DIM).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

/// A covariance without zeros: neighbours are alike, and no two pixels have the same variance.
fn covariance() -> Matrix {
    let entry = |i: usize, j: usize| {
        let place = |i: usize| ((i / 4) as f64, (i % 4) as f64);
        let ((a, b), (c, d)) = (place(i), place(j));
        let scale = |i: usize| 0.4 + 0.05 * i as f64;
        let near = (-((a - c).powi(2) + (b - d).powi(2)) / 3.0).exp();
        scale(i) * scale(j) * near + if i == j { 0.05 } else { 0.0 }
    };
    (0..DIM).map(|i| (0..DIM).map(|j| entry(i, j)).collect()).collect()
}

fn mean() -> Vec<f64> {
    (0..DIM).map(|i| 0.3 * (1.7 * i as f64).sin()).collect()
}

fn times(a: &Matrix, x: &[f64]) -> Vec<f64> {
    a.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect()
}

fn transposed(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|j| a.iter().map(|row| row[j]).collect()).collect()
}

/// a·A + b·I.
fn shifted(factor: f64, a: &Matrix, shift: f64) -> Matrix {
    let entry = |i: usize, j: usize| factor * a[i][j] + if i == j { shift } else { 0.0 };
    (0..a.len()).map(|i| (0..a.len()).map(|j| entry(i, j)).collect()).collect()
}

/// A Aᵀ.
fn gram(a: &Matrix) -> Matrix {
    a.iter().map(|row| times(a, row)).collect()
}

/// A⁻¹b by Gaussian elimination with partial pivoting.
fn solved(a: &Matrix, b: &[f64]) -> Vec<f64> {
    let n = b.len();
    let mut rows: Matrix = a.iter().zip(b).map(|(row, b)| [&row[..], &[*b]].concat()).collect();
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| rows[i][k].abs().total_cmp(&rows[j][k].abs())).unwrap();
        rows.swap(k, pivot);
        let (head, tail) = rows.split_at_mut(k + 1);
        for row in tail {
            let factor = row[k] / head[k][k];
            row.iter_mut().zip(&head[k]).for_each(|(entry, above)| *entry -= factor * above);
        }
    }
    let mut x = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| rows[k][j] * x[j]).sum();
        x[k] = (rows[k][n] - known) / rows[k][k];
    }
    x
}

/// Σ factor·vector.
fn sum(terms: &[(f64, &[f64])]) -> Vec<f64> {
    (0..terms[0].1.len()).map(|i| terms.iter().map(|(factor, v)| factor * v[i]).sum()).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn distance(a: &[f32], b: &[f64]) -> f64 {
    let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    norm(&sum(&[(1.0, &wide(a)), (-1.0, b)])) / norm(b)
}

/// H as a matrix.
fn dense(operator: &Operator) -> Matrix {
    let column = |i: usize| {
        let unit: Vec<f32> = (0..DIM).map(|j| f32::from(u8::from(i == j))).collect();
        wide(&operator.apply(&unit))
    };
    transposed(&(0..DIM).map(column).collect())
}

/// N(m, S) with the conditional expectations that every method sees.
struct Gaussian {
    mean: Vec<f64>,
    covariance: Matrix,
}

impl Gaussian {
    fn full() -> Self {
        Self { mean: mean(), covariance: covariance() }
    }

    /// C = α²S + σ²I.
    fn marginal(&self, alpha: f64, sigma: f64) -> Matrix {
        shifted(alpha * alpha, &self.covariance, sigma * sigma)
    }

    /// C⁻¹(x − αm).
    fn whitened(&self, alpha: f64, sigma: f64, x: &[f64]) -> Vec<f64> {
        solved(&self.marginal(alpha, sigma), &sum(&[(1.0, x), (-alpha, &self.mean)]))
    }

    fn denoised(&self, alpha: f64, sigma: f64, x: &[f64]) -> Vec<f64> {
        let pulled = times(&self.covariance, &self.whitened(alpha, sigma, x));
        sum(&[(1.0, &self.mean), (alpha, &pulled)])
    }

    fn noise(&self, alpha: f64, sigma: f64, x: &[f64]) -> Vec<f64> {
        sum(&[(sigma, &self.whitened(alpha, sigma, x))])
    }

    /// (∂x̂/∂x)ᵀ Hᵀ(r²HHᵀ + σ_y²I)⁻¹(y − Hx̂), r² = σ²/(α² + σ²).
    fn guidance(&self, case: &Case, alpha: f64, sigma: f64, x: &[f64]) -> Vec<f64> {
        let r2 = sigma * sigma / (alpha * alpha + sigma * sigma);
        let residual = sum(&[(1.0, &case.y), (-1.0, &times(&case.h, &self.denoised(alpha, sigma, x)))]);
        let spread = shifted(r2, &gram(&case.h), case.sigma_y * case.sigma_y);
        let w = times(&transposed(&case.h), &solved(&spread, &residual));
        // J = αSC⁻¹: Jᵀw = αC⁻¹Sw.
        sum(&[(alpha, &solved(&self.marginal(alpha, sigma), &times(&self.covariance, &w)))])
    }

    fn field(&self, path: &Path) -> GaussianField<f32> {
        GaussianField::dense(path.clone(), &self.mean, &self.covariance.concat()).unwrap()
    }
}

/// A measurement, and the problem that a method is given.
struct Case {
    h: Matrix,
    y: Vec<f64>,
    sigma_y: f64,
    problem: Problem,
}

fn operators() -> Vec<OperatorSpec> {
    let specs = serde_json::json!([
        { "center_mask": { "size": 2 } },
        { "bicubic": { "factor": 2 } },
        { "gaussian_blur": { "size": 3, "sigma": 0.6 } },
        { "identity": {} },
    ]);
    serde_json::from_value(specs).unwrap()
}

fn method(json: serde_json::Value) -> MethodSpec {
    serde_json::from_value(json).unwrap()
}

fn case(method: &MethodSpec, operator: &OperatorSpec, sigma_y: f64, path: &Path) -> Case {
    let operator = Degradation::new(operator, SHAPE).unwrap().for_sample(&mut stream(Purpose::Mask));
    let truth: Vec<f32> = stream(Purpose::Image).normals(DIM).iter().map(|x| 0.5 * x).collect();
    let y = measure(&operator, &truth, sigma_y, &mut stream(Purpose::MeasurementNoise));
    with_measurement(method, operator, y, sigma_y, path)
}

fn with_measurement(method: &MethodSpec, operator: Operator, y: Vec<f32>, sigma_y: f64, path: &Path) -> Case {
    let (h, wide_y) = (dense(&operator), wide(&y));
    let goal = Goal::Restore(Restoration::new(method, operator, y, sigma_y));
    let draws = Draws::for_method(method, &goal, stream);
    let problem = Problem { path: Some(path.clone()), ..Problem::new(method.clone(), goal, draws) };
    Case { h, y: wide_y, sigma_y, problem }
}

impl Case {
    fn operator(&self) -> &Operator {
        &self.problem.goal.restoration().unwrap().operator
    }

    fn z(&self) -> Vec<f64> {
        wide(&self.problem.draws.z)
    }

    fn step_noise(&self, step: u32) -> Vec<f64> {
        wide(&self.problem.draws.noise.as_ref().unwrap().of(step))
    }

    /// Solves with a field; where `restart`, the state is written and read back at every ask.
    fn run(&self, field: &mut dyn VelocityField<f32>, restart: bool) -> Outcome {
        let mut solve = Solve::new(&self.problem);
        let mut ask = solve.next(&self.problem, Answer::Start, 0.0).unwrap();
        while ask != Ask::Done {
            if restart {
                let bytes = postcard::to_stdvec(&(&solve, &ask)).unwrap();
                (solve, ask) = postcard::from_bytes(&bytes).unwrap();
            }
            let cond = &[Cond::None];
            let mut out = vec![0.0; DIM];
            let answer = match &ask {
                Ask::Velocity { t, x, .. } => {
                    field.velocity(Rows { t: &[*t], x, cond }, &mut out).unwrap();
                    Answer::State(out)
                }
                Ask::Vjp { t, x, cotangent } => {
                    field.vjp(Rows { t: &[*t], x, cond }, cotangent, &mut out).unwrap();
                    Answer::Gradient(out)
                }
                other => panic!("{other:?} of a method that steps by itself"),
            };
            ask = solve.next(&self.problem, answer, 0.0).unwrap();
        }
        assert_eq!(solve.progress().evals, solve.outcome().unwrap().evals);
        solve.outcome().unwrap()
    }

    fn reconstruction(&self, data: &Gaussian, path: &Path) -> Vec<f32> {
        self.run(&mut data.field(path), false).reconstruction
    }
}

fn paths() -> [Path; 3] {
    [Path::CondOt, Path::vp_linear(), Path::Polynomial2]
}

/// Every operator, with and without noise.
fn cases(method: &MethodSpec, path: &Path) -> Vec<Case> {
    let noises = [0.0, 0.1];
    let all = operators().into_iter().flat_map(|operator| noises.map(|sigma| (operator, sigma)));
    all.map(|(operator, sigma)| case(method, &operator, sigma, path)).collect()
}

/// ᾱ of the diffusion, by the product of its 1000 factors.
fn alpha_bar() -> Vec<f64> {
    let betas = (0..1000).map(|k| 1e-4 + (0.02 - 1e-4) * f64::from(k) / 999.0);
    betas
        .scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        })
        .collect()
}

#[test]
fn a_solve_stored_at_every_ask_is_bit_identical_and_its_trace_whole() {
    let methods = serde_json::json!([
        { "ot_ode": { "steps": 30 } },
        { "pigdm": {} },
        { "pigdm": { "form": { "ddim": { "steps": 20, "eta": 0.4 } } } },
        { "red_diff": { "steps": 40, "sigma_x0": 0.1, "init": "zeros", "weight": "log" } },
    ]);
    let data = Gaussian::full();
    for (method, steps) in
        serde_json::from_value::<Vec<MethodSpec>>(methods).unwrap().iter().zip([24, 99, 20, 40])
    {
        let case = case(method, &operators()[1], 0.05, &Path::CondOt);
        let whole = case.run(&mut data.field(&Path::CondOt), false);
        let interrupted = case.run(&mut data.field(&Path::CondOt), true);
        assert_eq!(whole, interrupted, "{}", method.kind());
        assert_eq!((whole.evals, whole.stop_reason), (steps, StopReason::Steps));
        assert!(whole.trace.iter().map(|point| point.eval).eq(1..=steps));
        let seen = case.operator().apply(&whole.reconstruction);
        let y = &case.problem.goal.restoration().unwrap().measurement;
        let expected = super::loss::psnr(super::loss::mean_squared_error(&seen, y));
        assert_eq!(whole.observed_psnr, Some(expected));
    }
}

#[test]
fn a_problem_without_a_path_is_an_error() {
    let method = method(serde_json::json!({ "ot_ode": {} }));
    let mut case = case(&method, &operators()[3], 0.0, &Path::CondOt);
    case.problem.path = None;
    let error = Solve::new(&case.problem).next(&case.problem, Answer::Start, 0.0).unwrap_err();
    assert!(error.to_string().contains("probability path"), "{error}");
}
