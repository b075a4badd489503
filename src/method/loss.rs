//! Data terms of D-Flow: how far a degraded reconstruction is from the measurement.

use serde::{Deserialize, Serialize};

use crate::operator::Operator;
use crate::spec::method::{LossSpace, LossSpec};

/// Data range R of images on [−1, 1].
pub const RANGE: f64 = 2.0;
/// Least mean squared error in a logarithm: 1e-12·R², that is 120 dB. An exact fit must not make NaN.
pub const MSE_FLOOR: f64 = 1e-12 * RANGE * RANGE;

/// A data term at one pair (a, b).
#[derive(Debug, Clone, PartialEq)]
pub struct DataTerm {
    /// The loss.
    pub value: f64,
    /// Its gradient with respect to a.
    pub gradient: Vec<f32>,
    /// Mean of (a − b)² over all entries.
    pub mse: f64,
}

/// What an evaluation says about the fit, apart from any regulariser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// The data term.
    pub loss: f64,
    /// PSNR of the loss's pair in dB: the observed PSNR. `None`: it compares no images.
    pub psnr: Option<f64>,
    /// Root mean square of Hx − y, in measurement space whatever the loss compares; |F(x) − c| of a property.
    pub residual_rms: f64,
}

impl Fit {
    /// Whether it is closer than another: by the pair of images that the loss compares, else by the residual.
    ///
    /// Anything is closer than what is not a number.
    pub fn is_closer_than(&self, other: &Self) -> bool {
        match (self.psnr, other.psnr) {
            (Some(own), Some(other)) => own > other || other.is_nan(),
            _ => self.residual_rms < other.residual_rms || other.residual_rms.is_nan(),
        }
    }
}

/// The loss of a property F(x) = `value` against its target, with its derivative with respect to `value`.
pub fn property(spec: &LossSpec, value: f32, target: f64) -> (Fit, f32) {
    let term = data_term_of(spec, &[f64::from(value) - target]);
    (Fit { loss: term.value, psnr: None, residual_rms: term.mse.sqrt() }, term.gradient[0])
}

/// 10·log₁₀(R²/MSE) in dB with R = 2, at most 120.
pub fn psnr(mse: f64) -> f64 {
    10.0 * libm::log10(RANGE * RANGE / floored(mse))
}

/// NaN stays NaN: an unusable fit must not look like a perfect one.
fn floored(mse: f64) -> f64 {
    if mse < MSE_FLOOR { MSE_FLOOR } else { mse }
}

/// The loss at (a, b), which have the same length n ≥ 1. Sums are f64.
///
/// # Panics
/// When they have not.
pub fn data_term(spec: &LossSpec, a: &[f32], b: &[f32]) -> DataTerm {
    assert_eq!(a.len(), b.len(), "a loss compares two vectors of one length");
    let error: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect();
    data_term_of(spec, &error)
}

/// The loss of the errors a − b.
fn data_term_of(spec: &LossSpec, error: &[f64]) -> DataTerm {
    let sum = error.iter().map(|e| e * e).sum::<f64>();
    let n = error.len() as f64;
    let mse = sum / n;
    let scaled = |factor: f64| error.iter().map(|e| (factor * e) as f32).collect();
    match *spec {
        LossSpec::NegPsnr(_) => {
            let factor = if mse > MSE_FLOOR || mse.is_nan() {
                10.0 / std::f64::consts::LN_10 * 2.0 / n / mse
            } else {
                0.0
            };
            DataTerm { value: -psnr(mse), gradient: scaled(factor), mse }
        }
        LossSpec::SquaredError(_) => DataTerm { value: sum, gradient: scaled(2.0), mse },
        LossSpec::Lp(spec) => {
            let (value, gradient) = p_norm(error, spec.p);
            DataTerm { value, gradient, mse }
        }
    }
}

/// ‖e‖_p = (Σ|eᵢ|ᵖ)^(1/p) (eq. 6) and its gradient sign(eᵢ)·(|eᵢ|/‖e‖_p)^(p−1), which is 0 at e = 0.
fn p_norm(error: &[f64], p: f64) -> (f64, Vec<f32>) {
    // Scaled by the largest entry, so that no power under- or overflows.
    let largest = error.iter().fold(0.0, |m: f64, e| if e.abs() > m || e.is_nan() { e.abs() } else { m });
    if largest == 0.0 {
        return (0.0, vec![0.0; error.len()]);
    }
    let sum: f64 = error.iter().map(|e| libm::pow(e.abs() / largest, p)).sum();
    let norm = largest * libm::pow(sum, 1.0 / p);
    let slope = |e: &f64| if *e == 0.0 { 0.0 } else { e.signum() * libm::pow(e.abs() / norm, p - 1.0) };
    (norm, error.iter().map(|e| slope(e) as f32).collect())
}

/// What a loss compares with: y, or H†y.
pub fn target(spec: &LossSpec, operator: &Operator, y: &[f32]) -> Vec<f32> {
    match space(spec) {
        LossSpace::Measurement => y.to_vec(),
        LossSpace::Pinv => operator.pinv(y),
    }
}

