//! Changes of coordinates to an orthonormal basis.

use std::sync::Arc;

use rayon::prelude::*;

use crate::real::Real;

/// An orthonormal basis of ℝ^dim; row i of the stored matrix is the i-th basis vector. Cheap to clone.
///
/// The products are split over outputs, and every output sums its terms in an order fixed by `dim` alone: a row's
/// result depends neither on its batch mates nor on the threads.
#[derive(Debug, Clone)]
pub struct Basis<T> {
    dim: usize,
    vectors: Arc<[T]>,
}

/// Independent partial sums of one dot product, for the vector units.
const LANES: usize = 16;
/// Outputs that one task computes.
const CHUNK: usize = 256;

impl<T: Real> Basis<T> {
    /// The basis whose i-th vector is `vectors[i·dim..][..dim]`. `None` unless there are `dim²` numbers.
    pub fn new(dim: usize, vectors: Vec<T>) -> Option<Self> {
        (dim.checked_mul(dim) == Some(vectors.len())).then(|| Self { dim, vectors: vectors.into() })
    }

    /// Size of the space.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The basis vectors, one after the other.
    pub fn vectors(&self) -> &[T] {
        &self.vectors
    }

    /// Replaces each row of `x` (`rows × dim`) by its coordinates in the basis.
    pub fn enter(&self, x: &mut [T]) {
        let dim = self.dim;
        let rows = x.len() / dim.max(1);
        // Output-major, so that a basis vector is read once for all rows.
        let mut out = vec![T::ZERO; x.len()];
        out.par_chunks_mut(rows.max(1) * CHUNK).enumerate().for_each(|(chunk, out)| {
            for (i, out) in out.chunks_exact_mut(rows).enumerate() {
                let vector = &self.vectors[(chunk * CHUNK + i) * dim..][..dim];
                for (out, row) in out.iter_mut().zip(x.chunks_exact(dim)) {
                    *out = dot(vector, row);
                }
            }
        });
        for (r, row) in x.chunks_exact_mut(dim).enumerate() {
            for (i, value) in row.iter_mut().enumerate() {
                *value = out[i * rows + r];
            }
        }
    }

    /// Replaces each row of `y` (`rows × dim`), given in coordinates of the basis, by the vector it stands for.
    pub fn leave(&self, y: &mut [T]) {
        let (dim, chunks) = (self.dim, self.dim.div_ceil(CHUNK));
        let rows = y.len() / dim.max(1);
        let parts: Vec<Vec<T>> =
            (0..chunks).into_par_iter().map(|chunk| self.leave_chunk(chunk, y)).collect();
        for (chunk, part) in parts.iter().enumerate() {
            let width = part.len() / rows.max(1);
            for (row, part) in y.chunks_exact_mut(dim).zip(part.chunks_exact(width)) {
                row[chunk * CHUNK..][..width].copy_from_slice(part);
            }
        }
    }

    /// Columns `chunk·CHUNK..` of every row of Σᵢ yᵢ·vectorᵢ.
    fn leave_chunk(&self, chunk: usize, y: &[T]) -> Vec<T> {
        let first = chunk * CHUNK;
        let width = CHUNK.min(self.dim - first);
        let mut out = vec![T::ZERO; y.len() / self.dim * width];
        // Blocks of vectors keep the partial sums short, hence accurate in f32.
        let mut partial = vec![T::ZERO; width];
        for block in (0..self.dim).step_by(CHUNK) {
            let block = block..(block + CHUNK).min(self.dim);
            for (row, out) in y.chunks_exact(self.dim).zip(out.chunks_exact_mut(width)) {
                partial.fill(T::ZERO);
                for i in block.clone() {
                    add_scaled(&mut partial, row[i], &self.vectors[i * self.dim + first..][..width]);
                }
                for (out, partial) in out.iter_mut().zip(&partial) {
                    *out += *partial;
                }
            }
        }
        out
    }
}

fn add_scaled<T: Real>(out: &mut [T], factor: T, x: &[T]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += factor * *x;
    }
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_whole, b_whole) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: T = a_whole.remainder().iter().zip(b_whole.remainder()).map(|(a, b)| *a * *b).sum();
    for (a, b) in a_whole.zip(b_whole) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += *a * *b;
        }
    }
    lanes.into_iter().sum::<T>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::testing::rotation;

    #[test]
    fn leave_undoes_enter() {
        for dim in [1, 2, 15, 300] {
            let basis = Basis::new(dim, rotation(dim)).expect("dim² numbers");
            let x: Vec<f64> = (0..3 * dim).map(|i| (i as f64).sin()).collect();
            let mut y = x.clone();
            basis.enter(&mut y);
            basis.leave(&mut y);
            // Orthonormal to rounding.
            assert!(x.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-12), "{dim}");
        }
    }

    #[test]
    fn rows_do_not_depend_on_their_batch_mates() {
        let dim = 70;
        let basis =
            Basis::new(dim, rotation(dim).into_iter().map(|v| v as f32).collect()).expect("dim² numbers");
        let x: Vec<f32> = (0..5 * dim).map(|i| (i as f32).cos()).collect();
        for change in [Basis::enter, Basis::leave] {
            let mut together = x.clone();
            change(&basis, &mut together);
            for (r, row) in x.chunks_exact(dim).enumerate() {
                let mut alone = row.to_vec();
                change(&basis, &mut alone);
                assert_eq!(alone, together[r * dim..][..dim]);
            }
        }
    }

    #[test]
    fn a_basis_is_square() {
        assert!(Basis::new(3, vec![0.0; 8]).is_none());
    }
}
