"""OT-ODE, PiGDM and RED-Diff in plain PyTorch, to compare `dflow` with: one sample at a time.

usage: baselines.py PIPELINE DRAWS OUT.jsonl --model MODEL.yaml [--data FOLDER] [--method NAME]... [--task NAME]...
                    [--limit N]

DRAWS is the file of `dflow draws PIPELINE DRAWS`: clean images, measurements, noises z and the noises of the steps. The
methods are written from their papers: OT-ODE (Pokle et al., arXiv 2310.04432), PiGDM (Song et al. 2023; as a flow with
an adaptive weight, and as the guided DDIM sampler), RED-Diff (Mardani et al., arXiv 2305.04391) with the noise read from
the velocity (D-Flow, eq. 63). Gradients by torch's autograd, Adam by torch.optim. Every line of the output is one
(task, method, sample); compare.py compares them with a run.
"""

import argparse
import collections
import json
import math
import pathlib
import time

import numpy as np
import safetensors
import torch
import yaml
from safetensors.torch import load_file

import operators
from peer import LOSSES_KEPT, load_model, psnr

KINDS = ("ot_ode", "pigdm", "red_diff")


def standard_alpha_bar():
    """alpha-bar of the diffusion of 1000 steps with beta linear from 1e-4 to 0.02."""
    return np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))


