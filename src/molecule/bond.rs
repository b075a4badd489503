//! A bond between two atoms of a molecule.

/// A bond of integer order; what decides on it is `metric::molecule::bonds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bond {
    /// Indices of its atoms.
    pub atoms: [usize; 2],
    /// 1 single, 2 double, 3 triple.
    pub order: u8,
}

impl Bond {
    /// The atom at the other end, if `atom` is one of its two.
    pub fn other(&self, atom: usize) -> Option<usize> {
        match self.atoms {
            [a, b] if a == atom => Some(b),
            [a, b] if b == atom => Some(a),
            _ => None,
        }
    }
}
