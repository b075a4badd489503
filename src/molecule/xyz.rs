//! The XYZ format: a line with the number of atoms, a comment line, a line `symbol x y z` for every atom, in ångström;
//! any number of such frames one after the other.

use std::fmt::Write as _;

use thiserror::Error;

use super::{Element, Molecule};

/// Why a text is not read as XYZ.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}; {remedy}")]
pub struct XyzError {
    /// Line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

const ATOM_LINE: &str = "an atom is written as its symbol and x, y, z in ångström, such as `C 0.0 1.09 -0.5`";
const COUNT_LINE: &str = "a frame begins with a line that holds the number of its atoms only, and has as many atom lines after its comment line";

/// A frame of XYZ. Line breaks in the comment become spaces.
///
/// Every position is written with as many digits as it takes to read the same f32 again.
pub fn write_xyz(molecule: &Molecule, comment: &str) -> String {
    let comment: Vec<_> = comment.lines().collect();
    let mut text = format!("{}\n{}\n", molecule.len(), comment.join(" "));
    for (element, [x, y, z]) in molecule.elements.iter().zip(&molecule.positions) {
        writeln!(text, "{:<2} {x:>14} {y:>14} {z:>14}", element.symbol()).expect("a string takes everything");
    }
    text
}

/// The molecules of the frames in their order; their comments are passed over.
///
/// What stands behind z in an atom line is passed over too, so that files with charges or forces can be read. Empty
/// lines between frames are allowed.
///
/// # Errors
/// If the text ends within a frame, a count or a coordinate is no number (or infinite in f32), or an element is none
/// of H, C, N, O, F.
pub fn read_xyz(text: &str) -> Result<Vec<Molecule>, XyzError> {
    let mut lines = (1..).zip(text.lines());
    let mut molecules = Vec::new();
    while let Some((number, line)) = lines.next() {
        if !line.trim().is_empty() {
            let atoms = count(number, line)?;
            molecules.push(frame(&mut lines, number, atoms)?);
        }
    }
    Ok(molecules)
}

/// Comment and atoms of the frame whose count stands in line `begin`.
fn frame<'a>(
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    begin: usize,
    atoms: usize,
) -> Result<Molecule, XyzError> {
    let mut molecule = Molecule::default();
    let mut last = begin;
    if let Some((number, _comment)) = lines.next() {
        last = number;
    }
    while molecule.len() < atoms {
        let (number, line) = lines.next().ok_or_else(|| XyzError {
            line: last,
            problem: format!(
                "the text ends with {} of the {atoms} atoms of the frame of line {begin}",
                molecule.len()
            ),
            remedy: "the file was cut off, or the number of atoms is too large: make the file again",
        })?;
        let (element, position) = atom(number, line)?;
        molecule.elements.push(element);
        molecule.positions.push(position);
        last = number;
    }
    Ok(molecule)
}

fn count(line: usize, text: &str) -> Result<usize, XyzError> {
    text.trim().parse().map_err(|_| XyzError {
        line,
        problem: format!("`{}` is no number of atoms", shown(text)),
        remedy: COUNT_LINE,
    })
}

fn atom(line: usize, text: &str) -> Result<(Element, [f32; 3]), XyzError> {
    let wrong = |problem: String, remedy| XyzError { line, problem, remedy };
    let mut parts = text.split_whitespace();
    let Some(symbol) = parts.next() else {
        return Err(wrong("there is no atom in it".to_owned(), COUNT_LINE));
    };
    if symbol.parse::<usize>().is_ok() && parts.clone().next().is_none() {
        let problem = format!("`{symbol}` stands where an atom is expected");
        return Err(wrong(problem, COUNT_LINE));
    }
    let element = Element::from_symbol(symbol).ok_or_else(|| {
        let known = Element::ALL.map(Element::symbol).join(", ");
        wrong(
            format!("`{}` is none of the elements {known}", shown(symbol)),
            "leave out molecules with other elements",
        )
    })?;
    let mut position = [0_f32; 3];
    for (axis, value) in ["x", "y", "z"].into_iter().zip(&mut position) {
        let part = parts.next().ok_or_else(|| wrong(format!("there is no {axis}"), ATOM_LINE))?;
        *value =
            part.parse().map_err(|_| wrong(format!("{axis} is `{}`, no number", shown(part)), ATOM_LINE))?;
        if !value.is_finite() {
            return Err(wrong(
                format!("{axis} is {}, no finite f32", shown(part)),
                "leave out this molecule: nothing can be said of an atom that is nowhere",
            ));
        }
    }
    Ok((element, position))
}

