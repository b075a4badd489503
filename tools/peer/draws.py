"""Draws for peer.py without `dflow`: the first photographs of a Parquet file, noise from torch's generator.

usage: draws.py PIPELINE IMAGES.parquet OUT.safetensors [--limit N] [--seed N]

Same layout as `dflow draws`, other numbers; no source points (the peer makes its own).
"""

import argparse
import io
import json
import pathlib

import numpy as np
import pyarrow.parquet
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import operators


def most_steps(methods):
    """Steps for which some method draws noise."""
    counts = [0]
    for entry in methods:
        ((kind, options),) = entry.items()
        for own in [{}, *options.get("per_task", {}).values()]:
            if kind == "red_diff":
                counts.append((options | own).get("steps", 1000))
            ddim = (options | own).get("form", {}).get("ddim") if kind == "pigdm" else None
            if ddim is not None and ddim.get("eta"):
                counts.append(ddim.get("steps", 100))
    return max(counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("pipeline", "images", "out"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--limit", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    pipeline = yaml.safe_load(args.pipeline.read_text())
    tasks, steps = pipeline["tasks"], most_steps(pipeline["methods"])
    table = pyarrow.parquet.read_table(args.images).slice(0, args.limit).to_pylist()
    generator = torch.Generator().manual_seed(args.seed)
    tensors, labels = {}, {}
    for index, row in enumerate(table):
        sample = str(index)
        labels[sample] = row["label"]
        pixels = np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB"), np.float32)
        truth = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1).contiguous()
        tensors[f"truth/{sample}"] = truth.reshape(-1)
        tensors[f"z/{sample}"] = torch.randn(truth.numel(), generator=generator)
        if steps:
            tensors[f"noise/{sample}"] = torch.randn(steps, truth.numel(), generator=generator)
        for task in tasks:
            clean = operators.build(task["operator"], tuple(truth.shape)).forward(truth)
            noise = task.get("noise", 0.0) * torch.randn(clean.numel(), generator=generator)
            tensors[f"y/{task['name']}/{sample}"] = (clean + noise).float()
    save_file(tensors, args.out, {"labels": json.dumps(labels)})


if __name__ == "__main__":
    main()
