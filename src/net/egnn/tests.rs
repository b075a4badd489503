//! EGNNs against PyTorch (golden files of `tools/reference/egnn.py`), their symmetries, and what must not matter.

use std::path::{Path, PathBuf};

use super::*;
use crate::flow::{Cond, RawNetwork, ReadOut, Rows};
use crate::molecule::{Element, Molecule, Representation};
use crate::net::kernel::InstructionSet;
use crate::net::testing::{distance, normals, pool, state};
use crate::net::weights::{Tensor, Weights};

#[derive(serde::Deserialize)]
struct Cases {
    dynamics: Vec<Case<EgnnConfig>>,
    classifiers: Vec<Case<ClassifierConfig>>,
}

#[derive(serde::Deserialize)]
struct Case<C> {
    name: String,
    config: C,
    atoms: Vec<u32>,
    #[serde(default)]
    tau: Vec<f64>,
    parameters: usize,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/egnn")
}

fn json<T: serde::de::DeserializeOwned>(file: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(golden().join(file)).unwrap()).unwrap()
}

fn base() -> Case<EgnnConfig> {
    json::<Cases>("cases.json").dynamics.remove(0)
}

/// The random weights of a case.
fn weights(case: &str, tensors: Vec<(String, Vec<usize>)>) -> Weights {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let scale = match shape[..] {
            [_] => 0.25,
            _ if name.contains("coord_mlp.4") => 0.02 / (shape[1] as f64).sqrt(),
            _ => 1.0 / (shape[1] as f64).sqrt(),
        };
        let len = shape.iter().product();
        let values = normals(&format!("{case}/{name}")).map(|n| (scale * n) as f32).take(len).collect();
        (name, Tensor { shape, values })
    };
    Weights::from_tensors(case, tensors.into_iter().map(tensor).collect())
}

fn of_case(case: &Case<EgnnConfig>) -> Weights {
    weights(&case.name, tensors(&case.config))
}

/// States of a case: numbers everywhere, also after the atoms.
fn states(case: &str, rows: usize, representation: Representation) -> Vec<f32> {
    let mut x = state(&format!("{case}/x"), rows * representation.dim());
    for row in x.chunks_exact_mut(representation.columns()) {
        row[..3].iter_mut().for_each(|x| *x *= 1.5);
    }
    x
}

fn sets() -> impl Iterator<Item = InstructionSet> {
    InstructionSet::ALL.into_iter().filter(|set| set.is_supported())
}

fn conditions(atoms: &[u32]) -> Vec<Cond> {
    atoms.iter().map(|n| Cond::Atoms(*n)).collect()
}

/// Output and input VJP.
fn evaluate(
    network: &mut EgnnNetwork,
    t: &[f64],
    x: &[f32],
    atoms: &[u32],
    cotangent: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (mut out, mut gradient) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
    let cond = conditions(atoms);
    let tape = network.forward_taped(Rows { t, x, cond: &cond }, &mut out).unwrap();
    network.pull_back(tape, cotangent, &mut gradient).unwrap();
    (out, gradient)
}

fn compare(case: &Case<EgnnConfig>, weights: &Weights, tolerance: f64) {
    assert_eq!(weights.parameters(), case.parameters, "{}", case.name);
    let representation = case.config.representation();
    let file = Weights::read(&golden().join(format!("{}.safetensors", case.name))).unwrap();
    let [output, vjp] = ["output", "vjp"].map(|name| &file.get(name).unwrap().values);
    let x = states(&case.name, case.atoms.len(), representation);
    let cotangent = state(&format!("{}/cotangent", case.name), x.len());
    for set in sets() {
        let mut network = EgnnNetwork::on(set, &case.config, weights).unwrap();
        let (out, gradient) = evaluate(&mut network, &case.tau, &x, &case.atoms, &cotangent);
        for (what, error) in [("output", distance(&out, output)), ("vjp", distance(&gradient, vjp))] {
            assert!(error < tolerance, "{} on {}: {what} differs by {error:.2e}", case.name, set.name());
        }
        for (row, (atoms, numbers)) in case.atoms.iter().zip(out.chunks_exact(network.dim())).enumerate() {
            let real = *atoms as usize * representation.columns();
            let exact = &output[row * network.dim()..][..real];
            // A molecule of one atom does not move, and its features may be anything.
            let error = distance(&numbers[..real], exact);
            assert!(error < 3.0 * tolerance, "{} on {}, row {row}: {error:.2e}", case.name, set.name());
            assert!(numbers[real..].iter().all(|v| *v == 0.0), "zeros after the atoms");
        }
    }
}

