//! The view of a molecule in which it is widest: positions in their principal axes.

use crate::molecule::Molecule;

/// Sweeps after which 3×3 matrices of f64 are diagonal to the last bit; four or five are what it takes.
const SWEEPS: usize = 12;

/// Positions of the atoms in Å about their mean: to the right along the axis of largest variance, upwards along that of
/// the second, and towards the reader. A rotation, never a reflection: a molecule and its mirror image look different.
///
/// `None` if a position is infinite or no number.
pub(super) fn project(molecule: &Molecule) -> Option<Vec<[f64; 3]>> {
    let n = molecule.len().max(1) as f64;
    let positions = molecule.positions.iter().map(|position| position.map(f64::from));
    let mean: [f64; 3] = std::array::from_fn(|axis| positions.clone().map(|p| p[axis]).sum::<f64>() / n);
    let centred: Vec<[f64; 3]> =
        positions.map(|position| std::array::from_fn(|axis| position[axis] - mean[axis])).collect();
    if centred.iter().flatten().any(|value| !value.is_finite()) {
        return None;
    }
    let covariance = std::array::from_fn(|row| {
        std::array::from_fn(|column| centred.iter().map(|p| p[row] * p[column]).sum::<f64>() / n)
    });
    let [right, up] = principal_axes(covariance);
    let axes = [right, up, cross(right, up)];
    Some(centred.into_iter().map(|position| axes.map(|axis| dot(axis, position))).collect())
}

/// The eigenvectors of the largest and the second eigenvalue, each with its largest component positive.
fn principal_axes(covariance: [[f64; 3]; 3]) -> [[f64; 3]; 2] {
    let (values, vectors) = eigen(covariance);
    let mut order = [0, 1, 2];
    // Equal ones stay in the order of the axes.
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    [order[0], order[1]].map(|k| {
        let vector: [f64; 3] = std::array::from_fn(|axis| vectors[axis][k]);
        let largest = vector.into_iter().fold(0.0_f64, |most, v| if v.abs() > most.abs() { v } else { most });
        vector.map(|v| if largest < 0.0 { -v } else { v })
    })
}

/// Eigenvalues of a symmetric matrix, and the eigenvectors as columns, by cyclic Jacobi rotations (Golub and Van Loan,
/// Matrix Computations, section 8.5).
fn eigen(mut a: [[f64; 3]; 3]) -> ([f64; 3], [[f64; 3]; 3]) {
    let mut v = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for _ in 0..SWEEPS {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if a[p][q] == 0.0 {
                continue;
            }
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let c = 1.0 / (t * t + 1.0).sqrt();
            let s = t * c;
            for row in &mut a {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
            for k in 0..3 {
                (a[p][k], a[q][k]) = (c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]);
            }
            for row in &mut v {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
        }
    }
    ([a[0][0], a[1][1], a[2][2]], v)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::molecule::Element;

    fn at(positions: &[[f32; 3]]) -> Molecule {
        Molecule { elements: vec![Element::C; positions.len()], positions: positions.to_vec() }
    }

    #[test]
    fn distances_and_handedness_are_kept() {
        let molecule = at(&[[0.3, 1.0, -2.0], [1.5, 0.1, 0.2], [-0.7, 0.9, 1.1], [0.0, -1.3, 0.4]]);
        let seen = project(&molecule).unwrap();
        let original: Vec<[f64; 3]> = molecule.positions.iter().map(|p| p.map(f64::from)).collect();
        let difference = |p: &[[f64; 3]], i: usize| std::array::from_fn(|axis| p[i][axis] - p[0][axis]);
        let volume = |p: &[[f64; 3]]| dot(difference(p, 1), cross(difference(p, 2), difference(p, 3)));
        assert!((volume(&seen) - volume(&original)).abs() < 1e-9, "a reflection would change the sign");
        for i in 1..4 {
            let length = |p: &[[f64; 3]]| dot(difference(p, i), difference(p, i));
            assert!((length(&seen) - length(&original)).abs() < 1e-9);
        }
        let variance = |axis: usize| seen.iter().map(|p| p[axis] * p[axis]).sum::<f64>();
        assert!(variance(0) >= variance(1) && variance(1) >= variance(2));
        let mixed = |a: usize, b: usize| seen.iter().map(|p| p[a] * p[b]).sum::<f64>().abs();
        assert!(mixed(0, 1) < 1e-12 && mixed(0, 2) < 1e-12 && mixed(1, 2) < 1e-12);
    }

    #[test]
    fn a_rod_lies_across_and_a_disc_faces_the_reader() {
        let rod = project(&at(&[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [4.0, 4.0, 4.0]])).unwrap();
        assert!(rod.iter().all(|p| p[1].abs() < 1e-12 && p[2].abs() < 1e-12));
        assert!(rod[0][0] < rod[1][0] && rod[1][0] < rod[2][0]);
        let disc =
            project(&at(&[[0.0, 5.0, 1.0], [0.0, -5.0, 1.0], [0.0, 0.0, 3.0], [0.0, 0.0, -1.0]])).unwrap();
        assert!(disc.iter().all(|p| p[2].abs() < 1e-12));
    }

    #[test]
    fn what_has_no_axes_is_drawn_as_it_is() {
        assert_eq!(project(&at(&[])), Some(vec![]));
        assert_eq!(project(&at(&[[3.0, 4.0, 5.0]])), Some(vec![[0.0; 3]]));
        assert_eq!(project(&at(&[[1.0; 3]; 3])), Some(vec![[0.0; 3]; 3]));
        assert_eq!(project(&at(&[[1.0, f32::NAN, 0.0]])), None);
        assert_eq!(project(&at(&[[1.0, f32::INFINITY, 0.0]])), None);
        assert!(
            project(&at(&[[f32::MAX; 3], [f32::MIN; 3]])).unwrap().iter().flatten().all(|v| v.is_finite())
        );
    }
}
