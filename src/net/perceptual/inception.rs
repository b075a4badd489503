//! InceptionV3 in the variant that FID is defined with: the TensorFlow graph of 2015-12-05, 1008 classes.
//!
//! It differs from torchvision's in its average pools (the padding is left out of the mean) and in `Mixed_7c`, whose pool
//! is a maximum. Tensors have torchvision's names, as in `pt_inception-2015-12-05-6726825d.pth`; batch normalisation
//! (ε = 10⁻³) is folded into the convolutions in f64. Layers after torch-fidelity 0.4.0 and pytorch-fid 0.3.0.
//! An image becomes bytes ⌊(x + 1)·127.5⌋, is resized to 299×299 and scaled; the features are the spatial mean of the last
//! block.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::net::kernel::{InstructionSet, Team, Window};
use crate::net::weights::Weights;

use super::chain::Chain;
use super::layer::{self, ConvLayer, Layer, build};
use super::pool::{AROUND, MaxPool};
use super::value::{Value, clamped};
use super::{FeatureNet, PerceptualError, Resize};

const CHANNELS: usize = 3;
const SIDE: usize = 299;
const DIMS: usize = 2048;
/// Classes of the graph of 2015; torchvision's network has 1000.
const CLASSES: usize = 1008;
const EPSILON: f64 = 1e-3;

/// How an image reaches the network: what the tools for FID differ in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InceptionConfig {
    /// How it is resized to 299×299.
    pub resize: Resize,
    /// How bytes become numbers around zero.
    pub scaling: Scaling,
}

/// What the network sees of a byte v.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// (v − 128)/128: torch-fidelity and torchmetrics.
    #[default]
    #[serde(rename = "offset_128")]
    Offset128,
    /// 2·v/255 − 1: pytorch-fid.
    SignedUnit,
}

impl Scaling {
    fn apply(self, v: f32) -> f32 {
        match self {
            Self::Offset128 => (v - 128.0) / 128.0,
            Self::SignedUnit => 2.0 * (v / 255.0) - 1.0,
        }
    }
}

/// InceptionV3 in the variant that FID is defined with: 2048 features. Images of any size; they are rounded down to bytes
/// and resized to 299×299.
#[derive(Debug)]
pub struct Inception {
    config: InceptionConfig,
    chain: Chain,
}

impl Inception {
    /// The network; what classifies (`fc.`, `AuxLogits.`) and counters of batches in the weights are not used.
    ///
    /// # Errors
    /// Weights that do not fit or are another variant's, or an unknown `DFLOW_CPU`.
    pub fn new(config: InceptionConfig, weights: Weights) -> Result<Self, PerceptualError> {
        if let Some(fc) = weights.get("fc.weight")
            && fc.shape.first() != Some(&CLASSES)
        {
            let outputs = fc.shape.first().copied().unwrap_or_default();
            return Err(PerceptualError::NotFidInception { path: weights.path().to_owned(), outputs });
        }
        let is_used = |name: &str| {
            !name.starts_with("fc.")
                && !name.starts_with("AuxLogits.")
                && !name.ends_with(".num_batches_tracked")
        };
        let weights = weights.retain(is_used);
        let layers = layers();
        weights.check(&layer::tensors(&layers))?;
        Ok(Self { config, chain: build(&layers, &weights, InstructionSet::detect()?)? })
    }

    /// What the first convolution sees: `[3, 299, 299]`.
    pub(super) fn input(&self, image: &[f32], sides: [usize; 3]) -> Vec<f32> {
        let bytes: Vec<f32> = image.iter().map(|x| ((x + 1.0) * 127.5).trunc()).collect();
        let mut resized = self.config.resize.apply(&bytes, sides, [SIDE, SIDE]);
        resized.iter_mut().for_each(|v| *v = self.config.scaling.apply(*v));
        resized
    }
}

impl FeatureNet for Inception {
    fn dims(&self) -> usize {
        DIMS
    }

    fn features(&self, image: &[f32], sides: [usize; 3]) -> Result<Vec<f32>, PerceptualError> {
        let image = clamped(image, sides, CHANNELS)?;
        if image.is_empty() {
            let [_, height, width] = sides;
            return Err(PerceptualError::TooSmall { height, width, network: "inception", least: 1 });
        }
        let x = Value::from_planes(&self.input(&image, sides), [CHANNELS, SIDE, SIDE]);
        Ok(self.chain.forward(&x, Team::SOLO).spatial_mean())
    }
}

/// Names and shapes of the tensors that are used.
#[cfg(test)]
pub(super) fn tensors() -> Vec<(String, Vec<usize>)> {
    layer::tensors(&layers())
}

const POINT: Window = Window::square(1, 1, 0);
const THREE: Window = Window::square(3, 1, 1);
const HALVE: Window = Window::square(3, 2, 0);
const FIVE: Window = Window::square(5, 1, 2);
const ROW_OF_3: Window = Window { taps: [1, 3], stride: 1, padding: [0, 1] };
const COLUMN_OF_3: Window = Window { taps: [3, 1], stride: 1, padding: [1, 0] };
const ROW_OF_7: Window = Window { taps: [1, 7], stride: 1, padding: [0, 3] };
const COLUMN_OF_7: Window = Window { taps: [7, 1], stride: 1, padding: [3, 0] };

