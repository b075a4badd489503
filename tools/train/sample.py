"""Draws a grid of samples from a shipped prior: one row per class.

    python sample.py models/mini-images.yaml grid.png --columns 10 --steps 30
"""

import argparse
from pathlib import Path

import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from adm import Adm


@torch.no_grad()
def integrate(model, x, given, steps):
    """Midpoint rule from t = 0 (noise) to t = 1; `given` is what the model takes beside state and time."""
    h = 1 / steps
    for k in range(steps):
        t = torch.full((len(x),), k * h)
        middle = x + h / 2 * model(x, t, given)
        x = x + h * model(middle, t + h / 2, given)
    return x


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    description = yaml.safe_load(Path(args.model).read_text())
    config = description["network"]["adm"]
    model = Adm(config).eval()
    weights = load_file(Path(args.model).parent / description["weights"])
    model.load_state_dict({k: v.float() for k, v in weights.items()})
    torch.manual_seed(args.seed)
    classes, size = config["num_classes"], config["image_size"]
    rows = []
    for label in range(classes):
        noise = torch.randn(args.columns, 3, size, size)
        rows.append(integrate(model, noise, torch.full((args.columns,), label), args.steps))
    grid = torch.stack(rows).clamp(-1, 1).permute(0, 3, 1, 4, 2).reshape(classes * size, args.columns * size, 3)
    pixels = ((grid + 1) * 127.5).round().byte().numpy()
    Image.fromarray(pixels).resize((3 * args.columns * size, 3 * classes * size), Image.Resampling.NEAREST).save(args.image)


if __name__ == "__main__":
    main()
