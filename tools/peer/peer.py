"""D-Flow (arXiv 2402.14017, Algorithm 1) in plain PyTorch, to compare `dflow` with: one sample at a time.

usage: peer.py PIPELINE DRAWS OUT.jsonl --model MODEL.yaml [--data FOLDER] [--method NAME] [--task NAME]... [--limit N]
               [--cap EVALUATIONS] [--threads N] [--device cpu] [--checkpoint] [--ulp SEED] [--other-kernels]

DRAWS is the file of `dflow draws PIPELINE DRAWS`: clean images, measurements, noises and source points. The objective
is minimised by torch.optim.LBFGS (strong Wolfe) of torch 2.9.1, whose line search later versions changed. Every line
of the output is one (task, sample). The parameters are frozen; with --checkpoint the activations of a network call are
computed again in its pull-back, instead of kept. With --ulp every number of a source point is moved by one unit in the last place, up
or down by a coin: how far such runs are from the one without says how much of a difference is rounding. The line search
amplifies it: where f(0) - f(t) is small beside f, the sign under the root of its cubic, and with it the next trial, is
decided by the last digits of f. --other-kernels is the same network in another order of memory and without oneDNN: another
rounding of the same sums.
"""

import argparse
import collections
import json
import math
import pathlib
import time

import safetensors
import torch
import yaml
from safetensors.torch import load_file
from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint

import metrics
import operators
from adm import Adm

RANGE = 2.0
MSE_FLOOR = 1e-12 * RANGE**2
LOSSES_KEPT = 40


class CapReached(Exception):
    """Raised inside of the optimiser when the cap of evaluations is reached."""


def psnr(mse):
    return -10.0 * math.log10(max(mse.item(), MSE_FLOOR)) + 20.0 * math.log10(RANGE)


def load_model(path, data):
    spec = yaml.safe_load(path.read_text())
    if spec.get("path", "cond_ot") != "cond_ot" or spec.get("prediction", "velocity") != "velocity":
        raise SystemExit("the peer takes Cond-OT velocity networks only")
    folder = data / spec["folder"] if "folder" in spec else path.parent
    network = Adm(spec["network"]["adm"]).eval()
    weights = load_file(folder / spec["weights"], device=str(torch.get_default_device()))
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    config = spec["network"]["adm"]
    return network, (config["in_channels"], config["image_size"], config["image_size"])


class Flow:
    """The solution map of the ODE by torchdiffeq's midpoint steps, for one sample."""

    def __init__(self, network, nfe, label, recompute=False):
        self.network, self.steps, self.recompute = network, nfe // 2, recompute
        self.label = None if label is None else torch.tensor([label])

    def velocity(self, t, x):
        arguments = x[None], t.reshape(1), self.label
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.network, *arguments, use_reentrant=False)[0]
        return self.network(*arguments)[0]

    def forward(self, x):
        return odeint(self.velocity, x, torch.linspace(0, 1, self.steps + 1), method="midpoint")[-1]

    @torch.no_grad()
    def backward(self, x):
        return odeint(self.velocity, x, torch.linspace(1, 0, self.steps + 1), method="midpoint")[-1]


class Objective:
    """-PSNR of the pair that the task compares, plus the regulariser; counts and records its evaluations."""

    def __init__(self, flow, operator, y, loss_space, chi, cap):
        self.flow, self.operator, self.chi, self.cap = flow, operator, chi, cap
        self.in_image_space = loss_space == "pinv"
        self.target = operator.pinv(y) if self.in_image_space else y
        self.losses, self.last_psnr, self.best = [], None, (-math.inf, None)

    def __call__(self, x0):
        if len(self.losses) == self.cap:
            raise CapReached
        measured = self.operator.forward(self.flow.forward(x0))
        measured = self.operator.pinv(measured) if self.in_image_space else measured
        mse = (measured - self.target).double().square().mean().clamp_min(MSE_FLOOR)
        loss = 10.0 * torch.log10(mse) - 20.0 * math.log10(RANGE)
        if self.chi:
            # The chi law's negative log-likelihood less its minimum: no cancellation of large numbers.
            d = x0.numel()
            q = x0.double().square().sum() / (d - 1)
            loss = loss + self.chi * (d - 1) * ((q - 1) / 2 - 0.5 * torch.log1p(q - 1))
        self.losses.append(loss.item())
        self.last_psnr = psnr(mse)
        if self.last_psnr > self.best[0]:
            self.best = (self.last_psnr, x0.detach().clone())
        return loss


