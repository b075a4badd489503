//! RED-Diff: its dense recursion, and the minimum that it has where the noise is averaged out.

use super::*;

/// RED-Diff with Adam in f64, on times of the diffusion or given ones.
fn red_diff(data: &Gaussian, case: &Case, points: &[PathPoint], lr: f64, is_mean: bool) -> Vec<f64> {
    let adjoint = transposed(&case.h);
    let mut x = wide(&case.operator().pinv(&case.problem.goal.restoration().unwrap().measurement));
    let (mut m, mut v) = (vec![0.0; DIM], vec![0.0; DIM]);
    for (k, PathPoint { alpha, sigma, .. }) in points.iter().enumerate() {
        let noise = case.step_noise(k as u32);
        let noisy = sum(&[(*alpha, &x), (*sigma, &noise)]);
        let predicted = data.noise(*alpha, *sigma, &noisy);
        let residual = sum(&[(1.0, &times(&case.h, &x)), (-1.0, &case.y)]);
        let weight = 0.25 * sigma / alpha;
        let (of_data, of_prior) =
            if is_mean { (1.0 / case.y.len() as f64, weight / DIM as f64) } else { (2.0, weight) };
        let gradient =
            sum(&[(of_data, &times(&adjoint, &residual)), (of_prior, &predicted), (-of_prior, &noise)]);
        m = sum(&[(0.9, &m), (0.1, &gradient)]);
        let square: Vec<f64> = gradient.iter().map(|g| g * g).collect();
        v = sum(&[(0.99, &v), (0.01, &square)]);
        let (a, b) = (1.0 - 0.9_f64.powi(k as i32 + 1), 1.0 - 0.99_f64.powi(k as i32 + 1));
        x = (0..DIM).map(|i| x[i] - lr * (m[i] / a) / ((v[i] / b).sqrt() + 1e-8)).collect();
    }
    x
}

/// Points of Cond-OT at the signal-to-noise ratios of equispaced steps of the diffusion.
fn matched(steps: usize) -> Vec<PathPoint> {
    let table = alpha_bar();
    let indices = (0..steps).rev().map(|i| i * 1000 / steps);
    indices
        .map(|index| {
            let (alpha, sigma) = (table[index].sqrt(), (1.0 - table[index]).sqrt());
            Path::CondOt.at(alpha / (alpha + sigma))
        })
        .collect()
}

#[test]
fn red_diff_is_its_own_dense_recursion() {
    let data = Gaussian::full();
    for (loss, is_mean) in [("mean", true), ("sum", false)] {
        let options = serde_json::json!({ "steps": 50, "lr": 0.05, "loss": loss });
        let method = method(serde_json::json!({ "red_diff": options }));
        for path in paths() {
            for case in cases(&method, &path) {
                // Equal ratios give equal numbers on every path: σ/α, and what the model sees, are the same.
                let expected = red_diff(&data, &case, &matched(50), 0.05, is_mean);
                let far = distance(&case.reconstruction(&data, &path), &expected);
                // Adam divides by gradients of the size of their rounding where y is met.
                assert!(far < 1e-4, "{path:?} {loss} σ_y = {}: {far:e}", case.sigma_y);
            }
        }
    }
    let uniform = serde_json::json!({ "steps": 20, "lr": 0.05, "times": { "uniform": { "min": 0.1 } } });
    let method = method(serde_json::json!({ "red_diff": uniform }));
    let times = (0..20).map(|k| Path::CondOt.at(0.1 + (0.95 - 0.1) * f64::from(k) / 19.0));
    let case = case(&method, &operators()[1], 0.1, &Path::CondOt);
    let expected = red_diff(&data, &case, &times.collect::<Vec<_>>(), 0.05, true);
    let far = distance(&case.reconstruction(&data, &Path::CondOt), &expected);
    assert!(far < 1e-4, "{far:e}");
}

/// With ε̂ − ε replaced by its mean over ε, t(1 − t)C⁻¹μ for data of mean 0, RED-Diff minimises a quadratic.
#[test]
fn red_diff_at_one_time_with_averaged_noise_solves_its_normal_equations() {
    let data = Gaussian { mean: vec![0.0; DIM], covariance: covariance() };
    let t = 0.4;
    let (alpha, sigma) = (t, 1.0 - t);
    for operator in operators() {
        for sigma_y in [0.0, 0.1] {
            let lambda = 0.5;
            // A large ε makes Adam gradient descent with momentum, which converges to the minimum itself.
            let method = method(serde_json::json!({ "red_diff": {
                "steps": 20_000, "lr": 1.5, "lambda": lambda, "eps": 1.0,
                "times": { "uniform": { "min": t, "max": t } }
            } }));
            let case = case(&method, &operator, sigma_y, &Path::CondOt);
            let mut solve = Solve::new(&case.problem);
            let mut ask = solve.next(&case.problem, Answer::Start, 0.0).unwrap();
            let (mut step, inverse) = (0, data.marginal(alpha, sigma));
            while let Ask::Velocity { x, .. } = &ask {
                let (x, noise) = (wide(x), case.step_noise(step));
                let image = sum(&[(1.0 / alpha, &x), (-sigma / alpha, &noise)]);
                let predicted = sum(&[(1.0, &noise), (alpha * sigma, &solved(&inverse, &image))]);
                // ε̂ = x − t·u.
                let velocity = sum(&[(1.0 / t, &x), (-1.0 / t, &predicted)]);
                let velocity = velocity.iter().map(|v| *v as f32).collect();
                ask = solve.next(&case.problem, Answer::State(velocity), 0.0).unwrap();
                step += 1;
            }
            let (m, n) = (case.y.len() as f64, DIM as f64);
            let weight = lambda * sigma / alpha;
            let adjoint = transposed(&case.h);
            let column = |i: usize| {
                let unit = &identity()[i];
                let seen = times(&adjoint, &times(&case.h, unit));
                sum(&[(1.0 / m, &seen), (weight / n * alpha * sigma, &solved(&inverse, unit))])
            };
            let normal: Matrix = (0..DIM).map(column).collect();
            let expected = solved(&normal, &sum(&[(1.0 / m, &times(&adjoint, &case.y))]));
            let far = distance(&solve.outcome().unwrap().reconstruction, &expected);
            // The answers carry ε through f32: 1e-7 of it in every step.
            assert!(far < 1e-4, "{operator:?} σ_y = {sigma_y}: {far:e}");
        }
    }
}

#[test]
fn noise_about_the_image_leaves_the_noise_of_the_steps_as_it_is() {
    let with = |sigma_x0: f64| {
        let method = method(serde_json::json!({ "red_diff": { "steps": 10, "sigma_x0": sigma_x0 } }));
        case(&method, &operators()[3], 0.0, &Path::CondOt)
    };
    let (plain, spread) = (with(0.0), with(0.2));
    assert_eq!(plain.step_noise(3), spread.step_noise(3));
    let counts = [&plain, &spread].map(|case| case.problem.draws.noise.as_ref().unwrap().count);
    assert_eq!(counts, [10, 20]);
    let first = |case: &Case| Solve::new(&case.problem).next(&case.problem, Answer::Start, 0.0).unwrap();
    assert_ne!(first(&plain), first(&spread));
}
