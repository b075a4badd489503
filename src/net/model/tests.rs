//! Model files with small random weights, and everything that can be wrong with them.

use std::fs;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;

use super::*;
use crate::flow::{Cond, Rows};
use crate::net::weights::Tensor;

const MODEL: &str = "\
network:
  adm: { image_size: 8, in_channels: 3, out_channels: 3, model_channels: 32, channel_mult: [1], num_res_blocks: 1,
         attention_resolutions: [], num_heads: 2, num_classes: 4, resblock_updown: true, use_scale_shift_norm: true }
weights: tiny.safetensors
path: cond_ot
prediction: velocity
";

/// A home with `models/tiny.yaml` and its weights, small numbers that differ from each other.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("models");
    fs::create_dir(&models).unwrap();
    fs::write(models.join("tiny.yaml"), MODEL).unwrap();
    let file: ModelFile = serde_yaml::from_str(MODEL).unwrap();
    let NetworkSpec::Adm(config) = &file.network else { panic!("an ADM network") };
    let tensors: Vec<_> = adm::tensors(config)
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| {
            let count = shape.iter().product::<usize>();
            let bytes: Vec<u8> =
                (0..count).flat_map(|k| ((((i + 7 * k) % 13) as f32 - 6.0) / 64.0).to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(models.join("tiny.safetensors"), ::safetensors::serialize(views, None).unwrap()).unwrap();
    home
}

fn rewrite(home: &tempfile::TempDir, from: &str, to: &str) {
    assert!(MODEL.contains(from));
    fs::write(home.path().join("models/tiny.yaml"), MODEL.replace(from, to)).unwrap();
}

fn load(home: &tempfile::TempDir) -> Result<Model, ModelError> {
    Model::load("tiny", Some(home.path()), None)
}

/// The velocity at one point.
fn velocity(model: &Model, t: f64) -> Vec<f32> {
    let mut out = vec![0.0; 3 * 64];
    let x: Vec<f32> = (0..out.len()).map(|i| (i as f32).sin()).collect();
    model.field().velocity(Rows { t: &[t], x: &x, cond: &[Cond::Class(1)] }, &mut out).unwrap();
    out
}

#[test]
fn a_model_is_found_by_name_and_by_path() {
    let home = home();
    let model = load(&home).unwrap();
    assert_eq!((model.state(), model.classes()), (StateShape::Image([3, 8, 8]), 4));
    let path = home.path().join("models/tiny.yaml");
    let same = Model::load(path.to_str().unwrap(), None, None).unwrap();
    assert_eq!(model.identity(), same.identity());
    assert_eq!(velocity(&model, 0.5), velocity(&same, 0.5));
    assert!(velocity(&model, 0.5).iter().all(|v| v.is_finite()));
}

#[test]
fn the_identity_is_what_determines_the_field() {
    let home = home();
    let identity = || load(&home).unwrap().identity();
    let first = identity();
    rewrite(&home, "path:", "about: a note\nlicence: CC0\npath:");
    assert_eq!(identity(), first);
    let weights = load(&home).unwrap().weights_blake3().to_owned();
    rewrite(&home, "path:", &format!("blake3: {weights}\npath:"));
    assert_eq!(identity(), first);
    for (from, to) in [
        ("prediction: velocity", "prediction: noise"),
        ("path: cond_ot", "path: { vp_linear: {} }"),
        ("path: cond_ot", "path: { vp_linear: { steps: 500 } }"),
        ("path: cond_ot", "path: polynomial_2"),
        ("num_heads: 2", "num_heads: 4"),
        ("path:", "matmul: tf32\npath:"),
    ] {
        rewrite(&home, from, to);
        assert_ne!(identity(), first, "{to}");
    }
}

#[test]
fn the_prediction_is_converted_to_a_velocity() {
    let home = home();
    rewrite(&home, "prediction: velocity", "prediction: denoiser");
    let denoiser = velocity(&load(&home).unwrap(), 0.75);
    rewrite(&home, "prediction: velocity", "prediction: velocity");
    let output = velocity(&load(&home).unwrap(), 0.75);
    for (i, (u, x1)) in denoiser.iter().zip(&output).enumerate() {
        // u = (x̂₁ − x)/(1 − t); f32 rounding of terms near 4.
        assert!((u - (x1 - (i as f32).sin()) / 0.25).abs() < 1e-5, "{i}: {u} {x1}");
    }
}

#[test]
fn weights_in_the_data_folder_need_one() {
    let home = home();
    rewrite(&home, "weights:", "folder: tiny-prior\nweights:");
    let error = load(&home).unwrap_err().to_string();
    assert!(error.contains("--data") && error.contains("tiny-prior/tiny.safetensors"), "{error}");
    let data = home.path().join("data");
    let error = Model::load("tiny", Some(home.path()), Some(&data)).unwrap_err().to_string();
    assert!(error.contains("data/tiny-prior/tiny.safetensors"), "{error}");
    fs::create_dir_all(data.join("tiny-prior")).unwrap();
    fs::rename(home.path().join("models/tiny.safetensors"), data.join("tiny-prior/tiny.safetensors"))
        .unwrap();
    Model::load("tiny", Some(home.path()), Some(&data)).unwrap();
}

#[test]
fn every_fault_of_a_model_file_is_named() {
    let home = home();
    for (from, to, expected) in [
        ("path:", "blake3: 00\npath:", "64 hexadecimal digits"),
        (
            "path:",
            "blake3: 0000000000000000000000000000000000000000000000000000000000000000\npath:",
            "is not the one",
        ),
        ("path: cond_ot", "path: { vp_linear: { steps: 2, last: 3 } }", "3 to 1000000 are possible"),
        ("path: cond_ot", "path: { vp_linear: { steps: 2, last: 3 } }", "last (3) < 1"),
        ("path: cond_ot", "path: cond_to", "cond_to"),
        ("path: cond_ot", "paths: cond_ot", "paths"),
        ("prediction: velocity", "time: step_index", "vp_linear"),
        (
            "in_channels: 3, out_channels: 3",
            "in_channels: 3, out_channels: 6",
            "as many output as input channels",
        ),
        ("model_channels: 32", "model_channels: 33", "network.adm"),
        ("model_channels: 32", "model_channels: 64", "does not fit the network"),
        (
            "num_classes: 4",
            "num_classes: 5",
            "`label_emb.weight` has shape [4, 128], the network takes [5, 128]",
        ),
        ("tiny.safetensors", "absent.safetensors", "absent.safetensors"),
    ] {
        rewrite(&home, from, to);
        let error = load(&home).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
        assert!(error.contains("tiny") || error.contains("absent"), "{error}");
    }
}

#[test]
fn an_unknown_model_shows_the_nearest_name() {
    let home = home();
    let error = Model::load("tinny", Some(home.path()), None).unwrap_err().to_string();
    assert!(error.contains("nearest: `tiny`"), "{error}");
    let error = Model::load("tinny.yaml", None, None).unwrap_err().to_string();
    assert!(error.contains("tinny.yaml"), "{error}");
}

fn import(source: &Path) -> Import<'_> {
    Import {
        source,
        prefix: "",
        given: Given { image_size: 8, num_heads: 2, num_head_channels: None, use_new_attention_order: false },
        path: PathSpec::CondOt,
        prediction: Prediction::Velocity,
        time_embedding_scale: Some(1.0),
        precision: Precision::F32,
    }
}

