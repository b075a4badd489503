//! Molecules as EDM stores them (`fce07d7`, `qm9/data/prepare`): one `.npz` file of arrays over the molecules of a split.
//!
//! Read are `num_atoms` (N), `charges` (N × A, 0 beyond a molecule's atoms), `positions` (N × A × 3, ångström), the six
//! properties, `Cv_thermo`, and `index` (the number in the archive) where there is one; other arrays are ignored.

use std::io::{Read, Seek};

use super::labels::{Raw, labels};
use super::npz::{Array, Npz};
use super::{Element, LabelledMolecule, Molecule, Wrong};

/// Reads all molecules of a file, in its order.
pub(super) fn read(file: impl Read + Seek, max_atoms: usize) -> Result<Vec<LabelledMolecule>, Wrong> {
    let columns = Columns::read(file)?;
    (0..columns.atoms.len())
        .map(|row| {
            let id = columns.id(row);
            columns
                .molecule(row, &id, max_atoms)
                .map_err(|reason| Wrong::new(format!("row {row}, {id}"), reason))
        })
        .collect()
}

struct Columns {
    atoms: Vec<f64>,
    /// Atoms that `charges` and `positions` have room for.
    room: usize,
    charges: Vec<f64>,
    positions: Vec<f64>,
    alpha: Vec<f64>,
    gap: Vec<f64>,
    homo: Vec<f64>,
    lumo: Vec<f64>,
    mu: Vec<f64>,
    cv: Vec<f64>,
    cv_thermo: Vec<f64>,
    index: Option<Vec<f64>>,
}

impl Columns {
    fn read(file: impl Read + Seek) -> Result<Self, Wrong> {
        let mut npz = Npz::new(file).map_err(|reason| Wrong::new("the archive", reason))?;
        let holds_index = npz.holds("index");
        let mut array = |name: &str| -> Result<Array, Wrong> {
            npz.array(name).map_err(|reason| Wrong::new(format!("array `{name}`"), reason))
        };
        let atoms = array("num_atoms")?.values;
        let rows = atoms.len();
        let charges = array("charges")?;
        let room = *charges.shape.get(1).unwrap_or(&0);
        expect("charges", &charges, &[rows, room])?;
        let positions = array("positions")?;
        expect("positions", &positions, &[rows, room, 3])?;
        let mut column = |name: &str| {
            let column = array(name)?;
            if column.values.len() == rows {
                Ok(column.values)
            } else {
                Err(mismatch(name, &column, &[rows]))
            }
        };
        Ok(Self {
            alpha: column("alpha")?,
            gap: column("gap")?,
            homo: column("homo")?,
            lumo: column("lumo")?,
            mu: column("mu")?,
            cv: column("Cv")?,
            cv_thermo: column("Cv_thermo").map_err(|wrong| wrong.and(
                "it holds the atoms' own heat capacity, which a label of Cv does not contain: make the file with \
                 EDM's `calculate_thermo`",
            ))?,
            index: if holds_index { Some(column("index")?) } else { None },
            atoms,
            room,
            charges: charges.values,
            positions: positions.values,
        })
    }

    fn id(&self, row: usize) -> String {
        self.index.as_ref().map_or_else(|| format!("row/{row}"), |index| format!("gdb9/{}", index[row]))
    }

