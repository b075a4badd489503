//! The SDF format: a MOL block of version V2000 (CTfile formats, BIOVIA 2020, chapters 4 and 5), data, `$$$$`.

use std::fmt::Write as _;

use thiserror::Error;

use super::{Bond, Molecule};

/// Most atoms and most bonds, which have three columns.
const MOST: usize = 999;
/// Largest coordinate in Å that has place in its ten columns with its sign.
const FARTHEST: f32 = 9999.0;
/// Charges in one `M  CHG` line.
const CHARGES_PER_LINE: usize = 8;

/// Why a molecule has no MOL block.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SdfError {
    /// The columns of V2000 end at 999.
    #[error("{0} {1} are more than the 999 of an SDF file (V2000): write XYZ instead")]
    TooMany(usize, &'static str),
    /// A position is infinite, no number, or does not fit its columns.
    #[error(
        "atom {0} is further than 9999 Å from the origin or its position is no number: such a molecule cannot be \
         written as SDF (V2000), leave it out or write XYZ instead"
    )]
    Position(usize),
    /// Bonds or charges are of another molecule.
    #[error("bonds or charges are not those of the {0} atoms: take both from the same molecule")]
    Mismatch(usize),
}

/// One record of an SDF file, `$$$$` included.
///
/// `bonds` and `charges` (one per atom, or none at all) are given because bonds are read from distances elsewhere;
/// atoms of fewer bonds than their element takes are written without more ado, and readers will add hydrogen. Line
/// breaks in the title and in `data` (name, value) become spaces, `<` and `>` in names underscores.
///
/// # Errors
/// If the molecule does not fit the format.
pub fn write_sdf(
    molecule: &Molecule,
    title: &str,
    bonds: &[Bond],
    charges: &[i8],
    data: &[(&str, String)],
) -> Result<String, SdfError> {
    check(molecule, bonds, charges)?;
    // Title; user, program, date and time (left empty: equal molecules give equal files), dimension; comment.
    let mut text = format!("{}\n  dflow             3D\n\n", one_line(title));
    write_block(&mut text, molecule, bonds, charges).expect("a string takes everything");
    for (name, value) in data {
        let name = one_line(name).replace(['<', '>'], "_");
        text.push_str(&format!("> <{name}>\n{}\n\n", one_line(value)));
    }
    text.push_str("$$$$\n");
    Ok(text)
}

fn check(molecule: &Molecule, bonds: &[Bond], charges: &[i8]) -> Result<(), SdfError> {
    let atoms = molecule.len();
    for (count, what) in [(atoms, "atoms"), (bonds.len(), "bonds")] {
        if count > MOST {
            return Err(SdfError::TooMany(count, what));
        }
    }
    let is_bond = |bond: &Bond| {
        let [a, b] = bond.atoms;
        a != b && a.max(b) < atoms && (1..=3).contains(&bond.order)
    };
    let charges_fit = charges.is_empty() || charges.len() == atoms;
    if molecule.positions.len() != atoms || !charges_fit || !bonds.iter().all(is_bond) {
        return Err(SdfError::Mismatch(atoms));
    }
    let is_far = |position: &[f32; 3]| !position.iter().all(|value| value.abs() <= FARTHEST);
    match molecule.positions.iter().position(is_far) {
        Some(atom) => Err(SdfError::Position(atom)),
        None => Ok(()),
    }
}

/// Counts, atoms, bonds and charges, up to `M  END`.
fn write_block(text: &mut String, molecule: &Molecule, bonds: &[Bond], charges: &[i8]) -> std::fmt::Result {
    writeln!(text, "{:3}{:3}  0  0  0  0  0  0  0  0999 V2000", molecule.len(), bonds.len())?;
    for (element, [x, y, z]) in molecule.elements.iter().zip(&molecule.positions) {
        let symbol = element.symbol();
        writeln!(text, "{x:10.4}{y:10.4}{z:10.4} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0")?;
    }
    for Bond { atoms: [a, b], order } in bonds {
        writeln!(text, "{:3}{:3}{order:3}  0", a.min(b) + 1, a.max(b) + 1)?;
    }
    let charged: Vec<_> = charges.iter().enumerate().filter(|(_, charge)| **charge != 0).collect();
    for line in charged.chunks(CHARGES_PER_LINE) {
        write!(text, "M  CHG{:3}", line.len())?;
        for (atom, charge) in line {
            write!(text, " {:3} {charge:3}", atom + 1)?;
        }
        writeln!(text)?;
    }
    writeln!(text, "M  END")
}