#[test]
fn an_imported_model_is_the_same_model() {
    let home = home();
    let source = home.path().join("models/tiny.safetensors");
    let imported = import(&source).run(home.path(), "copy").unwrap();
    assert_eq!(imported.rounding, 0.0);
    let (model, copy) = (load(&home).unwrap(), Model::load("copy", Some(home.path()), None).unwrap());
    assert_eq!(imported.parameters, 185_251 - 6 * 128);
    assert_eq!(velocity(&copy, 0.5), velocity(&model, 0.5));
    assert_eq!(copy.file().network, model.file().network);

    let half = Import { precision: Precision::F16, ..import(&source) }.run(home.path(), "half").unwrap();
    // All weights are multiples of 1/64 below 1/8.
    assert_eq!(half.rounding, 0.0);
    assert!(
        fs::metadata(half.weights).unwrap().len() < fs::metadata(imported.weights).unwrap().len() * 6 / 10
    );
    assert_eq!(velocity(&Model::load("half", Some(home.path()), None).unwrap(), 0.5), velocity(&model, 0.5));
}

#[test]
fn an_import_that_cannot_be_right_writes_nothing() {
    let home = home();
    let source = home.path().join("models/tiny.safetensors");
    let before = find::names(&home.path().join("models"));
    let heads = Given { num_heads: 5, ..import(&source).given };
    let path = PathSpec::VpLinear(VpLinear { steps: 1, ..VpLinear::default() });
    for (import, name, expected) in [
        (import(&source), "tiny", "exists already"),
        (Import { prefix: "ema.", ..import(&source) }, "new", "--prefix"),
        (Import { given: heads, ..import(&source) }, "new", "num_heads 5"),
        (Import { path, ..import(&source) }, "new", "3 to 1000000 are possible"),
    ] {
        let error = import.run(home.path(), name).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(find::names(&home.path().join("models")), before);
    assert!(!home.path().join("models/weights").exists());
}

#[test]
fn configurations_of_the_public_layout_are_inferred_from_their_tensors() {
    #[derive(serde::Deserialize)]
    struct Cases {
        cases: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        config: adm::AdmConfig,
    }
    let text = include_str!("../../../tests/golden/adm/cases.json");
    let cases = serde_json::from_str::<Cases>(text).unwrap().cases;
    // Layers without tensors leave no trace.
    for Case { name, mut config } in cases.into_iter().filter(|case| case.name != "pool_resample") {
        let zeros = |shape: Vec<usize>| Tensor { values: vec![0.0; shape.iter().product()], shape };
        let tensors = adm::tensors(&config).into_iter().map(|(name, shape)| (name, zeros(shape)));
        let given = Given {
            image_size: config.image_size,
            num_heads: config.num_heads,
            num_head_channels: config.num_head_channels,
            use_new_attention_order: config.use_new_attention_order,
        };
        config.time_embedding_scale = 1.0;
        config.attention_resolutions.sort_by(|a, b| b.cmp(a));
        // One level changes no resolution, so nothing tells how it would.
        config.resblock_updown |= config.channel_mult.len() == 1;
        assert_eq!(
            infer::infer(&Weights::from_tensors(&name, tensors.collect()), given).unwrap(),
            config,
            "{name}"
        );
    }
}
