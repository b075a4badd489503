//! The vector operations that the kernels are written in, on three instruction sets.
//!
//! A kernel is written once, generic over [`Simd`] and `#[inline(always)]`, and instantiated inside one function
//! per instruction set that carries the matching `#[target_feature]` (see the `dispatch!` macro of the parent
//! module); there every call below becomes one or two instructions.

/// f32 vectors of one instruction set.
///
/// # Safety
/// All methods are unsafe: the CPU must have the instruction set, and pointers must be valid for `LANES` numbers.
/// No alignment is required.
pub(super) trait Simd: Copy + Send + Sync + 'static {
    /// Numbers in one vector.
    const LANES: usize;
    /// One vector.
    type V: Copy;
    /// Reads `LANES` numbers.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Writes `LANES` numbers.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `x` in every lane.
    unsafe fn splat(x: f32) -> Self::V;
    /// a + b.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// Smaller of the two.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Larger of the two.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, rounded once where the instruction set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// 2ⁿ for integral n in −126 ..= 127, exact.
    unsafe fn exp2i(n: Self::V) -> Self::V;
}

/// eˣ to about 1 ulp for x in [−87, 88], clamped outside (so is NaN); the same operations on every instruction set.
///
/// Range reduction x = n·ln 2 + r and the degree-6 polynomial of the Cephes library (`expf`).
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12582912.0;
    const POLYNOMIAL: [f32; 5] = [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    unsafe {
        let x = S::max(S::min(x, S::splat(88.0)), S::splat(-87.0));
        let n = S::fma(x, S::splat(std::f32::consts::LOG2_E), S::splat(ROUND));
        let n = S::sub(n, S::splat(ROUND));
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut poly = S::splat(1.987_569_1e-4);
        for c in POLYNOMIAL {
            poly = S::fma(poly, r, S::splat(c));
        }
        let series = S::add(S::fma(poly, S::mul(r, r), r), S::splat(1.0));
        S::mul(series, S::exp2i(n))
    }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}

/// Sum of the lanes, in halves: (0 + L/2) + …, the same tree on every instruction set of as many lanes.
#[inline(always)]
pub(super) unsafe fn sum<S: Simd>(v: S::V) -> f32 {
    let mut lanes = [0.0_f32; 16];
    unsafe { S::store(lanes.as_mut_ptr(), v) }
    let mut half = S::LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Plain arrays of four: what any CPU does; multiplication and addition round separately.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

macro_rules! lanewise {
    ($($name:ident($($arg:ident),+) $body:expr;)+) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: Self::V),+) -> Self::V {
            std::array::from_fn(|i| { $(let $arg = $arg[i];)+ $body })
        }
    )+};
}

impl Simd for Portable {
    const LANES: usize = 4;
    type V = [f32; 4];

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 4]
    }
    lanewise! {
        add(a, b) a + b;
        sub(a, b) a - b;
        mul(a, b) a * b;
        div(a, b) a / b;
        min(a, b) if a < b { a } else { b };
        max(a, b) if a > b { a } else { b };
        fma(a, b, c) a * b + c;
        exp2i(n) f32::from_bits(((n as i32 + 127) << 23) as u32);
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_epi32, _mm256_add_ps, _mm256_castsi256_ps, _mm256_cvtps_epi32,
        _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
        _mm512_add_epi32, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtps_epi32, _mm512_div_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::Simd;

    /// 256-bit vectors with fused multiply-add.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Avx2;

    /// 512-bit vectors.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Avx512;

    macro_rules! forward {
        ($($name:ident($($arg:ident),+) = $intrinsic:ident;)+) => {$(
            #[inline(always)]
            unsafe fn $name($($arg: Self::V),+) -> Self::V {
                unsafe { $intrinsic($($arg),+) }
            }
        )+};
    }

    impl Simd for Avx2 {
        const LANES: usize = 8;
        type V = __m256;

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self::V {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: Self::V) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn exp2i(n: Self::V) -> Self::V {
            unsafe {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            }
        }
        forward! {
            add(a, b) = _mm256_add_ps;
            sub(a, b) = _mm256_sub_ps;
            mul(a, b) = _mm256_mul_ps;
            div(a, b) = _mm256_div_ps;
            min(a, b) = _mm256_min_ps;
            max(a, b) = _mm256_max_ps;
            fma(a, b, c) = _mm256_fmadd_ps;
        }
    }

    impl Simd for Avx512 {
        const LANES: usize = 16;
        type V = __m512;

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self::V {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: Self::V) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn exp2i(n: Self::V) -> Self::V {
            unsafe {
                let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
            }
        }
        forward! {
            add(a, b) = _mm512_add_ps;
            sub(a, b) = _mm512_sub_ps;
            mul(a, b) = _mm512_mul_ps;
            div(a, b) = _mm512_div_ps;
            min(a, b) = _mm512_min_ps;
            max(a, b) = _mm512_max_ps;
            fma(a, b, c) = _mm512_fmadd_ps;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kernel::{InstructionSet, dispatch};

    dispatch!(fn exp_all(x: &mut [f32]) = exp_all_on);

    #[inline(always)]
    unsafe fn exp_all_on<S: Simd>(x: &mut [f32]) {
        for chunk in x.chunks_exact_mut(S::LANES) {
            unsafe { S::store(chunk.as_mut_ptr(), exp::<S>(S::load(chunk.as_ptr()))) }
        }
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let x: Vec<f32> = (0..16 * 10_000).map(|i| -87.0 + i as f32 * (175.0 / 160_000.0)).collect();
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_supported()) {
            let mut y = x.clone();
            // SAFETY: the CPU has `set`.
            unsafe { exp_all(set, &mut y) };
            for (x, y) in x.iter().zip(y) {
                let exact = f64::from(*x).exp();
                let unit = exact * f64::from(f32::EPSILON);
                assert!((f64::from(y) - exact).abs() <= 2.0 * unit, "{}: exp({x}) = {y}", set.name());
            }
        }
    }

    #[test]
    fn exp_is_finite_outside_its_range() {
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_supported()) {
            let mut y: Vec<f32> = [-1e30, -200.0, 200.0, 1e30].repeat(4);
            // SAFETY: the CPU has `set`.
            unsafe { exp_all(set, &mut y) };
            assert!(y.iter().all(|y| y.is_finite()), "{}: {y:?}", set.name());
        }
    }
}
