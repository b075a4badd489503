//! Properties of every operator, and golden values from independent code (`tools/reference/operators.py`).

use serde::Deserialize;

use super::*;
use crate::random::Purpose;
use crate::spec::operator::{
    Bicubic, BicubicKernel, Boundary, CenterMask, GaussianBlur, Identity, RandomMask,
};

const SHAPE: Shape = Shape::new(3, 16, 12);

fn stream(purpose: Purpose) -> Stream {
    Stream::new(3, "operators", "0", purpose)
}

fn blur(boundary: Boundary, pinv_cutoff: PinvCutoff) -> OperatorSpec {
    OperatorSpec::GaussianBlur(GaussianBlur { size: 61, sigma: 1.0, boundary, pinv_cutoff })
}

fn bicubic(kernel: BicubicKernel, pinv_cutoff: PinvCutoff) -> OperatorSpec {
    OperatorSpec::Bicubic(Bicubic { factor: 2, kernel, pinv_cutoff })
}

fn exact_specs() -> Vec<OperatorSpec> {
    let none = PinvCutoff::None;
    vec![
        OperatorSpec::CenterMask(CenterMask { size: 5 }),
        OperatorSpec::RandomMask(RandomMask { keep: 0.4 }),
        bicubic(BicubicKernel::Antialiased, none),
        bicubic(BicubicKernel::Interpolate, none),
        blur(Boundary::Reflect, none),
        blur(Boundary::Zero, none),
        blur(Boundary::Circular, none),
        OperatorSpec::Identity(Identity {}),
    ]
}

fn cut_specs() -> Vec<OperatorSpec> {
    vec![
        blur(Boundary::Reflect, PinvCutoff::PerAxis(0.2)),
        blur(Boundary::Reflect, PinvCutoff::Product(0.1)),
        blur(Boundary::Zero, PinvCutoff::Product(0.3)),
        bicubic(BicubicKernel::Antialiased, PinvCutoff::PerAxis(0.6)),
        bicubic(BicubicKernel::Interpolate, PinvCutoff::Product(0.7)),
    ]
}

fn build(spec: &OperatorSpec, shape: Shape) -> Operator {
    Degradation::new(spec, shape).unwrap().for_sample(&mut stream(Purpose::Mask))
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    Stream::new(seed, "operators", "x", Purpose::Init).normals(n)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(&a.iter().zip(b).map(|(x, y)| x - y).collect::<Vec<_>>()) / norm(b)
}

#[test]
fn the_adjoint_is_the_adjoint() {
    for spec in exact_specs().iter().chain(&cut_specs()) {
        let h = build(spec, SHAPE);
        let (x, y) = (noise(1, SHAPE.dim()), noise(2, h.measurement_dim()));
        let (left, right) = (dot(&h.apply(&x), &y), dot(&x, &h.adjoint(&y)));
        // Outputs are rounded once to f32 (6e-8 each).
        assert!((left - right).abs() < 1e-6 * norm(&x) * norm(&y), "{spec:?}: {left} {right}");
    }
}

#[test]
fn without_a_cut_off_the_pseudo_inverse_solves_the_measurement() {
    for spec in &exact_specs() {
        let h = build(spec, SHAPE);
        let y = h.apply(&noise(1, SHAPE.dim()));
        // H† amplifies the f32 rounding of y by at most 1/s_min² ≈ 5000, H damps it again: 1e-6 is ten roundings.
        assert!(relative(&h.apply(&h.pinv(&y)), &y) < 1e-6, "{spec:?}");
    }
}

#[test]
fn with_a_cut_off_the_pseudo_inverse_is_its_own_reflexive_inverse() {
    for spec in exact_specs().iter().chain(&cut_specs()) {
        let h = build(spec, SHAPE);
        let y = noise(2, h.measurement_dim());
        let once = h.pinv(&y);
        // f32 rounding of H(H†y), amplified by at most 1/s_min² ≈ 5000 against a ‖H†y‖ that is as large.
        assert!(relative(&h.pinv(&h.apply(&once)), &once) < 2e-5, "{spec:?}");
    }
}