def minimise(objective, x0, target, inner, history):
    """Outer steps until the target PSNR or the cap of evaluations; the last iterate, why it ended, and the steps."""
    x0 = x0.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([x0], max_iter=inner, history_size=history, line_search_fn="strong_wolfe")
    # What this outer step has evaluated: the next one starts where one of its line searches ended, and LBFGS asks for
    # that point again.
    seen = []

    def find():
        return next((known for known in reversed(seen) if torch.equal(known["x"], x0)), None)

    def closure():
        known = find()
        if known is None:
            loss = objective(x0)
            (gradient,) = torch.autograd.grad(loss, x0)
            known = {"x": x0.detach().clone(), "loss": loss.detach(), "gradient": gradient}
            known["psnr"] = objective.last_psnr
            seen.append(known)
        x0.grad = known["gradient"].clone()
        return known["loss"]

    steps = 0
    try:
        while True:
            before = x0.detach().clone()
            optimiser.step(closure)
            steps += 1
            if torch.equal(before, x0):
                return x0.detach(), "no_progress", steps
            here = find()
            if here is None:
                return x0.detach(), "non_finite", steps
            if here["psnr"] >= target:
                return x0.detach(), "target_psnr", steps
            seen = [here]
    except CapReached:
        # Inside of a line search the parameters hold a trial point: the best evaluated point instead.
        return objective.best[1], "evals", steps


def method_options(pipeline, name):
    for entry in pipeline["methods"]:
        ((kind, options),) = entry.items()
        if kind == "dflow" and name in (None, options.get("name", "dflow")):
            return options
    raise SystemExit(f"no D-Flow method {name or ''} in the pipeline")


def refuse_others(options, task, stop, regularizer, lbfgs):
    """Ends the program where the options are not those of the algorithm that is written here."""
    known = {
        "method": (options, "name solver init loss regularizer optimizer stop stop_tests normalize condition"),
        "stop": (stop, "target_psnr evals"),
        "lbfgs": (lbfgs, "inner history initial"),
        "loss": (options.get("loss", {}), "neg_psnr"),
        "regularizer": ({} if regularizer == "none" else regularizer, "chi"),
    }
    others = [f"{place}: {name}" for place, (given, names) in known.items() for name in given if name not in names.split()]
    plain = {"stop_tests": "outer_step", "normalize": "none"}
    others += [f"{name}: {options[name]}" for name, value in plain.items() if options.get(name, value) != value]
    if lbfgs.get("initial", "scalar") != "scalar":
        others.append(f"initial: {lbfgs['initial']}")
    if others:
        raise SystemExit(f"task {task['name']}: the peer has not got {', '.join(others)}: compare with another method")


def resolve(options, task):
    """The options in force for one task, limited to what the peer has."""
    options = {key: value for key, value in options.items() if key != "per_task"} | options.get("per_task", {}).get(
        task["name"], {}
    )
    stop = {key: value for rule in options["stop"] for key, value in rule.items()}
    regularizer = options.get("regularizer", "none")
    lbfgs = options.get("optimizer", {"lbfgs": {}})["lbfgs"]
    refuse_others(options, task, stop, regularizer, lbfgs)
    init = options.get("init", {"blend": 0.1})["blend"]
    return {
        "nfe": options.get("solver", {"midpoint": {"nfe": 6}})["midpoint"]["nfe"],
        "blend": init["weight"] if isinstance(init, dict) else init,
        "space": options.get("loss", {"neg_psnr": "measurement"})["neg_psnr"],
        "chi": 0.0 if regularizer == "none" else regularizer["chi"],
        "target": stop.get("target_psnr", math.inf),
        "cap": stop["evals"],
        "inner": lbfgs.get("inner", 20),
        "history": lbfgs.get("history", 100),
    }


