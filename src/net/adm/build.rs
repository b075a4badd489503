//! From configuration and weights to graph and embedding.

use super::config::{AdmConfig, GROUPS};
use super::layout::{Layer, Layout, Resample, Stage};
use super::tensors::tensors;
use crate::net::NetError;
use crate::net::embedding::{Embedding, Linear};
use crate::net::graph::{Graph, GraphBuilder, ValueId};
use crate::net::kernel::{Attention, HeadOrder, InstructionSet, Kernel, Shape};
use crate::net::op::{Concat, Conv, Down2, NormAct, SelfAttention, Up2};
use crate::net::weights::Weights;

/// Builds the network.
pub(crate) fn build(
    set: InstructionSet,
    config: &AdmConfig,
    weights: &Weights,
) -> Result<(Graph, Embedding), NetError> {
    config.check()?;
    weights.check(&tensors(config))?;
    let layout = Layout::new(config);
    let (builder, image) =
        GraphBuilder::new(Shape::new(config.in_channels, config.image_size, config.image_size));
    let mut unet = Unet { set, config, weights, builder, modulation: 0, modulated: Vec::new() };
    let mut h = image;
    let mut skips = Vec::new();
    for stage in &layout.input {
        h = unet.stage(stage, h);
        skips.push(h);
    }
    h = unet.stage(&layout.middle, h);
    for stage in &layout.output {
        let skip = skips.pop().expect("as many stages up as down");
        let [first, second] = [h, skip].map(|v| unet.builder.shape(v).channels);
        h = unet.builder.add(Concat { first, second }, &[h, skip]);
        h = unet.stage(stage, h);
    }
    let norm = unet.norm("out.0", true);
    h = unet.builder.add(norm, &[h]);
    let conv = unet.conv("out.2", Kernel::Three);
    unet.builder.add(conv, &[h]);
    let embedding = unet.embedding();
    Ok((unet.builder.finish(), embedding))
}

/// A network under construction.
struct Unet<'a> {
    set: InstructionSet,
    config: &'a AdmConfig,
    weights: &'a Weights,
    builder: GraphBuilder,
    /// Numbers of the conditioning used so far.
    modulation: usize,
    /// Keys of the residual blocks' embedding layers, in the order of the conditioning.
    modulated: Vec<String>,
}