fn layers() -> Vec<Layer> {
    let stem = |name: &str, outputs, inputs, window| conv(name.to_owned(), outputs, inputs, window);
    vec![
        stem("Conv2d_1a_3x3", 32, CHANNELS, HALVE),
        stem("Conv2d_2a_3x3", 32, 32, Window::square(3, 1, 0)),
        stem("Conv2d_2b_3x3", 64, 32, THREE),
        Layer::MaxPool(MaxPool::new(3, 2)),
        stem("Conv2d_3b_1x1", 80, 64, POINT),
        stem("Conv2d_4a_3x3", 192, 80, Window::square(3, 1, 0)),
        Layer::MaxPool(MaxPool::new(3, 2)),
        Block { name: "Mixed_5b", inputs: 192 }.a(32),
        Block { name: "Mixed_5c", inputs: 256 }.a(64),
        Block { name: "Mixed_5d", inputs: 288 }.a(64),
        Block { name: "Mixed_6a", inputs: 288 }.b(),
        Block { name: "Mixed_6b", inputs: 768 }.c(128),
        Block { name: "Mixed_6c", inputs: 768 }.c(160),
        Block { name: "Mixed_6d", inputs: 768 }.c(160),
        Block { name: "Mixed_6e", inputs: 768 }.c(192),
        Block { name: "Mixed_7a", inputs: 768 }.d(),
        Block { name: "Mixed_7b", inputs: 1280 }.e(Layer::Average),
        // The maximum is a quirk of the graph that FID was defined with.
        Block { name: "Mixed_7c", inputs: 2048 }.e(Layer::MaxPool(AROUND)),
    ]
}

/// A convolution, batch normalisation and ReLU.
fn conv(name: String, outputs: usize, inputs: usize, window: Window) -> Layer {
    Layer::Conv(ConvLayer { name, channels: [outputs, inputs], window, norm: Some(EPSILON) })
}

/// One of the blocks, in the letters of the public implementations.
struct Block {
    name: &'static str,
    inputs: usize,
}

impl Block {
    /// Convolutions one after the other: name, output channels, window.
    fn branch(&self, convs: &[(&str, usize, Window)]) -> Vec<Layer> {
        let mut inputs = self.inputs;
        let next = |&(name, outputs, window): &(&str, usize, Window)| {
            let layer = conv(format!("{}.{name}", self.name), outputs, inputs, window);
            inputs = outputs;
            layer
        };
        convs.iter().map(next).collect()
    }

    /// A pool and a 1×1 convolution.
    fn pooled(&self, pool: Layer, outputs: usize) -> Vec<Layer> {
        [pool].into_iter().chain(self.branch(&[("branch_pool", outputs, POINT)])).collect()
    }

    /// 35×35, to 224 + `pool` channels.
    fn a(&self, pool: usize) -> Layer {
        Layer::Split(vec![
            self.branch(&[("branch1x1", 64, POINT)]),
            self.branch(&[("branch5x5_1", 48, POINT), ("branch5x5_2", 64, FIVE)]),
            self.branch(&[
                ("branch3x3dbl_1", 64, POINT),
                ("branch3x3dbl_2", 96, THREE),
                ("branch3x3dbl_3", 96, THREE),
            ]),
            self.pooled(Layer::Average, pool),
        ])
    }

    /// 35×35 to 17×17.
    fn b(&self) -> Layer {
        Layer::Split(vec![
            self.branch(&[("branch3x3", 384, HALVE)]),
            self.branch(&[
                ("branch3x3dbl_1", 64, POINT),
                ("branch3x3dbl_2", 96, THREE),
                ("branch3x3dbl_3", 96, HALVE),
            ]),
            vec![Layer::MaxPool(MaxPool::new(3, 2))],
        ])
    }

    /// 17×17, to 768 channels through `inner`.
    fn c(&self, inner: usize) -> Layer {
        Layer::Split(vec![
            self.branch(&[("branch1x1", 192, POINT)]),
            self.branch(&[
                ("branch7x7_1", inner, POINT),
                ("branch7x7_2", inner, ROW_OF_7),
                ("branch7x7_3", 192, COLUMN_OF_7),
            ]),
            self.branch(&[
                ("branch7x7dbl_1", inner, POINT),
                ("branch7x7dbl_2", inner, COLUMN_OF_7),
                ("branch7x7dbl_3", inner, ROW_OF_7),
                ("branch7x7dbl_4", inner, COLUMN_OF_7),
                ("branch7x7dbl_5", 192, ROW_OF_7),
            ]),
            self.pooled(Layer::Average, 192),
        ])
    }

    /// 17×17 to 8×8.
    fn d(&self) -> Layer {
        Layer::Split(vec![
            self.branch(&[("branch3x3_1", 192, POINT), ("branch3x3_2", 320, HALVE)]),
            self.branch(&[
                ("branch7x7x3_1", 192, POINT),
                ("branch7x7x3_2", 192, ROW_OF_7),
                ("branch7x7x3_3", 192, COLUMN_OF_7),
                ("branch7x7x3_4", 192, HALVE),
            ]),
            vec![Layer::MaxPool(MaxPool::new(3, 2))],
        ])
    }

    /// 8×8, to 2048 channels.
    fn e(&self, pool: Layer) -> Layer {
        let fork = |mut trunk: Vec<Layer>, name: &str| {
            let inner = Block { name: self.name, inputs: 384 };
            trunk.push(Layer::Split(vec![
                inner.branch(&[(&format!("{name}a"), 384, ROW_OF_3)]),
                inner.branch(&[(&format!("{name}b"), 384, COLUMN_OF_3)]),
            ]));
            trunk
        };
        let double = self.branch(&[("branch3x3dbl_1", 448, POINT), ("branch3x3dbl_2", 384, THREE)]);
        Layer::Split(vec![
            self.branch(&[("branch1x1", 320, POINT)]),
            fork(self.branch(&[("branch3x3_1", 384, POINT)]), "branch3x3_2"),
            fork(double, "branch3x3dbl_3"),
            self.pooled(pool, 192),
        ])
    }
}