/// The loss at a reconstruction `x1`, with its gradient with respect to `x1` (an image).
pub fn evaluate(
    spec: &LossSpec,
    operator: &Operator,
    y: &[f32],
    target: &[f32],
    x1: &[f32],
) -> (Fit, Vec<f32>) {
    let (term, cotangent, residual_mse) = match space(spec) {
        LossSpace::Measurement => {
            let term = data_term(spec, &operator.apply(x1), target);
            let cotangent = operator.adjoint(&term.gradient);
            let mse = term.mse;
            (term, cotangent, mse)
        }
        LossSpace::Pinv => {
            let term = data_term(spec, &operator.range_projection(x1), target);
            // H†H is symmetric.
            let cotangent = operator.range_projection(&term.gradient);
            (term, cotangent, mean_squared_error(&operator.apply(x1), y))
        }
    };
    let fit = Fit { loss: term.value, psnr: Some(psnr(term.mse)), residual_rms: residual_mse.sqrt() };
    (fit, cotangent)
}

/// Mean of (a − b)², in f64.
///
/// # Panics
/// When the lengths differ.
pub fn mean_squared_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "a mean squared error is of two vectors of one length");
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)) * (f64::from(*a) - f64::from(*b));
    a.iter().zip(b).map(square).sum::<f64>() / a.len() as f64
}

fn space(spec: &LossSpec) -> LossSpace {
    match *spec {
        LossSpec::NegPsnr(space) | LossSpec::SquaredError(space) => space,
        LossSpec::Lp(spec) => spec.space,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::{Degradation, Shape};
    use crate::random::{Purpose, Stream};
    use crate::spec::method::LpSpec;
    use crate::spec::operator::{Boundary, GaussianBlur, OperatorSpec, PinvCutoff};

    const SPACE: LossSpace = LossSpace::Measurement;

    fn all_losses(space: LossSpace) -> [LossSpec; 5] {
        let lp = |p| LossSpec::Lp(LpSpec { p, space });
        [LossSpec::NegPsnr(space), LossSpec::SquaredError(space), lp(1.0), lp(2.0), lp(3.5)]
    }

    #[test]
    fn values_equal_those_by_hand() {
        let (a, b) = ([0.5, -0.5, 1.0, 0.0], [0.0, -0.5, 0.0, 0.0]);
        // Errors 0.5, 0, 1, 0: sum of squares 1.25, mean 0.3125; 10·log10(4 / 0.3125) = 11.072100 dB.
        let psnr = data_term(&LossSpec::NegPsnr(SPACE), &a, &b);
        assert!((psnr.value + 11.072_099_696_478_683).abs() < 1e-12);
        assert!((psnr.mse - 0.3125).abs() < 1e-15);
        assert_eq!(data_term(&LossSpec::SquaredError(SPACE), &a, &b).value, 1.25);
        let lp = |p| data_term(&LossSpec::Lp(LpSpec { p, space: SPACE }), &a, &b).value;
        assert!((lp(1.0) - 1.5).abs() < 1e-15);
        assert!((lp(2.0) - 1.25_f64.sqrt()).abs() < 1e-15);
        assert!((lp(3.0) - 1.125_f64.cbrt()).abs() < 1e-15);
    }

    #[test]
    fn the_noise_psnr_on_minus_one_to_one_is_32_db() {
        assert!((psnr(0.05 * 0.05) - 32.041_199_826_559_25).abs() < 1e-10);
    }

    #[test]
    fn an_exact_fit_scores_120_db_with_zero_gradient() {
        let a = [0.25, -1.0];
        for spec in all_losses(SPACE) {
            let term = data_term(&spec, &a, &a);
            assert_eq!(term.gradient, [0.0, 0.0]);
            assert!(term.value.is_finite());
        }
        assert!((data_term(&LossSpec::NegPsnr(SPACE), &a, &a).value + 120.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for spec in all_losses(SPACE) {
            assert!(data_term(&spec, &[f32::NAN, 0.0], &[0.0, 0.0]).value.is_nan(), "{spec:?}");
        }
        assert!(psnr(f64::NAN).is_nan());
    }

    #[test]
    fn gradients_through_the_operator_equal_central_differences() {
        let blur = OperatorSpec::GaussianBlur(GaussianBlur {
            size: 5,
            sigma: 0.6,
            boundary: Boundary::Reflect,
            pinv_cutoff: PinvCutoff::None,
        });
        let shape = Shape::new(1, 6, 6);
        let mut stream = Stream::new(0, "loss", "0", Purpose::Init);
        let operator = Degradation::new(&blur, shape).unwrap().for_sample(&mut stream);
        let x = stream.normals(shape.dim());
        let y = operator.apply(&stream.normals(shape.dim()));
        for space in [LossSpace::Measurement, LossSpace::Pinv] {
            for spec in all_losses(space) {
                let target = target(&spec, &operator, &y);
                let value = |x: &[f32]| evaluate(&spec, &operator, &y, &target, x).0.loss;
                let (_, gradient) = evaluate(&spec, &operator, &y, &target, &x);
                let direction = stream.normals(shape.dim());
                let along: f64 =
                    gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
                let step = 1e-3_f32;
                let moved = |sign: f32| -> Vec<f32> {
                    x.iter().zip(&direction).map(|(x, d)| x + sign * step * d).collect()
                };
                let difference = (value(&moved(1.0)) - value(&moved(-1.0))) / (2.0 * f64::from(step));
                // f32 images: rounding of 1e-7 over a step of 1e-3; the L1 term has kinks of its own.
                assert!(
                    (along - difference).abs() < 2e-3 * difference.abs().max(1.0),
                    "{spec:?}: {along} {difference}"
                );
            }
        }
    }
}
