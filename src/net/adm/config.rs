//! Configuration of an ADM UNet, with the names of the public code.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::{Layer, Layout};

/// Groups of every GroupNorm.
pub(super) const GROUPS: usize = 32;
/// More channels than any network has: a larger number is a slip.
const MAX_CHANNELS: usize = 1 << 16;

/// Configuration of an ADM UNet.
#[expect(clippy::struct_excessive_bools, reason = "the switches of the public configuration")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmConfig {
    /// Height and width of the image.
    pub image_size: usize,
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the prediction; `learn_sigma` doubles what the network emits.
    pub out_channels: usize,
    /// Channels of the first level.
    pub model_channels: usize,
    /// Channels of each level, as multiples of `model_channels`; the resolution halves from level to level.
    pub channel_mult: Vec<usize>,
    /// Residual blocks per level on the way down; one more on the way up.
    pub num_res_blocks: usize,
    /// Image sizes at which attention follows the residual blocks (as in the public scripts' `attention_resolutions`;
    /// their `UNetModel` is given `image_size` divided by these). The middle block always attends.
    #[serde(default)]
    pub attention_resolutions: Vec<usize>,
    /// Attention heads, where `num_head_channels` is absent.
    #[serde(default = "one")]
    pub num_heads: usize,
    /// Channels per attention head; the number of heads then follows.
    #[serde(default)]
    pub num_head_channels: Option<usize>,
    /// Classes, or none for an unconditional network.
    #[serde(default)]
    pub num_classes: Option<usize>,
    /// Whether residual blocks change the resolution (else a strided convolution and an upsampled one).
    #[serde(default)]
    pub resblock_updown: bool,
    /// Whether strided or upsampled layers without `resblock_updown` have a convolution.
    #[serde(default = "yes")]
    pub conv_resample: bool,
    /// Whether the embedding scales and shifts the second GroupNorm (else it is added before it).
    #[serde(default)]
    pub use_scale_shift_norm: bool,
    /// Whether qkv channels are grouped as q, k, v first and heads second.
    #[serde(default)]
    pub use_new_attention_order: bool,
    /// Whether the network also emits `out_channels` variance channels, which are not used here.
    #[serde(default)]
    pub learn_sigma: bool,
    /// Factor from the time that the network is called with to the argument of its sinusoids: 1 for checkpoints that
    /// are called with step indices, 1000 for those called with t in [0, 1].
    #[serde(default = "unit")]
    pub time_embedding_scale: f64,
}

const fn one() -> usize {
    1
}

const fn yes() -> bool {
    true
}

const fn unit() -> f64 {
    1.0
}

/// A configuration that no network can be built from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A size that must be positive is 0, or a list is empty.
    #[error("network configuration: {0} must not be 0 or empty")]
    Zero(&'static str),
    /// GroupNorm needs whole groups.
    #[error(
        "network configuration: {channels} channels; every level needs a multiple of {GROUPS} (the groups of \
         GroupNorm), at most {MAX_CHANNELS}"
    )]
    Groups {
        /// Channels of a level.
        channels: usize,
    },
    /// A level's resolution is odd, so the next cannot halve it.
    #[error("network configuration: image_size {size} cannot be halved {halvings} times")]
    ImageSize {
        /// The image size.
        size: usize,
        /// Levels − 1.
        halvings: usize,
    },
    /// The sinusoids' factor is no positive number.
    #[error("network configuration: time_embedding_scale must be a finite number above 0, got {0}")]
    TimeScale(String),
    /// Heads do not divide the channels.
    #[error("network configuration: {channels} channels do not split into attention heads ({detail})")]
    Heads {
        /// Channels of an attention layer.
        channels: usize,
        /// The setting.
        detail: String,
    },
}

impl AdmConfig {
    /// Channels that the network emits.
    pub fn network_outputs(&self) -> usize {
        self.out_channels * if self.learn_sigma { 2 } else { 1 }
    }

    /// Width of the embedding.
    pub(super) fn embedding(&self) -> usize {
        4 * self.model_channels
    }

    /// Heads of an attention layer of `channels`.
    pub(super) fn heads(&self, channels: usize) -> usize {
        self.num_head_channels.map_or(self.num_heads, |dim| channels / dim)
    }

    /// Whether blocks at this resolution attend.
    pub(super) fn attends(&self, resolution: usize) -> bool {
        self.attention_resolutions.contains(&resolution)
    }

    /// Checks that a network can be built.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("image_size", self.image_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("model_channels", self.model_channels),
            ("channel_mult", self.channel_mult.len()),
            ("channel_mult", self.channel_mult.iter().copied().min().unwrap_or(0)),
            ("num_heads", self.num_heads),
            ("num_head_channels", self.num_head_channels.unwrap_or(1)),
            ("num_classes", self.num_classes.unwrap_or(1)),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ConfigError::Zero(name));
        }
        let halvings = self.channel_mult.len() - 1;
        if halvings >= usize::BITS as usize || !self.image_size.is_multiple_of(1 << halvings) {
            return Err(ConfigError::ImageSize { size: self.image_size, halvings });
        }
        for mult in &self.channel_mult {
            let channels = mult.saturating_mul(self.model_channels);
            let whole = |channels: usize| channels <= MAX_CHANNELS && channels.is_multiple_of(GROUPS);
            if !whole(channels) || !whole(self.model_channels) {
                return Err(ConfigError::Groups { channels });
            }
        }
        let scale = self.time_embedding_scale;
        if !scale.is_finite() || scale <= 0.0 {
            return Err(ConfigError::TimeScale(scale.to_string()));
        }
        Layout::new(self).layers().try_for_each(|(_, layer)| match layer {
            Layer::Attention { channels } => self.check_heads(channels),
            _ => Ok(()),
        })
    }

    fn check_heads(&self, channels: usize) -> Result<(), ConfigError> {
        let heads = self.heads(channels);
        let whole = heads > 0 && channels.is_multiple_of(heads);
        let exact = self.num_head_channels.is_none_or(|dim| channels.is_multiple_of(dim));
        if whole && exact {
            return Ok(());
        }
        let detail = match self.num_head_channels {
            Some(dim) => format!("num_head_channels {dim}"),
            None => format!("num_heads {heads}"),
        };
        Err(ConfigError::Heads { channels, detail })
    }
}