#[test]
fn forward_and_vjp_equal_pytorch_on_every_instruction_set() {
    for case in json::<Cases>("cases.json").dynamics {
        // PyTorch in f32 is at 1e-7 … 1e-6 from these f64 values.
        compare(&case, &of_case(&case), 1e-5);
    }
}

#[test]
fn the_public_checkpoint_equals_pytorch() {
    #[derive(serde::Deserialize)]
    struct Checkpoint {
        checkpoint: String,
        #[serde(flatten)]
        case: Case<EgnnConfig>,
    }
    let Some(folder) = crate::test_data::folder() else { return };
    let Checkpoint { checkpoint, case } = json("checkpoint.json");
    let weights = Weights::read(&folder.join(checkpoint)).unwrap().strip_prefix("dynamics.egnn.");
    // PyTorch in f32: 6e-7 for the output, 2.4e-6 for the VJP.
    compare(&case, &weights, 1e-5);
}

#[test]
fn classifiers_equal_pytorch_on_every_instruction_set() {
    let representation = Representation { max_atoms: 19, ..Representation::QM9 };
    for case in json::<Cases>("cases.json").classifiers {
        let weights = weights(&case.name, classifier_tensors(&case.config));
        assert_eq!(weights.parameters(), case.parameters);
        let file = Weights::read(&golden().join(format!("{}.safetensors", case.name))).unwrap();
        let [output, vjp] = ["output", "vjp"].map(|name| &file.get(name).unwrap().values);
        let (rows, cond) = (case.atoms.len(), conditions(&case.atoms));
        let x = states(&case.name, rows, representation);
        let cotangent = state(&format!("{}/cotangent", case.name), rows);
        for set in sets() {
            let mut read_out = Classifier::on(set, &case.config, &weights).unwrap().read_out(representation);
            let (mut out, mut gradient) = (vec![f32::NAN; rows], vec![f32::NAN; x.len()]);
            read_out.read(&x, &cond, &mut out).unwrap();
            read_out.vjp(&x, &cond, &cotangent, &mut gradient).unwrap();
            // PyTorch in f32 is at 5e-7 from these f64 values.
            for (what, error) in [("output", distance(&out, output)), ("vjp", distance(&gradient, vjp))] {
                assert!(error < 1e-5, "{} on {}: {what} differs by {error:.2e}", case.name, set.name());
            }
        }
    }
}

#[test]
fn the_published_networks_have_the_published_numbers_of_parameters() {
    let count = |list: Vec<(String, Vec<usize>)>| -> usize {
        list.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    };
    let config = EgnnConfig { nf: 256, n_layers: 9, ..base().config };
    assert_eq!(count(tensors(&config)), 5_339_920);
    // The file's 747,094 values less one of `buffer` and 201 of the noise schedule.
    assert_eq!(count(tensors(&EgnnConfig { nf: 128, n_layers: 5, ..config })), 746_892);
    let classifier = ClassifierConfig { nf: 128, n_layers: 7, ..classifier_config() };
    assert_eq!(count(classifier_tensors(&classifier)), 743_944);
}

fn classifier_config() -> ClassifierConfig {
    json::<Cases>("cases.json").classifiers.remove(0).config
}

