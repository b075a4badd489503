//! The blocks of an ADM UNet in order, from which both its tensors and its graph follow.

use super::config::AdmConfig;

/// A change of resolution by 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resample {
    /// Nearest neighbour.
    Up,
    /// Mean of 2×2 pixels (or a strided convolution outside residual blocks).
    Down,
}

/// One layer of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// 3×3 convolution.
    Conv { inputs: usize, outputs: usize },
    /// Residual block.
    Residual { inputs: usize, outputs: usize, resample: Option<Resample> },
    /// Self-attention block.
    Attention { channels: usize },
    /// Change of resolution outside a residual block.
    Resample { channels: usize, resample: Resample },
}

/// Layers in sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    /// Key of the stage; layer i has the key `{key}.{i}`.
    pub key: String,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// The whole network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Way down; the output of every stage is kept as a skip.
    pub input: Vec<Stage>,
    /// Lowest resolution.
    pub middle: Stage,
    /// Way up; every stage first appends the channels of the latest unused skip.
    pub output: Vec<Stage>,
    /// Channels before the last normalisation.
    pub channels: usize,
}

impl Layout {
    /// The layout of a checked configuration.
    pub(super) fn new(config: &AdmConfig) -> Self {
        let (input, skips) = down(config);
        let channels = *skips.last().expect("the first convolution leaves a skip");
        let block = Layer::Residual { inputs: channels, outputs: channels, resample: None };
        let middle =
            Stage { key: "middle_block".into(), layers: vec![block, Layer::Attention { channels }, block] };
        let output = up(config, skips);
        Self { input, middle, output, channels: config.channel_mult[0] * config.model_channels }
    }

    /// All stages in the order of evaluation.
    pub(super) fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.input.iter().chain([&self.middle]).chain(&self.output)
    }

    /// All layers with their keys, in the order of evaluation.
    pub(super) fn layers(&self) -> impl Iterator<Item = (String, Layer)> {
        self.stages().flat_map(|stage| {
            stage.layers.iter().enumerate().map(|(i, &layer)| (format!("{}.{i}", stage.key), layer))
        })
    }
}

/// The stages of the way down and the channels that each leaves.
fn down(config: &AdmConfig) -> (Vec<Stage>, Vec<usize>) {
    let base = config.model_channels;
    let mut channels = config.channel_mult[0] * base;
    let mut stages = vec![vec![Layer::Conv { inputs: config.in_channels, outputs: channels }]];
    let mut skips = vec![channels];
    for (level, mult) in config.channel_mult.iter().enumerate() {
        for _ in 0..config.num_res_blocks {
            stages.push(block(config, channels, mult * base, level));
            channels = mult * base;
            skips.push(channels);
        }
        if level + 1 < config.channel_mult.len() {
            stages.push(vec![resampler(config, channels, Resample::Down)]);
            skips.push(channels);
        }
    }
    let named = stages.into_iter().enumerate();
    (named.map(|(i, layers)| Stage { key: format!("input_blocks.{i}"), layers }).collect(), skips)
}

/// The stages of the way up.
fn up(config: &AdmConfig, mut skips: Vec<usize>) -> Vec<Stage> {
    let mut channels = *skips.last().expect("the first convolution leaves a skip");
    let mut stages = Vec::new();
    for (level, mult) in config.channel_mult.iter().enumerate().rev() {
        for i in 0..=config.num_res_blocks {
            let skip = skips.pop().expect("the way down leaves one skip per stage of the way up");
            let outputs = mult * config.model_channels;
            let mut layers = block(config, channels + skip, outputs, level);
            channels = outputs;
            if level > 0 && i == config.num_res_blocks {
                layers.push(resampler(config, channels, Resample::Up));
            }
            stages.push(Stage { key: format!("output_blocks.{}", stages.len()), layers });
        }
    }
    stages
}

/// A residual block, with attention where the resolution of the level asks for it.
fn block(config: &AdmConfig, inputs: usize, outputs: usize, level: usize) -> Vec<Layer> {
    let mut layers = vec![Layer::Residual { inputs, outputs, resample: None }];
    if config.attends(config.image_size >> level) {
        layers.push(Layer::Attention { channels: outputs });
    }
    layers
}

fn resampler(config: &AdmConfig, channels: usize, resample: Resample) -> Layer {
    if config.resblock_updown {
        Layer::Residual { inputs: channels, outputs: channels, resample: Some(resample) }
    } else {
        Layer::Resample { channels, resample }
    }
}
