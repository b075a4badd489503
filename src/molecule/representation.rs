//! The state of a flow over molecules (EDM, arXiv 2203.17003): per atom its position, one-hot element and charge.

use super::{Element, Molecule};

/// How a molecule of n atoms becomes numbers: n rows of 3 + 5 (+ 1), then zero rows up to `max_atoms`.
///
/// A row is the position (zero mean over the atoms), the one-hot element and, if `include_charges`, the nuclear charge
/// Z, each divided by its factor. States of molecules of different size have the same length, so that they can share
/// a batch; what is computed of them does not depend on the zero rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Representation {
    /// Most atoms: 29 for QM9.
    pub max_atoms: usize,
    /// Factors of positions (Å), one-hot block and charge: 1, 4, 10 for the unconditional EDM.
    pub factors: [f64; 3],
    /// Whether there is a charge column.
    pub include_charges: bool,
}

/// Coordinates of an atom.
pub const SPACE: usize = 3;
/// Columns of the one-hot block.
pub const ELEMENTS: usize = Element::ALL.len();

impl Representation {
    /// That of the unconditional EDM and of EquiFM on QM9.
    pub const QM9: Self = Self { max_atoms: 29, factors: [1.0, 4.0, 10.0], include_charges: true };

    /// Columns of a row: 9, or 8 without charges.
    pub const fn columns(&self) -> usize {
        SPACE + ELEMENTS + self.include_charges as usize
    }

    /// Numbers of a state.
    pub const fn dim(&self) -> usize {
        self.max_atoms * self.columns()
    }

    /// The state of a molecule, its positions centred.
    ///
    /// # Panics
    /// If it has more than `max_atoms` atoms.
    pub fn encode(&self, molecule: &Molecule) -> Vec<f32> {
        assert!(
            molecule.len() <= self.max_atoms,
            "{} atoms in a state of {}",
            molecule.len(),
            self.max_atoms
        );
        let n = molecule.len().max(1) as f64;
        let mean: [f64; SPACE] = std::array::from_fn(|axis| {
            molecule.positions.iter().map(|position| f64::from(position[axis])).sum::<f64>() / n
        });
        let mut state = vec![0.0; self.dim()];
        let atoms = molecule.elements.iter().zip(&molecule.positions);
        for (row, (element, position)) in state.chunks_exact_mut(self.columns()).zip(atoms) {
            for axis in 0..SPACE {
                row[axis] = ((f64::from(position[axis]) - mean[axis]) / self.factors[0]) as f32;
            }
            row[SPACE + element.index()] = (1.0 / self.factors[1]) as f32;
            if self.include_charges {
                row[SPACE + ELEMENTS] = (f64::from(element.atomic_number()) / self.factors[2]) as f32;
            }
        }
        state
    }

    /// The molecule of a state: the element of an atom is the largest entry of its one-hot block (the first of equal
    /// ones); the charge column is not looked at, as in EDM.
    ///
    /// # Panics
    /// If the state has no rows for so many atoms; the zero rows after them may be left out.
    pub fn decode(&self, state: &[f32], atoms: usize) -> Molecule {
        assert!(state.len() >= atoms * self.columns(), "{} numbers for {atoms} atoms", state.len());
        let mut molecule = Molecule::default();
        for row in state.chunks_exact(self.columns()).take(atoms) {
            let block = &row[SPACE..SPACE + ELEMENTS];
            let largest = (1..ELEMENTS).fold(0, |best, k| if block[k] > block[best] { k } else { best });
            molecule.elements.push(Element::ALL[largest]);
            molecule
                .positions
                .push(std::array::from_fn(|axis| (f64::from(row[axis]) * self.factors[0]) as f32));
        }
        molecule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn water() -> Molecule {
        Molecule {
            elements: vec![Element::O, Element::H, Element::H],
            positions: vec![[1.0, 0.0, 0.0], [1.96, 0.0, 0.0], [0.76, 0.93, 0.0]],
        }
    }

    #[test]
    fn a_molecule_comes_back_centred() {
        let state = Representation::QM9.encode(&water());
        assert_eq!(state.len(), 261);
        assert!(state[27..].iter().all(|v| *v == 0.0));
        assert_eq!((state[3 + 3], state[8]), (0.25, 0.8));
        let back = Representation::QM9.decode(&state, 3);
        assert_eq!(back.elements, water().elements);
        for axis in 0..3 {
            assert!(back.positions.iter().map(|p| p[axis]).sum::<f32>().abs() < 1e-6);
            let moved = |m: &Molecule| m.positions[1][axis] - m.positions[0][axis];
            assert!((moved(&back) - moved(&water())).abs() < 1e-6);
        }
    }

    #[test]
    fn charges_can_be_left_out() {
        let bare = Representation { include_charges: false, factors: [1.0, 8.0, 1.0], max_atoms: 4 };
        let state = bare.encode(&water());
        assert_eq!((state.len(), state[3 + 3]), (32, 0.125));
        assert_eq!(bare.decode(&state, 3).elements, water().elements);
    }
}