    fn molecule(&self, row: usize, id: &str, max_atoms: usize) -> Result<LabelledMolecule, String> {
        let atoms = self.atoms[row];
        if atoms.fract() != 0.0 || atoms < 1.0 || atoms > max_atoms.min(self.room) as f64 {
            let most = max_atoms.min(self.room);
            return Err(format!("num_atoms is {atoms}; molecules have 1 to {most} atoms here"));
        }
        let atoms = atoms as usize;
        let charges = &self.charges[row * self.room..][..self.room];
        let positions = &self.positions[row * self.room * 3..][..atoms * 3];
        let mut molecule = Molecule::default();
        for (atom, (charge, position)) in charges.iter().zip(positions.as_chunks::<3>().0).enumerate() {
            molecule.elements.push(element(*charge).ok_or_else(|| {
                format!(
                    "charges: atom {atom} has the nuclear charge {charge}, which is none of 1, 6, 7, 8, 9"
                )
            })?);
            molecule.positions.push(position.map(|axis| axis as f32));
        }
        if let Some(charge) = charges[atoms..].iter().find(|charge| **charge != 0.0) {
            return Err(format!("charges: {charge} follows the last of {atoms} atoms, where 0 is expected"));
        }
        molecule_is_finite(&molecule)?;
        let raw = Raw {
            alpha: self.alpha[row],
            gap: self.gap[row],
            homo: self.homo[row],
            lumo: self.lumo[row],
            mu: self.mu[row],
            cv: self.cv[row],
        };
        Ok(LabelledMolecule { id: id.to_owned(), properties: labels(&raw, self.cv_thermo[row])?, molecule })
    }
}

/// Whether all coordinates are numbers.
///
/// # Errors
/// Which is none.
pub(super) fn molecule_is_finite(molecule: &Molecule) -> Result<(), String> {
    let bad = molecule.positions.iter().position(|position| position.iter().any(|axis| !axis.is_finite()));
    bad.map_or(Ok(()), |atom| {
        Err(format!("positions: atom {atom} is at {:?}, which is no place", molecule.positions[atom]))
    })
}

fn element(charge: f64) -> Option<Element> {
    (charge.fract() == 0.0 && (0.0..=255.0).contains(&charge))
        .then(|| Element::from_atomic_number(charge as u8))
        .flatten()
}

fn expect(name: &str, array: &Array, shape: &[usize]) -> Result<(), Wrong> {
    if array.shape == shape { Ok(()) } else { Err(mismatch(name, array, shape)) }
}

