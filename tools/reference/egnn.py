"""Outputs and input VJPs of EGNNs in PyTorch, for the tests of src/net/egnn; the model is also what tools/bench times.

usage: egnn.py OUT_DIR [--data FOLDER]     (tests/golden/egnn; torch 2.9.1)

The networks are written from their published description (EDM, arXiv 2203.17003, appendix C; E(n) classifiers, arXiv
2102.09844) in the key layout of the public checkpoints: a padded batch of molecules, all ordered pairs of atoms, masks.
With --data (a folder that holds edm_qm9_small/), the public checkpoint is evaluated too: that it loads without missing
or unexpected tensors is part of the check.

No weights are stored: they, the states and the cotangents are the streams of adm.py, with weights n / sqrt(fan_in) and
biases n / 4, the last layer of a coordinate MLP n / 50 / sqrt(fan_in), so that atoms move as little as in a trained
network. A state has max_atoms rows of 9 (or 8) numbers, of which those of the real atoms are used; positions are
1.5 n. Expected values are computed in float64 and stored as float32; cases.json states how far float32 is from them.
"""

import argparse
import json
import pathlib

import numpy as np
import safetensors.numpy
import torch
from adm import distance, stream
from torch import nn

ATOMS = [1, 2, 5, 19]
TAU = [0.1, 0.375, 0.8125, 1.0]
BASE = {
    "nf": 16,
    "n_layers": 2,
    "inv_sublayers": 1,
    "attention": True,
    "tanh": True,
    "coords_range": 15.0,
    "norm_constant": 1.0,
    "normalization_factor": 1.0,
    "aggregation_method": "sum",
    "condition_time": True,
    "include_charges": True,
    "max_atoms": 19,
}
CASES = {
    "base": BASE,
    "no_attention": BASE | {"attention": False},
    "no_tanh": BASE | {"tanh": False},
    "neither": BASE | {"attention": False, "tanh": False, "norm_constant": 0.0},
    "mean": BASE | {"aggregation_method": "mean"},
    "normalization": BASE | {"normalization_factor": 4.0, "coords_range": 3.0},
    "sublayers": BASE | {"inv_sublayers": 2, "n_layers": 1},
    "no_time_no_charges": BASE | {"condition_time": False, "include_charges": False},
    "odd_width": BASE | {"nf": 21},
}
CLASSIFIERS = {
    "classifier": {"nf": 16, "n_layers": 2, "attention": True},
    "classifier_no_attention": {"nf": 21, "n_layers": 2, "attention": False},
}
CHECKPOINT = "edm_qm9_small/generative_model_ema.epoch341.pt"
CHECKPOINT_CONFIG = BASE | {"nf": 128, "n_layers": 5, "max_atoms": 29}
CHECKPOINT_ATOMS, CHECKPOINT_TAU = [5, 18, 29], [0.95, 0.5, 0.05]


def mlp(*widths, last_activation=False, last_bias=True):
    layers = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        is_last = i + 2 == len(widths)
        layers.append(nn.Linear(inputs, outputs, bias=last_bias or not is_last))
        if not is_last or last_activation:
            layers.append(nn.SiLU())
    return nn.Sequential(*layers)


class Messages(nn.Module):
    def __init__(self, nf, distances, attention, divisor):
        super().__init__()
        self.edge_mlp = mlp(2 * nf + distances, nf, nf, last_activation=True)
        self.node_mlp = mlp(2 * nf, nf, nf)
        self.divisor = divisor
        if attention:
            self.att_mlp = nn.Sequential(nn.Linear(nf, 1), nn.Sigmoid())

    def forward(self, h, edges, node_mask, edge_mask):
        m = self.edge_mlp(pairs(h, edges))
        if hasattr(self, "att_mlp"):
            m = m * self.att_mlp(m)
        total = (m * edge_mask).sum(2) / self.divisor(node_mask)
        return (h + self.node_mlp(torch.cat([h, total], -1))) * node_mask


class Coordinates(nn.Module):
    def __init__(self, nf, coords_range, divisor):
        super().__init__()
        self.coord_mlp = mlp(2 * nf + 2, nf, nf, 1, last_bias=False)
        self.coords_range, self.divisor = coords_range, divisor

    def forward(self, h, x, direction, edges, node_mask, edge_mask):
        weight = self.coord_mlp(pairs(h, edges))
        if self.coords_range is not None:
            weight = torch.tanh(weight) * self.coords_range
        return (x + (direction * weight * edge_mask).sum(2) / self.divisor(node_mask)) * node_mask