impl Unet<'_> {
    fn tensor(&self, name: &str) -> (&[usize], &[f32]) {
        let tensor = self.weights.get(name).expect("the weights were checked");
        (&tensor.shape, &tensor.values)
    }

    fn conv(&self, key: &str, kernel: Kernel) -> Conv {
        let (shape, weights) = self.tensor(&format!("{key}.weight"));
        let (_, bias) = self.tensor(&format!("{key}.bias"));
        Conv::new(self.set, kernel, (shape[0], shape[1]), weights, bias)
    }

    /// Appends a convolution, by the fastest kernel for its input.
    fn convolve(&mut self, conv: Conv, inputs: &[ValueId]) -> ValueId {
        let conv = conv.tuned(self.builder.shape(inputs[0]));
        self.builder.add(conv, inputs)
    }

    fn norm(&self, key: &str, silu: bool) -> NormAct {
        let (_, gamma) = self.tensor(&format!("{key}.weight"));
        let (_, beta) = self.tensor(&format!("{key}.bias"));
        NormAct::new(self.set, GROUPS, gamma.to_vec(), beta.to_vec(), silu)
    }

    fn linear(&self, key: &str) -> Linear {
        let (shape, weights) = self.tensor(&format!("{key}.weight"));
        let (_, bias) = self.tensor(&format!("{key}.bias"));
        Linear::new(self.set, shape[0], shape[1], weights, bias)
    }

    fn stage(&mut self, stage: &Stage, mut h: ValueId) -> ValueId {
        for (i, &layer) in stage.layers.iter().enumerate() {
            let key = format!("{}.{i}", stage.key);
            h = match layer {
                Layer::Conv { .. } => {
                    let conv = self.conv(&key, Kernel::Three);
                    self.convolve(conv, &[h])
                }
                Layer::Residual { inputs, outputs, resample } => {
                    self.residual(&key, h, inputs != outputs, resample)
                }
                Layer::Attention { channels } => self.attention(&key, h, channels),
                Layer::Resample { resample, .. } => self.resampling(&key, h, resample),
            };
        }
        h
    }

    fn resample(&mut self, h: ValueId, resample: Resample) -> ValueId {
        match resample {
            Resample::Up => self.builder.add(Up2, &[h]),
            Resample::Down => self.builder.add(Down2, &[h]),
        }
    }

    /// x ↦ skip(x) + conv(silu(film(norm(conv(silu(norm(x))))))), x and the first activation resampled if asked for.
    fn residual(&mut self, key: &str, x: ValueId, widens: bool, resample: Option<Resample>) -> ValueId {
        let norm = self.norm(&format!("{key}.in_layers.0"), true);
        let mut h = self.builder.add(norm, &[x]);
        let mut x = x;
        if let Some(resample) = resample {
            h = self.resample(h, resample);
            x = self.resample(x, resample);
        }
        let (mut first, mut norm) = (
            self.conv(&format!("{key}.in_layers.2"), Kernel::Three),
            self.norm(&format!("{key}.out_layers.0"), true),
        );
        let range = self.modulation_of(&format!("{key}.emb_layers.1"));
        if self.config.use_scale_shift_norm {
            norm = norm.with_film(range);
        } else {
            first = first.with_conditioning(range);
        }
        h = self.convolve(first, &[h]);
        h = self.builder.add(norm, &[h]);
        if widens {
            let skip = self.conv(&format!("{key}.skip_connection"), Kernel::Point);
            x = self.builder.add(skip, &[x]);
        }
        let second = self.conv(&format!("{key}.out_layers.3"), Kernel::Three);
        self.convolve(second, &[h, x])
    }

    /// Reserves the conditioning of one embedding layer.
    fn modulation_of(&mut self, key: &str) -> std::ops::Range<usize> {
        let len = self.tensor(&format!("{key}.bias")).1.len();
        let range = self.modulation..self.modulation + len;
        self.modulation = range.end;
        self.modulated.push(key.to_owned());
        range
    }

    fn attention(&mut self, key: &str, x: ValueId, channels: usize) -> ValueId {
        let heads = self.config.heads(channels);
        let attention = Attention {
            set: self.set,
            heads,
            dim: channels / heads,
            tokens: self.builder.shape(x).pixels(),
            order: if self.config.use_new_attention_order { HeadOrder::Grouped } else { HeadOrder::Legacy },
        };
        let norm = self.norm(&format!("{key}.norm"), false);
        let qkv = self.conv(&format!("{key}.qkv"), Kernel::Point);
        let project = self.conv(&format!("{key}.proj_out"), Kernel::Point);
        let mut h = self.builder.add(norm, &[x]);
        h = self.builder.add(qkv, &[h]);
        h = self.builder.add(SelfAttention(attention), &[h]);
        self.builder.add(project, &[h, x])
    }

    /// Resolution change without a residual block: strided or upsampled convolution, or plain resampling.
    fn resampling(&mut self, key: &str, h: ValueId, resample: Resample) -> ValueId {
        if !self.config.conv_resample {
            return self.resample(h, resample);
        }
        let (name, strided) = match resample {
            Resample::Down => ("op", true),
            Resample::Up => ("conv", false),
        };
        let conv = self.conv(&format!("{key}.{name}"), Kernel::Three);
        if strided {
            return self.builder.add(conv.strided(), &[h]);
        }
        let h = self.resample(h, resample);
        self.convolve(conv, &[h])
    }

    /// The embedding path, with the embedding layers of all residual blocks stacked.
    fn embedding(&self) -> Embedding {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for key in &self.modulated {
            weights.extend_from_slice(self.tensor(&format!("{key}.weight")).1);
            bias.extend_from_slice(self.tensor(&format!("{key}.bias")).1);
        }
        Embedding {
            channels: self.config.model_channels,
            time: [self.linear("time_embed.0"), self.linear("time_embed.2")],
            labels: self.weights.get("label_emb.weight").map(|t| t.values.clone()).unwrap_or_default(),
            blocks: Linear::new(self.set, self.modulation, self.config.embedding(), &weights, &bias),
        }
    }
}
