use std::io::{Cursor, Read};

use super::*;
use crate::molecule::Element::{self, C, H, N, O};
use crate::molecule::sdf::write_sdf;
use crate::molecule::xyz::read_xyz;

/// Atoms of G-SchNet's generated QM9 molecules, as EDM ships them.
fn gschnet() -> Option<Vec<Molecule>> {
    let file = crate::test_data::folder()?.join("gschnet_qm9/samples.npz");
    let mut archive = zip::ZipArchive::new(Cursor::new(std::fs::read(file).unwrap())).unwrap();
    let mut array = |name: &str| {
        let mut bytes = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        // Magic and version (8 bytes), length of the header in 2, the header, the data.
        let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        bytes.split_off(10 + header)
    };
    let counts = array("n_atoms.npy");
    let positions = array("positions.npy");
    let numbers = array("atomic_numbers.npy");
    let mut positions = positions.chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap()));
    let mut elements = numbers.iter().map(|z| Element::from_atomic_number(*z).unwrap());
    let molecules = counts.chunks_exact(4).map(|n| {
        let n = i32::from_le_bytes(n.try_into().unwrap()) as usize;
        let elements: Vec<_> = elements.by_ref().take(n).collect();
        let positions = (0..n).map(|_| std::array::from_fn(|_| positions.next().unwrap())).collect();
        Molecule { elements, positions }
    });
    Some(molecules.collect())
}

/// The numbers that the reference code (EDM) gives for these molecules, and RDKit 2026.09.1 for validity and SMILES.
#[test]
fn molecules_of_gschnet_have_the_scores_of_the_reference() {
    let Some(molecules) = gschnet() else { return };
    let scores: Vec<_> = molecules.iter().map(molecule_scores).collect();
    let counts = SetCounts::new(&scores);
    assert_eq!((counts.molecules, counts.atoms), (10_000, 186_026));
    assert_eq!((counts.stable, counts.valid, counts.distinct), (6805, 8545, 8031));
    assert_eq!(format!("{:.7}", counts.atom_stability().unwrap()), "0.9570974");
    assert_eq!(counts.molecule_stability(), Some(0.6805));
    assert_eq!(counts.validity(), Some(0.8545));
    assert_eq!(format!("{:.7}", counts.uniqueness().unwrap()), "0.9398479");
    assert_eq!(counts.valid_and_unique(), Some(0.8031));
}

#[test]
fn the_order_of_the_atoms_changes_no_score() {
    let Some(molecules) = gschnet() else { return };
    for molecule in &molecules[..500] {
        let reversed = Molecule {
            elements: molecule.elements.iter().rev().copied().collect(),
            positions: molecule.positions.iter().rev().copied().collect(),
        };
        let (a, b) = (molecule_scores(molecule), molecule_scores(&reversed));
        let (Some(one), Some(other)) = (&a.graph, &b.graph) else { continue };
        if a.fragments == 1 {
            assert_eq!(one.hash(), other.hash());
            assert!(one.is_isomorphic(other));
            assert_eq!(MoleculeGraph::from_text(&one.to_text()).unwrap(), *one);
        }
        assert_eq!(MoleculeScores { graph: None, ..a }, MoleculeScores { graph: None, ..b }, "{molecule:?}");
    }
}

fn golden(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/molecules");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// Random molecules, many of them with charges; made and judged by `tools/reference/molecules.py` (RDKit 2026.09.1).
#[test]
fn random_molecules_have_the_validity_and_classes_of_rdkit() {
    let molecules = read_xyz(&golden("molecules.xyz")).unwrap();
    let table = score_table(&molecules);
    let ours: Vec<String> = table
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|row| format!("{},{},{}", row[0], row[4], row[8]))
        .collect();
    assert_eq!(ours, golden("molecules.csv").lines().collect::<Vec<_>>());
}

/// RDKit reads this SDF file as the molecules that it should hold (`tools/reference/molecules.py`).
#[test]
fn sdf_files_are_those_that_rdkit_has_read() {
    let molecules = read_xyz(&golden("molecules.xyz")).unwrap();
    let mut text = String::new();
    let mut charged = 0;
    for (index, molecule) in molecules.iter().enumerate() {
        let Structure { bonds, charges, valid, .. } = structure(molecule);
        if valid {
            charged += usize::from(charges.iter().any(|charge| *charge != 0));
            let data = [("index", index.to_string())];
            let title = format!("molecule {index}");
            text += &write_sdf(molecule, &title, &bonds, &charges, &data).unwrap();
        }
    }
    assert!(charged > 10, "{charged} molecules have charges");
    if text != golden("molecules.sdf") {
        let path = std::env::temp_dir().join("dflow-molecules.sdf");
        std::fs::write(&path, text).unwrap();
        panic!(
            "the new text is in {}: copy it to tests/golden/molecules, then `make parity`",
            path.display()
        );
    }
}

