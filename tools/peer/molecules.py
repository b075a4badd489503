"""D-Flow towards a molecule's property as a practitioner would write it in PyTorch, compared with a run of `dflow`.

usage: molecules.py PIPELINE DRAWS.safetensors RUN_DIR [--models models] [--data FOLDER] [--method d-flow] [--limit 4]

Its own EGNN, classifier, velocity, midpoint solver and normalisation, `torch.optim.LBFGS`, one molecule at a time; it
shares nothing with the Rust code but the weight files and the draws (`dflow draws PIPELINE DRAWS.safetensors`).
Prints both traces' first losses and fails (exit code 1) if one of the first ten differs by more than 1e-4 relative, and
by more than ten times what separates the peer from itself when it starts one unit in the last place beside: L-BFGS
amplifies rounding, and a loss (F - c)^2 near its zero is rounding of F alone. Later losses are only reported.
"""

import argparse
import json
import pathlib
import sys
import time

import pyarrow.parquet
import torch
import yaml
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint

PRECISION = 1e-5


class Messages(nn.Module):
    """Messages over all ordered pairs of atoms, gated, summed over the second atom."""

    def __init__(self, width, attributes, attention):
        super().__init__()
        self.edge_mlp = nn.Sequential(
            nn.Linear(2 * width + attributes, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.node_mlp = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.att_mlp = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid()) if attention else None

    def forward(self, h, attributes, mask):
        message = self.edge_mlp(pairs(h, attributes))
        if self.att_mlp:
            message = message * self.att_mlp(message)
        total = (message * mask).sum(1)
        return h + self.node_mlp(torch.cat([h, total], 1))


class Coordinates(nn.Module):
    """Moves every atom along its differences to the others."""

    def __init__(self, width, tanh, coords_range):
        super().__init__()
        self.coord_mlp = nn.Sequential(
            nn.Linear(2 * width + 2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1, bias=False)
        )
        self.tanh, self.coords_range = tanh, coords_range

    def forward(self, h, x, direction, attributes, mask):
        size = self.coord_mlp(pairs(h, attributes))
        if self.tanh:
            size = torch.tanh(size) * self.coords_range
        return x + (direction * size * mask).sum(1)


def pairs(h, attributes):
    n = len(h)
    return torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), attributes], 2)


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gcl_0 = Messages(config["nf"], 2, config["attention"])
        self.gcl_equiv = Coordinates(config["nf"], config["tanh"], config["coords_range"])
        self.norm_constant = config["norm_constant"]

    def forward(self, h, x, first, mask):
        difference = x[:, None] - x[None]
        distance = (difference**2).sum(2, keepdim=True)
        direction = difference / ((distance + 1e-8).sqrt() + self.norm_constant)
        attributes = torch.cat([distance, first], 2)
        h = self.gcl_0(h, attributes, mask)
        return h, self.gcl_equiv(h, x, direction, attributes, mask)


class Egnn(nn.Module):
    """The dynamics of EDM: (state, time) to (position part without centre of gravity, feature part)."""

    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Linear(7, config["nf"])
        self.embedding_out = nn.Linear(config["nf"], 7)
        for i in range(config["n_layers"]):
            self.add_module(f"e_block_{i}", Block(config))
        self.layers = config["n_layers"]

    def forward(self, state, time):
        x, mask = state[:, :3], 1 - torch.eye(len(state))[:, :, None]
        first = ((x[:, None] - x[None]) ** 2).sum(2, keepdim=True)
        h = self.embedding(torch.cat([state[:, 3:], torch.full((len(state), 1), float(time))], 1))
        for i in range(self.layers):
            h, x = getattr(self, f"e_block_{i}")(h, x, first, mask)
        moved = x - state[:, :3]
        return torch.cat([moved - moved.mean(0), self.embedding_out(h)[:, :-1]], 1)


class Classifier(nn.Module):
    """The invariant EGNN that predicts a property from positions and one-hot elements."""

    def __init__(self, config):
        super().__init__()
        width = config["nf"]
        self.embedding = nn.Linear(5, width)
        for i in range(config["n_layers"]):
            self.add_module(f"gcl_{i}", Messages(width, 1, config["attention"]))
        self.node_dec = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.graph_dec = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.config = config

    def forward(self, x, one_hot):
        mask = 1 - torch.eye(len(x))[:, :, None]
        distance = ((x[:, None] - x[None]) ** 2).sum(2, keepdim=True)
        h = self.embedding(one_hot)
        for i in range(self.config["n_layers"]):
            h = getattr(self, f"gcl_{i}")(h, distance, mask)
        number = self.graph_dec(self.node_dec(h).sum(0))
        return self.config["mean"] + self.config["mad"] * number[0]


