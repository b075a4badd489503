"""The ADM UNet (arXiv 2105.05233) as a velocity network, with the public key layout. No gradients of weights.

Written from the layout alone, independently of the Rust code and of the training scripts.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def norm(channels):
    return nn.GroupNorm(32, channels)


class Residual(nn.Module):
    def __init__(self, inputs, outputs, embedding, film, resize=None):
        super().__init__()
        self.film, self.resize = film, resize
        self.in_layers = nn.Sequential(norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outputs * (2 if film else 1)))
        self.out_layers = nn.Sequential(
            norm(outputs), nn.SiLU(), nn.Identity(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, emb):
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        h = self.in_layers[2](h)
        emb = self.emb_layers(emb)[..., None, None]
        if self.film:
            scale, shift = emb.chunk(2, dim=1)
            h = self.out_layers[1](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers[1](self.out_layers[0](h + emb))
        return self.skip_connection(x) + self.out_layers[3](h)


class Attention(nn.Module):
    def __init__(self, channels, heads, heads_last):
        super().__init__()
        self.heads, self.heads_last = heads, heads_last
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, _emb):
        rows, channels, height, width = x.shape
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        if self.heads_last:
            q, k, v = (part.unflatten(1, (self.heads, -1)) for part in qkv.chunk(3, dim=1))
        else:
            q, k, v = qkv.unflatten(1, (self.heads, -1)).chunk(3, dim=2)
        # (rows, heads, pixels, channels of a head); the scale 1/sqrt(channels of a head) is the function's own.
        out = F.scaled_dot_product_attention(*(part.transpose(2, 3) for part in (q, k, v)))
        out = out.transpose(2, 3).reshape(rows, channels, -1)
        return (flat + self.proj_out(out)).view(rows, channels, height, width)


class Resampler(nn.Module):
    """A strided, or upsampled, convolution between levels (`resblock_updown: false`)."""

    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        layer = nn.Conv2d(channels, channels, 3, padding=1, stride=1 if up else 2)
        setattr(self, "conv" if up else "op", layer)

    def forward(self, x, _emb):
        return self.conv(double(x)) if self.up else self.op(x)


class First(nn.Conv2d):
    def forward(self, x, _emb):
        return super().forward(x)


class Block(nn.ModuleList):
    def forward(self, x, emb):
        for layer in self:
            x = layer(x, emb)
        return x


def double(x):
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def halve(x):
    return F.avg_pool2d(x, 2)


class Adm(nn.Module):
    """velocity(x, t, label): (N, C, S, S), (N,) in [0, 1], (N,) -> (N, C, S, S)."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        base, mult = config["model_channels"], config["channel_mult"]
        blocks, size = config["num_res_blocks"], config["image_size"]
        embedding = 4 * base
        film = config.get("use_scale_shift_norm", False)
        outputs = config["out_channels"] * (2 if config.get("learn_sigma") else 1)

        def residual(inputs, channels, resize=None):
            return Residual(inputs, channels, embedding, film, resize)

        def attention(channels):
            per_head = config.get("num_head_channels")
            heads = channels // per_head if per_head else config.get("num_heads", 1)
            return Attention(channels, heads, config.get("use_new_attention_order", False))

        def resample(channels, up):
            if config.get("resblock_updown", False):
                return residual(channels, channels, double if up else halve)
            return Resampler(channels, up)

        attends = set(config.get("attention_resolutions", []))
        self.time_embed = nn.Sequential(nn.Linear(base, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        if config.get("num_classes"):
            self.label_emb = nn.Embedding(config["num_classes"], embedding)
        channels = base * mult[0]
        self.input_blocks = nn.ModuleList([Block([First(config["in_channels"], channels, 3, padding=1)])])
        widths = [channels]
        for level, factor in enumerate(mult):
            for _ in range(blocks):
                layers = [residual(channels, base * factor)]
                channels = base * factor
                layers += [attention(channels)] if size in attends else []
                self.input_blocks.append(Block(layers))
                widths.append(channels)
            if level < len(mult) - 1:
                self.input_blocks.append(Block([resample(channels, up=False)]))
                widths.append(channels)
                size //= 2
        middle = [residual(channels, channels), attention(channels), residual(channels, channels)]
        self.middle_block = Block(middle)
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(mult))):
            for index in range(blocks + 1):
                layers = [residual(channels + widths.pop(), base * mult[level])]
                channels = base * mult[level]
                layers += [attention(channels)] if size in attends else []
                if level > 0 and index == blocks:
                    layers.append(resample(channels, up=True))
                    size *= 2
                self.output_blocks.append(Block(layers))
        self.out = nn.Sequential(norm(channels), nn.SiLU(), nn.Conv2d(channels, outputs, 3, padding=1))
        self.requires_grad_(False)

    def embed(self, t, label):
        half = self.config["model_channels"] // 2
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
        angles = (t * self.config.get("time_embedding_scale", 1.0))[:, None] * frequencies
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        return emb + self.label_emb(label) if label is not None else emb

    def forward(self, x, t, label=None):
        emb = self.embed(t, label if self.config.get("num_classes") else None)
        kept = []
        for block in self.input_blocks:
            x = block(x, emb)
            kept.append(x)
        x = self.middle_block(x, emb)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], dim=1), emb)
        return self.out(x)[:, : self.config["out_channels"]]