/// The text without line breaks. The format allows 80 columns a line in its header and 200 in data.
fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ").chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Element::{C, H, N, O};
    use super::*;

    fn nitromethane() -> (Molecule, Vec<Bond>) {
        let molecule = Molecule {
            elements: vec![C, N, O, O],
            positions: vec![[0.0; 3], [1.49, 0.0, 0.0], [2.05, 1.09, -0.00004], [2.05, -1.09, -12.5]],
        };
        let bonds = [(1, 0, 1), (2, 1, 1), (3, 1, 2)];
        (molecule, bonds.map(|(a, b, order)| Bond { atoms: [a, b], order }).to_vec())
    }

    #[test]
    fn columns_are_those_of_the_format() {
        let (molecule, bonds) = nitromethane();
        let data = [("alpha <Bohr^3>", "1\n2".to_owned())];
        let text = write_sdf(&molecule, "a\ntitle", &bonds, &[0, 1, -1, 0], &data).unwrap();
        let expected = "\
a title
  dflow             3D

  4  3  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    1.4900    0.0000    0.0000 N   0  0  0  0  0  0  0  0  0  0  0  0
    2.0500    1.0900   -0.0000 O   0  0  0  0  0  0  0  0  0  0  0  0
    2.0500   -1.0900  -12.5000 O   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0
  2  3  1  0
  2  4  2  0
M  CHG  2   2   1   3  -1
M  END
> <alpha _Bohr^3_>
1 2

$$$$
";
        assert_eq!(text, expected);
        // The dimension stands in columns 21 and 22.
        assert_eq!(&text.lines().nth(1).unwrap()[20..22], "3D");
    }

    #[test]
    fn eight_charges_stand_in_a_line() {
        let molecule = Molecule { elements: vec![N; 9], positions: vec![[-9999.0, 9999.0, 0.5]; 9] };
        let text = write_sdf(&molecule, "", &[], &[1; 9], &[]).unwrap();
        let charges: Vec<_> = text.lines().filter(|line| line.starts_with("M  CHG")).collect();
        assert_eq!(
            charges[0],
            format!("M  CHG  8{}", (1..9).map(|i| format!("   {i}   1")).collect::<String>())
        );
        assert_eq!(charges[1], "M  CHG  1   9   1");
        assert_eq!(&text.lines().nth(4).unwrap()[..33], "-9999.0000 9999.0000    0.5000 N ");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (molecule, bonds) = nitromethane();
        let crowd = Molecule { elements: vec![H; 1000], positions: vec![[0.0; 3]; 1000] };
        let error = write_sdf(&crowd, "", &[], &[], &[]).unwrap_err();
        assert_eq!(error, SdfError::TooMany(1000, "atoms"));
        assert!(error.to_string().contains("1000 atoms"));
        for value in [f32::NAN, f32::INFINITY, -1e5] {
            let mut far = molecule.clone();
            far.positions[2][1] = value;
            assert_eq!(write_sdf(&far, "", &bonds, &[], &[]), Err(SdfError::Position(2)));
        }
        assert_eq!(write_sdf(&molecule, "", &bonds, &[0], &[]), Err(SdfError::Mismatch(4)));
        let beyond = [Bond { atoms: [0, 4], order: 1 }];
        assert_eq!(write_sdf(&molecule, "", &beyond, &[], &[]), Err(SdfError::Mismatch(4)));
        let zeroth = [Bond { atoms: [0, 1], order: 0 }];
        assert_eq!(write_sdf(&molecule, "", &zeroth, &[], &[]), Err(SdfError::Mismatch(4)));
    }

    #[test]
    fn no_atoms_are_a_record_too() {
        let text = write_sdf(&Molecule::default(), "", &[], &[], &[]).unwrap();
        assert_eq!(text.lines().nth(3), Some("  0  0  0  0  0  0  0  0  0  0999 V2000"));
    }
}
