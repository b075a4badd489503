"""One evaluation of D-Flow with a network of ADM's public layout in PyTorch: seconds and peak memory, as a line of JSON.

usage: adm128.py MODEL.yaml [--threads 2] [--nfe 6] [--seed 0] [--dflow PROGRAM [--rounds 3] [--json FILE]]

With --dflow it alternates processes of both sides, prints the ratios and saves them as a section of FILE.

Beside `dflow model time MODEL --nfe 6 --random-weights`: the same network, midpoint solve with the finishing denoiser,
checkpointed (each network call computed again in the pull-back), gradient of a masked PSNR with respect to the noise.
Weights are random: times do not depend on them.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import time

import torch
import yaml
from torch.utils.checkpoint import checkpoint

import record

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peer"))
from adm import Adm  # noqa: E402


def log_ratios(first=1e-4, last=0.02, steps=1000):
    """ln(alpha/sigma) of the diffusion's steps."""
    log_bar = torch.cumsum(torch.log1p(-torch.linspace(first, last, steps, dtype=torch.float64)), 0)
    return 0.5 * (log_bar - torch.log(-torch.expm1(log_bar)))


class Velocity:
    """u = d ln(alpha)/dt (x - eps/sigma) at t = 1 - k/999, between steps by a line: costs are what is compared."""

    def __init__(self, network, label):
        self.network, self.label, self.table = network, label, log_ratios()

    def at(self, t):
        index = (len(self.table) - 1) * (1 - t)
        k = min(int(index), len(self.table) - 2)
        slope = float(self.table[k + 1] - self.table[k])
        ratio = math.exp(float(self.table[k]) + (index - k) * slope)
        alpha, sigma = ratio / math.hypot(1, ratio), 1 / math.hypot(1, ratio)
        return index, alpha, sigma, -slope * (len(self.table) - 1) * sigma**2

    def noise(self, x, index):
        return self.network(x, torch.tensor([index], dtype=torch.float32), self.label)

    def __call__(self, x, t):
        index, _, sigma, d_log_alpha = self.at(t)
        return d_log_alpha * (x - self.noise(x, index) / sigma)

    def denoise(self, x):
        index, alpha, sigma, _ = self.at(1.0)
        return (x - sigma * self.noise(x, index)) / alpha


def solve(velocity, x, nfe):
    def call(function, *arguments):
        return checkpoint(function, *arguments, use_reentrant=False)

    steps = nfe // 2
    for k in range(steps):
        v = call(velocity, x, k / steps)
        x = x + call(velocity, x + v / (2 * steps), (k + 0.5) / steps) / steps
    return call(velocity.denoise, x)


def peak_memory():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


# Of the full ADM at 128x128: what PyTorch needs, and some room.
MEMORY_NEEDED = 8 * 2**30
KEYS = ("forward_seconds", "evaluation_seconds", "peak_memory")


def dataset_of_one(folder, size):
    """A description of a dataset that holds one grey image: costs do not depend on pixels."""
    images = folder / "grey" / "images" / "0"
    images.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    Image.new("RGB", (size, size), (128, 128, 128)).save(images / "grey.png")
    description = {
        "name": "grey",
        "source": "made by tools/bench/adm128.py",
        "licence": "none needed",
        "folder": "grey",
        "layout": {"images": [{"folder": {"splits": {"test": "images"}}}]},
        "split": "test",
        "shape": [3, size, size],
        "resize": "none",
    }
    path = folder / "grey.yaml"
    path.write_text(yaml.safe_dump(description, sort_keys=False))
    return path


def compare(args, size):
    """Alternating processes of `dflow model time` and of this script."""
    free = record.kibibytes("/proc/meminfo", "MemAvailable")
    if free < MEMORY_NEEDED:
        print(f"{args.model.stem}: left out, {free / 2**30:.0f} of {MEMORY_NEEDED / 2**30:.0f} GiB of memory are free.")
        return
    folder = record.FILE.parent / "adm128"
    dataset = dataset_of_one(folder, size)
    options = ["--threads", args.threads, "--nfe", args.nfe]
    sides = {
        "ours": [args.dflow, "model", "time", args.model, "--dataset", dataset, "--data", folder, *options],
        "torch": [sys.executable, __file__, args.model, "--seed", args.seed, *options],
    }
    sides["ours"] += ["--random-weights", "--json", "--home", record.ROOT]
    results = {side: [] for side in sides}
    for round in range(args.rounds):
        for side in list(sides)[:: 1 if round % 2 == 0 else -1]:
            done = subprocess.run(list(map(str, sides[side])), capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"`{' '.join(map(str, sides[side]))}` failed with {done.returncode}:\n{done.stderr[-2000:]}")
            results[side].append(json.loads(done.stdout))
    found = {}
    for key in KEYS:
        values = {side: [result[key] for result in results[side]] for side in sides}
        found[key] = record.spread([ours / torch for ours, torch in zip(values["ours"], values["torch"])])
        print(f"{args.model.stem}, {key.replace('_', ' ')}: {record.text(found[key])} of PyTorch's")
    record.save(args.json, args.model.stem, {"threads": args.threads, "ratios": found, **results})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nfe", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dflow", type=pathlib.Path, help="compare with this program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path, default=record.FILE)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = yaml.safe_load(args.model.read_text())["network"]["adm"]
    if args.dflow:
        compare(args, config["image_size"])
        return
    network = Adm(config)
    parameters = sum(p.numel() for p in network.parameters())
    size = config["image_size"]
    image = torch.rand(1, config["in_channels"], size, size) * 2 - 1
    hole = slice(size // 2 - 5 * size // 32, size // 2 + 5 * size // 32)
    mask = torch.ones_like(image)
    mask[..., hole, hole] = 0
    x0 = torch.randn_like(image).requires_grad_()
    velocity = Velocity(network, torch.tensor([0]))
    built = peak_memory()
    # The first call prepares kernels, once for a whole run.
    with torch.no_grad():
        velocity(x0, 0.0)
    start = time.perf_counter()
    x1 = solve(velocity, x0, args.nfe)
    forward = time.perf_counter() - start
    loss = 10 * torch.log10(((x1 - image) * mask).square().sum() / mask.sum()) - 20 * math.log10(2)
    (gradient,) = torch.autograd.grad(loss, x0)
    whole = time.perf_counter() - start
    figures = {"torch": torch.__version__, "parameters": parameters, "threads": args.threads, "nfe": args.nfe + 1}
    figures |= {"forward_seconds": forward, "evaluation_seconds": whole, "loss": loss.item()}
    figures |= {"gradient_norm": gradient.norm().item(), "peak_memory_built": built, "peak_memory": peak_memory()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
