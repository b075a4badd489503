//! Molecules of the five elements of QM9: their representation as states of a flow, and their files.

mod bond;
mod representation;
pub mod sdf;
pub mod xyz;

pub use bond::Bond;
pub use representation::{ELEMENTS, Representation, SPACE};

/// An element of QM9, in the order of the one-hot block of EDM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// Hydrogen.
    H,
    /// Carbon.
    C,
    /// Nitrogen.
    N,
    /// Oxygen.
    O,
    /// Fluorine.
    F,
}

impl Element {
    /// Every element, in the order of the one-hot block.
    pub const ALL: [Self; 5] = [Self::H, Self::C, Self::N, Self::O, Self::F];

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Nuclear charge Z.
    pub const fn atomic_number(self) -> u8 {
        match self {
            Self::H => 1,
            Self::C => 6,
            Self::N => 7,
            Self::O => 8,
            Self::F => 9,
        }
    }

    /// The element of nuclear charge `z`, if it is one of these.
    pub fn from_atomic_number(z: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.atomic_number() == z)
    }

    /// Its symbol.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::H => "H",
            Self::C => "C",
            Self::N => "N",
            Self::O => "O",
            Self::F => "F",
        }
    }

    /// The element of this symbol, if it is one of these.
    pub fn from_symbol(symbol: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.symbol() == symbol)
    }
}

/// Atoms with their positions; bonds are read from the distances.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Molecule {
    /// Elements of the atoms.
    pub elements: Vec<Element>,
    /// Positions of the atoms in ångström; as many as elements.
    pub positions: Vec<[f32; 3]>,
}

impl Molecule {
    /// Number of atoms.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is no atom.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
}
