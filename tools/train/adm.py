"""The ADM UNet as a velocity network, in the key layout of the public ADM checkpoints.

The layout is: ``input_blocks``, ``middle_block``, ``output_blocks``, ``out``, ``time_embed``,
``label_emb``; residual blocks move the resolution (``resblock_updown``), the embedding enters as
scale and shift after the second GroupNorm, attention splits its channels per head first and into
q, k, v second. ``attention_resolutions`` are image sizes (8 = the 8x8 feature maps).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

GROUPS = 32


def zero_(module):
    """Zeroes every parameter of a layer, so that its branch starts as nothing."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


class ResBlock(nn.Module):
    """x -> skip(x) + conv(silu(film(norm(conv(silu(norm(x))))))), optionally resampled by 2."""

    def __init__(self, channels, emb_channels, out_channels, resample=None):
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out_channels),
            nn.SiLU(),
            nn.Dropout(0.0),
            zero_(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        if channels == out_channels:
            self.skip_connection = nn.Identity()
        else:
            self.skip_connection = nn.Conv2d(channels, out_channels, 1)

    def _resampled(self, x):
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return x

    def forward(self, x, emb):
        norm, act, conv = self.in_layers
        h = conv(self._resampled(act(norm(x))))
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        norm, act, _, conv = self.out_layers
        h = conv(act(norm(h) * (1 + scale) + shift))
        return self.skip_connection(self._resampled(x)) + h


class AttentionBlock(nn.Module):
    """Self-attention over the pixels; the qkv channels are grouped by head, then by q, k, v."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zero_(nn.Conv1d(channels, channels, 1))

    def forward(self, x, _emb=None):
        b, c, height, width = x.shape
        flat = x.reshape(b, c, height * width)
        qkv = self.qkv(self.norm(flat))
        q, k, v = qkv.reshape(b * self.heads, 3 * c // self.heads, -1).chunk(3, dim=1)
        scores = torch.einsum("bct,bcs->bts", q, k) / math.sqrt(c // self.heads)
        weights = torch.softmax(scores.float(), dim=-1).to(v.dtype)
        out = torch.einsum("bts,bcs->bct", weights, v).reshape(b, c, -1)
        return (flat + self.proj_out(out)).reshape(b, c, height, width)


class Stage(nn.ModuleList):
    """Layers run in sequence; the ones that take the embedding get it."""

    def forward(self, x, emb):
        for layer in self:
            x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x, emb)
        return x


class Adm(nn.Module):
    """Velocity u(x, t, class): (B,3,S,S), t in [0,1] of shape (B,), labels (B,) -> (B,3,S,S)."""

    def __init__(self, config):
        super().__init__()
        base = config["model_channels"]
        mult = config["channel_mult"]
        blocks = config["num_res_blocks"]
        attention = config["attention_resolutions"]
        heads = config["num_heads"]
        size = config["image_size"]
        emb = 4 * base
        self.base = base
        self.time_scale = config["time_embedding_scale"]
        self.time_embed = nn.Sequential(nn.Linear(base, emb), nn.SiLU(), nn.Linear(emb, emb))
        if config.get("num_classes"):
            self.label_emb = nn.Embedding(config["num_classes"], emb)

        channels = base
        self.input_blocks = nn.ModuleList([Stage([nn.Conv2d(config["in_channels"], base, 3, padding=1)])])
        skips = [base]
        for level, factor in enumerate(mult):
            for _ in range(blocks):
                layers = [ResBlock(channels, emb, factor * base)]
                channels = factor * base
                if size in attention:
                    layers.append(AttentionBlock(channels, heads))
                self.input_blocks.append(Stage(layers))
                skips.append(channels)
            if level + 1 < len(mult):
                self.input_blocks.append(Stage([ResBlock(channels, emb, channels, "down")]))
                skips.append(channels)
                size //= 2
        self.middle_block = Stage(
            [ResBlock(channels, emb, channels), AttentionBlock(channels, heads), ResBlock(channels, emb, channels)]
        )
        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(mult))):
            for i in range(blocks + 1):
                layers = [ResBlock(channels + skips.pop(), emb, factor * base)]
                channels = factor * base
                if size in attention:
                    layers.append(AttentionBlock(channels, heads))
                if level > 0 and i == blocks:
                    layers.append(ResBlock(channels, emb, channels, "up"))
                    size *= 2
                self.output_blocks.append(Stage(layers))
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, channels),
            nn.SiLU(),
            zero_(nn.Conv2d(channels, config["out_channels"], 3, padding=1)),
        )

    def forward(self, x, t, labels=None):
        half = self.base // 2
        frequencies = torch.exp(-math.log(1e4) * torch.arange(half, dtype=torch.float32, device=x.device) / half)
        angles = self.time_scale * t.float()[:, None] * frequencies
        emb = self.time_embed(torch.cat([torch.cos(angles), torch.sin(angles)], dim=1))
        if labels is not None:
            emb = emb + self.label_emb(labels)
        h = x
        skips = []
        for stage in self.input_blocks:
            h = stage(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h)


def network_config(model_channels, channel_mult, num_res_blocks, attention_resolutions, num_heads, num_classes=10):
    """The configuration that `Adm` reads, for 32x32 RGB Cond-OT velocity networks."""
    return {
        "image_size": 32,
        "in_channels": 3,
        "out_channels": 3,
        "model_channels": model_channels,
        "channel_mult": channel_mult,
        "num_res_blocks": num_res_blocks,
        "attention_resolutions": attention_resolutions,
        "num_heads": num_heads,
        "num_classes": num_classes,
        "resblock_updown": True,
        "use_scale_shift_norm": True,
        "learn_sigma": False,
        "time_embedding_scale": 1000,
        "path": "cond_ot",
        "prediction": "velocity",
    }