fn mismatch(name: &str, array: &Array, expected: &[usize]) -> Wrong {
    let reason = format!("its shape is {:?}, where `num_atoms` and `charges` give {expected:?}", array.shape);
    Wrong::new(format!("array `{name}`"), reason)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use zip::CompressionMethod;

    use super::super::npz::tests::{npy, npz};
    use super::*;

    fn f4(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn i8s(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Water and methane-less carbon monoxide, with room for four atoms.
    pub(in super::super) fn members() -> Vec<(&'static str, Vec<u8>)> {
        let mut positions = vec![0.0_f32; 2 * 4 * 3];
        positions[..9].copy_from_slice(&[0.0, 0.0, 0.1, 0.0, 0.75, -0.5, 0.0, -0.75, -0.5]);
        positions[12..18].copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.125]);
        let column = |a: f32, b: f32| npy("<f4", &[2], &f4(&[a, b]));
        let thermo: Vec<u8> = [8.943_f64, 5.962].iter().flat_map(|v| v.to_le_bytes()).collect();
        vec![
            ("num_atoms", npy("<i8", &[2], &i8s(&[3, 2]))),
            ("charges", npy("<i8", &[2, 4], &i8s(&[8, 1, 1, 0, 6, 8, 0, 0]))),
            ("positions", npy("<f4", &[2, 4, 3], &f4(&positions))),
            ("index", npy("<i8", &[2], &i8s(&[3, 7]))),
            ("alpha", column(6.5, 13.0)),
            ("gap", column(0.375, 0.5)),
            ("homo", column(-0.25, -0.5)),
            ("lumo", column(0.125, 0.0)),
            ("mu", column(1.75, 0.125)),
            ("Cv", column(6.0, 5.0)),
            ("Cv_thermo", npy("<f8", &[2], &thermo)),
        ]
    }

    fn read_members(members: &[(&str, Vec<u8>)]) -> Result<Vec<LabelledMolecule>, Wrong> {
        read(Cursor::new(npz(members, CompressionMethod::Deflated)), 29)
    }

    #[test]
    fn molecules_and_labels_are_read() {
        let molecules = read_members(&members()).unwrap();
        let [water, carbon_monoxide] = &molecules[..] else { panic!("two molecules") };
        assert_eq!((&*water.id, &*carbon_monoxide.id), ("gdb9/3", "gdb9/7"));
        assert_eq!(water.molecule.elements, [Element::O, Element::H, Element::H]);
        assert_eq!(water.molecule.positions[2], [0.0, -0.75, -0.5]);
        assert_eq!(carbon_monoxide.molecule.positions.len(), 2);
        let hartree = 27.2114;
        assert_eq!(
            water.properties,
            [6.5, 0.375 * hartree, -0.25 * hartree, 0.125 * hartree, 1.75, 6.0 - 8.943]
        );
    }

    #[test]
    fn rows_name_molecules_without_an_index() {
        let mut members = members();
        members.retain(|(name, _)| *name != "index");
        assert_eq!(read_members(&members).unwrap()[1].id, "row/1");
    }

    #[test]
    fn errors_name_array_row_and_reason() {
        let mut without = Vec::new();
        for (name, _) in members() {
            let mut fewer = members();
            fewer.retain(|(other, _)| *other != name);
            without.push((name, read_members(&fewer)));
        }
        for (name, result) in without {
            match result {
                Ok(_) => assert_eq!(name, "index"),
                Err(wrong) => assert!(
                    wrong.to_string().contains(&format!("array `{name}`: the array is missing")),
                    "{wrong}"
                ),
            }
        }
        let mut nan = vec![0.0_f32; 24];
        nan[13] = f32::NAN;
        for (name, bytes, word) in [
            (
                "num_atoms",
                npy("<i8", &[2], &i8s(&[3, 0])),
                "row 1, gdb9/7: num_atoms is 0; molecules have 1 to 4",
            ),
            ("num_atoms", npy("<i8", &[2], &i8s(&[30, 2])), "row 0, gdb9/3: num_atoms is 30"),
            ("num_atoms", npy("<i8", &[2], &i8s(&[3, 1])), "8 follows the last of 1 atoms"),
            ("num_atoms", npy("<i8", &[3], &i8s(&[3, 2, 2])), "array `charges`: its shape is [2, 4]"),
            (
                "charges",
                npy("<i8", &[2, 4], &i8s(&[8, 1, 1, 0, 6, 16, 0, 0])),
                "atom 1 has the nuclear charge 16",
            ),
            (
                "charges",
                npy("<i8", &[8], &i8s(&[8, 1, 1, 0, 6, 8, 0, 0])),
                "array `charges`: its shape is [8]",
            ),
            ("positions", npy("<f4", &[2, 4, 3], &f4(&nan)), "row 1, gdb9/7: positions: atom 0"),
            ("homo", npy("<f4", &[2], &f4(&[f32::NAN, 0.0])), "row 0, gdb9/3: homo is NaN"),
            ("Cv", npy("<f4", &[1], &f4(&[1.0])), "array `Cv`: its shape is [1]"),
        ] {
            let mut changed = members();
            changed.iter_mut().find(|(other, _)| *other == name).unwrap().1 = bytes;
            let error = read_members(&changed).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn damaged_files_are_errors_and_never_a_panic() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let whole = npz(&members(), method);
            assert!(read(Cursor::new(&whole[..]), 29).is_ok());
            for end in (0..whole.len()).step_by(7) {
                assert!(read(Cursor::new(&whole[..end]), 29).is_err(), "cut at {end}");
            }
            for at in 0..whole.len() {
                for bit in [0, 3, 7] {
                    let mut flipped = whole.clone();
                    flipped[at] ^= 1 << bit;
                    // A flip may be in what nobody reads (a time stamp); then the content is the same.
                    if let Ok(molecules) = read(Cursor::new(&flipped[..]), 29) {
                        assert_eq!(molecules.len(), 2, "flip at {at}");
                    }
                }
            }
        }
    }
}
