//! Metrics of generated molecules: stability, validity and uniqueness as EDM (Hoogeboom et al., arXiv 2203.17003,
//! section 5) defines them, in pure Rust.
//!
//! Distances give bonds ([`bonds`]), bonds give stable atoms ([`stability`]), validity ([`validity`]) and the graph by
//! which molecules are equal or different ([`graph`]). With the 10,000 molecules of G-SchNet that EDM ships, all of it
//! gives the numbers of the reference code.

pub mod bonds;
pub mod graph;
mod isomorphism;
pub mod stability;
pub mod validity;

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::molecule::Molecule;
use graph::Fragments;
pub use graph::{GraphTextError, MoleculeGraph};
pub use validity::Structure;

/// What the metrics say of one molecule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MoleculeScores {
    /// Number of atoms.
    pub atoms: usize,
    /// Number of stable atoms.
    pub stable_atoms: usize,
    /// Whether all atoms are stable; false if there is none.
    pub stable: bool,
    /// Whether RDKit would accept it; see [`validity`].
    pub valid: bool,
    /// Number of connected parts.
    pub fragments: usize,
    /// Number of pairs of atoms whose bond order may depend on rounding.
    pub borderline_bonds: usize,
    /// The largest fragment, if the molecule is valid.
    pub graph: Option<MoleculeGraph>,
}

/// Scores of one molecule.
///
/// Every input has scores: without atoms a molecule is neither stable nor valid; a single atom is valid; atoms at the
/// same place are bonded; with a position that is infinite or no number nothing is bonded, no atom is stable and the
/// molecule is not valid.
pub fn molecule_scores(molecule: &Molecule) -> MoleculeScores {
    let atoms = molecule.len();
    let bonds = bonds::bonds(molecule);
    if !bonds::is_finite(molecule) {
        return MoleculeScores { atoms, fragments: atoms, ..MoleculeScores::default() };
    }
    let stable_atoms = stability::stable_atoms(&molecule.elements, &bonds.list);
    let structure = Structure::new(&molecule.elements, bonds.list);
    let fragments = Fragments::new(atoms, &structure.bonds);
    let graph = structure
        .valid
        .then(|| MoleculeGraph::of_fragment(&molecule.elements, &structure, &fragments, fragments.largest()));
    MoleculeScores {
        atoms,
        stable_atoms,
        stable: atoms > 0 && stable_atoms == atoms,
        valid: structure.valid,
        fragments: fragments.count,
        borderline_bonds: bonds.borderline,
        graph,
    }
}

/// The bonds of a molecule with their charges: what drawings and files show.
pub fn structure(molecule: &Molecule) -> Structure {
    Structure::new(&molecule.elements, bonds::bonds(molecule).list)
}

/// For every graph the place of the first one that is isomorphic to it.
pub fn classes<'a>(graphs: impl IntoIterator<Item = &'a MoleculeGraph>) -> Vec<usize> {
    // Of every hash the graphs that differ, with their places.
    let mut known: HashMap<u64, Vec<(usize, &MoleculeGraph)>> = HashMap::new();
    let mut classes = Vec::new();
    for (place, graph) in graphs.into_iter().enumerate() {
        let alike = known.entry(graph.hash()).or_default();
        let first = alike.iter().find(|(_, other)| graph.is_isomorphic(other)).map(|(first, _)| *first);
        if first.is_none() {
            alike.push((place, graph));
        }
        classes.push(first.unwrap_or(place));
    }
    classes
}

/// Number of different molecules.
pub fn distinct<'a>(graphs: impl IntoIterator<Item = &'a MoleculeGraph>) -> usize {
    classes(graphs).iter().enumerate().filter(|(place, first)| place == *first).count()
}

/// Counts over a set of molecules, from which the fractions of tables are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetCounts {
    /// Molecules.
    pub molecules: usize,
    /// Atoms of all of them.
    pub atoms: usize,
    /// Stable atoms of all of them.
    pub stable_atoms: usize,
    /// Stable molecules.
    pub stable: usize,
    /// Valid molecules.
    pub valid: usize,
    /// Different valid molecules.
    pub distinct: usize,
}

impl SetCounts {
    /// Counts over these molecules.
    pub fn new<'a>(scores: impl IntoIterator<Item = &'a MoleculeScores>) -> Self {
        let mut counts = Self::default();
        let mut graphs = Vec::new();
        for score in scores {
            counts.molecules += 1;
            counts.atoms += score.atoms;
            counts.stable_atoms += score.stable_atoms;
            counts.stable += usize::from(score.stable);
            counts.valid += usize::from(score.valid);
            graphs.extend(&score.graph);
        }
        counts.distinct = distinct(graphs);
        counts
    }

    /// Stable atoms / atoms, pooled over the molecules.
    pub fn atom_stability(&self) -> Option<f64> {
        fraction(self.stable_atoms, self.atoms)
    }

    /// Stable molecules / molecules.
    pub fn molecule_stability(&self) -> Option<f64> {
        fraction(self.stable, self.molecules)
    }

    /// Valid molecules / molecules.
    pub fn validity(&self) -> Option<f64> {
        fraction(self.valid, self.molecules)
    }

    /// Different valid molecules / valid molecules.
    pub fn uniqueness(&self) -> Option<f64> {
        fraction(self.distinct, self.valid)
    }

    /// Different valid molecules / molecules: "validity and uniqueness" of the paper.
    pub fn valid_and_unique(&self) -> Option<f64> {
        fraction(self.distinct, self.molecules)
    }
}

fn fraction(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Header of [`score_table`].
pub const SCORE_COLUMNS: &str =
    "index,atoms,stable_atoms,stable,valid,fragments,borderline_bonds,hash,same_as";

/// Scores of molecules as CSV, a line for each in their order.
///
/// Columns: [`SCORE_COLUMNS`]; `stable` and `valid` are 0 or 1, `hash` is that of the graph in 16 hexadecimal digits,
/// `same_as` the index of the first molecule with the same graph; both are empty where the molecule is not valid.
pub fn score_table(molecules: &[Molecule]) -> String {
    let scores: Vec<_> = molecules.iter().map(molecule_scores).collect();
    let valid: Vec<usize> = (0..scores.len()).filter(|index| scores[*index].graph.is_some()).collect();
    let mut first = classes(scores.iter().filter_map(|score| score.graph.as_ref())).into_iter();
    let mut table = format!("{SCORE_COLUMNS}\n");
    for (index, score) in scores.iter().enumerate() {
        let hash = score.graph.as_ref().map(|graph| format!("{:016x}", graph.hash())).unwrap_or_default();
        let same_as = score.graph.as_ref().and_then(|_| first.next());
        let same_as = same_as.map(|place| valid[place].to_string()).unwrap_or_default();
        writeln!(
            table,
            "{index},{},{},{},{},{},{},{hash},{same_as}",
            score.atoms,
            score.stable_atoms,
            u8::from(score.stable),
            u8::from(score.valid),
            score.fragments,
            score.borderline_bonds
        )
        .expect("a string takes everything");
    }
    table
}

#[cfg(test)]
mod tests;