class Block(nn.Module):
    def __init__(self, config, divisor):
        super().__init__()
        nf = config["nf"]
        self.sublayers = config["inv_sublayers"]
        for i in range(self.sublayers):
            self.add_module(f"gcl_{i}", Messages(nf, 2, config["attention"], divisor))
        self.gcl_equiv = Coordinates(nf, config["coords_range"] if config["tanh"] else None, divisor)
        self.constant = config["norm_constant"]

    def forward(self, h, x, d0, node_mask, edge_mask):
        difference, d = geometry(x)
        direction = difference / (torch.sqrt(d + 1e-8) + self.constant)
        edges = torch.cat([d, d0], -1)
        for i in range(self.sublayers):
            h = getattr(self, f"gcl_{i}")(h, edges, node_mask, edge_mask)
        return h, self.gcl_equiv(h, x, direction, edges, node_mask, edge_mask)


class Egnn(nn.Module):
    """State [molecules, atoms, 3 + features] and time to output of the same shape."""

    def __init__(self, config):
        super().__init__()
        inputs = 5 + config["include_charges"] + config["condition_time"]
        self.timed = config["condition_time"]

        def divisor(node_mask):
            is_mean = config["aggregation_method"] == "mean"
            return node_mask.sum(1, keepdim=True) if is_mean else config["normalization_factor"]

        self.embedding = nn.Linear(inputs, config["nf"])
        self.embedding_out = nn.Linear(config["nf"], inputs)
        self.layers = config["n_layers"]
        for b in range(self.layers):
            self.add_module(f"e_block_{b}", Block(config, divisor))

    def forward(self, state, tau, node_mask):
        edge_mask = pair_mask(node_mask)
        x0, h = state[..., :3] * node_mask, state[..., 3:] * node_mask
        if self.timed:
            h = torch.cat([h, tau[:, None, None].expand(*h.shape[:2], 1)], -1)
        x, (_, d0) = x0, geometry(x0)
        h = self.embedding(h)
        for b in range(self.layers):
            h, x = getattr(self, f"e_block_{b}")(h, x, d0, node_mask, edge_mask)
        h = self.embedding_out(h) * node_mask
        moved = (x - x0) * node_mask
        moved = (moved - moved.sum(1, keepdim=True) / node_mask.sum(1, keepdim=True)) * node_mask
        return torch.cat([moved, h[..., :-1] if self.timed else h], -1)


class Classifier(nn.Module):
    """Positions [molecules, atoms, 3] and one-hot elements to a number for each molecule."""

    def __init__(self, config):
        super().__init__()
        nf = config["nf"]
        self.embedding = nn.Linear(5, nf)
        self.layers = config["n_layers"]
        for i in range(self.layers):
            self.add_module(f"gcl_{i}", Messages(nf, 1, config["attention"], lambda _: 1.0))
        self.node_dec = mlp(nf, nf, nf)
        self.graph_dec = mlp(nf, nf, 1)

    def forward(self, x, h, node_mask):
        edge_mask, (_, d) = pair_mask(node_mask), geometry(x)
        h = self.embedding(h)
        for i in range(self.layers):
            h = getattr(self, f"gcl_{i}")(h, d, node_mask, edge_mask)
        return self.graph_dec((self.node_dec(h) * node_mask).sum(1))[:, 0]


def pairs(h, edges):
    """[h_i, h_j, edge_ij] of every ordered pair."""
    n = h.shape[1]
    return torch.cat([h[:, :, None].expand(-1, -1, n, -1), h[:, None].expand(-1, n, -1, -1), edges], -1)


def geometry(x):
    difference = x[:, :, None] - x[:, None]
    return difference, (difference**2).sum(-1, keepdim=True)


def pair_mask(node_mask):
    different = 1 - torch.eye(node_mask.shape[1], dtype=node_mask.dtype)
    return (node_mask[:, :, None, 0] * node_mask[:, None, :, 0] * different)[..., None]


def masks(atoms, rows, dtype):
    return (torch.arange(rows)[None] < torch.tensor(atoms)[:, None]).to(dtype)[..., None]


