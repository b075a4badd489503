//! Labels of a molecule: units, and what is subtracted.

use super::Property;

/// Electronvolts per hartree, as EDM has it (`fce07d7`, `qm9/data/utils.py`); CODATA's is 27.211386….
pub const EV_PER_HARTREE: f64 = 27.2114;

/// What an atom contributes to Cv by itself, in cal/(mol K): 3⁄2 R, the same for each of the five elements
/// (`atomref.txt` of QM9). Fitting the `Cv_thermo` of 13,083 molecules to their element counts gives 2.981 for each, to
/// 10⁻¹³ (`tools/reference/qm9.py`).
pub const ATOM_CV: f64 = 2.981;

/// Properties as QM9 stores them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    /// Bohr³.
    pub alpha: f64,
    /// Hartree.
    pub gap: f64,
    /// Hartree.
    pub homo: f64,
    /// Hartree.
    pub lumo: f64,
    /// Debye.
    pub mu: f64,
    /// cal/(mol K), with the atoms' own contributions.
    pub cv: f64,
}

/// The labels in [`Property::ALL`]'s order and units; `cv_atoms` is the sum of the atoms' own Cv, which a label does not
/// contain (EDM's loader subtracts it by default).
///
/// # Errors
/// If a value is no number.
pub(super) fn labels(raw: &Raw, cv_atoms: f64) -> Result<[f64; 6], String> {
    let of = |property| match property {
        Property::Alpha => raw.alpha,
        Property::Gap => raw.gap * EV_PER_HARTREE,
        Property::Homo => raw.homo * EV_PER_HARTREE,
        Property::Lumo => raw.lumo * EV_PER_HARTREE,
        Property::Mu => raw.mu,
        Property::Cv => raw.cv - cv_atoms,
    };
    for property in Property::ALL {
        if !of(property).is_finite() {
            return Err(format!("{property} is {}", of(property)));
        }
    }
    Ok(Property::ALL.map(of))
}
