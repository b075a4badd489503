//! An initial inverse Hessian H₀ of L-BFGS for images: one factor per band of spatial frequency, learnt from the pairs.
//!
//! The Jacobian of a flow of images shrinks fine detail far more than coarse, so that the curvature at the source point
//! differs by orders between bands. The scalar yᵀs / yᵀy of L-BFGS has to be right for all of them; a factor per band is
//! right for each. Over the newest pairs (s, y), each of weight 1, the factor of band b is the root of Σ‖s_b‖²/‖s‖² over
//! Σ‖y_b‖²/‖y‖²: what a diagonal Hessian would have. All are then scaled so that sᵀy = yᵀH₀y for the newest pair, as the
//! scalar is.

use std::collections::VecDeque;
use std::f64::consts::PI;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use pulp::{Arch, Simd, WithSimd};

use super::vector::dot;
use crate::real::Real;

/// Bands of an octave of frequency.
const PER_OCTAVE: f64 = 3.0;

/// Shares below this are rounding: such a band keeps the factor 1.
const NEGLIGIBLE: f64 = 1e-30;

/// The factors, and what they are learnt from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Bands {
    /// Channels, rows and columns of x.
    shape: [usize; 3],
    /// Pairs that are looked back on.
    pairs: usize,
    /// Per pair, oldest first: the share of each band in ‖s‖² and in ‖y‖².
    shares: VecDeque<[Vec<f64>; 2]>,
    /// H₀ of each band; empty before the first pair.
    factors: Vec<f64>,
}

impl Bands {
    /// Bands of an image of `[channels, rows, columns]` that look back on so many pairs.
    pub(super) fn new(shape: [usize; 3], pairs: usize) -> Self {
        Self { shape, pairs: pairs.max(1), shares: VecDeque::new(), factors: Vec::new() }
    }

    /// Learns from a pair of positive curvature sᵀy.
    pub(super) fn learn<T: Real>(&mut self, s: &[T], y: &[T], curvature: f64) {
        let basis = Basis::of(self.shape);
        let energy = basis.energies(y);
        if self.shares.len() == self.pairs {
            self.shares.pop_front();
        }
        self.shares.push_back([shares(basis.energies(s), dot(s, s)), shares(energy.clone(), dot(y, y))]);
        let total = |of: usize, band: usize| self.shares.iter().map(|shares| shares[of][band]).sum::<f64>();
        self.factors = (0..energy.len())
            .map(|band| match (total(0, band), total(1, band)) {
                (step, change) if step > NEGLIGIBLE && change > NEGLIGIBLE => (step / change).sqrt(),
                _ => 1.0,
            })
            .collect();
        let scale = curvature / energy.iter().zip(&self.factors).map(|(e, factor)| e * factor).sum::<f64>();
        self.factors.iter_mut().for_each(|factor| *factor *= scale);
    }

    /// q ← H₀q; false, and nothing done, before the first pair.
    pub(super) fn apply<T: Real>(&self, q: &mut [T]) -> bool {
        if self.factors.is_empty() {
            return false;
        }
        let basis = Basis::of(self.shape);
        let mut spectrum = basis.forward(q);
        for (value, &band) in spectrum.iter_mut().zip(&basis.band) {
            *value *= self.factors[usize::from(band)];
        }
        for (q, value) in q.iter_mut().zip(basis.backward(spectrum)) {
            *q = T::from_f64(value);
        }
        true
    }
}

fn shares(mut energies: Vec<f64>, total: f64) -> Vec<f64> {
    energies.iter_mut().for_each(|energy| *energy /= total);
    energies
}

/// An orthonormal basis of images: the discrete cosine transform (DCT-II) of each channel, colours turned into luma and
/// two differences first.
#[derive(Debug)]
struct Basis {
    shape: [usize; 3],
    /// Cosines of rows, row-major: frequency × position, and position × frequency.
    of_rows: [Vec<f64>; 2],
    /// Those of columns.
    of_columns: [Vec<f64>; 2],
    /// The band of each coefficient.
    band: Vec<u16>,
    bands: usize,
}

impl Basis {
    /// The basis for a shape; solves of one shape share it.
    fn of(shape: [usize; 3]) -> Arc<Self> {
        static KNOWN: Mutex<Vec<Arc<Basis>>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(basis) = known.iter().find(|basis| basis.shape == shape) {
            return Arc::clone(basis);
        }
        known.push(Arc::new(Self::new(shape)));
        Arc::clone(&known[known.len() - 1])
    }