def random_weights(model, case):
    state = {}
    for name, p in model.state_dict().items():
        n = stream(f"{case}/{name}", tuple(p.shape))
        n = n / 4 if name.endswith("bias") else n / np.sqrt(p.shape[1]) / (50 if "coord_mlp.4" in name else 1)
        state[name] = torch.from_numpy(n.astype(np.float32))
    model.load_state_dict(state)
    return sum(p.numel() for p in state.values())


def inputs(case, rows, columns, count):
    x = stream(f"{case}/x", (count, rows, columns)).astype(np.float32)
    x[..., :3] *= np.float32(1.5)
    return torch.from_numpy(x)


def evaluate(function, state, cotangent, dtype):
    """Output and VJP; `function` maps a state."""
    state = state.to(dtype).requires_grad_()
    output = function(state)
    (vjp,) = torch.autograd.grad(output, state, torch.from_numpy(cotangent.astype(np.float32)).to(dtype))
    return output.detach().numpy(), vjp.numpy()


def run(case, model, function, state, cotangent, out):
    exact = evaluate(function(model.double(), torch.float64), state, cotangent, torch.float64)
    single = evaluate(function(model.float(), torch.float32), state, cotangent, torch.float32)
    arrays = {name: value.astype(np.float32) for name, value in zip(("output", "vjp"), exact)}
    safetensors.numpy.save_file(arrays, out / f"{case}.safetensors")
    return [distance(a, b) for a, b in zip(single, exact)]


def run_dynamics(case, config, out, checkpoint=None):
    atoms, tau = (ATOMS, TAU) if checkpoint is None else (CHECKPOINT_ATOMS, CHECKPOINT_TAU)
    rows, columns = config["max_atoms"], 8 + config["include_charges"]
    model = Egnn(config)
    if checkpoint is None:
        parameters = random_weights(model, case)
    else:
        prefix = "dynamics.egnn."
        model.load_state_dict({k[len(prefix) :]: v for k, v in checkpoint.items() if k.startswith(prefix)})
        parameters = sum(p.numel() for p in model.parameters())
    cotangent = stream(f"{case}/cotangent", (len(atoms), rows, columns))

    def function(model, dtype):
        return lambda state: model(state, torch.tensor(tau, dtype=dtype), masks(atoms, rows, dtype))

    errors = run(case, model, function, inputs(case, rows, columns, len(atoms)), cotangent, out)
    config = config | {"normalize_factors": [1.0, 4.0, 10.0]}
    return {"name": case, "config": config, "atoms": atoms, "tau": tau, "parameters": parameters, "float32": errors}


def run_classifier(case, config, out):
    """As a read-out of states of EDM: positions as they are, one-hot block times 4, then 2.5 · network − 1."""
    rows = BASE["max_atoms"]
    model = Classifier(config)
    parameters = random_weights(model, case)
    cotangent = stream(f"{case}/cotangent", (len(ATOMS),))

    def function(model, dtype):
        mask = masks(ATOMS, rows, dtype)
        return lambda state: 2.5 * model(state[..., :3] * mask, 4 * state[..., 3:8] * mask, mask) - 1

    errors = run(case, model, function, inputs(case, rows, 9, len(ATOMS)), cotangent, out)
    config = config | {"property": "alpha", "mean": -1.0, "mad": 2.5}
    return {"name": case, "config": config, "atoms": ATOMS, "parameters": parameters, "float32": errors}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    report = {
        "made_by": "tools/reference/egnn.py",
        "reference": f"torch {torch.__version__}, numpy {np.__version__}",
        "dynamics": [run_dynamics(case, config, args.out) for case, config in CASES.items()],
        "classifiers": [run_classifier(case, config, args.out) for case, config in CLASSIFIERS.items()],
    }
    (args.out / "cases.json").write_text(json.dumps(report, indent=1) + "\n")
    if args.data is not None:
        checkpoint = torch.load(args.data / CHECKPOINT, map_location="cpu", weights_only=True)
        report = {"made_by": "tools/reference/egnn.py", "checkpoint": CHECKPOINT}
        report |= run_dynamics("edm-qm9-small", CHECKPOINT_CONFIG, args.out, checkpoint)
        (args.out / "checkpoint.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
