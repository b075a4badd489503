//! Model files of networks of molecules, and files of property classifiers.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;

use super::*;
use crate::flow::{Cond, Rows};
use crate::molecule::{Element, Molecule};
use crate::net::egnn::{classifier_tensors, tensors};

const MODEL: &str = "\
network:
  egnn: { nf: 16, n_layers: 1, max_atoms: 4 }
weights: tiny.safetensors
path: cond_ot
prediction: velocity
";

const CLASSIFIER: &str = "\
classifier: { property: mu, unit: D, nf: 16, n_layers: 1, mean: 2.5, mad: 1.5 }
weights: ../mu.safetensors
";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes a weight file of small numbers that differ from each other.
fn write_weights(path: &Path, tensors: Vec<(String, Vec<usize>)>) {
    let tensors: Vec<_> = tensors
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| {
            let count = shape.iter().product::<usize>();
            let value = |k: usize| (((i + 7 * k) % 13) as f32 - 6.0) / 64.0;
            let bytes: Vec<u8> = (0..count).flat_map(|k| value(k).to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A home with a model `tiny` and a classifier `mu`.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("models");
    fs::create_dir_all(models.join("classifiers")).unwrap();
    fs::write(models.join("tiny.yaml"), MODEL).unwrap();
    fs::write(models.join("classifiers/mu.yaml"), CLASSIFIER).unwrap();
    let file: ModelFile = serde_yaml::from_str(MODEL).unwrap();
    let NetworkSpec::Egnn(config) = &file.network else { panic!("an EGNN") };
    write_weights(&models.join("tiny.safetensors"), tensors(config));
    let file: ClassifierFile = serde_yaml::from_str(CLASSIFIER).unwrap();
    write_weights(&models.join("mu.safetensors"), classifier_tensors(&file.classifier));
    home
}

fn rewrite(home: &tempfile::TempDir, file: &str, text: &str, from: &str, to: &str) {
    assert!(text.contains(from));
    fs::write(home.path().join("models").join(file), text.replace(from, to)).unwrap();
}

fn load(home: &tempfile::TempDir) -> Result<Model, ModelError> {
    Model::load("tiny", Some(home.path()), None)
}

/// The velocity of a molecule of three atoms in states of four.
fn velocity(model: &Model, t: f64) -> Vec<f32> {
    let mut out = vec![0.0; 36];
    let x: Vec<f32> = (0..out.len()).map(|i| (i as f32).sin()).collect();
    model.field().velocity(Rows { t: &[t], x: &x, cond: &[Cond::Atoms(3)] }, &mut out).unwrap();
    out
}

#[test]
fn a_model_of_molecules_is_loaded_with_and_without_the_public_prefix() {
    let home = home();
    let model = load(&home).unwrap();
    let StateShape::Molecule(representation) = model.state() else { panic!("states are molecules") };
    assert_eq!((representation.max_atoms, representation.columns(), model.classes()), (4, 9, 0));
    assert_eq!(model.state().dim(), 36);
    let first = velocity(&model, 0.25);
    assert!(first[..27].iter().all(|v| v.is_finite() && *v != 0.0));
    assert!(first[27..].iter().all(|v| *v == 0.0));
    // As public checkpoints: a prefix, and tensors that are no part of the network.
    let file: ModelFile = serde_yaml::from_str(MODEL).unwrap();
    let NetworkSpec::Egnn(config) = &file.network else { panic!("an EGNN") };
    let mut prefixed: Vec<_> =
        tensors(config).into_iter().map(|(name, shape)| (format!("dynamics.egnn.{name}"), shape)).collect();
    prefixed.extend([("buffer".to_owned(), vec![1]), ("gamma.gamma".to_owned(), vec![11])]);
    write_weights(&home.path().join("models/tiny.safetensors"), prefixed);
    assert_eq!(velocity(&load(&home).unwrap(), 0.25), first);
}

#[test]
fn what_the_output_and_the_time_mean_is_stated_by_the_model_file() {
    let home = home();
    let plain = velocity(&load(&home).unwrap(), 0.25);
    let identity = load(&home).unwrap().identity();
    rewrite(&home, "tiny.yaml", MODEL, "prediction:", "time: noise_level\nprediction:");
    assert_ne!(load(&home).unwrap().identity(), identity);
    let at_tau = velocity(&load(&home).unwrap(), 0.75);
    assert_eq!(at_tau, plain);
    rewrite(&home, "tiny.yaml", MODEL, "velocity", "equifm\ntime: noise_level");
    let equifm = velocity(&load(&home).unwrap(), 0.75);
    // −M(0.25) of EquiFM.
    let (b, integral) = (0.1 + 19.9 * 0.25, 0.1 * 0.25 + 9.95 * 0.0625);
    let factor = (0.5 * b / (1.0 - f64::exp(-integral) + 1e-5)) as f32;
    for (i, (equifm, plain)) in equifm.iter().zip(&plain).enumerate() {
        let expected = if i % 9 < 3 { -plain } else { factor * plain };
        // Two ways to the same factor.
        assert!((equifm - expected).abs() <= 1e-6 * expected.abs(), "{i}: {equifm} {expected}");
    }
}

#[test]
fn every_fault_of_a_model_of_molecules_is_named() {
    let home = home();
    for (from, to, expected) in [
        ("max_atoms: 4", "max_atoms: 4, sin_embedding: true", "sin_embedding"),
        ("nf: 16", "nf: 0", "network.egnn"),
        ("nf: 16", "nf: 32", "does not fit the network"),
        ("n_layers: 1", "n_layers: 2", "`e_block_1.gcl_0.edge_mlp.0.weight` [16, 34] is missing"),
        ("n_layers: 1", "n_layers: 1, attention: false", "`e_block_0.gcl_0.att_mlp.0.bias` [1] is not part"),
        ("n_layers: 1", "n_layer: 1", "n_layer"),
        ("max_atoms: 4", "aggregation_method: max", "max"),
        ("prediction: velocity", "prediction: equifm", "`time: noise_level`"),
        ("prediction: velocity", "time: step_index", "vp_linear"),
    ] {
        rewrite(&home, "tiny.yaml", MODEL, from, to);
        let error = load(&home).expect_err(to).to_string();
        assert!(error.contains(expected) && error.contains("tiny"), "{to}: {error}");
    }
}

#[test]
fn a_classifier_is_loaded_and_every_fault_of_its_file_is_named() {
    let home = home();
    let load = |name: &str| load_classifier(name, Some(home.path()), None);
    let LoadedClassifier { classifier, identity, .. } = load("mu").unwrap();
    let water = Molecule {
        elements: vec![Element::O, Element::H, Element::H],
        positions: vec![[0.0, 0.0, 0.1], [0.76, 0.0, -0.5], [-0.76, 0.0, -0.5]],
    };
    assert!(classifier.predict(&water).is_finite());
    assert_eq!(classifier_names(Some(home.path())), ["mu"]);
    let file = |from: &str, to: &str| rewrite(&home, "classifiers/mu.yaml", CLASSIFIER, from, to);
    file("mean: 2.5", "mean: 2.5, small: true, held_out: { molecules: 10, mae: 0.1 }");
    assert_eq!(load("mu").unwrap().identity, identity);
    file("mean: 2.5", "mean: 2.25");
    assert_ne!(load("mu").unwrap().identity, identity);
    for (from, to, expected) in [
        ("mean: 2.5, ", "", "mean"),
        (", mad: 1.5", "", "mad"),
        ("mad: 1.5", "mad: 0", "mad must be finite and above 0"),
        ("mad: 1.5", "mad: -1", "mad must be finite and above 0"),
        ("mean: 2.5", "mean: .nan", "mean must be finite"),
        ("property: mu", "property: nu", "nu"),
        ("unit: D", "unit: eV", "write `unit: D`"),
        ("nf: 16", "nf: 32", "`embedding.weight` has shape [16, 5], the network takes [32, 5]"),
        ("nf: 16", "nf: 0", "nf must be 1 to 1024"),
        ("weights:", "blake3: 12\nweights:", "64 hexadecimal digits"),
        ("weights:", "folder: real\nweights:", "--data"),
        ("weights:", "weight:", "weight"),
    ] {
        file(from, to);
        let error = load("mu").expect_err(to).to_string();
        assert!(error.contains(expected) && error.contains("mu."), "{to}: {error}");
    }
    let error = load("mv").expect_err("unknown").to_string();
    assert!(error.contains("nearest: `classifiers/mu`"), "{error}");
}

#[test]
fn shipped_files_of_molecules_state_what_can_be_loaded() {
    let models = repository().join("models");
    for (name, parameters) in [("edm-qm9", 5_339_920), ("equifm-qm9", 5_339_920), ("edm-qm9-small", 746_892)]
    {
        let file = read(&models.join(format!("{name}.yaml"))).unwrap();
        let NetworkSpec::Egnn(config) = &file.network else { panic!("{name} is an EGNN") };
        let count: usize = tensors(config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(count, parameters, "{name}");
        assert_eq!(config.representation(), Representation::QM9);
    }
    for name in classifier_names(Some(repository())) {
        let file = ClassifierFile::read(&models.join(format!("classifiers/{name}.yaml"))).unwrap();
        if file.folder.is_none() {
            load_classifier(&name, Some(repository()), None).unwrap();
        }
        assert!(name.ends_with(file.classifier.property.key()), "{name}");
    }
}

#[test]
fn the_public_edm_moves_atoms_about_their_centre() {
    let Some(data) = crate::test_data::folder() else { return };
    let model = Model::load("edm-qm9-small", Some(repository()), Some(&data)).unwrap();
    let StateShape::Molecule(representation) = model.state() else { panic!("states are molecules") };
    let carbons = |n: usize| Molecule {
        elements: vec![Element::C; n],
        positions: (0..n).map(|i| [i as f32, (i as f32).sin(), (i as f32).cos()]).collect(),
    };
    let (x, mut u) = (representation.encode(&carbons(9)), vec![0.0; representation.dim()]);
    for t in [0.0, 0.3, 0.99, 1.0] {
        model.field().velocity(Rows { t: &[t], x: &x, cond: &[Cond::Atoms(9)] }, &mut u).unwrap();
        assert!(u.iter().all(|v| v.is_finite()), "{t}");
        let column = |k: usize| u.iter().skip(k).step_by(9);
        for k in 0..3 {
            let (sum, size) = column(k).fold((0.0, 1e-6), |(s, m), v| (s + f64::from(*v), v.abs().max(m)));
            // Sums of nine rounded numbers.
            assert!(sum.abs() < 1e-5 * f64::from(size), "{t}, axis {k}: {sum}");
        }
    }
}

/// One array of an npz file: its bytes after the header.
fn array(archive: &Path, name: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(fs::File::open(archive).unwrap()).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes.split_off(10 + header)
}

#[test]
fn public_classifiers_have_the_errors_of_pytorch_on_real_molecules() {
    const MOLECULES: usize = 1024;
    const ROWS: usize = 29;
    let Some(data) = crate::test_data::folder() else { return };
    let archive = data.join("qm9_test_split/test.npz");
    let integers = |name: &str| -> Vec<i64> {
        array(&archive, name).as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
    };
    let numbers = |name: &str| -> Vec<f32> {
        array(&archive, name).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (atoms, charges, positions) = (integers("num_atoms"), integers("charges"), numbers("positions"));
    let molecule = |m: usize| {
        let rows = m * ROWS..m * ROWS + atoms[m] as usize;
        Molecule {
            elements: charges[rows.clone()]
                .iter()
                .map(|z| Element::from_atomic_number(*z as u8).unwrap())
                .collect(),
            positions: positions.as_chunks().0[rows].to_vec(),
        }
    };
    let molecules: Vec<_> = (0..MOLECULES).map(molecule).collect();
    // From the same molecules in PyTorch (`Classifier` of tools/reference/egnn.py), to as many digits as are shown.
    for (name, factor, expected) in [("alpha", 1.0, 0.08299), ("gap", 27.2114, 0.03774), ("mu", 1.0, 0.03202)]
    {
        let loaded = load_classifier(name, Some(repository()), Some(&data)).unwrap();
        let predictions = loaded.classifier.predict_all(&molecules);
        let labels = numbers(name);
        let errors =
            predictions.iter().zip(&labels).map(|(a, b)| (f64::from(*a) - f64::from(*b) * factor).abs());
        let mae = errors.sum::<f64>() / MOLECULES as f64;
        assert!((mae - expected).abs() < 1e-5, "{name}: {mae}");
    }
}
