//! OT-ODE and both forms of ΠGDM: dense recursions, the posterior of white data, and a curved field.

use super::*;
use crate::flow::{Component, GaussianMixture};
use crate::spec::init::Lift;

/// The guided flow from x at the point `first` of a grid of `steps`.
fn guided_flow(
    data: &Gaussian,
    case: &Case,
    path: &Path,
    (steps, first): (u32, u32),
    adaptive: bool,
    mut x: Vec<f64>,
) -> Vec<f64> {
    for k in first..steps {
        let PathPoint { alpha, sigma, d_alpha, d_sigma } = path.at(f64::from(k) / f64::from(steps));
        let u = sum(&[(d_alpha, &data.denoised(alpha, sigma, &x)), (d_sigma, &data.noise(alpha, sigma, &x))]);
        let gamma = if adaptive { (alpha / (alpha * alpha + sigma * sigma)).sqrt() } else { 1.0 };
        let slope = sigma * sigma * (d_alpha / alpha - d_sigma / sigma);
        let g = data.guidance(case, alpha, sigma, &x);
        let h = 1.0 / f64::from(steps);
        x = sum(&[(1.0, &x), (h, &u), (h * slope * gamma, &g)]);
    }
    x
}

/// A diffusion's path keeps noise at its end; a model that says so takes it away inside of the solve.
#[test]
fn a_guided_flow_ends_with_the_finishing_denoise_of_its_model() {
    let (data, path) = (Gaussian::full(), Path::vp_linear());
    let end = path.at(1.0);
    for (json, finishes) in [
        (serde_json::json!({ "ot_ode": { "steps": 20 } }), true),
        (serde_json::json!({ "pigdm": { "form": { "flow": { "steps": 20 } } } }), true),
        (serde_json::json!({ "pigdm": { "form": { "ddim": { "steps": 20 } } } }), false),
    ] {
        for mut case in cases(&method(json), &path) {
            let plain = case.reconstruction(&data, &path);
            case.problem.finish = true;
            let finished = case.reconstruction(&data, &path);
            if finishes {
                assert!(distance(&finished, &data.denoised(end.alpha, end.sigma, &wide(&plain))) < 1e-4);
                assert!(finished != plain);
            } else {
                assert_eq!(finished, plain);
            }
        }
    }
}

#[test]
fn ot_ode_is_its_own_dense_recursion() {
    let data = Gaussian::full();
    for (adaptive, gamma) in [(false, "one"), (true, "adaptive")] {
        for path in paths() {
            let method =
                method(serde_json::json!({ "ot_ode": { "steps": 50, "start": 0.2, "gamma": gamma } }));
            for case in cases(&method, &path) {
                let lifted =
                    case.operator().lift(&case.problem.goal.restoration().unwrap().measurement, Lift::Auto);
                let PathPoint { alpha, sigma, .. } = path.at(0.2);
                let start = sum(&[(alpha, &wide(&lifted.unwrap())), (sigma, &case.z())]);
                let expected = guided_flow(&data, &case, &path, (50, 10), adaptive, start);
                let far = distance(&case.reconstruction(&data, &path), &expected);
                // f32 states over 40 steps.
                assert!(far < 2e-5, "{path:?} {gamma} σ_y = {}: {far:e}", case.sigma_y);
            }
        }
    }
}

#[test]
fn pigdm_as_a_flow_starts_from_noise_at_the_first_point_of_the_grid() {
    let data = Gaussian::full();
    let method = method(serde_json::json!({ "pigdm": { "form": { "flow": { "steps": 50 } } } }));
    for path in paths() {
        for case in cases(&method, &path) {
            let expected = guided_flow(&data, &case, &path, (50, 1), true, case.z());
            let far = distance(&case.reconstruction(&data, &path), &expected);
            assert!(far < 2e-5, "{path:?} σ_y = {}: {far:e}", case.sigma_y);
        }
    }
}

/// The guided DDIM sampler in the diffusion's own time.
fn ddim(data: &Gaussian, case: &Case, steps: usize, eta: f64, product: bool, mut x: Vec<f64>) -> Vec<f64> {
    let table = alpha_bar();
    let indices: Vec<usize> = (0..steps).rev().map(|i| i * 1000 / steps).collect();
    for (k, &index) in indices.iter().enumerate() {
        let from = table[index];
        let to = indices.get(k + 1).map_or(1.0, |&next| table[next]);
        let (alpha, sigma) = (from.sqrt(), (1.0 - from).sqrt());
        let c1 = eta * ((1.0 - from / to) * (1.0 - to) / (1.0 - from)).sqrt();
        let c2 = (1.0 - to - c1 * c1).sqrt();
        let fresh = if eta > 0.0 { case.step_noise(k as u32) } else { vec![0.0; DIM] };
        // The guidance of the sampler is r² = 1 − ᾱ times that of ln p(y | x).
        let g = data.guidance(case, alpha, sigma, &x);
        let scale = (1.0 - from) * alpha * if product { to.sqrt() } else { 1.0 };
        x = sum(&[
            (to.sqrt(), &data.denoised(alpha, sigma, &x)),
            (c1, &fresh),
            (c2, &data.noise(alpha, sigma, &x)),
            (scale, &g),
        ]);
    }
    x
}