/// One molecule of `n` atoms through the base network, as (positions, features), each n rows.
fn one(network: &mut EgnnNetwork, n: usize, x: &[f32]) -> (Vec<[f64; 3]>, Vec<f32>) {
    let mut out = vec![0.0; x.len()];
    network.forward(Rows { t: &[0.4], x, cond: &[Cond::Atoms(n as u32)] }, &mut out).unwrap();
    let rows = out.chunks_exact(9).take(n);
    (
        rows.clone().map(|row| [row[0], row[1], row[2]].map(f64::from)).collect(),
        rows.flat_map(|row| row[3..].to_vec()).collect(),
    )
}

fn flat(positions: &[[f64; 3]]) -> Vec<f32> {
    positions.iter().flatten().map(|v| *v as f32).collect()
}

#[test]
fn rotations_translations_and_permutations_of_the_molecule_are_those_of_the_output() {
    const N: usize = 11;
    let (case, weights) = (base(), of_case(&base()));
    let mut network = EgnnNetwork::new(&case.config, &weights).unwrap();
    let x = states("symmetry", 1, case.config.representation());
    let (moved, features) = one(&mut network, N, &x);
    // A rotation by 1 about the axis (1, 2, 2)/3 (Rodrigues).
    let axis = [1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0];
    let rotate = |v: [f64; 3]| -> [f64; 3] {
        let (sin, cos) = 1.0_f64.sin_cos();
        let dot: f64 = (0..3).map(|k| axis[k] * v[k]).sum();
        std::array::from_fn(|k| {
            let (a, b) = ((k + 1) % 3, (k + 2) % 3);
            v[k] * cos + (axis[a] * v[b] - axis[b] * v[a]) * sin + axis[k] * dot * (1.0 - cos)
        })
    };
    let map = |f: &dyn Fn([f64; 3]) -> [f64; 3]| {
        let mut x = x.clone();
        for row in x.chunks_exact_mut(9) {
            let by = f([row[0], row[1], row[2]].map(f64::from));
            (0..3).for_each(|k| row[k] = by[k] as f32);
        }
        x
    };
    let rotated: Vec<_> = moved.iter().map(|v| rotate(*v)).collect();
    let shift = [0.5, -1.25, 2.0];
    let shifted = map(&|v| std::array::from_fn(|k| v[k] + shift[k]));
    for (input, expected) in [(map(&rotate), &rotated), (shifted, &moved)] {
        let (positions, same) = one(&mut network, N, &input);
        // Rounding of the inputs, and of sums of other numbers.
        assert!(distance(&flat(&positions), &flat(expected)) < 1e-5);
        assert!(distance(&same, &features) < 1e-5);
    }
    let order: Vec<usize> = (0..N).map(|i| (4 * i + 3) % N).collect();
    let mut permuted = x.clone();
    for (row, from) in permuted.chunks_exact_mut(9).zip(&order) {
        row.copy_from_slice(&x[9 * from..9 * from + 9]);
    }
    let (positions, same) = one(&mut network, N, &permuted);
    let expected: Vec<_> = order.iter().map(|i| moved[*i]).collect();
    let expected_features: Vec<_> = order.iter().flat_map(|i| features[6 * i..6 * i + 6].to_vec()).collect();
    assert!(distance(&flat(&positions), &flat(&expected)) < 1e-5);
    assert!(distance(&same, &expected_features) < 1e-5);
    for k in 0..3 {
        let (sum, size) =
            moved.iter().fold((0.0, 0.0), |(sum, size), v| (sum + v[k], f64::max(size, v[k].abs())));
        assert!(f64::abs(sum / N as f64) < 1e-7 * size, "the centre of gravity stays");
    }
}

