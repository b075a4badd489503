//! Molecules with their quantum properties: the files QM9 comes in, its splits, and the labels.

mod archive;
mod edm;
mod labels;
mod npz;
mod source;
mod split;
mod xyz;

use std::fmt;
use std::io;

use blake3::{Hash, Hasher};

pub use self::labels::{ATOM_CV, EV_PER_HARTREE};
pub use self::source::{Gdb9Files, MoleculeSource, NpzFile};
pub use self::split::{
    Half, HeldOut, QM9_KEPT, QM9_MOLECULES, QM9_UNCHARACTERIZED, Qm9Split, SplitRule, half_rows, qm9_split,
};
use super::manifest::{Entry, Manifest};
use super::{DatasetError, Split};
pub use crate::molecule::{Element, Molecule};
use crate::spec::property::Property;

/// A molecule and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledMolecule {
    /// `gdb9/<index>`, with the index of the archive (from 1); `row/<row>` where a file has no indices.
    pub id: String,
    /// Elements and positions (ångström, as stored: not centred).
    pub molecule: Molecule,
    /// In the order and the units of [`Property::ALL`]; `Cv` without the atoms' own contributions.
    pub properties: [f64; 6],
}

impl LabelledMolecule {
    /// One of the properties, in its unit.
    pub fn property(&self, property: Property) -> f64 {
        self.properties[property as usize]
    }

    fn content(&self) -> Hash {
        let mut hasher = Hasher::new_derive_key("dflow molecule v1");
        for (element, position) in self.molecule.elements.iter().zip(&self.molecule.positions) {
            hasher.update(&[element.atomic_number()]);
            position.iter().for_each(|axis| {
                hasher.update(&axis.to_le_bytes());
            });
        }
        self.properties.iter().for_each(|value| {
            hasher.update(&value.to_le_bytes());
        });
        hasher.finalize()
    }
}

/// The molecules of one split, in memory (QM9's 100,000 training molecules: some 50 MB).
#[derive(Debug, Clone, PartialEq)]
pub struct MoleculeSet {
    manifest: Manifest,
    molecules: Vec<LabelledMolecule>,
    max_atoms: usize,
}

impl MoleculeSet {
    /// Checks ids and sizes.
    ///
    /// # Errors
    /// No molecules, an id that occurs twice.
    ///
    /// # Panics
    /// If a molecule has no atoms or more than `max_atoms`.
    pub fn new(
        name: &str,
        split: Split,
        max_atoms: usize,
        molecules: Vec<LabelledMolecule>,
    ) -> Result<Self, DatasetError> {
        for molecule in &molecules {
            let atoms = molecule.molecule.len();
            assert!(
                (1..=max_atoms).contains(&atoms),
                "{}: {atoms} atoms of at most {max_atoms}",
                molecule.id
            );
        }
        let entry = |molecule: &LabelledMolecule| Entry {
            id: molecule.id.clone(),
            label: None,
            content: molecule.content(),
        };
        let manifest = Manifest::new(name, split, None, molecules.iter().map(entry).collect())?;
        Ok(Self { manifest, molecules, max_atoms })
    }

    /// Ids and hashes of all molecules, in order.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All molecules, in order.
    pub fn molecules(&self) -> &[LabelledMolecule] {
        &self.molecules
    }

    /// Number of molecules, at least 1.
    pub fn len(&self) -> usize {
        self.molecules.len()
    }

    /// False: a set without molecules cannot be made.
    pub fn is_empty(&self) -> bool {
        self.molecules.is_empty()
    }

    /// Most atoms that a molecule of the dataset may have (29 for QM9).
    pub fn max_atoms(&self) -> usize {
        self.max_atoms
    }

    /// One half of a training split (see [`half_rows`]).
    ///
    /// # Errors
    /// If there is a single molecule, whose first half is empty.
    pub fn half(&self, half: Half) -> Result<Self, DatasetError> {
        let rows = half_rows(half, self.len() as u32);
        let molecules = rows.into_iter().map(|row| self.molecules[row as usize].clone()).collect();
        Self::new(self.manifest.name(), self.manifest.split(), self.max_atoms, molecules)
    }
}

/// What is wrong inside of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    /// Where: array, row, member or line.
    at: String,
    reason: String,
}

impl Wrong {
    fn new(at: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { at: at.into(), reason: reason.into() }
    }

    fn and(self, more: &str) -> Self {
        Self { reason: format!("{}; {more}", self.reason), ..self }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.reason)
    }
}

/// Why a file of molecules cannot be used.
#[derive(Debug)]
enum Failure {
    /// The system says so.
    Io(io::Error),
    /// Its content.
    Wrong(Wrong),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}