def solve(network, shape, task, options, draws, method, sample, label, args):
    """One (task, sample), as a dictionary for JSON."""
    entered = time.perf_counter()
    operator = operators.build(task["operator"], shape)
    for name, value in vars(operator).items():
        if torch.is_tensor(value):
            setattr(operator, name, value.to(torch.get_default_device()))
    hole = operator.hole
    flow = Flow(network, options["nfe"], label, args.checkpoint)
    y, z = draws[f"y/{task['name']}/{sample}"].view(-1), draws[f"z/{sample}"].view(shape)
    weight = options["blend"]
    own_start = math.sqrt(weight) * flow.backward(operator.lift(y).float()) + math.sqrt(1 - weight) * z
    start = draws.get(f"x0/{method}/{task['name']}/{sample}", own_start).view(shape)
    if args.ulp is not None:
        coins = torch.randint(0, 2, start.shape, generator=torch.Generator().manual_seed(args.ulp))
        start = torch.nextafter(start, torch.where(coins == 1, math.inf, -math.inf))
    objective = Objective(flow, operator, y, options["space"], options["chi"], options["cap"])
    began = time.perf_counter()
    x0, reason, steps = minimise(objective, start, options["target"], options["inner"], options["history"])
    seconds = time.perf_counter() - began
    evals = len(objective.losses)
    with torch.no_grad():
        restored = flow.forward(x0).clamp(-1, 1)
        observed = Objective(flow, operator, y, options["space"], 0.0, 1)
        observed(x0)
    restored, truth = restored.cpu(), draws[f"truth/{sample}"].view(shape).cpu()
    hole = None if hole is None else hole.cpu()
    pinv = operator.pinv(y).clamp(-1, 1).cpu()
    distance = float((start - own_start).norm() / own_start.norm())
    errors = (restored - truth).double().square()
    return {
        "task": task["name"],
        "sample": sample,
        "stop_reason": reason,
        "evals": evals,
        "outer_steps": steps,
        "observed_psnr": observed.last_psnr,
        "psnr": psnr(errors.mean()),
        "ssim": metrics.ssim(restored, truth),
        "hole_psnr": None if hole is None else psnr(errors[hole].mean()),
        "psnr_pinv": psnr((pinv - truth).double().square().mean()),
        "seconds": seconds,
        "whole_seconds": time.perf_counter() - entered,
        "peak_memory": metrics.peak_memory(),
        "start_distance": distance,
        "losses": objective.losses[:LOSSES_KEPT],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("pipeline", "draws", "out"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--method")
    parser.add_argument("--task", action="append")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--cap", type=int, help="replaces the pipeline's cap of evaluations")
    parser.add_argument("--threads", type=int, help="default: torch's, all cores")
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU such as cuda:0 (without TF32)")
    parser.add_argument("--checkpoint", action="store_true", help="keep no activations between calls of the network")
    parser.add_argument("--ulp", type=int, metavar="SEED", help="start one unit in the last place beside")
    parser.add_argument("--other-kernels", action="store_true", help="channels last, and without oneDNN")
    args = parser.parse_args()

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    pipeline = yaml.safe_load(args.pipeline.read_text())
    options = method_options(pipeline, args.method)
    method = options.get("name", "dflow")
    draws = load_file(args.draws, device=args.device)
    with safetensors.safe_open(args.draws, framework="pt") as file:
        labels = json.loads(file.metadata().get("labels", "{}"), object_pairs_hook=collections.OrderedDict)
    network, shape = load_model(args.model, args.data)
    if args.other_kernels:
        torch.backends.mkldnn.enabled = False
        network = network.to(memory_format=torch.channels_last)
    samples = list(labels)[: args.limit]
    with args.out.open("w") as out:
        for task in pipeline["tasks"]:
            if args.task and task["name"] not in args.task:
                continue
            for sample in samples:
                resolved = resolve(options, task)
                resolved["cap"] = args.cap or resolved["cap"]
                row = solve(network, shape, task, resolved, draws, method, sample, labels[sample], args)
                row |= {"target": resolved["target"], "cap": resolved["cap"], "torch": torch.__version__}
                print(json.dumps(row), file=out, flush=True)
                print(
                    f"{row['task']} {sample}: {row['evals']} evaluations, {row['stop_reason']}, observed "
                    f"{row['observed_psnr']:.2f} dB, PSNR {row['psnr']:.2f} (pinv {row['psnr_pinv']:.2f}), "
                    f"SSIM {row['ssim']:.4f}, {row['seconds']:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