#[test]
fn pigdm_as_ddim_is_the_recursion_in_the_diffusion_s_time_whatever_the_model_s_path() {
    let data = Gaussian::full();
    for (eta, scale) in [(0.0, "from"), (1.0, "from"), (0.3, "product")] {
        for path in paths() {
            let options = serde_json::json!({ "steps": 40, "eta": eta, "scale": scale });
            let method = method(serde_json::json!({ "pigdm": { "form": { "ddim": options } } }));
            for case in cases(&method, &path) {
                let expected = ddim(&data, &case, 40, eta, scale == "product", case.z());
                let far = distance(&case.reconstruction(&data, &path), &expected);
                // States of f32 over 40 steps, which change path and back.
                assert!(far < 5e-5, "{path:?} η = {eta} σ_y = {}: {far:e}", case.sigma_y);
            }
        }
    }
}

#[test]
fn pigdm_may_start_from_the_pseudo_inverse_and_keep_what_was_seen() {
    let data = Gaussian::full();
    let options = serde_json::json!({ "steps": 40, "init": "pinv", "replace_observed": true });
    let method = method(serde_json::json!({ "pigdm": { "form": { "ddim": options } } }));
    let path = Path::CondOt;
    let case = case(&method, &operators()[0], 0.0, &path);
    let outcome = case.run(&mut data.field(&path), false);
    // The last x̂ is x(1), and its observed pixels are those of y.
    assert_eq!(outcome.observed_psnr, Some(120.0));
    let other = serde_json::json!({ "steps": 40, "init": "pinv" });
    let other = self::method(serde_json::json!({ "pigdm": { "form": { "ddim": other } } }));
    let other = self::case(&other, &operators()[0], 0.0, &path);
    let table = alpha_bar();
    let pinv = wide(&other.operator().pinv(&other.problem.goal.restoration().unwrap().measurement));
    let start = sum(&[(table[975].sqrt(), &pinv), ((1.0 - table[975]).sqrt(), &other.z())]);
    let expected = ddim(&data, &other, 40, 0.0, false, start);
    let far = distance(&other.reconstruction(&data, &path), &expected);
    assert!(far < 5e-5, "{far:e}");
}

/// Mean and covariance of x(1) over z ~ N(0, I), which it is an affine function of.
fn law(method: &MethodSpec, data: &Gaussian, operator: &OperatorSpec, sigma_y: f64) -> (Vec<f64>, Matrix) {
    let path = Path::CondOt;
    let mut case = case(method, operator, sigma_y, &path);
    let mut at = |z: Vec<f32>| {
        case.problem.draws.z = z;
        wide(&case.reconstruction(data, &path))
    };
    let origin = at(vec![0.0; DIM]);
    let column = |i: usize| {
        let unit = (0..DIM).map(|j| f32::from(u8::from(i == j))).collect();
        sum(&[(1.0, &at(unit)), (-1.0, &origin)])
    };
    let linear = transposed(&(0..DIM).map(column).collect());
    let covariance = gram(&linear);
    (origin, covariance)
}

/// Mean and covariance of x given y for data N(m, I): m + Hᵀ(HHᵀ + σ_y²I)⁻¹(y − Hm) and I − Hᵀ(HHᵀ + σ_y²I)⁻¹H.
fn posterior(data: &Gaussian, case: &Case) -> (Vec<f64>, Matrix) {
    let spread = shifted(1.0, &gram(&case.h), case.sigma_y * case.sigma_y);
    let residual = sum(&[(1.0, &case.y), (-1.0, &times(&case.h, &data.mean))]);
    let transposed = transposed(&case.h);
    let gain = |e: &[f64]| times(&transposed, &solved(&spread, e));
    let covariance = (0..DIM).map(|i| sum(&[(1.0, &identity()[i]), (-1.0, &gain(&transposed[i]))]));
    (sum(&[(1.0, &data.mean), (1.0, &gain(&residual))]), covariance.collect())
}