/// The begin of a text, for messages.
fn shown(text: &str) -> String {
    text.trim().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn molecule() -> Molecule {
        Molecule {
            elements: vec![Element::O, Element::H],
            positions: vec![[0.1, -1.0 / 3.0, 1e-7], [12.0, -0.0, 0.957_654_3]],
        }
    }

    #[test]
    fn positions_come_back_bit_for_bit() {
        let text = write_xyz(&molecule(), "two\nlines");
        assert_eq!(text.lines().nth(1), Some("two lines"));
        assert_eq!(text.lines().nth(2), Some("O             0.1    -0.33333334      0.0000001"));
        let frames =
            format!("{text}\n  \n{}{}", write_xyz(&Molecule::default(), ""), write_xyz(&molecule(), ""));
        let read = read_xyz(&frames).unwrap();
        assert_eq!(read, [molecule(), Molecule::default(), molecule()]);
        assert!(read[0].positions[1][1].is_sign_negative());
        assert_eq!(read_xyz("").unwrap(), []);
        assert_eq!(read_xyz("0").unwrap(), [Molecule::default()]);
    }

    #[test]
    fn other_columns_and_line_ends_are_passed_over() {
        let read = read_xyz("1\r\n\r\n  C\t1 2e0 -3.5 0.1 extra\r\n").unwrap();
        assert_eq!(read, [Molecule { elements: vec![Element::C], positions: vec![[1.0, 2.0, -3.5]] }]);
    }

    #[test]
    fn errors_name_line_problem_and_remedy() {
        for (text, line, problem) in [
            ("x\n", 1, "`x` is no number of atoms"),
            ("2 atoms\n", 1, "`2 atoms` is no number"),
            ("-1\n", 1, "`-1` is no number"),
            ("2\n", 1, "ends with 0 of the 2 atoms of the frame of line 1"),
            ("2\n\nH 0 0 0\n", 3, "ends with 1 of the 2 atoms of the frame of line 1"),
            ("1\n\nH 0 0 0\n\n2\n\nH 0 0 0", 7, "1 of the 2 atoms of the frame of line 5"),
            ("1\n\nH 0 0 0\nH 0 0 0\n", 4, "`H 0 0 0` is no number of atoms"),
            ("2\n\nH 0 0 0\n2\n\n", 4, "`2` stands where an atom"),
            ("1\n\n\n", 3, "no atom in it"),
            ("1\n\nS 0 0 0\n", 3, "`S` is none of the elements H, C, N, O, F"),
            ("1\n\nH 0 0\n", 3, "there is no z"),
            ("1\n\nH 0 1.2*^-6 0\n", 3, "y is `1.2*^-6`, no number"),
            ("1\n\nH nan 0 0\n", 3, "x is nan, no finite"),
            ("1\n\nH 0 0 1e50\n", 3, "z is 1e50, no finite"),
            ("99999999999999999999\n", 1, "no number of atoms"),
        ] {
            let error = read_xyz(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(error.problem.contains(problem), "{text:?}: {error}");
            assert!(error.to_string().starts_with(&format!("line {line}: ")));
        }
    }

    #[test]
    fn a_huge_count_needs_no_memory() {
        assert!(read_xyz("18446744073709551615\n\n").is_err());
    }
}
