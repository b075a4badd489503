//! Networks against the public guided-diffusion code (golden files of `tools/reference/adm.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::adm::{AdmConfig, tensors};
use super::kernel::InstructionSet;
use super::weights::{Tensor, Weights};
use super::*;
use crate::flow::{Cond, RawNetwork, Rows};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adm")
}

#[derive(serde::Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    config: AdmConfig,
    t: Vec<f64>,
    labels: Option<Vec<u32>>,
    parameters: usize,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(golden().join("cases.json")).unwrap();
    serde_json::from_str::<Cases>(&text).unwrap().cases
}

/// Stream `name` of `tools/reference/adm.py`: FNV-1a seed, splitmix64 numbers, Box–Muller normals.
fn normals(name: &str) -> impl Iterator<Item = f64> {
    let fnv = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let uniform = move |k: u64| {
        let mut z = seed.wrapping_add((k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / 9007199254740992.0
    };
    (0..).map(move |i| {
        (-2.0 * uniform(2 * i).ln()).sqrt() * (std::f64::consts::TAU * uniform(2 * i + 1)).cos()
    })
}

fn state(name: &str, len: usize) -> Vec<f32> {
    normals(name).map(|n| n as f32).take(len).collect()
}

/// The random weights of a case: no tensor is zero.
fn weights(case: &str, config: &AdmConfig) -> Weights {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let fan_in: usize = shape[1..].iter().product();
        let value: Box<dyn Fn(f64) -> f64> = if name.ends_with("bias") {
            Box::new(|n| n / 4.0)
        } else if name == "label_emb.weight" {
            Box::new(|n| n)
        } else if shape.len() == 1 {
            Box::new(|n| 1.0 + n / 4.0)
        } else {
            Box::new(move |n| n / (fan_in as f64).sqrt())
        };
        let len = shape.iter().product();
        let values = normals(&format!("{case}/{name}")).map(|n| value(n) as f32).take(len).collect();
        (name, Tensor { shape, values })
    };
    let tensors: BTreeMap<_, _> = tensors(config).into_iter().map(tensor).collect();
    Weights::from_tensors(case, tensors)
}

/// ‖a − b‖/‖b‖.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    (difference / b.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

fn conditions(case: &Case) -> Vec<Cond> {
    case.labels
        .as_ref()
        .map_or_else(|| vec![Cond::None; case.t.len()], |l| l.iter().map(|&l| Cond::Class(l)).collect())
}

/// Output and input VJP.
fn evaluate(
    network: &mut Network,
    t: &[f64],
    x: &[f32],
    cond: &[Cond],
    cotangent: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (mut out, mut gradient) = (vec![0.0; cotangent.len()], vec![0.0; x.len()]);
    let tape = network.forward_taped(Rows { t, x, cond }, &mut out).unwrap();
    network.pull_back(tape, cotangent, &mut gradient).unwrap();
    (out, gradient)
}

#[test]
fn forward_and_vjp_equal_the_public_code_on_every_instruction_set() {
    for case in cases() {
        let weights = weights(&case.name, &case.config);
        assert_eq!(weights.parameters(), case.parameters, "{}", case.name);
        let file = Weights::read(&golden().join(format!("{}.safetensors", case.name))).unwrap();
        let [output, vjp] = ["output", "vjp"].map(|name| &file.get(name).unwrap().values);
        let x = state(&format!("{}/x", case.name), vjp.len());
        let cotangent = state(&format!("{}/cotangent", case.name), output.len());
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_supported()) {
            let mut network = Network::adm_on(set, &case.config, &weights).unwrap();
            let (out, gradient) = evaluate(&mut network, &case.t, &x, &conditions(&case), &cotangent);
            // The tolerance; the public code in f32 is at 1e-6 … 4e-6 from these f64 values.
            for (what, error) in [("output", distance(&out, output)), ("vjp", distance(&gradient, vjp))] {
                assert!(error < 1e-5, "{} on {}: {what} differs by {error:.2e}", case.name, set.name());
            }
        }
    }
}
