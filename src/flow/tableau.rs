//! Explicit Runge–Kutta methods as Butcher tableaux, and the two vector operations that they are made of.

use pulp::{Arch, Simd, WithSimd};

use crate::real::Real;

/// An explicit Runge–Kutta method: kᵢ = u(t + cᵢh, x + h Σⱼ aᵢⱼkⱼ), x ← x + h Σᵢ bᵢkᵢ.
#[derive(Debug, PartialEq)]
pub struct Tableau {
    /// The field's name of the method.
    pub name: &'static str,
    /// cᵢ.
    pub nodes: &'static [f64],
    /// aᵢⱼ: row i has i entries.
    pub coefficients: &'static [&'static [f64]],
    /// bᵢ.
    pub weights: &'static [f64],
}

impl Tableau {
    /// Euler's method, order 1.
    pub const EULER: Self = Self { name: "euler", nodes: &[0.0], coefficients: &[&[]], weights: &[1.0] };

    /// Explicit midpoint, order 2.
    pub const MIDPOINT: Self =
        Self { name: "midpoint", nodes: &[0.0, 0.5], coefficients: &[&[], &[0.5]], weights: &[0.0, 1.0] };

    /// Heun's method (explicit trapezoid), order 2.
    pub const HEUN: Self =
        Self { name: "heun", nodes: &[0.0, 1.0], coefficients: &[&[], &[1.0]], weights: &[0.5, 0.5] };

    /// The classical Runge–Kutta method, order 4.
    pub const RK4: Self = Self {
        name: "rk4",
        nodes: &[0.0, 0.5, 0.5, 1.0],
        coefficients: &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
        weights: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
    };

    /// The order-5 method of Dormand and Prince's pair (J. Comput. Appl. Math. 6, 1980); its seventh stage, which
    /// only the error estimate needs, is the first stage of the next step.
    pub const DOPRI5: Self = Self {
        name: "dopri5",
        nodes: &[0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0],
        coefficients: &[
            &[],
            &[1.0 / 5.0],
            &[3.0 / 40.0, 9.0 / 40.0],
            &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
            &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
            &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
        ],
        weights: &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
    };

    /// Evaluations of one step.
    pub const fn stages(&self) -> usize {
        self.nodes.len()
    }
}

/// Weights of the error estimate of [`Tableau::DOPRI5`] over its six stages and the next step's first: b − b̂ with
/// Shampine's embedded weights, as torchdiffeq 0.2.5 has them.
pub(super) const DOPRI5_ERROR: [f64; 7] = [
    35.0 / 384.0 - 1951.0 / 21600.0,
    0.0,
    500.0 / 1113.0 - 22642.0 / 50085.0,
    125.0 / 192.0 - 451.0 / 720.0,
    -2187.0 / 6784.0 + 12231.0 / 42400.0,
    11.0 / 84.0 - 649.0 / 6300.0,
    -1.0 / 60.0,
];

/// `out[r] = x[r] + h[r] Σⱼ weights[j]·k[j][r]` for rows of `dim` numbers; the increment is summed first, then added to x.
pub(super) fn combine<T: Real>(out: &mut [T], x: &[T], h: &[f64], weights: &[f64], k: &[Vec<T>], dim: usize) {
    let terms = weights.iter().copied().zip(k.iter().map(Vec::as_slice));
    Arch::new().dispatch(Sum { out, start: Some(x), h, terms, dim });
}

/// `out[r] = h[r] Σ weight·x[r]` over the terms (weight, x), for rows of `dim` numbers.
pub(super) fn sum_scaled<'a, T: Real>(
    out: &mut [T],
    h: &[f64],
    terms: impl Iterator<Item = (f64, &'a [T])> + Clone,
    dim: usize,
) {
    Arch::new().dispatch(Sum { out, start: None, h, terms, dim });
}

/// Numbers that are summed at a time, in registers.
const LANES: usize = 32;

/// [`combine`] and [`sum_scaled`] in one pass over memory, compiled for the vectors of every CPU; nothing is contracted to
/// fused multiply-adds, so that the bits are the same on all.
struct Sum<'o, 'h, T, I> {
    out: &'o mut [T],
    /// What is added last.
    start: Option<&'o [T]>,
    h: &'h [f64],
    terms: I,
    dim: usize,
}

impl<'a, T: Real, I: Iterator<Item = (f64, &'a [T])> + Clone> WithSimd for Sum<'_, '_, T, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { out, start, h, terms, dim } = self;
        for (row, (out, h)) in out.chunks_exact_mut(dim).zip(h).enumerate() {
            let terms = terms.clone().filter(|(weight, _)| *weight != 0.0);
            let terms = terms.map(|(weight, x)| (T::from_f64(h * weight), &x[row * dim..][..dim]));
            let start = start.map(|start| &start[row * dim..][..dim]);
            let (chunks, rest) = out.as_chunks_mut::<LANES>();
            for (chunk, out) in chunks.iter_mut().enumerate() {
                let at = chunk * LANES;
                let mut sum = [T::ZERO; LANES];
                for (factor, x) in terms.clone() {
                    sum.iter_mut().zip(&x[at..][..LANES]).for_each(|(sum, x)| *sum += factor * *x);
                }
                if let Some(start) = start {
                    sum.iter_mut().zip(&start[at..][..LANES]).for_each(|(sum, x)| *sum += *x);
                }
                *out = sum;
            }
            let done = dim - rest.len();
            for (i, out) in rest.iter_mut().enumerate() {
                let mut sum = T::ZERO;
                for (factor, x) in terms.clone() {
                    sum += factor * x[done + i];
                }
                if let Some(start) = start {
                    sum += start[done + i];
                }
                *out = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Tableau, u32); 5] = [
        (Tableau::EULER, 1),
        (Tableau::MIDPOINT, 2),
        (Tableau::HEUN, 2),
        (Tableau::RK4, 4),
        (Tableau::DOPRI5, 5),
    ];

    #[test]
    fn rows_sum_to_nodes_and_quadrature_has_the_order() {
        for (tableau, order) in ALL {
            for (node, row) in tableau.nodes.iter().zip(tableau.coefficients) {
                assert!((row.iter().sum::<f64>() - node).abs() < 1e-14, "{}", tableau.name);
            }
            for q in 1..=order {
                let sum: f64 =
                    tableau.weights.iter().zip(tableau.nodes).map(|(b, c)| b * c.powi(q as i32 - 1)).sum();
                assert!((sum - 1.0 / f64::from(q)).abs() < 1e-14, "{} order {q}", tableau.name);
            }
        }
        assert!(DOPRI5_ERROR.iter().sum::<f64>().abs() < 1e-15);
    }
}
