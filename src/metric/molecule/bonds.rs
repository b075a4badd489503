//! Bond orders from distances, by the tables of EDM (Hoogeboom et al., arXiv 2203.17003, `qm9/bond_analyze.py` of its
//! public code; the bond lengths are those of G-SchNet's and of chemistry handbooks).
//!
//! A pair is bonded if its distance is below the length of its single bond + 10 pm; the bond is double if the pair
//! has a double bond and the distance is below its length + 5 pm, and triple if it is a double one by this rule, the
//! pair has a triple bond and the distance is below its length + 3 pm. All comparisons are strict.
//!
//! The distance is what the reference computes: differences, squares, their sum from x to z, root and the factor 100
//! all in f32. It may still round differently where it takes another path (a matrix product above 25 atoms, in its
//! validity), so that pairs within [`BORDERLINE_PM`] of a limit are counted.

use crate::molecule::{Bond, Element, Molecule};

/// How close to a limit a distance counts as borderline, in pm.
pub const BORDERLINE_PM: f32 = 1e-3;

/// What is added to the length of a single, double and triple bond, in pm.
const MARGINS: [f32; 3] = [10.0, 5.0, 3.0];

/// Lengths of single, double and triple bonds in pm; 0 where the table has no entry.
const LENGTHS: [(Element, Element, [f32; 3]); 15] = [
    (Element::H, Element::H, [74.0, 0.0, 0.0]),
    (Element::H, Element::C, [109.0, 0.0, 0.0]),
    (Element::H, Element::N, [101.0, 0.0, 0.0]),
    (Element::H, Element::O, [96.0, 0.0, 0.0]),
    (Element::H, Element::F, [92.0, 0.0, 0.0]),
    (Element::C, Element::C, [154.0, 134.0, 120.0]),
    (Element::C, Element::N, [147.0, 129.0, 116.0]),
    (Element::C, Element::O, [143.0, 120.0, 113.0]),
    (Element::C, Element::F, [135.0, 0.0, 0.0]),
    (Element::N, Element::N, [145.0, 125.0, 110.0]),
    (Element::N, Element::O, [140.0, 121.0, 0.0]),
    (Element::N, Element::F, [136.0, 0.0, 0.0]),
    (Element::O, Element::O, [148.0, 121.0, 0.0]),
    (Element::O, Element::F, [142.0, 0.0, 0.0]),
    (Element::F, Element::F, [142.0, 0.0, 0.0]),
];

/// Below which distance in pm a pair has a single, double and triple bond; −1 (never) where there is none.
const LIMITS: [[[f32; 3]; 5]; 5] = {
    let mut limits = [[[-1.0; 3]; 5]; 5];
    let mut row = 0;
    while row < LENGTHS.len() {
        let (a, b, lengths) = LENGTHS[row];
        let mut order = 0;
        while order < 3 {
            if lengths[order] > 0.0 {
                limits[a.index()][b.index()][order] = lengths[order] + MARGINS[order];
                limits[b.index()][a.index()][order] = lengths[order] + MARGINS[order];
            }
            order += 1;
        }
        row += 1;
    }
    limits
};

/// Order of the bond of two elements at a distance in pm: 0 (none) to 3. NaN gives 0.
pub fn bond_order(a: Element, b: Element, distance: f32) -> u8 {
    let limits = &LIMITS[a.index()][b.index()];
    limits.iter().take_while(|limit| distance < **limit).count() as u8
}

/// Whether the distance in pm is so close to a limit of the pair that another rounding may give another order.
pub fn is_borderline(a: Element, b: Element, distance: f32) -> bool {
    LIMITS[a.index()][b.index()].iter().any(|limit| (distance - limit).abs() < BORDERLINE_PM)
}

/// Distance of two positions (Å) in pm, in f32 from x to z as the reference computes it.
pub fn distance_pm(a: [f32; 3], b: [f32; 3]) -> f32 {
    let [x, y, z] = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    (x * x + y * y + z * z).sqrt() * 100.0
}

/// The bonds of a molecule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bonds {
    /// Every bond, the larger index first; sorted by it, then by the smaller one. The order of the reference, which
    /// decides where validity has a choice.
    pub list: Vec<Bond>,
    /// Number of pairs with [`is_borderline`].
    pub borderline: usize,
}

/// The bonds that the distances of a molecule give.
///
/// Atoms at the same place have the strongest bond of their pair. A molecule with a position that is no number or
/// infinite has no bonds.
pub fn bonds(molecule: &Molecule) -> Bonds {
    let mut bonds = Bonds::default();
    if !is_finite(molecule) {
        return bonds;
    }
    let atoms = || molecule.elements.iter().copied().zip(molecule.positions.iter().copied());
    for (i, (element, position)) in atoms().enumerate() {
        for (j, (other, place)) in atoms().enumerate().take(i) {
            let distance = distance_pm(position, place);
            let order = bond_order(element, other, distance);
            bonds.borderline += usize::from(is_borderline(element, other, distance));
            if order > 0 {
                bonds.list.push(Bond { atoms: [i, j], order });
            }
        }
    }
    bonds
}

/// Whether every position is a number.
pub(super) fn is_finite(molecule: &Molecule) -> bool {
    molecule.positions.iter().flatten().all(|value| value.is_finite())
}

/// Sums of the bond orders of the atoms.
pub(super) fn order_sums(atoms: usize, bonds: &[Bond]) -> Vec<u32> {
    let mut sums = vec![0; atoms];
    for bond in bonds {
        for atom in bond.atoms {
            sums[atom] += u32::from(bond.order);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_strict() {
        let order = |distance| bond_order(Element::C, Element::C, distance);
        assert_eq!([164.0, 163.99, 139.0, 138.99, 123.0, 122.99].map(order), [0, 1, 1, 2, 2, 3]);
        assert_eq!(bond_order(Element::O, Element::N, 50.0), 2, "there is no triple N-O bond");
        assert_eq!(bond_order(Element::F, Element::H, 101.99), 1);
        assert_eq!(order(f32::NAN), 0);
        assert_eq!(order(f32::INFINITY), 0);
    }

    #[test]
    fn orders_do_not_depend_on_the_order_of_the_elements() {
        for a in Element::ALL {
            for b in Element::ALL {
                assert!(LIMITS[a.index()][b.index()][0] > 0.0, "{a:?}-{b:?} is in the table");
                for pm in 50..200 {
                    assert_eq!(bond_order(a, b, pm as f32), bond_order(b, a, pm as f32));
                }
            }
        }
    }

    #[test]
    fn pairs_at_a_limit_are_counted() {
        let at = |distance| Molecule {
            elements: vec![Element::C, Element::C],
            positions: vec![[0.0; 3], [0.0, 0.0, distance]],
        };
        assert_eq!(bonds(&at(1.39)).borderline, 1);
        assert_eq!(bonds(&at(1.23)).borderline, 1);
        assert_eq!(bonds(&at(1.6402)), Bonds::default());
        let twin = Bonds { list: vec![Bond { atoms: [1, 0], order: 3 }], borderline: 0 };
        assert_eq!(bonds(&at(0.0)), twin, "atoms at the same place");
        assert_eq!(bonds(&at(f32::NAN)), Bonds::default());
        assert_eq!(bonds(&at(1e30)), Bonds::default(), "the square overflows");
    }
}