#[test]
fn the_range_projection_is_a_symmetric_projector_equal_to_pinv_of_apply() {
    for spec in exact_specs().iter().chain(&cut_specs()) {
        let h = build(spec, SHAPE);
        let (x, z) = (noise(1, SHAPE.dim()), noise(4, SHAPE.dim()));
        let (px, pz) = (h.range_projection(&x), h.range_projection(&z));
        // 1e-6: a few f32 roundings of the outputs.
        assert!(relative(&h.range_projection(&px), &px) < 1e-6, "{spec:?}");
        assert!((dot(&px, &z) - dot(&x, &pz)).abs() < 1e-6 * norm(&x) * norm(&z), "{spec:?}");
        // Rounding of Hx to f32, amplified by H† (≤ 5000).
        assert!(relative(&h.pinv(&h.apply(&x)), &px) < 1e-4, "{spec:?}");
    }
}

#[test]
fn a_cut_off_removes_modes() {
    let x = noise(1, SHAPE.dim());
    for spec in &cut_specs() {
        let h = build(spec, SHAPE);
        assert!(relative(&h.apply(&h.pinv(&h.apply(&x))), &h.apply(&x)) > 1e-3, "{spec:?} cuts nothing");
    }
}

fn hole_rows(side: usize, size: u32) -> Vec<usize> {
    let shape = Shape::new(1, side, side);
    let h = build(&OperatorSpec::CenterMask(CenterMask { size }), shape);
    let hole = h.hole().unwrap().to_vec();
    (0..side).filter(|row| hole[row * side..(row + 1) * side].contains(&true)).collect()
}

#[test]
fn the_centre_hole_covers_the_documented_rows() {
    assert_eq!(hole_rows(128, 40), (44..=83).collect::<Vec<_>>());
    assert_eq!(hole_rows(32, 10), (11..=20).collect::<Vec<_>>());
    let h = build(&OperatorSpec::CenterMask(CenterMask { size: 40 }), Shape::new(3, 128, 128));
    assert_eq!(h.measurement_dim(), 3 * (128 * 128 - 1600));
    assert_eq!(h.hole().unwrap().iter().filter(|&&hidden| hidden).count(), 1600);
}

#[test]
fn a_mask_keeps_observed_values_and_fills_the_hole_with_zero() {
    let h = build(&OperatorSpec::CenterMask(CenterMask { size: 5 }), SHAPE);
    let x = noise(1, SHAPE.dim());
    let filled = h.pinv(&h.apply(&x));
    let hole = h.hole().unwrap();
    for (k, (&a, &b)) in x.iter().zip(&filled).enumerate() {
        assert_eq!(b, if hole[k % SHAPE.pixels()] { 0.0 } else { a });
    }
}

#[test]
fn the_mean_fill_differs_from_the_pseudo_inverse_in_the_hole_only() {
    let h = build(&OperatorSpec::CenterMask(CenterMask { size: 4 }), SHAPE);
    let x: Vec<f32> = (0..SHAPE.dim()).map(|k| if k < SHAPE.pixels() { 0.25 } else { -0.5 }).collect();
    assert_eq!(h.mean_fill(&h.apply(&x)), x);
    let blurred = build(&blur(Boundary::Reflect, PinvCutoff::None), SHAPE);
    assert_eq!(blurred.mean_fill(&x), blurred.pinv(&x));
}

