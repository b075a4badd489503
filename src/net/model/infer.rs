//! The configuration of an ADM UNet from the names and shapes of its tensors.

use super::ModelError;
use crate::net::adm::AdmConfig;
use crate::net::weights::Weights;

/// What no tensor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Height and width of the images.
    pub image_size: usize,
    /// Attention heads, where `num_head_channels` is absent.
    pub num_heads: usize,
    /// Channels per attention head.
    pub num_head_channels: Option<usize>,
    /// Whether qkv channels are grouped as q, k, v first and heads second.
    pub use_new_attention_order: bool,
}

/// The configuration that these weights belong to; the caller checks that they fit it.
///
/// Every level has as many blocks: the first output block that also changes the resolution ends the first level.
///
/// # Errors
/// [`ModelError::Invalid`] where a tensor that every ADM UNet has is absent.
pub(super) fn infer(weights: &Weights, given: Given) -> Result<AdmConfig, ModelError> {
    let shape = |name: &str| weights.get(name).map(|tensor| tensor.shape.as_slice());
    let first = |name: &str| match shape(name) {
        Some(&[outputs, inputs, ..]) => Ok((outputs, inputs)),
        _ => Err(foreign(weights, name)),
    };
    let (_, model_channels) = first("time_embed.0.weight")?;
    let (_, in_channels) = first("input_blocks.0.0.weight")?;
    let (outputs, _) = first("out.2.weight")?;
    let blocks = (1..).take_while(|i| shape(&format!("output_blocks.{i}.0.in_layers.2.weight")).is_some());
    let blocks = 1 + blocks.count();
    // Attention may stand between the residual block (0) and the layer that changes the resolution.
    let changes_resolution = |i: &usize| {
        [1, 2].iter().any(|layer| {
            let key = format!("output_blocks.{i}.{layer}");
            shape(&format!("{key}.in_layers.2.weight")).or(shape(&format!("{key}.conv.weight"))).is_some()
        })
    };
    let per_level = (0..blocks).find(changes_resolution).unwrap_or(blocks - 1) + 1;
    let levels = blocks / per_level;
    // The way up has a residual block on every level, also where the way down has none.
    let level_start = |level: usize| format!("output_blocks.{}", (levels - 1 - level) * per_level);
    let mut channel_mult = Vec::new();
    let mut attention_resolutions = Vec::new();
    for level in 0..levels {
        let (channels, _) = first(&format!("{}.0.in_layers.2.weight", level_start(level)))?;
        channel_mult.push(channels / model_channels.max(1));
        if shape(&format!("{}.1.qkv.weight", level_start(level))).is_some() {
            attention_resolutions.push(given.image_size >> level);
        }
    }
    let (modulation, _) = first("middle_block.0.emb_layers.1.weight")?;
    let (channels, _) = first("middle_block.0.in_layers.2.weight")?;
    let learn_sigma = outputs == 2 * in_channels;
    Ok(AdmConfig {
        image_size: given.image_size,
        in_channels,
        out_channels: if learn_sigma { in_channels } else { outputs },
        model_channels,
        channel_mult,
        num_res_blocks: per_level - 1,
        attention_resolutions,
        num_heads: given.num_heads,
        num_head_channels: given.num_head_channels,
        num_classes: shape("label_emb.weight").and_then(<[usize]>::first).copied(),
        resblock_updown: shape(&format!("input_blocks.{per_level}.0.op.weight")).is_none(),
        conv_resample: true,
        use_scale_shift_norm: modulation == 2 * channels,
        use_new_attention_order: given.use_new_attention_order,
        learn_sigma,
        time_embedding_scale: 1.0,
    })
}

fn foreign(weights: &Weights, name: &str) -> ModelError {
    let names: Vec<&str> = weights.iter().map(|(name, _)| name).take(3).collect();
    ModelError::Invalid {
        path: weights.path().to_owned(),
        detail: format!(
            "no tensor `{name}`: it is not in the key layout of the public ADM checkpoints (its first names: {}); a \
             checkpoint that holds several state dicts needs --prefix",
            names.join(", ")
        ),
    }
}
