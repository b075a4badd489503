//! One molecule of the public QM9 archive: a `.xyz` file with properties in its second line.
//!
//! The lines are: the number of atoms n; `gdb`, index, A, B, C, μ, α, ε_HOMO, ε_LUMO, gap, ⟨R²⟩, zpve, U₀, U, H, G, C_v; n
//! lines of element, x, y, z (ångström) and partial charge; frequencies, SMILES and InChI, which are not read
//! (Ramakrishnan et al. 2014). An exponent may be written `*^`, as in `1.2*^-6`.

use super::edm::molecule_is_finite;
use super::labels::{ATOM_CV, Raw, labels};
use super::{Element, LabelledMolecule, Molecule};

/// Contributions of single atoms to Cv in cal/(mol K), by [`Element::ALL`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AtomReferences(pub [f64; 5]);

impl Default for AtomReferences {
    fn default() -> Self {
        Self([ATOM_CV; 5])
    }
}

impl AtomReferences {
    /// Reads `atomref.txt`: lines of element, zpve, U₀, U, H, G, Cv among others.
    ///
    /// # Errors
    /// The line, and what is wrong with it; an element that has no line.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut found = [None; 5];
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let Some(element) = words.next().and_then(Element::from_symbol) else { continue };
            let cv = words.nth(5).ok_or((number + 1, "the seventh column, Cv, is missing".to_owned()))?;
            found[element.index()] = Some(float(cv).map_err(|reason| (number + 1, reason))?);
        }
        let mut references = [0.0; 5];
        for element in Element::ALL {
            let cv = found[element.index()];
            references[element.index()] = cv.ok_or_else(|| {
                (text.lines().count(), format!("there is no line of the element {}", element.symbol()))
            })?;
        }
        Ok(Self(references))
    }
}

/// Reads a molecule and its number in the archive.
///
/// # Errors
/// The line, and what is wrong with it.
pub(super) fn parse(
    text: &str,
    references: &AtomReferences,
    max_atoms: usize,
) -> Result<(u32, LabelledMolecule), (usize, String)> {
    let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    let mut line = |what: &str| {
        lines.next().ok_or_else(|| (text.lines().count(), format!("the file ends before {what}")))
    };
    let (number, first) = line("the number of atoms")?;
    let atoms: usize = first
        .trim()
        .parse()
        .map_err(|_| (number, format!("`{}` is no number of atoms", shortened(first))))?;
    if !(1..=max_atoms).contains(&atoms) {
        return Err((number, format!("{atoms} atoms; molecules have 1 to {max_atoms} atoms here")));
    }
    let (number, header) = line("the properties")?;
    let (index, raw) = properties(header).map_err(|reason| (number, reason))?;
    let mut molecule = Molecule::default();
    for atom in 0..atoms {
        let (number, text) = line(&format!("atom {} of {atoms}", atom + 1))?;
        let (element, position) = parse_atom(text).map_err(|reason| (number, reason))?;
        molecule.elements.push(element);
        molecule.positions.push(position);
    }
    // They are not used, but without them the last atom's line may be cut off.
    line("the frequencies")?;
    molecule_is_finite(&molecule).map_err(|reason| (3, reason))?;
    let cv_atoms = molecule.elements.iter().map(|element| references.0[element.index()]).sum();
    let properties = labels(&raw, cv_atoms).map_err(|reason| (number, reason))?;
    Ok((index, LabelledMolecule { id: format!("gdb9/{index}"), molecule, properties }))
}

/// Names of the numbers after tag and index.
const COLUMNS: [&str; 15] =
    ["A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv"];

fn properties(line: &str) -> Result<(u32, Raw), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, index, values @ ..] = &words[..] else {
        return Err("the properties do not begin with `gdb` and an index".to_owned());
    };
    if values.len() < COLUMNS.len() {
        return Err(format!("{} properties, where {} are expected", values.len(), COLUMNS.len()));
    }
    let index = index.parse().map_err(|_| format!("`{}` is no index", shortened(index)))?;
    let mut numbers = [0.0; COLUMNS.len()];
    for ((number, word), name) in numbers.iter_mut().zip(values).zip(COLUMNS) {
        // In single precision, as EDM stores them.
        *number = f64::from(float(word).map_err(|reason| format!("{name}: {reason}"))? as f32);
    }
    let [_, _, _, mu, alpha, homo, lumo, gap, .., cv] = numbers;
    Ok((index, Raw { alpha, gap, homo, lumo, mu, cv }))
}

fn parse_atom(line: &str) -> Result<(Element, [f32; 3]), String> {
    let mut words = line.split_whitespace();
    let symbol = words.next().ok_or("an atom is missing")?;
    let element = Element::from_symbol(symbol)
        .ok_or_else(|| format!("`{}` is none of the elements H, C, N, O, F", shortened(symbol)))?;
    let mut position = [0.0; 3];
    for (axis, name) in position.iter_mut().zip(["x", "y", "z"]) {
        let word = words.next().ok_or_else(|| format!("the coordinate {name} is missing"))?;
        *axis = float(word)? as f32;
    }
    Ok((element, position))
}

