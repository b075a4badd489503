//! Networks against the public guided-diffusion code (golden files of `tools/reference/adm.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::adm::{AdmConfig, tensors};
use super::kernel::InstructionSet;
use super::testing::{distance, normals, pool, state};
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

fn conditions(case: &Case) -> Vec<Cond> {
    case.labels
        .as_ref()
        .map_or_else(|| vec![Cond::None; case.t.len()], |l| l.iter().map(|&l| Cond::Class(l)).collect())
}

/// Output and input VJP.
fn evaluate(
    network: &mut dyn RawNetwork<f32>,
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

/// The smallest golden case: attention, both resampling blocks, class labels.
fn tiny() -> (Case, Weights) {
    let case = cases().into_iter().find(|case| case.name == "tiny").unwrap();
    let weights = weights("tiny", &case.config);
    (case, weights)
}

#[test]
fn a_row_has_the_same_bits_whatever_its_batch_threads_and_predecessors() {
    const ROWS: usize = 5;
    let (case, weights) = tiny();
    for set in InstructionSet::ALL.into_iter().filter(|set| set.is_supported()) {
        let mut network = Network::adm_on(set, &case.config, &weights).unwrap();
        let dim = RawNetwork::dim(&network);
        let (x, cotangent) = (state("x", ROWS * dim), state("cotangent", ROWS * dim));
        let t: Vec<_> = (0..ROWS).map(|i| 17.0 + 190.0 * i as f64).collect();
        let cond: Vec<_> = (0..ROWS as u32).map(Cond::Class).collect();
        let one = pool(1);
        let alone: Vec<_> = (0..ROWS)
            .map(|i| {
                let row = i * dim..(i + 1) * dim;
                let (x, cotangent) = (&x[row.clone()], &cotangent[row]);
                one.install(|| evaluate(&mut network, &t[i..=i], x, &cond[i..=i], cotangent))
            })
            .collect();
        for threads in [1, 2, 3, 8] {
            let run = || evaluate(&mut network, &t, &x, &cond, &cotangent);
            let (out, gradient) = pool(threads).install(run);
            for (i, (row_out, row_gradient)) in alone.iter().enumerate() {
                let row = i * dim..(i + 1) * dim;
                assert_eq!(out[row.clone()], row_out[..], "output of row {i}, {threads} threads");
                assert_eq!(gradient[row], row_gradient[..], "gradient of row {i}, {threads} threads");
            }
        }
    }
}

#[test]
fn untaped_calls_give_the_taped_output() {
    let (case, weights) = tiny();
    let mut network = Network::adm(&case.config, &weights).unwrap();
    let x = state("x", 2 * RawNetwork::dim(&network));
    let cond = conditions(&case);
    let rows = Rows { t: &case.t, x: &x, cond: &cond };
    let (mut taped, mut untaped) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    network.forward_taped(rows, &mut taped).unwrap();
    network.forward(rows, &mut untaped).unwrap();
    assert_eq!(taped, untaped);
}

#[test]
fn wrong_labels_and_sizes_are_errors_that_say_what_is_wanted() {
    let (case, weights) = tiny();
    let mut network = Network::adm(&case.config, &weights).unwrap();
    let x = state("x", RawNetwork::dim(&network));
    let mut out = vec![0.0; x.len()];
    let mut message = |x: &[f32], cond| {
        let rows = Rows { t: &[0.5], x, cond: &[cond] };
        network.forward(rows, &mut out).unwrap_err().to_string()
    };
    assert!(message(&x, Cond::None).contains("10 classes"));
    assert!(message(&x, Cond::Class(10)).contains("label 10 is out of range"));
    assert!(message(&x[1..], Cond::Class(0)).contains("wanted 768 in"));
}

#[test]
fn configurations_that_no_network_has_are_errors() {
    let good = tiny().0.config;
    let error = |config: AdmConfig| config.check().unwrap_err().to_string();
    assert!(error(AdmConfig { model_channels: 40, ..good.clone() }).contains("40 channels"));
    assert!(error(AdmConfig { image_size: 9, ..good.clone() }).contains("image_size 9"));
    assert!(error(AdmConfig { channel_mult: vec![], ..good.clone() }).contains("channel_mult"));
    assert!(error(AdmConfig { num_heads: 5, ..good.clone() }).contains("num_heads 5"));
    assert!(error(AdmConfig { num_head_channels: Some(48), ..good }).contains("num_head_channels 48"));
}

#[test]
fn tensors_of_the_public_128_checkpoint_are_the_public_code_s() {
    let config = AdmConfig {
        image_size: 128,
        model_channels: 256,
        channel_mult: vec![1, 1, 2, 3, 4],
        num_res_blocks: 2,
        attention_resolutions: vec![32, 16, 8],
        num_heads: 4,
        num_classes: Some(1000),
        learn_sigma: true,
        ..tiny().0.config
    };
    let mut ours: Vec<_> = tensors(&config)
        .into_iter()
        .map(|(name, shape)| shape.iter().fold(name, |line, n| format!("{line} {n}")))
        .collect();
    let public = std::fs::read_to_string(golden().join("public_128.txt")).unwrap();
    let mut public: Vec<_> = public.lines().map(str::to_owned).collect();
    ours.sort();
    public.sort();
    assert_eq!(ours, public);
}

#[test]
fn a_trained_prior_predicts_minus_the_noise_at_time_0() {
    let Some(folder) = crate::test_data::folder() else { return };
    let folder = folder.join("prior_cifar10_start");
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    // The file also says how the network was trained.
    for key in ["path", "prediction", "steps", "batch"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let config: AdmConfig = serde_json::from_value(config).unwrap();
    let weights = Weights::read(&folder.join("cifar10_condot_adm.f16.safetensors")).unwrap();
    let mut network = Network::adm(&config, &weights).unwrap();
    let x = state("noise", RawNetwork::dim(&network));
    let mut out = vec![0.0; x.len()];
    network.forward(Rows { t: &[0.0], x: &x, cond: &[Cond::Class(3)] }, &mut out).unwrap();
    // u_0(x) = E[x1] − x with x ~ N(0, 1): what is left is a mean image, its mean square well below the data's 0.3.
    let rest = out.iter().zip(&x).map(|(u, x)| (u + x).powi(2)).sum::<f32>() / x.len() as f32;
    assert!(rest < 0.15, "mean square of u + x is {rest}");
}

#[test]
fn a_device_gives_the_cpu_kernels_numbers_for_every_configuration() {
    for case in cases().iter().filter(|case| case.name != "medium") {
        let weights = weights(&case.name, &case.config);
        let mut network = Network::adm(&case.config, &weights).unwrap();
        let dim = RawNetwork::dim(&network);
        // A batch of two and a filled-up one.
        let rows = 3;
        let (x, cotangent) = (state("x", rows * dim), state("cotangent", rows * dim));
        let t: Vec<_> = case.t.iter().copied().cycle().take(rows).collect();
        let cond: Vec<_> = conditions(case).into_iter().cycle().take(rows).collect();
        let mut device = DeviceNetwork::new(&network, &candle_core::Device::Cpu, 2).unwrap();
        let (out, gradient) = evaluate(&mut network, &t, &x, &cond, &cotangent);
        let (device_out, device_gradient) = evaluate(&mut device, &t, &x, &cond, &cotangent);
        // Two f32 evaluations in different orders, each at 1e-6 … 4e-6 from the exact one.
        assert!(distance(&device_out, &out) < 1e-5, "{}: {:.1e}", case.name, distance(&device_out, &out));
        let error = distance(&device_gradient, &gradient);
        assert!(error < 2e-5, "{}: gradient {error:.1e}", case.name);
    }
}