#[test]
fn a_row_has_the_same_bits_whatever_its_batch_padding_threads_and_predecessors() {
    let case = base();
    let weights = of_case(&case);
    let atoms = [5, 19, 1, 12, 2, 18];
    let representation = case.config.representation();
    for set in sets() {
        let mut network = EgnnNetwork::on(set, &case.config, &weights).unwrap();
        let dim = network.dim();
        let (mut x, cotangent) = (states("x", 6, representation), state("cotangent", 6 * dim));
        let t = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
        let solo = pool(1);
        let alone: Vec<_> = (0..6)
            .map(|i| {
                let row = i * dim..(i + 1) * dim;
                let (x, cotangent) = (&x[row.clone()], &cotangent[row]);
                solo.install(|| evaluate(&mut network, &t[i..=i], x, &atoms[i..=i], cotangent))
            })
            .collect();
        // Other numbers after the atoms.
        for (row, n) in x.chunks_exact_mut(dim).zip(atoms) {
            row[n as usize * 9..].fill(f32::NAN);
        }
        for threads in [1, 2, 3, 4, 8] {
            let run = || evaluate(&mut network, &t, &x, &atoms, &cotangent);
            let (out, gradient) = pool(threads).install(run);
            for (i, (row_out, row_gradient)) in alone.iter().enumerate() {
                let row = i * dim..(i + 1) * dim;
                assert_eq!(out[row.clone()], row_out[..], "output of row {i}, {threads} threads");
                assert_eq!(gradient[row], row_gradient[..], "gradient of row {i}, {threads} threads");
            }
        }
        let (mut untaped, cond) = (vec![0.0; x.len()], conditions(&atoms));
        network.forward(Rows { t: &t, x: &x, cond: &cond }, &mut untaped).unwrap();
        assert!(alone.iter().flat_map(|(out, _)| out).eq(&untaped), "untaped calls give the taped output");
    }
}

