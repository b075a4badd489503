//! Squared distances and directions of the edges of a molecule, and their pull-back to the positions.
//!
//! Edges are ordered pairs (i, j), i ≠ j, by receiver i, then sender j.

use crate::net::kernel::Receivers;

/// Added to a squared distance before its root: the direction of coincident atoms is 0, and so is its gradient.
const EPSILON: f32 = 1e-8;

/// All edges of a molecule.
pub(super) const fn all(atoms: usize) -> Receivers {
    Receivers { first: 0, count: atoms, atoms }
}

/// Writes ‖x_i − x_j‖² of every edge.
pub(super) fn distances(x: &[f32], d: &mut [f32]) {
    for ((i, j), d) in all(x.len() / 3).pairs().zip(d) {
        let diff = difference(x, i, j);
        *d = dot(diff, diff);
    }
}

/// Writes ‖x_i − x_j‖² and (x_i − x_j) / (√(‖x_i − x_j‖² + 1e-8) + constant) of every edge.
pub(super) fn directions(x: &[f32], constant: f32, d: &mut [f32], r: &mut [f32]) {
    for (((i, j), d), r) in all(x.len() / 3).pairs().zip(d).zip(triples_mut(r)) {
        let diff = difference(x, i, j);
        *d = dot(diff, diff);
        let inverse = 1.0 / ((*d + EPSILON).sqrt() + constant);
        *r = diff.map(|v| v * inverse);
    }
}

/// `gradient += ` the pull-back of a cotangent of the distances to the positions.
pub(super) fn pull_back_distances(x: &[f32], to_d: &[f32], gradient: &mut [f32]) {
    for ((i, j), to_d) in all(x.len() / 3).pairs().zip(to_d) {
        move_apart(gradient, (i, j), difference(x, i, j).map(|v| 2.0 * to_d * v));
    }
}

/// `gradient += ` the pull-back of cotangents of distances and directions to the positions.
pub(super) fn pull_back_directions(
    x: &[f32],
    constant: f32,
    (to_d, to_r): (&[f32], &[f32]),
    gradient: &mut [f32],
) {
    for (((i, j), to_d), to_r) in all(x.len() / 3).pairs().zip(to_d).zip(triples(to_r)) {
        let diff = difference(x, i, j);
        let root = (dot(diff, diff) + EPSILON).sqrt();
        let inverse = 1.0 / (root + constant);
        // The inverse depends on d by −inverse² / (2·root).
        let along = to_d - dot(*to_r, diff) * inverse * inverse * 0.5 / root;
        move_apart(gradient, (i, j), std::array::from_fn(|k| to_r[k] * inverse + 2.0 * along * diff[k]));
    }
}

/// The numbers in threes.
pub(super) fn triples(numbers: &[f32]) -> &[[f32; 3]] {
    numbers.as_chunks().0
}

/// As [`triples`].
pub(super) fn triples_mut(numbers: &mut [f32]) -> &mut [[f32; 3]] {
    numbers.as_chunks_mut().0
}

fn difference(x: &[f32], i: usize, j: usize) -> [f32; 3] {
    std::array::from_fn(|k| x[3 * i + k] - x[3 * j + k])
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Adds the gradient of x_i − x_j.
fn move_apart(gradient: &mut [f32], (i, j): (usize, usize), by: [f32; 3]) {
    for (k, by) in by.into_iter().enumerate() {
        gradient[3 * i + k] += by;
        gradient[3 * j + k] -= by;
    }
}
