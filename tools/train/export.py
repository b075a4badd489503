"""Writes a trained prior as the project ships it: float16 safetensors and a model file."""

from pathlib import Path

import blake3
import torch
import yaml
from safetensors.torch import save_file

NETWORK_KEYS = (
    "image_size",
    "in_channels",
    "out_channels",
    "model_channels",
    "channel_mult",
    "num_res_blocks",
    "attention_resolutions",
    "num_heads",
    "num_classes",
    "resblock_updown",
    "use_scale_shift_norm",
    "learn_sigma",
    "time_embedding_scale",
)

LICENCES = {
    "mini-images": "MIT OR Apache-2.0 (trained on images that this project renders)",
    "cifar10": "MIT OR Apache-2.0 for the weights; the CIFAR-10 photographs state no licence",
}


def about(name, facts):
    """How the prior was made and what it reaches, in a few lines."""
    below = 100 * (1 - facts["held_out_loss"] / facts["linear_field_loss"])
    data = "the first 40,000 training images" if name == "mini-images" else "the 50,000 training photographs"
    return "\n".join(
        [
            f"Class-conditional Cond-OT velocity network, trained for this project on {data} of `{name}`.",
            f"{facts['parameters']:,} parameters; {facts['steps']:,} steps of batch {facts['batch']}, "
            f"seed {facts['seed']}, moving average of the weights, rounded to float16.",
            f"Flow-matching loss on {facts['held_out_images']:,} test images x {facts['held_out_draws']} draws: "
            f"{facts['held_out_loss']:.4f}, {below:.1f} % below the best linear field "
            f"({facts['linear_field_loss']:.4f}).",
            f"Made by: {facts['command']}",
        ]
    )


def export(folder, name, config, ema, facts):
    """Writes FOLDER/NAME.yaml and FOLDER/weights/NAME.safetensors."""
    tensors = {k: v.half().contiguous() for k, v in sorted(ema.items())}
    if not all(torch.isfinite(v).all() for v in tensors.values()):
        raise SystemExit("the weights do not fit float16: nothing was exported")
    weights = Path(folder) / "weights" / f"{name}.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, weights)
    model = {
        "about": about(name, facts) + "\n",
        "licence": LICENCES[name],
        "network": {"adm": {k: config[k] for k in NETWORK_KEYS}},
        "weights": f"weights/{name}.safetensors",
        "blake3": blake3.blake3(weights.read_bytes()).hexdigest(),
        "path": config["path"],
        "prediction": config["prediction"],
    }
    text = yaml.dump(model, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)
    (Path(folder) / f"{name}.yaml").write_text(text)


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, lists in one line."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)