#[test]
fn gradients_are_finite_differences() {
    let case = base();
    let mut network = EgnnNetwork::new(&case.config, &of_case(&case)).unwrap();
    let x = states("differences", 1, case.config.representation());
    let cotangent = state("differences/cotangent", x.len());
    let (_, gradient) = evaluate(&mut network, &[0.3], &x, &[7], &cotangent);
    assert!(gradient[..63].iter().all(|v| *v != 0.0) && gradient[63..].iter().all(|v| *v == 0.0));
    for direction in 0..5 {
        let direction = state(&format!("direction {direction}"), x.len());
        let mut along = |h: f32| -> f64 {
            let x: Vec<f32> = x.iter().zip(&direction).map(|(x, v)| x + h * v).collect();
            let (out, _) = evaluate(&mut network, &[0.3], &x, &[7], &cotangent);
            out.iter().zip(&cotangent).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let slope = (along(4e-3) - along(-4e-3)) / 8e-3;
        let exact: f64 = gradient.iter().zip(&direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        // f32 outputs of size 10 differ by 1e-6 for a step of 4e-3, and h² terms are about as large.
        assert!((slope - exact).abs() < 2e-3 * (1.0 + exact.abs()), "{slope} {exact}");
    }
}

#[test]
fn coincident_atoms_have_finite_outputs_and_gradients() {
    for case in json::<Cases>("cases.json").dynamics {
        let representation = case.config.representation();
        let mut network = EgnnNetwork::new(&case.config, &of_case(&case)).unwrap();
        let mut x = states("coincident", 2, representation);
        let (columns, dim) = (representation.columns(), representation.dim());
        // Two of the first molecule's atoms, all of the second's.
        x.copy_within(0..3, columns);
        (0..5).for_each(|atom| x[dim + atom * columns..][..3].fill(0.25));
        let cotangent = state("coincident/cotangent", x.len());
        let (out, gradient) = evaluate(&mut network, &[0.5, 0.5], &x, &[5, 5], &cotangent);
        assert!(out.iter().chain(&gradient).all(|v| v.is_finite()), "{}", case.name);
    }
}

#[test]
fn wrong_calls_are_errors_that_say_what_is_wanted() {
    let case = base();
    let mut network = EgnnNetwork::new(&case.config, &of_case(&case)).unwrap();
    let x = states("x", 1, case.config.representation());
    let mut out = vec![0.0; x.len()];
    let mut message = |x: &[f32], cond| {
        network.forward(Rows { t: &[0.5], x, cond: &[cond] }, &mut out).unwrap_err().to_string()
    };
    assert!(message(&x, Cond::None).contains("number of atoms of every row"));
    assert!(message(&x, Cond::Class(3)).contains("label 3"));
    assert!(message(&x, Cond::Atoms(0)).contains("0 atoms"));
    assert!(message(&x, Cond::Atoms(20)).contains("20 atoms: states of this model have room for 19"));
    assert!(message(&x[1..], Cond::Atoms(4)).contains("wanted 171 in"));
    let classifier = classifier_config();
    let classifier =
        Classifier::new(&classifier, &weights("classifier", classifier_tensors(&classifier))).unwrap();
    let mut read_out = classifier.read_out(case.config.representation());
    let message = read_out.read(&x, &[Cond::None], &mut [0.0]).unwrap_err().to_string();
    assert!(message.contains("number of atoms of every row"));
    assert!(read_out.read(&x[1..], &[Cond::Atoms(3)], &mut [0.0]).is_err());
    assert!(read_out.vjp(&x, &[Cond::Atoms(3)], &[0.0], &mut out[1..]).is_err());
}

#[test]
fn configurations_that_no_network_has_are_errors() {
    let good = base().config;
    let error = |config: EgnnConfig| config.check().unwrap_err().to_string();
    assert!(error(EgnnConfig { sin_embedding: true, ..good.clone() }).contains("sin_embedding"));
    assert!(error(EgnnConfig { nf: 0, ..good.clone() }).contains("nf must be 1 to 1024"));
    assert!(error(EgnnConfig { nf: 1025, ..good.clone() }).contains("nf"));
    assert!(error(EgnnConfig { n_layers: 0, ..good.clone() }).contains("n_layers"));
    assert!(error(EgnnConfig { inv_sublayers: 0, ..good.clone() }).contains("inv_sublayers"));
    assert!(error(EgnnConfig { max_atoms: 0, ..good.clone() }).contains("max_atoms"));
    assert!(error(EgnnConfig { norm_constant: -1.0, ..good.clone() }).contains("norm_constant"));
    assert!(error(EgnnConfig { normalization_factor: 0.0, ..good.clone() }).contains("normalization_factor"));
    assert!(
        error(EgnnConfig { normalize_factors: [1.0, f64::NAN, 1.0], ..good }).contains("normalize_factors")
    );
    let good = classifier_config();
    let error = |config: ClassifierConfig| config.check().unwrap_err().to_string();
    assert!(error(ClassifierConfig { mad: 0.0, ..good.clone() }).contains("mad"));
    assert!(error(ClassifierConfig { mad: f64::INFINITY, ..good.clone() }).contains("mad"));
    assert!(error(ClassifierConfig { mean: f64::NAN, ..good.clone() }).contains("mean"));
    assert!(error(ClassifierConfig { unit: Some("Å³".to_owned()), ..good.clone() }).contains("Bohr³"));
    assert!(ClassifierConfig { unit: Some("Bohr^3".to_owned()), ..good }.check().is_ok());
}

#[test]
fn a_prediction_is_the_read_out_of_the_encoded_molecule() {
    let config = classifier_config();
    let classifier = Classifier::new(&config, &weights("classifier", classifier_tensors(&config))).unwrap();
    let molecule = |n: usize| Molecule {
        elements: (0..n).map(|i| Element::ALL[i * i % 5]).collect(),
        positions: state("positions", 3 * n).chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect(),
    };
    let molecules: Vec<_> = [3, 29, 1, 17].map(molecule).into();
    let predictions = classifier.predict_all(&molecules);
    let states: Vec<f32> = molecules.iter().flat_map(|m| Representation::QM9.encode(m)).collect();
    let mut out = [0.0; 4];
    let cond = conditions(&[3, 29, 1, 17]);
    classifier.read_out(Representation::QM9).read(&states, &cond, &mut out).unwrap();
    for ((molecule, prediction), out) in molecules.iter().zip(&predictions).zip(out) {
        assert_eq!(classifier.predict(molecule), *prediction);
        // Centring rounds the positions.
        assert!((prediction - out).abs() < 1e-4 * (1.0 + out.abs()), "{prediction} {out}");
    }
    // More atoms than QM9 has; none.
    assert!(classifier.predict(&molecule(40)).is_finite());
    assert!(classifier.predict(&molecule(0)).is_nan());
}
