//! Descriptions of networks: which layers, of which tensors.

use crate::net::kernel::{InstructionSet, Window};
use crate::net::weights::{Tensor, Weights};

use super::PerceptualError;
use super::chain::{Chain, Step};
use super::conv::Conv;
use super::pool::{AveragePool, MaxPool};

/// One layer of a network.
#[derive(Debug, Clone)]
pub(super) enum Layer {
    /// Convolution and ReLU.
    Conv(ConvLayer),
    /// Maximum of windows.
    MaxPool(MaxPool),
    /// Mean of 3×3 windows that leaves the padding out.
    AveragePool,
    /// Branches on the same input, whose channels follow each other in the output.
    Split(Vec<Vec<Layer>>),
}

/// A convolution with its tensors' names.
#[derive(Debug, Clone)]
pub(super) struct ConvLayer {
    /// Name in front of `.weight` and `.bias`, or of `.conv.weight` and `.bn.…`.
    pub name: String,
    /// Output and input channels.
    pub channels: [usize; 2],
    /// Geometry.
    pub window: Window,
    /// ε of a batch normalisation behind it, which is folded in.
    pub norm: Option<f64>,
}

/// A convolution with bias.
pub(super) fn conv(name: impl Into<String>, outputs: usize, inputs: usize, window: Window) -> Layer {
    Layer::Conv(ConvLayer { name: name.into(), channels: [outputs, inputs], window, norm: None })
}

/// Names and shapes of the tensors of some layers.
pub(super) fn tensors(layers: &[Layer]) -> Vec<(String, Vec<usize>)> {
    let of_layer = |layer: &Layer| match layer {
        Layer::Conv(conv) => conv.tensors(),
        Layer::Split(branches) => branches.iter().flat_map(|branch| tensors(branch)).collect(),
        Layer::MaxPool(_) | Layer::AveragePool => Vec::new(),
    };
    layers.iter().flat_map(of_layer).collect()
}

/// The network of some layers, whose tensors have been checked.
///
/// # Errors
/// A batch normalisation whose variance is negative.
pub(super) fn build(
    layers: &[Layer],
    weights: &Weights,
    set: InstructionSet,
) -> Result<Chain, PerceptualError> {
    let step = |layer: &Layer| {
        Ok(match layer {
            Layer::Conv(conv) => Step::Conv(Box::new(conv.build(weights, set)?)),
            Layer::MaxPool(pool) => Step::MaxPool(*pool),
            Layer::AveragePool => Step::AveragePool(AveragePool),
            Layer::Split(branches) => {
                let branches = branches.iter().map(|branch| build(branch, weights, set));
                Step::Split(branches.collect::<Result<_, PerceptualError>>()?)
            }
        })
    };
    layers.iter().map(step).collect::<Result<_, _>>().map(Chain::new)
}

impl ConvLayer {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let [outputs, inputs] = self.channels;
        let [rows, columns] = self.window.taps;
        let kernel = vec![outputs, inputs, rows, columns];
        if self.norm.is_none() {
            return vec![
                (format!("{}.weight", self.name), kernel),
                (format!("{}.bias", self.name), vec![outputs]),
            ];
        }
        let norm = NORM.map(|part| (format!("{}.bn.{part}", self.name), vec![outputs]));
        [(format!("{}.conv.weight", self.name), kernel)].into_iter().chain(norm).collect()
    }

    fn build(&self, weights: &Weights, set: InstructionSet) -> Result<Conv, PerceptualError> {
        let tensor = |suffix: &str| -> &Tensor {
            weights.get(&format!("{}.{suffix}", self.name)).expect("the tensors have been checked")
        };
        let Some(epsilon) = self.norm else {
            let (kernel, bias) = (tensor("weight"), tensor("bias"));
            return Ok(Conv::new(set, self.window, self.channels, &kernel.values, &bias.values));
        };
        let [scale, shift, mean, variance] = NORM.map(|part| &tensor(&format!("bn.{part}")).values);
        if let Some(index) = variance.iter().position(|&variance| variance < 0.0) {
            let tensor = format!("{}.bn.running_var", self.name);
            return Err(PerceptualError::NegativeVariance {
                path: weights.path().to_owned(),
                tensor,
                index,
                value: variance[index],
            });
        }
        // In f64: the folded numbers are rounded once.
        let factors: Vec<f64> = (scale.iter().zip(variance))
            .map(|(scale, variance)| f64::from(*scale) / (f64::from(*variance) + epsilon).sqrt())
            .collect();
        let bias: Vec<f32> = (factors.iter().zip(shift).zip(mean))
            .map(|((factor, shift), mean)| (f64::from(*shift) - f64::from(*mean) * factor) as f32)
            .collect();
        let per_output = self.channels[1] * self.window.len();
        let kernel: Vec<f32> = (tensor("conv.weight").values.chunks_exact(per_output).zip(&factors))
            .flat_map(|(kernel, factor)| kernel.iter().map(move |w| (f64::from(*w) * factor) as f32))
            .collect();
        Ok(Conv::new(set, self.window, self.channels, &kernel, &bias))
    }
}

/// Tensors of a batch normalisation: γ, β, mean and variance.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];