    fn new(shape: [usize; 3]) -> Self {
        let [channels, rows, columns] = shape;
        let octaves = |u: usize, v: usize| libm::log2(1.0 + ((u * u + v * v) as f64).sqrt());
        let in_group = |u, v| (PER_OCTAVE * octaves(u, v)) as usize;
        let group = in_group(rows.saturating_sub(1), columns.saturating_sub(1)) + 1;
        // Luma has bands of its own, the differences of colours share theirs; so do channels that are no colours.
        let groups = if channels == 3 { 2 } else { 1 };
        let band = |channel: usize, u, v| channel.min(groups - 1) * group + in_group(u, v);
        let band = (0..channels)
            .flat_map(|c| (0..rows).flat_map(move |u| (0..columns).map(move |v| (c, u, v))))
            .map(|(c, u, v)| u16::try_from(band(c, u, v)).expect("an image has few octaves"))
            .collect();
        Self { shape, of_rows: cosines(rows), of_columns: cosines(columns), band, bands: groups * group }
    }

    /// Σ of the squares of x's coefficients in each band.
    fn energies<T: Real>(&self, x: &[T]) -> Vec<f64> {
        let mut energies = vec![0.0; self.bands];
        for (value, &band) in self.forward(x).iter().zip(&self.band) {
            energies[usize::from(band)] += value * value;
        }
        energies
    }

    fn forward<T: Real>(&self, x: &[T]) -> Vec<f64> {
        let mut x: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
        self.turn_colours(&mut x, false);
        self.planes(&mut x, false);
        x
    }

    fn backward(&self, mut spectrum: Vec<f64>) -> Vec<f64> {
        self.planes(&mut spectrum, true);
        self.turn_colours(&mut spectrum, true);
        spectrum
    }

    /// Colours to luma and differences, or back.
    fn turn_colours(&self, x: &mut [f64], is_back: bool) {
        let [3, rows, columns] = self.shape else { return };
        let turn = [
            [1.0 / 3.0_f64.sqrt(); 3],
            [0.5_f64.sqrt(), 0.0, -(0.5_f64.sqrt())],
            [1.0 / 6.0_f64.sqrt(), -2.0 / 6.0_f64.sqrt(), 1.0 / 6.0_f64.sqrt()],
        ];
        let (red, rest) = x.split_at_mut(rows * columns);
        let (green, blue) = rest.split_at_mut(rows * columns);
        for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
            let colour = [*red, *green, *blue];
            let product = |i: usize| {
                (0..3).map(|j| if is_back { turn[j][i] } else { turn[i][j] } * colour[j]).sum::<f64>()
            };
            (*red, *green, *blue) = (product(0), product(1), product(2));
        }
    }

    /// Every channel X becomes R·X·Cᵀ, or Rᵀ·X·C back.
    fn planes(&self, x: &mut [f64], is_back: bool) {
        let [_, rows, columns] = self.shape;
        let left = &self.of_rows[usize::from(is_back)];
        let right = &self.of_columns[usize::from(!is_back)];
        let mut half = vec![0.0; rows * columns];
        for plane in x.chunks_exact_mut(rows * columns) {
            Arch::new().dispatch(Product { c: &mut half, a: left, b: plane, columns });
            Arch::new().dispatch(Product { c: plane, a: &half, b: right, columns });
        }
    }
}

/// Columns of a product that are summed at a time, in registers.
const BLOCK: usize = 16;

/// C ← A·B, row-major; B and C have so many columns. Compiled for the vectors of every CPU, with the same bits on all:
/// nothing is contracted to fused multiply-adds.
struct Product<'a> {
    c: &'a mut [f64],
    a: &'a [f64],
    b: &'a [f64],
    columns: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { c, a, b, columns } = self;
        let inner = b.len() / columns;
        for (row, factors) in c.chunks_exact_mut(columns).zip(a.chunks_exact(inner)) {
            let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
            let done = columns - rest.len();
            for (block, to) in blocks.iter_mut().enumerate() {
                let mut sum = [0.0; BLOCK];
                for (factor, other) in factors.iter().zip(b.chunks_exact(columns)) {
                    let other = &other[block * BLOCK..][..BLOCK];
                    sum.iter_mut().zip(other).for_each(|(to, from)| *to += factor * from);
                }
                *to = sum;
            }
            rest.fill(0.0);
            for (factor, other) in factors.iter().zip(b.chunks_exact(columns)) {
                rest.iter_mut().zip(&other[done..]).for_each(|(to, from)| *to += factor * from);
            }
        }
    }
}