def read_tensors(path):
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def load(folder, name, data, kind):
    """A model file and its tensors in float32."""
    file = yaml.safe_load((folder / f"{name}.yaml").read_text())
    place = data / file["folder"] if "folder" in file else (folder / f"{name}.yaml").parent
    tensors = {key: value.float() for key, value in read_tensors(place / file["weights"]).items()}
    prefix = file.get("prefix") or ("dynamics.egnn." if kind == "network" else "")
    starts = [key for key in tensors if "dynamics.egnn." in key]
    if kind == "network" and starts:
        prefix = starts[0][: starts[0].index("dynamics.egnn.") + len("dynamics.egnn.")]
    return file, {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


class Field:
    """The velocity of a model file: its own output, or that of a noise network on the polynomial_2 path."""

    def __init__(self, file, tensors):
        self.network = Egnn(file["network"]["egnn"])
        self.network.load_state_dict(tensors)
        self.network.requires_grad_(False)
        self.is_noise = file.get("prediction") == "noise"

    def __call__(self, state, t):
        if not self.is_noise:
            return self.network(state, t)
        tau = 1 - t
        alpha2 = (1 - 2 * PRECISION) * (1 - tau**2) ** 2 + PRECISION
        slope = 2 * (1 - 2 * PRECISION) * tau * (1 - tau**2) / alpha2
        sigma = (1 - alpha2) ** 0.5
        return slope * (state - self.network(state, tau) / sigma)


def midpoint(field, state, calls):
    """Explicit midpoint from noise to data; every step is recomputed on the way back."""
    steps = calls // 2
    h = 1 / steps

    def step(state, t):
        return state + h * field(state + h / 2 * field(state, t), t + h / 2)

    for i in range(steps):
        state = checkpoint(step, state, i / steps, use_reentrant=False)
    return state


def normalised(state):
    return (state - state.mean(0)) / state.std(0)


class Enough(Exception):
    """All evaluations that are compared were made."""


def solve(field, classifier, spec, start, target, most):
    """Losses of all evaluations, or of the first `most`."""
    inner, outer = spec["optimizer"]["lbfgs"]["inner"], spec["stop"][0]["outer_steps"]
    calls = spec["solver"]["midpoint"]["nfe"]
    x0 = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [x0], lr=spec["optimizer"]["lbfgs"].get("lr", 1), max_iter=inner, history_size=100, line_search_fn="strong_wolfe"
    )
    losses = []

    def closure():
        optimizer.zero_grad()
        x1 = midpoint(field, x0, calls)
        loss = (classifier(x1[:, :3], 4 * x1[:, 3:8]) - target) ** 2
        loss.backward()
        losses.append(loss.item())
        if len(losses) == most:
            raise Enough
        return loss

    for step in range(outer):
        try:
            optimizer.step(closure)
        except Enough:
            break
        if step + 1 < outer:
            with torch.no_grad():
                x0.copy_(normalised(x0))
    return losses


def distance(pairs):
    """The largest relative difference of a pair."""
    return max((abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in pairs), default=0.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("pipeline", "draws", "run"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path("models"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path())
    parser.add_argument("--method", default="d-flow")
    parser.add_argument("--limit", type=int, default=4, help="molecules in all")
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--whole", action="store_true", help="go on after the evaluations that are compared")
    args = parser.parse_args()

    pipeline = yaml.safe_load(args.pipeline.read_text())
    spec = next(m["dflow"] for m in pipeline["methods"] if m.get("dflow", {}).get("name") == args.method)
    draws = load_file(args.draws)
    field = Field(*load(args.models, pipeline["model"], args.data, "network"))
    rows = pyarrow.parquet.read_table(args.run / "samples.parquet").to_pylist()
    rows = [row for row in rows if row["method"] == args.method and row["status"] == "ok"]
    # One molecule of each task in turn.
    tasks = [task for task in pipeline["tasks"] if "property" in task]
    order = sorted(rows, key=lambda row: (int(row["sample_id"]), [task["name"] for task in tasks].index(row["task"])))
    failed, details = not order, []
    print("| task | sample | atoms | first loss differs by | first losses | peer by one ulp | first loss | last loss | peer | evaluations | peer | seconds | peer |")
    print("|---" * 13 + "|")
    for row in order[: args.limit]:
        task = next(task for task in tasks if task["name"] == row["task"])
        file, tensors = load(args.models / "classifiers", task["property"]["classifier"], args.data, "classifier")
        classifier = Classifier(file["classifier"])
        classifier.load_state_dict(tensors)
        classifier.requires_grad_(False)
        start = draws[f"x0/{args.method}/{row['task']}/{row['sample_id']}"].reshape(-1, 9)
        began = time.monotonic()
        most = 0 if args.whole else args.evaluations
        losses = solve(field, classifier, spec, start, row["target"], most)
        seconds = time.monotonic() - began
        ours = [point["loss"] for point in row["trace"]]
        first = list(zip(ours, losses))[: args.evaluations]
        beside = torch.nextafter(start, torch.full_like(start, 9.0))
        beside = solve(field, classifier, spec, beside, row["target"], args.evaluations)
        far, own = distance(first), distance(list(zip(losses, beside))[: args.evaluations])
        failed |= distance(first[:1]) > args.tolerance or far > max(args.tolerance, 10 * own)
        failed |= len(first) < min(args.evaluations, len(ours), len(losses))
        cells = [row["task"], row["sample_id"], len(start), f"{distance(first[:1]):.1e}", f"{far:.1e}", f"{own:.1e}"]
        cells += [f"{ours[0]:.6g}", f"{ours[-1]:.3g}"]
        cells += [f"{losses[-1]:.3g}", len(ours), len(losses), f"{row['device_seconds']:.1f}", f"{seconds:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        details.append(f"{row['task']}/{row['sample_id']}: " + ", ".join(f"{a:.7g} {b:.7g}" for a, b in first))
    print("\nours and the peer's:\n" + "\n".join(details))
    print("DIFFERENT" if failed else "AGREES", f"(first {args.evaluations} losses to {args.tolerance:g} relative)")
    sys.exit(failed)


if __name__ == "__main__":
    main()
