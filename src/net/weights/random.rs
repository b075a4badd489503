//! Random weights, for times and memory of networks whose own weights are not at hand.

use std::collections::BTreeMap;

use super::{Tensor, Weights};
use crate::random::{Purpose, Stream};

impl Weights {
    /// Random tensors of these names and shapes, such that activations stay of order one: matrices and filters uniform
    /// with variance 1/inputs, factors of norms (one number a channel) near 1, all else near 0.
    ///
    /// No tensor is zero, and each depends on `seed`, its name and its shape only.
    pub fn random(seed: u64, tensors: Vec<(String, Vec<usize>)>) -> Self {
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let mut stream = Stream::new(seed, "random weights", &name, Purpose::Init);
            let inputs: usize = shape.iter().skip(1).product();
            let is_factor = shape.len() == 1 && name.ends_with(".weight");
            let width = if shape.len() > 1 { (3.0 / inputs as f64).sqrt() } else { 0.1 };
            let centre = f64::from(u8::from(is_factor));
            let mut value = || (centre + width * (2.0 * stream.uniform() - 1.0)) as f32;
            let values = (0..shape.iter().product()).map(|_| value()).collect();
            (name, Tensor { shape, values })
        };
        Self::from_tensors("random weights", tensors.into_iter().map(tensor).collect::<BTreeMap<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_have_the_variance_of_their_inputs() {
        let list = [("a.weight", vec![50, 200]), ("a.bias", vec![50]), ("n.weight", vec![300])];
        let weights = Weights::random(3, list.map(|(name, shape)| (name.to_owned(), shape)).into());
        let mean_square = |name: &str| {
            let values = &weights.get(name).unwrap().values;
            values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64
        };
        // 10,000 draws: 2 % is more than two standard errors of a mean square.
        assert!((mean_square("a.weight") * 200.0 - 1.0).abs() < 0.02);
        assert!(mean_square("a.bias") < 0.01 && (mean_square("n.weight") - 1.0).abs() < 0.05);
        assert!(weights.get("a.bias").unwrap().values.iter().any(|v| *v != 0.0));
    }
}