def times_of(steps):
    """Equispaced indices into the diffusion, from noise to data."""
    return [i * 1000 // steps for i in reversed(range(steps))]


class Sample:
    """One measurement and the Cond-OT velocity network that restores it; records the residuals that it sees."""

    def __init__(self, network, label, operator, y, sigma):
        self.network, self.operator, self.y, self.sigma = network, operator, y, sigma
        self.label = None if label is None else torch.tensor([label])
        self.residuals = []

    def velocity(self, x, t):
        return self.network(x[None], torch.tensor([t], dtype=torch.float32), self.label)[0]

    def residual(self, image):
        e = self.y.double() - self.operator.forward(image).double()
        self.residuals.append(e.square().mean().item())
        return e

    def guided(self, x, see, r2):
        """What `see` shows at x, x-hat first, and the gradient of x-hat . w for w = H^T (r2 H H^T + sigma^2 I)^-1 e."""
        x = x.detach().requires_grad_()
        shown = see(x)
        with torch.no_grad():
            w = self.operator.regularised(self.residual(shown[0]), r2, self.sigma**2).float()
        (gradient,) = torch.autograd.grad(shown[0], x, w)
        return [image.detach() for image in shown], gradient


def adaptive(t):
    return math.sqrt(t / (t * t + (1 - t) ** 2))


def guided_flow(sample, options, x, first):
    """Euler steps on the grid k/steps from the point `first`, x given there."""
    steps, gamma = options["steps"], options["gamma"]
    for k in range(first, steps):
        t = k / steps

        def see(x):
            v = sample.velocity(x, t)
            return x + (1 - t) * v, v

        (_, v), g = sample.guided(x, see, (1 - t) ** 2 / ((1 - t) ** 2 + t * t))
        weight = (1 - t) / t * (adaptive(t) if gamma == "adaptive" else 1.0)
        x = x + (v + weight * g) / steps
    return x


def ot_ode(sample, options, z):
    options = {"steps": 100, "start": 0.2, "gamma": "one", "lift": "auto"} | options
    first = max(math.ceil(options["start"] * options["steps"] - 1e-9), 1)
    t = first / options["steps"]
    lifted = {"auto": sample.operator.lift, "pinv": sample.operator.pinv, "adjoint": sample.operator.adjoint}
    x = t * lifted[options["lift"]](sample.y).float() + (1 - t) * z
    return guided_flow(sample, options, x, first)


def pigdm_flow(sample, options, z):
    options = {"steps": 100, "start": None, "gamma": "adaptive", "init": "noise"} | options
    if options["init"] != "noise":
        raise SystemExit("the peer starts a guided flow of PiGDM from noise only")
    first = max(math.ceil((options["start"] or 0.0) * options["steps"] - 1e-9), 1)
    return guided_flow(sample, options, z, first)


def pigdm_ddim(sample, options, z, noise):
    """The sampler in the variables of the diffusion; the network is asked at the flow time of equal SNR."""
    options = {"steps": 100, "eta": 0.0, "init": "noise", "scale": "from"} | options
    if options.get("replace_observed"):
        raise SystemExit("the peer does not replace observed pixels")
    table, indices = standard_alpha_bar(), times_of(options["steps"])
    x = z
    if options["init"] == "pinv":
        first = table[indices[0]]
        x = math.sqrt(first) * sample.operator.pinv(sample.y).float() + math.sqrt(1 - first) * z
    for k, index in enumerate(indices):
        a = table[index]
        b = table[indices[k + 1]] if k + 1 < len(indices) else 1.0
        total = math.sqrt(a) + math.sqrt(1 - a)
        t = math.sqrt(a) / total

        def see(x):
            flow = x / total
            u = sample.velocity(flow, t)
            return flow + (1 - t) * u, flow - t * u

        (clean, eps), g = sample.guided(x, see, 1 - a)
        c1 = options["eta"] * math.sqrt((1 - a / b) * (1 - b) / (1 - a))
        c2 = math.sqrt(max(1 - b - c1 * c1, 0.0))
        scale = math.sqrt(a) * (math.sqrt(b) if options["scale"] == "product" else 1.0)
        x = math.sqrt(b) * clean + c2 * eps + scale * (1 - a) * g
        if c1 > 0:
            x = x + c1 * noise[k].view_as(x)
    return x


WEIGHTS = {
    "linear": lambda r: r,
    "sqrt": math.sqrt,
    "square": lambda r: r * r,
    "log": math.log1p,
    "clip": lambda r: min(r, 1.0),
    "power_two_thirds": lambda r: r ** (2 / 3),
    "const": lambda r: 1.0,
}


def red_diff_times(options):
    if options["times"] == "vp_matched":
        levels = np.sqrt(standard_alpha_bar()[times_of(options["steps"])])
        return levels / (levels + np.sqrt(1 - levels**2))
    uniform = options["times"]["uniform"]
    last = uniform.get("max") or 1 - 1 / options["steps"]
    return np.linspace(uniform.get("min", 1 / 158), last, options["steps"])


def red_diff(sample, options, noise):
    defaults = {"steps": 1000, "lr": 0.1, "lambda": 0.25, "weight": "linear", "times": "vp_matched", "init": "pinv"}
    options = defaults | {"loss": "mean", "betas": [0.9, 0.99], "eps": 1e-8, "sigma_x0": 0.0} | options
    if options["sigma_x0"]:
        raise SystemExit("the peer has no noise about the image of RED-Diff")
    operator = sample.operator
    start = {"pinv": operator.pinv, "auto": operator.lift, "adjoint": operator.adjoint}
    if options["init"] == "zeros":
        image = torch.zeros(operator.shape)
    else:
        image = start[options["init"]](sample.y).float().clone()
    image.requires_grad_()
    adam = torch.optim.Adam([image], lr=options["lr"], betas=options["betas"], eps=options["eps"])
    for t, eps in zip(map(float, red_diff_times(options)), noise):
        eps = eps.view_as(image)
        with torch.no_grad():
            noisy = t * image + (1 - t) * eps
            pull = noisy - t * sample.velocity(noisy, t) - eps
        weight = options["lambda"] * WEIGHTS[options["weight"]]((1 - t) / t)
        e = operator.forward(image).double() - sample.y.double()
        sample.residuals.append(e.detach().square().mean().item())
        if options["loss"] == "mean":
            loss = 0.5 * e.square().mean() + weight * (pull * image).mean()
        else:
            loss = e.square().sum() + weight * (pull * image).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return image.detach()


def restore(kind, sample, options, draws, name):
    """The reconstruction by one method, of the options in force for the task."""
    shape = sample.operator.shape
    noise = draws.get(f"noise/{name}")
    noise = None if noise is None else noise.view(-1, math.prod(shape))
    if kind == "red_diff":
        return red_diff(sample, options, noise)
    z = draws[f"z/{name}"].view(shape)
    if kind == "ot_ode":
        return ot_ode(sample, options, z)
    ((form, options),) = options.get("form", {"flow": {}}).items()
    return pigdm_flow(sample, options, z) if form == "flow" else pigdm_ddim(sample, options, z, noise)


def baselines(pipeline, chosen):
    """The methods of the pipeline that the peer has: kind, name, options."""
    for entry in pipeline["methods"]:
        ((kind, options),) = entry.items()
        name = options.get("name", kind)
        if kind in KINDS and (not chosen or name in chosen):
            yield kind, name, options


def in_force(options, task):
    """The options for one task, or None where the method is not run on it."""
    if task not in options.get("tasks", [task]):
        return None
    own = options.get("per_task", {}).get(task, {})
    return {key: value for key, value in options.items() if key not in ("name", "tasks", "per_task")} | own


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("pipeline", "draws", "out"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--method", action="append")
    parser.add_argument("--task", action="append")
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()

    pipeline = yaml.safe_load(args.pipeline.read_text())
    draws = load_file(args.draws)
    with safetensors.safe_open(args.draws, framework="pt") as file:
        labels = json.loads(file.metadata().get("labels", "{}"), object_pairs_hook=collections.OrderedDict)
    network, shape = load_model(args.model, args.data)
    with args.out.open("w") as out:
        for task in pipeline["tasks"]:
            if args.task and task["name"] not in args.task:
                continue
            for kind, method, written in baselines(pipeline, args.method):
                options = in_force(written, task["name"])
                for name in list(labels)[: args.limit] if options is not None else []:
                    operator = operators.build(task["operator"], shape)
                    y = draws[f"y/{task['name']}/{name}"].view(-1)
                    sample = Sample(network, labels[name], operator, y, task.get("noise", 0.0))
                    began = time.perf_counter()
                    image = restore(kind, sample, options, draws, name)
                    seconds = time.perf_counter() - began
                    truth = draws[f"truth/{name}"].view(shape)
                    steps = len(sample.residuals)
                    row = {
                        "task": task["name"],
                        "method": method,
                        "sample": name,
                        "evals": steps,
                        "losses": sample.residuals[:LOSSES_KEPT],
                        "observed_psnr": psnr(sample.residual(image).square().mean()),
                        "psnr": psnr((image.clamp(-1, 1) - truth).double().square().mean()),
                        "psnr_pinv": psnr((operator.pinv(y).clamp(-1, 1) - truth).double().square().mean()),
                        "seconds": seconds,
                        "torch": torch.__version__,
                    }
                    print(json.dumps(row), file=out, flush=True)
                    print(
                        f"{row['task']} {method} {name}: {steps} steps, observed {row['observed_psnr']:.2f} dB, PSNR "
                        f"{row['psnr']:.2f} (pinv {row['psnr_pinv']:.2f}), {seconds:.1f} s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