#[test]
fn ot_ode_on_white_data_is_the_posterior_up_to_one_over_n() {
    let data = Gaussian { mean: mean(), covariance: identity() };
    for operator in &operators()[..2] {
        for sigma_y in [0.0, 0.5] {
            let errors = |steps: u32| {
                let start = 1.0 / f64::from(steps);
                let spec = serde_json::json!({ "ot_ode": { "steps": steps, "start": start } });
                let spec = method(spec);
                let (mean, covariance) = law(&spec, &data, operator, sigma_y);
                let exact = posterior(&data, &case(&spec, operator, sigma_y, &Path::CondOt));
                let far = |a: &[f64], b: &[f64]| {
                    sum(&[(1.0, a), (-1.0, b)]).iter().map(|e| e * e).sum::<f64>().sqrt()
                };
                [far(&mean, &exact.0), far(&covariance.concat(), &exact.1.concat())]
            };
            let (coarse, fine) = (errors(100), errors(200));
            for (coarse, fine) in coarse.into_iter().zip(fine) {
                // The whole vector and matrix have norms of about 2 and 4.
                assert!(coarse < 0.1, "σ_y = {sigma_y}: {coarse}");
                let ratio = coarse / fine;
                assert!((1.7..2.3).contains(&ratio), "σ_y = {sigma_y}: {coarse} / {fine} = {ratio}");
            }
        }
    }
}

#[test]
fn guidance_is_the_gradient_of_the_residual_s_likelihood_on_a_curved_field() {
    const SHAPE: Shape = Shape::new(1, 1, 2);
    let components = [
        Component { weight: 0.4, mean: vec![1.0, -0.5], covariance: vec![0.5, 0.3, 0.3, 0.4] },
        Component { weight: 0.6, mean: vec![-0.7, 0.8], covariance: vec![0.2, -0.05, -0.05, 0.6] },
    ];
    let mut field = GaussianMixture::new(Path::CondOt, &components).unwrap();
    // One step, from 1/2.
    let method =
        method(serde_json::json!({ "pigdm": { "form": { "flow": { "steps": 2, "gamma": "one" } } } }));
    let operator = Degradation::new(&operators()[3], SHAPE).unwrap().for_sample(&mut stream(Purpose::Mask));
    let (y, z, sigma_y) = (vec![0.4_f32, 0.3], vec![0.2_f32, -0.3], 0.2);
    let goal = Goal::Restore(Restoration::new(&method, operator, y.clone(), sigma_y));
    let draws = Draws { z: z.clone(), ..Draws::default() };
    let problem = Problem { path: Some(Path::CondOt), ..Problem::new(method, goal, draws) };
    let mut velocity = |x: &[f64]| {
        let mut out = vec![0.0; 2];
        field.velocity(Rows { t: &[0.5], x, cond: &[Cond::None] }, &mut out).unwrap();
        out
    };
    let (r2, step, half) = (0.5, 1e-5, wide(&z));
    // ln p(y | x) up to a constant, with x̂ = x + u/2.
    let mut likelihood = |x: &[f64]| {
        let denoised = sum(&[(1.0, x), (0.5, &velocity(x))]);
        -sum(&[(1.0, &wide(&y)), (-1.0, &denoised)]).iter().map(|e| e * e).sum::<f64>()
            / (2.0 * (r2 + sigma_y * sigma_y))
    };
    let gradient: Vec<f64> = (0..2)
        .map(|i| {
            let mut moved = |by: f64| {
                let mut x = half.clone();
                x[i] += by;
                likelihood(&x)
            };
            (moved(step) - moved(-step)) / (2.0 * step)
        })
        .collect();
    let expected = sum(&[(1.0, &half), (0.5, &velocity(&half)), (0.5, &gradient)]);
    let mut solve = Solve::new(&problem);
    let mut ask = solve.next(&problem, Answer::Start, 0.0).unwrap();
    while let Ask::Velocity { x, .. } | Ask::Vjp { x, .. } = &ask {
        let x = wide(x);
        let mut out = vec![0.0; 2];
        let rows = Rows { t: &[0.5], x: &x, cond: &[Cond::None] };
        let narrow = |out: &[f64]| out.iter().map(|v| *v as f32).collect();
        let answer = if let Ask::Vjp { cotangent, .. } = &ask {
            field.vjp(rows, &wide(cotangent), &mut out).unwrap();
            Answer::Gradient(narrow(&out))
        } else {
            field.velocity(rows, &mut out).unwrap();
            Answer::State(narrow(&out))
        };
        ask = solve.next(&problem, answer, 0.0).unwrap();
    }
    let far = distance(&solve.outcome().unwrap().reconstruction, &expected);
    // Rounding to f32 at every answer.
    assert!(far < 1e-6, "{far:e}");
}