/// The orthonormal DCT-II of n numbers, `[frequency][position]`, and its transpose; with `libm`'s cosine: the same bits on
/// every machine.
fn cosines(n: usize) -> [Vec<f64>; 2] {
    let entry = |k: usize, i: usize| {
        let norm = if k == 0 { 1.0 } else { 2.0 } / n as f64;
        norm.sqrt() * libm::cos(PI * (i as f64 + 0.5) * k as f64 / n as f64)
    };
    let table = |entry: &dyn Fn(usize, usize) -> f64| (0..n * n).map(|at| entry(at / n, at % n)).collect();
    [table(&entry), table(&|i, k| entry(k, i))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(shape: [usize; 3], seed: usize) -> Vec<f64> {
        (0..shape.iter().product()).map(|i: usize| libm::sin((i * seed) as f64 + 0.3)).collect()
    }

    #[test]
    fn the_basis_is_orthonormal_for_any_shape() {
        for shape in [[3, 8, 8], [1, 5, 7], [4, 6, 3], [3, 1, 1]] {
            let (basis, x, y) = (Basis::of(shape), image(shape, 7), image(shape, 11));
            let (spectrum, other) = (basis.forward(&x), basis.forward(&y));
            assert!((dot(&spectrum, &other) - dot(&x, &y)).abs() < 1e-12 * dot(&x, &x), "{shape:?}");
            let back = basis.backward(spectrum);
            assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-13), "{shape:?}");
            let energy: f64 = basis.energies(&x).iter().sum();
            assert!((energy / dot(&x, &x) - 1.0).abs() < 1e-12, "{shape:?}");
        }
    }

    #[test]
    fn a_grey_plane_is_the_lowest_luma_band() {
        let energies = Basis::of([3, 8, 8]).energies(&[0.5_f64; 192]);
        assert!((energies[0] - 48.0).abs() < 1e-12 && energies[1..].iter().all(|e| e.abs() < 1e-20));
    }

    #[test]
    fn a_hessian_that_is_constant_on_bands_is_inverted_exactly() {
        let shape = [3, 8, 8];
        let basis = Basis::of(shape);
        let curvature = |band: u16| 10.0_f64.powi(i32::from(band) % 3);
        let hessian = |x: &[f64]| {
            let scaled = basis.forward(x).into_iter().zip(&basis.band).map(|(v, &b)| v * curvature(b));
            basis.backward(scaled.collect())
        };
        let x = image(shape, 13);
        let mut bands = Bands::new(shape, 1);
        for seed in [3, 5, 7] {
            let s = image(shape, seed);
            let y = hessian(&s);
            bands.learn(&s, &y, dot(&s, &y));
            assert_eq!(bands.shares.len(), 1, "older pairs are forgotten");
            let mut q = hessian(&x);
            assert!(bands.apply(&mut q));
            let error: f64 = q.iter().zip(&x).map(|(a, b)| (a - b) * (a - b)).sum();
            assert!(error < 1e-20 * dot(&x, &x), "{error}");
        }
    }

    #[test]
    fn several_pairs_are_averaged_and_the_newest_sets_the_scale() {
        let shape = [1, 8, 8];
        let mut bands = Bands::new(shape, 3);
        for seed in [3, 5, 7, 9] {
            let (s, mut y) = (image(shape, seed), image(shape, seed + 8));
            y.iter_mut().zip(&s).for_each(|(y, s)| *y = 0.3 * *y + s);
            bands.learn(&s, &y, dot(&s, &y));
            let mut scaled = y.clone();
            bands.apply(&mut scaled);
            assert!((dot(&y, &scaled) / dot(&s, &y) - 1.0).abs() < 1e-12, "sᵀy = yᵀH₀y");
        }
        assert_eq!(bands.shares.len(), 3);
    }

    #[test]
    fn before_the_first_pair_nothing_is_done() {
        let mut q = image([1, 4, 4], 3);
        assert!(!Bands::new([1, 4, 4], 3).apply(&mut q));
        assert_eq!(q, image([1, 4, 4], 3));
    }

    #[test]
    fn a_band_without_energy_stays_finite() {
        let shape = [3, 8, 8];
        let grey = vec![0.25_f64; 192];
        let mut bands = Bands::new(shape, 2);
        bands.learn(&grey, &grey, dot(&grey, &grey));
        let mut q = image(shape, 5);
        bands.apply(&mut q);
        assert!(q.iter().all(|q| q.is_finite()));
        let mut same = grey.clone();
        bands.apply(&mut same);
        assert!(same.iter().zip(&grey).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
