//! Validity: whether RDKit's `SanitizeMol` accepts a molecule of H, C, N, O, F with given bond orders, as EDM
//! (arXiv 2203.17003, `qm9/rdkit_functions.py` of its public code) asks it.
//!
//! For such input sanitisation can fail in one step only, the check of valences, after the clean-up of five-valent
//! nitrogen. The rule here is that of RDKit 2026.09.1 and agrees with it on every molecule that
//! `tools/reference/molecules.py` makes. Fewer bonds than the valence are fine (RDKit adds hydrogen in thought), and
//! so are several fragments.

use super::bonds::order_sums;
use super::stability::valence;
use crate::molecule::{Bond, Element};

/// A molecule's bonds with the charges that its five-valent nitrogen needs, as in nitro groups and azides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// Bonds, in the order in which they were given; those between opposite charges are one order lower.
    pub bonds: Vec<Bond>,
    /// Formal charge of every atom: 0, +1 for N, −1 for N or O.
    pub charges: Vec<i8>,
    /// Sum of the bond orders of every atom.
    pub sums: Vec<u32>,
    /// Whether no atom has more bonds than its element and charge allow. False if there is no atom.
    pub valid: bool,
}

impl Structure {
    /// Separates charges at nitrogen, then checks the valences.
    ///
    /// First every N of valence 5, in the order of the atoms, gives a charge to the first neutral O that it has a
    /// double bond to: the bond becomes single, N positive, O negative. Then the same nitrogens, charged or not, do so
    /// with the first neutral N that they have a triple bond to, which becomes double. The first neighbour is that of
    /// the first bond. (Releases of RDKit before these two passes went over the atoms once; they differ on molecules
    /// such as O=N#N=O only.)
    ///
    /// # Panics
    /// If a bond names an atom that is not there.
    pub fn new(elements: &[Element], bonds: Vec<Bond>) -> Self {
        let charges = vec![0; elements.len()];
        let sums = order_sums(elements.len(), &bonds);
        let mut structure = Self { bonds, charges, sums, valid: false };
        let is_crowded = |atom: &usize| elements[*atom] == Element::N && structure.sums[*atom] == 5;
        let nitrogens: Vec<usize> = (0..elements.len()).filter(is_crowded).collect();
        for partner in [(Element::O, 2), (Element::N, 3)] {
            for nitrogen in &nitrogens {
                structure.separate(elements, *nitrogen, partner);
            }
        }
        let allowed = |(atom, sum): (usize, &u32)| *sum <= most(elements[atom], structure.charges[atom]);
        structure.valid = !elements.is_empty() && structure.sums.iter().enumerate().all(allowed);
        structure
    }

    /// Charges a nitrogen and its first neutral neighbour of this element with a bond of this order.
    fn separate(&mut self, elements: &[Element], nitrogen: usize, partner: (Element, u8)) {
        let found = self.bonds.iter().enumerate().find_map(|(place, bond)| {
            let other = bond.other(nitrogen)?;
            let fits = (elements[other], bond.order) == partner && self.charges[other] == 0;
            fits.then_some((place, other))
        });
        if let Some((place, other)) = found {
            self.bonds[place].order -= 1;
            (self.charges[nitrogen], self.charges[other]) = (1, -1);
            self.sums[nitrogen] -= 1;
            self.sums[other] -= 1;
        }
    }
}

/// The largest sum of bond orders at an element with a formal charge: an electron more or less changes that of N
/// and O by one.
fn most(element: Element, charge: i8) -> u32 {
    valence(element).saturating_add_signed(i32::from(charge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Element::{C, F, H, N, O};

    fn structure(elements: &[Element], bonds: &[(usize, usize, u8)]) -> Structure {
        let bonds = bonds.iter().map(|&(a, b, order)| Bond { atoms: [a, b], order });
        Structure::new(elements, bonds.collect())
    }

    #[test]
    fn missing_hydrogen_is_added_in_thought() {
        assert!(structure(&[C], &[]).valid);
        assert!(structure(&[C, C], &[(1, 0, 3)]).valid);
        assert!(structure(&[H, F], &[]).valid, "two fragments");
    }

    #[test]
    fn too_many_bonds_are_invalid() {
        assert!(!structure(&[H, H, H], &[(1, 0, 1), (2, 0, 1)]).valid);
        assert!(!structure(&[C; 6], &[1, 2, 3, 4, 5].map(|other| (other, 0, 1))).valid);
        assert!(!structure(&[F, C], &[(1, 0, 2)]).valid);
        assert!(!structure(&[N, O, C], &[(1, 0, 2), (2, 0, 2)]).valid, "valence 4 is not separated");
    }

    #[test]
    fn a_nitro_group_gets_its_charges() {
        let nitro = structure(&[C, N, O, O], &[(1, 0, 1), (2, 1, 2), (3, 1, 2)]);
        assert!(nitro.valid);
        assert_eq!(nitro.charges, [0, 1, -1, 0], "the first oxygen");
        assert_eq!(nitro.bonds.iter().map(|bond| bond.order).collect::<Vec<_>>(), [1, 1, 2]);
        assert_eq!(nitro.sums, [1, 4, 1, 2]);
    }

    #[test]
    fn azides_get_their_charges() {
        let azide = structure(&[C, N, N, N], &[(1, 0, 1), (2, 1, 2), (3, 2, 3)]);
        assert_eq!((azide.valid, azide.charges), (true, vec![0, 0, 1, -1]));
        let doubled = structure(&[C, N, N, N], &[(1, 0, 1), (2, 1, 2), (3, 2, 2)]);
        assert!(!doubled.valid);
    }

    #[test]
    fn an_oxygen_is_charged_once() {
        // Two five-valent N, one O between each pair of them: the second N takes the O that is left.
        let bonds = [(2, 0, 2), (2, 1, 1), (3, 0, 2), (3, 1, 2), (4, 0, 1), (5, 1, 2)];
        let both = structure(&[N, N, O, O, C, O], &bonds);
        assert_eq!(both.charges, [1, 1, -1, -1, 0, 0]);
        assert!(!both.valid, "an O between two N has too many bonds");
    }

    #[test]
    fn oxygen_is_charged_before_nitrogen() {
        // O=N#N=O: nitrogens charged with their oxygens do not charge each other.
        let both = structure(&[N, N, O, O], &[(1, 0, 3), (2, 0, 2), (3, 1, 2)]);
        assert_eq!((both.valid, both.charges), (true, vec![1, 1, -1, -1]));
        // O=N#N: the middle one gives charges to both.
        let oxide = structure(&[N, N, O], &[(1, 0, 3), (2, 1, 2)]);
        assert_eq!((oxide.valid, &*oxide.charges, &*oxide.sums), (true, &[-1, 1, -1][..], &[2, 3, 1][..]));
    }

    #[test]
    fn without_atoms_there_is_no_valid_molecule() {
        assert!(!structure(&[], &[]).valid);
    }
}
