"""Writes trained networks as the project ships them: float16 safetensors and a model file."""

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
    "molecules": "MIT OR Apache-2.0 for the weights; trained on QM9 (Ramakrishnan et al. 2014), which is public",
}

MOLECULE_DATA = (
    "{trained_on:,} molecules of the QM9 test split; the other {held_out_molecules:,} of it are held out\n"
    "(numpy.random.RandomState(0).permutation(13083)[:2000])."
)


def about(name, facts):
    """How the prior was made and what it reaches, in a few lines."""
    below = 100 * (1 - facts["held_out_loss"] / facts["linear_field_loss"])
    data = "the first 40,000 training images" if name == "mini-images" else "the 50,000 training photographs"
    return "\n".join(
        [
            f"Class-conditional Cond-OT velocity network, trained for this project on {data} of `{name}`.",
            training(facts),
            f"Flow-matching loss on {facts['held_out_images']:,} test images x {facts['held_out_draws']} draws: "
            f"{facts['held_out_loss']:.4f}, {below:.1f} % below the best linear field "
            f"({facts['linear_field_loss']:.4f}).",
            f"Made by: {facts['command']}",
        ]
    )


def export(folder, name, config, ema, facts):
    """Writes FOLDER/NAME.yaml and FOLDER/weights/NAME.safetensors."""
    model = {
        "about": about(name, facts) + "\n",
        "licence": LICENCES[name],
        "network": {"adm": {k: config[k] for k in NETWORK_KEYS}},
        **write_weights(folder, name, ema),
        "path": config["path"],
        "prediction": config["prediction"],
    }
    write_model(Path(folder) / f"{name}.yaml", model)


def export_prior(folder, size, ema, facts):
    """Writes FOLDER/mini-molecules.yaml and its weights."""
    name = "mini-molecules"
    text = [
        "Cond-OT velocity network (EGNN) on normalised states n x 9, trained for this project on",
        MOLECULE_DATA.format(**facts),
        "The published prior of the paper was trained on half of the QM9 training split.",
        training(facts),
        f"Flow-matching loss per coordinate on the held-out molecules x {facts['held_out_draws']} draws: "
        f"{facts['held_out']:.4f}.",
        f"Made by: {facts['command']}",
    ]
    network = {
        **size,
        "inv_sublayers": 1,
        "attention": True,
        "tanh": True,
        "norm_constant": 1,
        "normalization_factor": 1,
        "aggregation_method": "sum",
        "sin_embedding": False,
        "condition_time": True,
        "include_charges": True,
        "normalize_factors": [1, 4, 10],
        "coords_range": 15,
    }
    model = {
        "about": "\n".join(text) + "\n",
        "licence": LICENCES["molecules"],
        "network": {"egnn": network},
        **write_weights(folder, name, {f"dynamics.egnn.{k}": v for k, v in ema.items()}),
        "path": "cond_ot",
        "prediction": "velocity",
    }
    write_model(Path(folder) / f"{name}.yaml", model)


def export_classifier(folder, prop, unit, size, scale, ema, facts):
    """Writes FOLDER/classifiers/small-PROP.yaml and FOLDER/weights/small-PROP.safetensors."""
    name = f"small-{prop}"
    text = [
        f"Property classifier (invariant EGNN) for {prop}, trained for this project on",
        MOLECULE_DATA.format(**facts),
        "Smaller than the classifiers of the published tables and trained on fewer molecules: its errors are larger.",
        training(facts),
        f"Mean absolute error on the held-out molecules: {facts['held_out']:.4g} {unit}.",
        f"Made by: {facts['command']}",
    ]
    classifier = {
        "property": prop,
        "unit": unit,
        **size,
        "attention": True,
        **{k: float(f"{v:.9g}") for k, v in scale.items()},
        "small": True,
        "held_out": {"molecules": facts["held_out_molecules"], "mae": float(f"{facts['held_out']:.4g}")},
    }
    written = write_weights(folder, name, ema)
    model = {
        "about": "\n".join(text) + "\n",
        "licence": LICENCES["molecules"],
        "classifier": classifier,
        "weights": f"../{written['weights']}",
        "blake3": written["blake3"],
    }
    write_model(Path(folder) / "classifiers" / f"{name}.yaml", model)


def export_features(folder, name, stages, tensors, facts):
    """Writes FOLDER/features/NAME.yaml and FOLDER/weights/features-NAME.safetensors."""
    text = [
        f"Classifier of `{facts['dataset']}`, trained for this project on {facts['trained_on']:,} of its training",
        f"images; the mean over the image of its last layer is what FD({name}) compares. No substitute for FID.",
        f"{facts['parameters']:,} parameters; {facts['epochs']} epochs of batch {facts['batch']}, seed 0, rounded to "
        "float16.",
        f"Accuracy on {facts['tested_on']:,} test images: {100 * facts['accuracy']:.1f} %.",
        f"Made by: {facts['command']}",
    ]
    written = write_weights(folder, f"features-{name}", tensors)
    model = {
        "about": "\n".join(text) + "\n",
        "licence": LICENCES[facts["dataset"]],
        "network": {"conv_stack": {"stages": stages, "classes": int(tensors["head.bias"].numel())}},
        "weights": f"../{written['weights']}",
        "blake3": written["blake3"],
    }
    write_model(Path(folder) / "features" / f"{name}.yaml", model)


def training(facts):
    """Size and course of a run, in one line."""
    return (
        f"{facts['parameters']:,} parameters; {facts['steps']:,} steps of batch {facts['batch']}, "
        f"seed {facts['seed']}, moving average of the weights, rounded to float16."
    )


def write_weights(folder, name, tensors):
    """Writes FOLDER/weights/NAME.safetensors in float16; returns the entries that name it in a model file."""
    tensors = {k: v.half().contiguous() for k, v in sorted(tensors.items())}
    if not all(torch.isfinite(v).all() for v in tensors.values()):
        raise SystemExit("the weights do not fit float16: nothing was exported")
    weights = Path(folder) / "weights" / f"{name}.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, weights)
    return {"weights": f"weights/{name}.safetensors", "blake3": blake3.blake3(weights.read_bytes()).hexdigest()}


def write_model(path, model):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.dump(model, Dumper=ModelDumper, sort_keys=False, allow_unicode=True, width=118))


class ModelDumper(yaml.SafeDumper):
    """Long texts as blocks, lists in one line."""


ModelDumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
ModelDumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)
