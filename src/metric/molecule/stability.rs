//! Stability of atoms: whether their bond orders sum up to what the element has (EDM, arXiv 2203.17003, section 5).

use super::bonds::order_sums;
use crate::molecule::{Bond, Element};

/// The sum of bond orders that makes an atom of this element stable.
pub const fn valence(element: Element) -> u32 {
    match element {
        Element::H | Element::F => 1,
        Element::C => 4,
        Element::N => 3,
        Element::O => 2,
    }
}

/// Number of atoms whose bond orders sum up to exactly [`valence`].
pub fn stable_atoms(elements: &[Element], bonds: &[Bond]) -> usize {
    let sums = order_sums(elements.len(), bonds);
    elements.iter().zip(sums).filter(|(element, sum)| *sum == valence(**element)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn water_is_stable_and_hydroxide_is_not() {
        let bonds = [1, 2].map(|hydrogen| Bond { atoms: [hydrogen, 0], order: 1 });
        let water = [Element::O, Element::H, Element::H];
        assert_eq!(stable_atoms(&water, &bonds), 3);
        assert_eq!(stable_atoms(&water[..2], &bonds[..1]), 1);
        assert_eq!(stable_atoms(&[], &[]), 0);
    }
}