#[test]
fn a_random_mask_is_drawn_per_sample_and_keeps_the_asked_share() {
    let shape = Shape::new(3, 64, 64);
    let spec = OperatorSpec::RandomMask(RandomMask { keep: 0.3 });
    let degradation = Degradation::new(&spec, shape).unwrap();
    let hole = |sample: &str| {
        let operator = degradation.for_sample(&mut Stream::new(0, "d", sample, Purpose::Mask));
        operator.hole().unwrap().to_vec()
    };
    assert_eq!(hole("a"), hole("a"));
    assert_ne!(hole("a"), hole("b"));
    let observed = hole("a").iter().filter(|&&hidden| !hidden).count() as f64;
    // Five standard deviations of a binomial count.
    assert!((observed - 0.3 * 4096.0).abs() < 5.0 * (4096.0 * 0.3 * 0.7_f64).sqrt());
}

#[test]
fn a_random_mask_always_observes_something() {
    let spec = OperatorSpec::RandomMask(RandomMask { keep: 1e-300 });
    assert_eq!(build(&spec, SHAPE).measurement_dim(), SHAPE.channels);
}

#[test]
fn lifts_are_image_shaped_or_refused() {
    let y_of = |h: &Operator| h.apply(&noise(1, SHAPE.dim()));
    let blurred = build(&blur(Boundary::Reflect, PinvCutoff::None), SHAPE);
    let y = y_of(&blurred);
    assert_eq!(blurred.lift(&y, Lift::Auto).unwrap(), y);
    assert_eq!(blurred.lift(&y, Lift::Pinv).unwrap(), blurred.pinv(&y));
    let small = build(&bicubic(BicubicKernel::Antialiased, PinvCutoff::None), SHAPE);
    let y = y_of(&small);
    assert_eq!(small.lift(&y, Lift::Auto).unwrap(), small.pinv(&y));
    assert_eq!(small.lift(&y, Lift::Adjoint).unwrap(), small.adjoint(&y));
    assert_eq!(small.lift(&y, Lift::Measurement), Err(OperatorError::NotLiftable));
    let masked = Degradation::new(&OperatorSpec::CenterMask(CenterMask { size: 4 }), SHAPE).unwrap();
    assert_eq!(masked.check_lift(Lift::Measurement), Err(OperatorError::NotLiftable));
    assert_eq!(masked.check_lift(Lift::Auto), Ok(()));
}

#[test]
fn measurement_noise_has_the_documented_psnr_and_none_is_drawn_at_zero() {
    let shape = Shape::new(3, 128, 128);
    let h = build(&OperatorSpec::Identity(Identity {}), shape);
    let x = vec![0.25_f32; shape.dim()];
    let mut noise = stream(Purpose::MeasurementNoise);
    assert_eq!(measure(&h, &x, 0.0, &mut noise), x);
    let y = measure(&h, &x, 0.05, &mut noise);
    let mse = y.iter().zip(&x).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / shape.dim() as f64;
    // R = 2 on [−1, 1]; 0.05 dB is the sampling error of 49,152 squares (one standard deviation: 0.03 dB).
    assert!((10.0 * (4.0 / mse).log10() - 32.04).abs() < 0.1);
    assert_eq!(y, measure(&h, &x, 0.05, &mut stream(Purpose::MeasurementNoise)));
}