fn float(word: &str) -> Result<f64, String> {
    word.replace("*^", "e").parse().map_err(|_| format!("`{}` is no number", shortened(word)))
}

/// The beginning of what may be any amount of rubbish.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A made-up water in the format of the archive.
    pub(in super::super) fn water(index: u32) -> String {
        format!(
            "3\ngdb {index}\t799.5\t437.9\t282.9\t1.75\t6.5\t-0.25\t0.125\t0.375\t19.\t0.02\t-76.4\t-76.4\t-76.4\t-76.4\t6.\t\n\
             O\t 0.0\t 0.0\t 0.1\t-0.7\nH\t 7.5*^-1\t 0.0\t-0.5\t 0.35\nH\t-0.75\t 1.25*^-6\t-0.5\t 0.35\n\
             1671.4\t3803.1\t3907.6\nO\tO\t\nInChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2\n"
        )
    }

    #[test]
    fn a_molecule_with_its_labels() {
        let (index, water) = parse(&water(3), &AtomReferences::default(), 29).unwrap();
        assert_eq!((index, &*water.id), (3, "gdb9/3"));
        assert_eq!(water.molecule.elements, [Element::O, Element::H, Element::H]);
        assert_eq!(water.molecule.positions[1], [0.75, 0.0, -0.5]);
        assert_eq!(water.molecule.positions[2][1], 1.25e-6);
        let hartree = 27.2114;
        let [alpha, gap, homo, lumo, mu, cv] = water.properties;
        assert_eq!([alpha, gap, homo], [6.5, 0.375 * hartree, -0.25 * hartree]);
        assert_eq!([lumo, mu], [0.125 * hartree, 1.75]);
        assert!((cv - (6.0 - 3.0 * 2.981)).abs() < 1e-12);
    }

    #[test]
    fn errors_name_line_and_reason() {
        let good = water(3);
        for (from, to, line, word) in [
            ("3\ngdb", "0\ngdb", 1, "0 atoms; molecules have 1 to 29"),
            ("3\ngdb", "30\ngdb", 1, "30 atoms"),
            ("3\ngdb", "x\ngdb", 1, "`x` is no number of atoms"),
            ("gdb 3", "gdb x", 2, "`x` is no index"),
            ("\t6.\t\n", "\t\n", 2, "14 properties"),
            ("-0.25\t", "-0.2x5\t", 2, "homo: `-0.2x5` is no number"),
            ("-0.25\t", "nan\t", 2, "homo is NaN"),
            ("O\t 0.0", "S\t 0.0", 3, "`S` is none of the elements"),
            ("7.5*^-1", "7.5*^", 4, "`7.5*^` is no number"),
            ("H\t-0.75\t 1.25*^-6\t-0.5\t 0.35", "H\t-0.75", 5, "coordinate y is missing"),
            ("7.5*^-1", "nan", 3, "no place"),
        ] {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good);
            let (at, error) = parse(&changed, &AtomReferences::default(), 29).unwrap_err();
            assert!(at == line && error.contains(word), "line {at}: {error}");
        }
        assert_eq!(parse("", &AtomReferences::default(), 29).unwrap_err().0, 0);
    }

    #[test]
    fn damaged_texts_never_panic() {
        let good = water(3);
        let atoms_end = good.find("1671").unwrap();
        for end in 0..good.len() {
            let cut = parse(&good[..end], &AtomReferences::default(), 29);
            assert!(cut.is_err() || end > atoms_end, "cut at {end}");
        }
        for at in 0..good.len() {
            for bit in 0..7 {
                let mut bytes = good.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let _ = parse(&String::from_utf8_lossy(&bytes), &AtomReferences::default(), 29);
            }
        }
    }

    #[test]
    fn atom_references_are_read() {
        let text = "Ele- ment\tzpve\nH\t0.0\t-0.5\t-0.49\t-0.49\t-0.51\t2.981\nC 0 1 2 3 4 5\nN 0 1 2 3 4 6\n\nO 0 1 2 3 4 7*^-1\nF 0 1 2 3 4 8\n";
        assert_eq!(AtomReferences::parse(text).unwrap(), AtomReferences([2.981, 5.0, 6.0, 0.7, 8.0]));
        assert_eq!(AtomReferences::parse(&text.replace("F 0 1 2 3 4 8", "F 0 1 2")).unwrap_err().0, 6 + 1);
        assert!(AtomReferences::parse(&text.replace("F 0", "S 0")).unwrap_err().1.contains("element F"));
    }
}