fn methane() -> Molecule {
    let a = 1.087 / 3_f32.sqrt();
    Molecule {
        elements: vec![C, H, H, H, H],
        positions: vec![[0.0; 3], [a, a, a], [a, -a, -a], [-a, a, -a], [-a, -a, a]],
    }
}

fn moved(mut molecule: Molecule, by: f32) -> Molecule {
    molecule.positions.iter_mut().for_each(|position| position[0] += by);
    molecule
}

fn united(a: &Molecule, b: &Molecule) -> Molecule {
    Molecule {
        elements: [&*a.elements, &b.elements].concat(),
        positions: [&*a.positions, &b.positions].concat(),
    }
}

#[test]
fn methane_is_stable_and_valid() {
    let scores = molecule_scores(&methane());
    assert_eq!(scores.graph.as_ref().unwrap().to_text(), "C4 H1 H1 H1 H1|0-1 0-2 0-3 0-4");
    let rest = MoleculeScores { graph: None, ..scores };
    let expected =
        MoleculeScores { atoms: 5, stable_atoms: 5, stable: true, valid: true, fragments: 1, ..rest.clone() };
    assert_eq!(rest, expected);
}

#[test]
fn only_the_largest_fragment_is_compared() {
    let water = Molecule {
        elements: vec![O, H, H],
        positions: vec![[0.0; 3], [0.957, 0.0, 0.0], [-0.24, 0.927, 0.0]],
    };
    let both = molecule_scores(&united(&moved(water.clone(), 9.0), &methane()));
    assert_eq!((both.fragments, both.stable, both.valid), (2, true, true));
    let table = score_table(&[water, methane(), united(&methane(), &moved(methane(), 9.0))]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0].join(","), SCORE_COLUMNS);
    assert_eq!(rows[1][..7], ["0", "3", "3", "1", "1", "1", "0"]);
    assert_eq!(rows.iter().skip(1).map(|row| row[8]).collect::<Vec<_>>(), ["0", "1", "1"]);
    assert_eq!(rows[2][7], rows[3][7]);
    assert_eq!(distinct([&both.graph.unwrap(), &molecule_scores(&methane()).graph.unwrap()]), 1);
}

#[test]
fn every_input_has_scores() {
    let empty = molecule_scores(&Molecule::default());
    assert_eq!(empty, MoleculeScores::default());

    let alone = molecule_scores(&Molecule { elements: vec![N], positions: vec![[0.0; 3]] });
    assert_eq!((alone.stable_atoms, alone.stable, alone.valid, alone.fragments), (0, false, true, 1));

    let mut broken = methane();
    for value in [f32::NAN, f32::INFINITY] {
        broken.positions[3][1] = value;
        let scores = molecule_scores(&broken);
        assert_eq!(scores, MoleculeScores { atoms: 5, fragments: 5, ..MoleculeScores::default() });
    }

    let heap = Molecule { elements: vec![C; 400], positions: vec![[1.0; 3]; 400] };
    let scores = molecule_scores(&heap);
    assert_eq!((scores.stable_atoms, scores.valid, scores.fragments), (0, false, 1));

    let gas = Molecule { elements: vec![H; 40], positions: (0..40).map(|i| [i as f32 * 1e6; 3]).collect() };
    let scores = molecule_scores(&gas);
    assert_eq!((scores.valid, scores.fragments, scores.stable_atoms), (true, 40, 0));
    assert_eq!(scores.graph.unwrap().atoms(), 1);
}

#[test]
fn without_molecules_there_is_no_fraction() {
    let counts = SetCounts::new([]);
    assert_eq!((counts.validity(), counts.uniqueness(), counts.atom_stability()), (None, None, None));
    assert_eq!(score_table(&[]).lines().count(), 1);
}

#[test]
fn scores_are_stored_with_their_graph_as_text() {
    let scores = molecule_scores(&methane());
    let text = serde_json::to_string(&scores).unwrap();
    assert!(text.contains("\"C4 H1 H1 H1 H1|0-1 0-2 0-3 0-4\""), "{text}");
    assert_eq!(serde_json::from_str::<MoleculeScores>(&text).unwrap(), scores);
}
