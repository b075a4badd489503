//! Shared by the tests: the weights and images of `tools/reference/perceptual.py`, and what it found with them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::net::testing::uniform;
use crate::net::weights::{Tensor, Weights};

use super::{Inception, InceptionConfig, Lpips, Normalization, PerceptualError, Trunk, inception, layer};

/// What the public packages computed.
pub(super) fn golden(name: &str) -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/perceptual/perceptual.safetensors");
    let golden = Weights::read(&path).unwrap();
    golden.get(name).unwrap_or_else(|| panic!("no `{name}` in {}", path.display())).values.clone()
}

/// An image with some values outside of [−1, 1].
pub(super) fn image(name: &str, sides: [usize; 3]) -> Vec<f32> {
    let u = uniform(&format!("image/{name}"));
    (0..sides.iter().product::<usize>() as u64).map(|k| (1.2 * (2.0 * u(k) - 1.0)) as f32).collect()
}

/// A tensor of a network, by its kind.
pub(super) fn random_tensor(network: &str, name: &str, shape: &[usize]) -> Tensor {
    let u = uniform(&format!("{network}/{name}"));
    let bound = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
    let value = |u: f64| match name {
        _ if name.contains(".model.1.") => u,
        _ if name.ends_with("bn.weight") || name.ends_with("running_var") => 0.5 + u,
        _ if shape.len() == 1 => 0.2 * (2.0 * u - 1.0),
        _ => bound * (2.0 * u - 1.0),
    };
    let count = shape.iter().product::<usize>() as u64;
    Tensor { shape: shape.to_vec(), values: (0..count).map(|k| value(u(k)) as f32).collect() }
}

/// All tensors of a network.
pub(super) fn random_tensors(
    network: &str,
    tensors: impl IntoIterator<Item = (String, Vec<usize>)>,
) -> BTreeMap<String, Tensor> {
    let random = |(name, shape): (String, Vec<usize>)| {
        let tensor = random_tensor(network, &name, &shape);
        (name, tensor)
    };
    tensors.into_iter().map(random).collect()
}

/// The random weights of a network.
pub(super) fn random_weights(
    network: &str,
    tensors: impl IntoIterator<Item = (String, Vec<usize>)>,
) -> Weights {
    Weights::from_tensors(network, random_tensors(network, tensors))
}

/// The random trunk.
pub(super) fn trunk_weights(trunk: Trunk) -> Weights {
    random_weights(trunk.name(), trunk.slices().iter().flat_map(|slice| layer::tensors(slice)))
}

/// Names and shapes of a trunk's heads.
pub(super) fn head_tensors(trunk: Trunk) -> impl Iterator<Item = (String, Vec<usize>)> {
    let name = |layer: usize| format!("lin{layer}.model.1.weight");
    trunk.channels().iter().enumerate().map(move |(layer, &n)| (name(layer), vec![1, n, 1, 1]))
}

/// LPIPS with a random trunk and random heads.
pub(super) fn random_lpips(trunk: Trunk, normalization: Normalization) -> Result<Lpips, PerceptualError> {
    let heads = random_weights(trunk.name(), head_tensors(trunk));
    Lpips::new(trunk, normalization, &trunk_weights(trunk), &heads)
}

/// InceptionV3 with random weights.
pub(super) fn random_inception(config: InceptionConfig) -> Result<Inception, PerceptualError> {
    Inception::new(config, random_weights("inception", inception::tensors()))
}
