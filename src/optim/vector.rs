//! Loops over vectors in a fixed order: vectors in `T`, sums in f64.
//!
//! Sums run over eight interleaved accumulators, so that they vectorise and still give the same bits on every call, with
//! the vectors of any CPU: nothing is contracted to fused multiply-adds.

use pulp::{Arch, Simd, WithSimd};

use super::prefetch::prefetch;
use crate::real::Real;

const LANES: usize = 8;
/// Numbers of f32 in a line of the cache.
const LINE: usize = 16;

/// Σ term(aᵢ, bᵢ) in f64; the shorter vector ends it.
#[inline(always)]
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
    Arch::new().dispatch(Dot(a, b))
}

/// [`dot`], compiled for the vectors of every CPU. (What a closure calls is not.)
struct Dot<'a, T>(&'a [T], &'a [T]);

impl<T: Real> WithSimd for Dot<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> f64 {
        sum_pairs(self.0, self.1, |a, b| a * b)
    }
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
    Arch::new().dispatch(NormMax(a))
}

/// [`norm_max`], compiled for the vectors of every CPU.
struct NormMax<'a, T>(&'a [T]);

impl<T: Real> WithSimd for NormMax<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> f64 {
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let larger = |a: f64, b: f64| if b > a { b } else { a };
        let (mut largest, mut nans) = ([0.0; LANES], [0_u64; LANES]);
        for chunk in chunks {
            for ((largest, nans), value) in largest.iter_mut().zip(&mut nans).zip(chunk) {
                let value = value.to_f64().abs();
                *nans |= u64::from(value.is_nan());
                *largest = larger(*largest, value);
            }
        }
        let rest = rest.iter().map(|value| value.to_f64().abs());
        let has_nan = nans.iter().any(|nans| *nans > 0) || rest.clone().any(f64::is_nan);
        if has_nan { f64::NAN } else { rest.chain(largest).fold(0.0, larger) }
    }
}

/// y ← y + a·x.
pub(super) fn add_scaled<T: Real>(y: &mut [T], a: f64, x: &[T]) {
    let a = T::from_f64(a);
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// y ← y + a·x, and then y·b accumulated in f64: the bits of [`add_scaled`] and [`dot`] in one pass over memory. All have
/// the same length. Meanwhile `ahead`, the x and b of the pass after, are fetched into the cache.
pub(super) fn add_scaled_dot<T: Real>(y: &mut [T], a: f64, x: &[T], b: &[T], ahead: [&[T]; 2]) -> f64 {
    Arch::new().dispatch(AddScaledDot { y, a: T::from_f64(a), x, b, ahead })
}

/// [`add_scaled_dot`], compiled for the vectors of every CPU.
struct AddScaledDot<'a, T> {
    y: &'a mut [T],
    a: T,
    x: &'a [T],
    b: &'a [T],
    ahead: [&'a [T]; 2],
}

impl<T: Real> WithSimd for AddScaledDot<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> f64 {
        let Self { y, a, x, b, ahead } = self;
        let mut lanes = [0.0; LANES];
        let mut pass = |y: &mut [T; LANES], x: &[T; LANES], b: &[T; LANES]| {
            // Through a copy: its numbers alias nothing, and stay vectors.
            let mut sum = *y;
            for (sum, x) in sum.iter_mut().zip(x) {
                *sum += a * *x;
            }
            *y = sum;
            for ((lane, y), b) in lanes.iter_mut().zip(sum).zip(b) {
                *lane += y.to_f64() * b.to_f64();
            }
        };
        let (y_lines, y) = y.as_chunks_mut::<LINE>();
        let (x_lines, x) = x.as_chunks::<LINE>();
        let (b_lines, b) = b.as_chunks::<LINE>();
        for (line, ((y, x), b)) in y_lines.iter_mut().zip(x_lines).zip(b_lines).enumerate() {
            ahead.iter().for_each(|numbers| prefetch(numbers, line * LINE));
            let y = y.as_chunks_mut::<LANES>().0;
            let (x, b) = (x.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
            y.iter_mut().zip(x).zip(b).for_each(|((y, x), b)| pass(y, x, b));
        }
        let (y_chunks, y_rest) = y.as_chunks_mut::<LANES>();
        let (x_chunks, x_rest) = x.as_chunks::<LANES>();
        let (b_chunks, b_rest) = b.as_chunks::<LANES>();
        y_chunks.iter_mut().zip(x_chunks).zip(b_chunks).for_each(|((y, x), b)| pass(y, x, b));
        let rest = y_rest.iter_mut().zip(x_rest).zip(b_rest).map(|((y, x), b)| {
            *y += a * *x;
            y.to_f64() * b.to_f64()
        });
        let rest: f64 = rest.sum();
        lanes.iter().sum::<f64>() + rest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fused_pass_has_the_bits_of_two() {
        let number = |seed: usize| move |i: usize| (libm::sin((i * seed) as f64) * 3.0) as f32;
        for len in [0, 1, 7, 8, 9, 3072, 3077] {
            let [x, b]: [Vec<f32>; 2] = [3, 5].map(|seed| (0..len).map(number(seed)).collect());
            let mut apart: Vec<f32> = (0..len).map(number(7)).collect();
            let mut fused = apart.clone();
            add_scaled(&mut apart, -0.37, &x);
            let product = add_scaled_dot(&mut fused, -0.37, &x, &b, [&b, &[]]);
            assert_eq!((product.to_bits(), &fused), (dot(&apart, &b).to_bits(), &apart), "{len}");
            // Neither depends on the vectors of this CPU.
            let plain = sum_pairs(&apart, &b, |a, b| a * b);
            assert_eq!(product.to_bits(), plain.to_bits(), "{len}");
        }
    }
}