#[test]
fn every_bad_option_is_refused_with_its_key() {
    let gaussian = |size, sigma| {
        let boundary = Boundary::Reflect;
        OperatorSpec::GaussianBlur(GaussianBlur { size, sigma, boundary, pinv_cutoff: PinvCutoff::None })
    };
    let factor = |factor| {
        let kernel = BicubicKernel::Antialiased;
        OperatorSpec::Bicubic(Bicubic { factor, kernel, pinv_cutoff: PinvCutoff::None })
    };
    let mask = |size| OperatorSpec::CenterMask(CenterMask { size });
    let cases = [
        (mask(0), "center_mask.size"),
        (mask(13), "choose a size from 1 to 12"),
        (OperatorSpec::RandomMask(RandomMask { keep: 1.0 }), "random_mask.keep"),
        (OperatorSpec::RandomMask(RandomMask { keep: f64::NAN }), "random_mask.keep"),
        (factor(1), "bicubic.factor"),
        (factor(3), "bicubic.factor"),
        (gaussian(60, 1.0), "gaussian_blur.size"),
        (gaussian(100_001, 1.0), "gaussian_blur.size"),
        (gaussian(61, -1.0), "gaussian_blur.sigma"),
        (gaussian(61, f64::INFINITY), "gaussian_blur.sigma"),
        (blur(Boundary::Reflect, PinvCutoff::PerAxis(-0.1)), "pinv_cutoff"),
        (blur(Boundary::Reflect, PinvCutoff::PerAxis(1.5)), "pinv_cutoff"),
        (blur(Boundary::Reflect, PinvCutoff::Product(f64::NAN)), "pinv_cutoff"),
    ];
    for (spec, part) in cases {
        let text = Degradation::new(&spec, SHAPE).expect_err("refused").to_string();
        assert!(text.contains(part), "{spec:?}: {text}");
    }
    let square = Degradation::new(&mask(8), Shape::new(1, 8, 8)).expect_err("leaves nothing").to_string();
    assert!(square.contains("from 1 to 7"), "{square}");
    assert!(Degradation::new(&mask(1), Shape::new(0, 8, 8)).is_err());
}

#[derive(Deserialize)]
struct Golden {
    shape: [usize; 3],
    x: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    operator: OperatorSpec,
    y: Vec<f32>,
    measurement: Vec<f32>,
    adjoint: Vec<f32>,
    pinv: Vec<f32>,
    range_projection: Vec<f32>,
}

#[test]
fn operators_equal_independent_python() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/golden/operators/operators.json")).unwrap();
    let [channels, height, width] = golden.shape;
    assert!(golden.cases.len() >= 10);
    for case in &golden.cases {
        let h = build(&case.operator, Shape::new(channels, height, width));
        // 1e-6: input and output are f32; H† of the measurement is exact to the f64 condition number.
        assert!(relative(&h.apply(&golden.x), &case.y) < 1e-6, "{} apply", case.name);
        assert!(relative(&h.adjoint(&case.measurement), &case.adjoint) < 1e-6, "{} adjoint", case.name);
        assert!(relative(&h.pinv(&case.measurement), &case.pinv) < 1e-6, "{} pinv", case.name);
        let projection = h.range_projection(&golden.x);
        assert!(relative(&projection, &case.range_projection) < 1e-6, "{} projection", case.name);
    }
}

#[test]
fn the_regularised_inverse_solves_its_normal_equations() {
    let (r2, sigma2) = (0.3, 0.0025);
    for spec in exact_specs().iter().chain(&cut_specs()) {
        let h = build(spec, SHAPE);
        let y = noise(4, h.measurement_dim());
        let x = h.regularised_inverse(&y, r2, sigma2);
        // (r²HᵀH + σ²I) x = Hᵀy, whatever the cut-off of H† is.
        let normal: Vec<f32> = h
            .adjoint(&h.apply(&x))
            .iter()
            .zip(&x)
            .map(|(hhx, x)| (r2 * f64::from(*hhx) + sigma2 * f64::from(*x)) as f32)
            .collect();
        // x is rounded to f32, and is up to 1/(2rσ) = 18 times as long as y.
        assert!(relative(&normal, &h.adjoint(&y)) < 1e-5, "{spec:?}");
    }
}

#[test]
fn without_noise_the_regularised_inverse_is_the_pseudo_inverse() {
    for spec in exact_specs().iter().chain(&cut_specs()) {
        let h = build(spec, SHAPE);
        let y = noise(4, h.measurement_dim());
        let scaled: Vec<f32> = h.pinv(&y).iter().map(|v| 4.0 * v).collect();
        // A quarter is a power of two: no rounding.
        assert_eq!(h.regularised_inverse(&y, 0.25, 0.0), scaled, "{spec:?}");
    }
}
