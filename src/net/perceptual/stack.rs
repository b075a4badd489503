//! A small classifier of plain 3×3 convolutions, whose last features the Fréchet distances of small images compare.
//!
//! Trained by `tools/train/train_features.py`. Between two stages is a 2×2 maximum; the features are the mean over the
//! image of the last convolution's outputs. Images are taken as they are (clamped, never rounded to bytes), of any size
//! that the maxima leave a pixel of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::net::kernel::{InstructionSet, Team, Window};
use crate::net::weights::{Tensor, Weights};

use super::chain::Chain;
use super::layer::{self, Layer, build, conv};
use super::pool::MaxPool;
use super::value::{Value, clamped};
use super::{FeatureNet, PerceptualError};

/// Colour channels of the images.
const CHANNELS: usize = 3;
/// More than any such network has: a larger number is a slip.
const MAX_WIDTH: usize = 4096;
/// Stages halve the image; 16 would need 32,768 pixels a side.
const MAX_STAGES: usize = 16;

/// Configuration of a [`ConvStack`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvStackConfig {
    /// Output channels of the convolutions, by stage.
    pub stages: Vec<Vec<usize>>,
    /// Classes that it was trained to tell apart.
    pub classes: usize,
}

impl ConvStackConfig {
    /// What is wrong in it.
    pub(crate) fn problem(&self) -> Option<String> {
        let widths: Vec<usize> = self.stages.iter().flatten().copied().collect();
        let is_width = |width: &usize| (1..=MAX_WIDTH).contains(width);
        if !(1..=MAX_STAGES).contains(&self.stages.len()) || self.stages.iter().any(Vec::is_empty) {
            Some(format!("stages: 1 to {MAX_STAGES} stages of at least one width each are needed"))
        } else if !widths.iter().all(is_width) {
            Some(format!("stages: every width must be 1 to {MAX_WIDTH}"))
        } else if self.classes == 0 || self.classes > MAX_WIDTH {
            Some(format!("classes: {} must be 1 to {MAX_WIDTH}", self.classes))
        } else {
            None
        }
    }

    fn dims(&self) -> usize {
        *self.stages.iter().flatten().last().expect("a checked configuration has a width")
    }

    fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        let (mut inputs, mut index) = (CHANNELS, 0);
        for (number, stage) in self.stages.iter().enumerate() {
            if number > 0 {
                layers.push(Layer::MaxPool(MaxPool::new(2, 2)));
            }
            for &width in stage {
                layers.push(conv(format!("convs.{index}"), width, inputs, Window::square(3, 1, 1)));
                (inputs, index) = (width, index + 1);
            }
        }
        layers
    }

    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let head = [
            ("head.weight".to_owned(), vec![self.classes, self.dims()]),
            ("head.bias".to_owned(), vec![self.classes]),
        ];
        layer::tensors(&self.layers()).into_iter().chain(head).collect()
    }
}

/// A small classifier of plain 3×3 convolutions; its features are the mean over the image of the last convolution's
/// outputs. Images of any size that its maxima leave a pixel of.
#[derive(Debug)]
pub struct ConvStack {
    chain: Chain,
    dims: usize,
    /// The smallest side of an image.
    least: usize,
    head: [Tensor; 2],
}

impl ConvStack {
    /// The network of a checked configuration.
    ///
    /// # Errors
    /// Weights that do not fit, or an unknown `DFLOW_CPU`.
    pub fn new(config: &ConvStackConfig, weights: &Weights) -> Result<Self, PerceptualError> {
        weights.check(&config.tensors())?;
        let chain = build(&config.layers(), weights, InstructionSet::detect()?)?;
        let tensor = |name: &str| weights.get(name).expect("the tensors have been checked").clone();
        let head = [tensor("head.weight"), tensor("head.bias")];
        Ok(Self { chain, dims: config.dims(), least: 1 << (config.stages.len() - 1), head })
    }

    /// Class scores of features.
    ///
    /// # Panics
    /// If there are not [`FeatureNet::dims`] features.
    pub fn scores(&self, features: &[f32]) -> Vec<f32> {
        assert_eq!(features.len(), self.dims, "features");
        let [weight, bias] = &self.head;
        let score = |(row, bias): (&[f32], &f32)| {
            let dot: f64 = row.iter().zip(features).map(|(w, f)| f64::from(*w) * f64::from(*f)).sum();
            (dot + f64::from(*bias)) as f32
        };
        weight.values.chunks_exact(self.dims).zip(&bias.values).map(score).collect()
    }
}

impl FeatureNet for ConvStack {
    fn dims(&self) -> usize {
        self.dims
    }

    fn features(&self, image: &[f32], sides: [usize; 3]) -> Result<Vec<f32>, PerceptualError> {
        let image = clamped(image, sides, CHANNELS)?;
        let [_, height, width] = sides;
        if self.chain.output([height, width]).is_none() {
            return Err(PerceptualError::TooSmall {
                height,
                width,
                network: "conv_stack",
                least: self.least,
            });
        }
        let x = Value::from_planes(&image, sides);
        Ok(self.chain.forward(&x, Team::SOLO).spatial_mean())
    }
}
