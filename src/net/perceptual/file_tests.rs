//! Model files: what is shipped can be read, and what is missing or wrong is told apart.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};

use super::testing::{head_tensors, random_tensors};
use super::{ConvStackConfig, PerceptualError, Trunk, feature_names, load_features, load_lpips};
use crate::net::weights::Tensor;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn write(folder: &Path, name: &str, tensors: &BTreeMap<String, Tensor>) {
    let bytes: Vec<(&String, Vec<u8>, &Tensor)> = tensors
        .iter()
        .map(|(name, t)| (name, t.values.iter().flat_map(|v| v.to_le_bytes()).collect(), t))
        .collect();
    let views = bytes.iter().map(|(name, bytes, t)| {
        (name.as_str(), TensorView::new(Dtype::F32, t.shape.clone(), bytes).unwrap())
    });
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), serialize(views, None).unwrap()).unwrap();
}

/// A home with a small classifier and LPIPS on SqueezeNet, whose weights lie in its folder `data`.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = |name: &str| home.path().join(name);
    let config = ConvStackConfig { stages: vec![vec![4], vec![6]], classes: 3 };
    write(&folder("models/features"), "tiny.safetensors", &random_tensors("tiny", config.tensors()));
    let tiny = "network: { conv_stack: { stages: [[4], [6]], classes: 3 } }\nweights: tiny.safetensors\n";
    std::fs::write(folder("models/features/tiny.yaml"), tiny).unwrap();

    let trunk =
        Trunk::Squeeze.slices().iter().flat_map(|slice| super::layer::tensors(slice)).collect::<Vec<_>>();
    let prefixed =
        random_tensors("squeeze", trunk).into_iter().map(|(name, t)| (format!("features.{name}"), t));
    write(&folder("data/trunks"), "squeeze.safetensors", &prefixed.collect());
    let heads = random_tensors("squeeze", head_tensors(Trunk::Squeeze));
    write(&folder("data/heads"), "squeeze.safetensors", &heads);
    std::fs::create_dir(folder("models/lpips")).unwrap();
    let lpips = "trunk: squeeze\nweights: squeeze.safetensors\nfolder: trunks\nprefix: features.\n\
                 heads: { weights: squeeze.safetensors, folder: heads }\n";
    std::fs::write(folder("models/lpips/squeeze.yaml"), lpips).unwrap();
    home
}

#[test]
fn every_shipped_file_is_read_and_public_weights_are_missing_without_a_data_folder() {
    let empty = tempfile::tempdir().unwrap();
    for name in feature_names(Some(repository())).iter().filter(|name| name.starts_with("inception")) {
        for data in [None, Some(empty.path())] {
            let error = load_features(name, Some(repository()), data).unwrap_err();
            assert!(error.is_missing(), "{name}: {error}");
        }
    }
    for trunk in Trunk::ALL {
        let error = load_lpips(trunk, Some(repository()), None).unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("--data"), "{trunk}: {error}");
        assert!(load_lpips(trunk, Some(repository()), Some(empty.path())).unwrap_err().is_missing());
    }
}

#[test]
fn a_home_is_loaded_and_identities_follow_what_determines_results() {
    let home = home();
    let load = || load_features("tiny", Some(home.path()), None).unwrap();
    let tiny = load();
    assert_eq!((tiny.net.dims(), tiny.file.network.inception(), &tiny.name[..]), (6, None, "tiny"));
    let path = home.path().join("models/features/tiny.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("about: A note.\n{text}")).unwrap();
    assert_eq!(load().identity, tiny.identity, "notes do not enter");

    let data = home.path().join("data");
    let load = || load_lpips(Trunk::Squeeze, Some(home.path()), Some(&data)).unwrap();
    let (torchmetrics, path) = (load(), home.path().join("models/lpips/squeeze.yaml"));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("normalization: perceptual_similarity\n{text}")).unwrap();
    assert_ne!(load().identity, torchmetrics.identity, "the normalisation enters");
}

#[test]
fn what_is_wrong_in_a_file_is_no_missing_weight() {
    let home = home();
    let path = home.path().join("models/features/tiny.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let with = |from: &str, to: &str| -> PerceptualError {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        load_features("tiny", Some(home.path()), None).unwrap_err()
    };
    for (from, to, expected) in [
        ("weights:", "blake3: 12\nweights:", "64 hexadecimal"),
        ("weights:", &format!("blake3: {}\nweights:", "0".repeat(64)), "is not the one that"),
        ("classes: 3", "classes: 0", "classes: 0 must be"),
        ("[6]", "[]", "at least one width"),
        ("[6]", "[5]", "does not fit the network"),
        ("conv_stack", "conv_stock", "conv_stock"),
    ] {
        let error = with(from, to);
        assert!(!error.is_missing() && error.to_string().contains(expected), "{to}: {error}");
    }
    assert!(with("tiny.safetensors", "gone.safetensors").is_missing());
    let error = load_features("tine", Some(home.path()), None).unwrap_err();
    assert!(!error.is_missing(), "an unknown name: {error}");
}

#[test]
fn a_file_of_another_trunk_is_refused() {
    let home = home();
    let lpips = home.path().join("models/lpips");
    std::fs::copy(lpips.join("squeeze.yaml"), lpips.join("alex.yaml")).unwrap();
    let error = load_lpips(Trunk::Alex, Some(home.path()), Some(&home.path().join("data"))).unwrap_err();
    assert!(error.to_string().contains("`squeeze` in the file of `alex`"), "{error}");
}
