//! Loops over vectors in a fixed order: vectors in `T`, sums in f64.
//!
//! Sums run over eight interleaved accumulators, so that they vectorise and still give the same bits on every call.

use crate::real::Real;

const LANES: usize = 8;

/// Σ term(aᵢ, bᵢ) in f64; the shorter vector ends it.
#[inline]
fn sum_pairs<T: Real>(a: &[T], b: &[T], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(a.to_f64(), b.to_f64());
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| term(a.to_f64(), b.to_f64())).sum();
    lanes.iter().sum::<f64>() + rest
}

/// a·b, accumulated in f64.
pub fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    sum_pairs(a, b, |a, b| a * b)
}

/// ‖a‖₂, accumulated in f64.
pub fn norm<T: Real>(a: &[T]) -> f64 {
    dot(a, a).sqrt()
}

/// ‖a‖₁, accumulated in f64.
pub(super) fn norm_1<T: Real>(a: &[T]) -> f64 {
    sum_pairs(a, a, |a, _| a.abs())
}

/// ‖a‖∞; NaN if any entry is NaN (as torch's `max`).
pub(super) fn norm_max<T: Real>(a: &[T]) -> f64 {
    let (mut largest, mut has_nan) = (0.0_f64, false);
    for value in a {
        let value = value.to_f64().abs();
        has_nan |= value.is_nan();
        largest = if value > largest { value } else { largest };
    }
    if has_nan { f64::NAN } else { largest }
}

/// y ← y + a·x.
pub(super) fn add_scaled<T: Real>(y: &mut [T], a: f64, x: &[T]) {
    let a = T::from_f64(a);
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// y ← a·y.
pub(super) fn scale<T: Real>(y: &mut [T], a: f64) {
    let a = T::from_f64(a);
    for y in y {
        *y *= a;
    }
}

/// −a.
pub(super) fn negated<T: Real>(a: &[T]) -> Vec<T> {
    a.iter().map(|&a| -a).collect()
}
