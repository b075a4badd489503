"""Trains the molecule networks and exports them: a Cond-OT prior and six property classifiers.

    python train_molecules.py --task prior --data DATA --work DIR --steps N --export models
    python train_molecules.py --task alpha --data DATA --work DIR --steps N --export models

DATA is the folder that holds qm9_test_split/. Every few minutes DIR/TASK.pt is replaced; a run that finds one goes
on from it. What is exported is the moving average of the weights, rounded to float16; --export-only exports the
latest checkpoint.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch

import export
from egnn import Classifier, Dynamics, centred
from molecules import Batches, by_size, load
from optim import Muon
from train import learning_rate_factor, rounded

UNITS = {"alpha": "Bohr³", "gap": "eV", "homo": "eV", "lumo": "eV", "mu": "D", "cv": "cal/(mol K)"}


def noise(mask, width, rng):
    """Standard normal states of the real atoms, the coordinates in the subspace of zero mean."""
    drawn = torch.randn(*mask.shape, width, generator=rng) * mask[..., None]
    return torch.cat([centred(drawn[..., :3], mask), drawn[..., 3:]], -1)


class Prior:
    """Velocity x1 - x0 of the Cond-OT path on normalised states n x 9."""

    SIZE = {"nf": 64, "n_layers": 6}
    METRIC = "held-out loss per coordinate"

    def __init__(self, data):
        self.train, _, self.test, _ = load(data)

    def network(self):
        return Dynamics(**self.SIZE)

    def draw(self, molecules, rows, rng):
        """Returns (x_t, t, mask, target) with one time in each of the equal strata of [0, 1]."""
        x1, mask = molecules.states(rows)
        x0 = noise(mask, x1.shape[2], rng)
        t = (torch.randperm(len(rows), generator=rng) + torch.rand(len(rows), generator=rng)) / len(rows)
        w = t[:, None, None]
        return w * x1 + (1 - w) * x0, t, mask, x1 - x0

    def loss(self, model, rows, rng):
        xt, t, mask, target = self.draw(self.train, rows, rng)
        error = (model(xt, t, mask) - target).square().sum((1, 2))
        return (error / (mask.sum(1) * target.shape[2])).mean()

    @torch.no_grad()
    def evaluate(self, model, draws):
        """Mean over all held-out molecules and coordinates; the same noises and times in every call."""
        rng = torch.Generator().manual_seed(1234)
        total, terms = 0.0, 0.0
        for _ in range(draws):
            for rows in by_size(self.test.n, 100):
                xt, t, mask, target = self.draw(self.test, rows, rng)
                total += (model(xt, t, mask) - target).square().double().sum().item()
                terms += mask.sum().item() * target.shape[2]
        return total / terms

    def export(self, folder, weights, facts):
        export.export_prior(folder, self.SIZE, weights, facts)


class Property:
    """L1 regression of one property in units of its mean absolute deviation."""

    SIZE = {"nf": 48, "n_layers": 4}
    METRIC = "held-out error"

    def __init__(self, data, name):
        self.name = name
        self.train, labels, self.test, test_labels = load(data)
        self.labels, self.test_labels = labels[name], test_labels[name]
        self.mean = self.labels.mean().item()
        self.mad = (self.labels - self.mean).abs().mean().item()

    def network(self):
        return Classifier(**self.SIZE)

    def loss(self, model, rows, rng):
        x, one_hot, _, mask = self.train.rows(rows)
        wanted = (self.labels[rows] - self.mean) / self.mad
        return (model(x, one_hot, mask) - wanted).abs().mean()

    @torch.no_grad()
    def evaluate(self, model, draws):
        """Mean absolute error on the held-out molecules, in the unit of the property."""
        total = 0.0
        for rows in by_size(self.test.n, 100):
            x, one_hot, _, mask = self.test.rows(rows)
            predicted = model(x, one_hot, mask) * self.mad + self.mean
            total += (predicted - self.test_labels[rows]).abs().double().sum().item()
        return total / len(self.test)

    def export(self, folder, weights, facts):
        numbers = {"mean": self.mean, "mad": self.mad}
        export.export_classifier(folder, self.name, UNITS[self.name], self.SIZE, numbers, weights, facts)


class Run:
    """Model, moving average, optimisers, data order and the time already spent."""

    def __init__(self, args):
        self.args = args
        self.task = Prior(args.data) if args.task == "prior" else Property(args.data, args.task)
        torch.manual_seed(args.seed)
        self.model = self.task.network()
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        inner = {id(p) for n, p in self.model.named_parameters() if self._is_inner(n, p)}
        matrices = [p for p in self.model.parameters() if id(p) in inner]
        others = [p for p in self.model.parameters() if id(p) not in inner]
        self.optimisers = [
            Muon(matrices, lr=args.lr_matrix),
            torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
        ]
        self.base_rates = [args.lr_matrix, args.lr]
        self.batches = Batches(self.task.train.n, args.batch, args.seed)
        self.step, self.elapsed = 0, 0.0
        self.checkpoint = Path(args.work) / f"{args.task}.pt"

    @staticmethod
    def _is_inner(name, parameter):
        """Embeddings and layers with one output are left to AdamW."""
        return parameter.ndim == 2 and len(parameter) > 1 and not name.startswith("embedding")

    def save(self):
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimisers": [o.state_dict() for o in self.optimisers],
            "batches": self.batches.state(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)

    def resume(self):
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        for optimiser, stored in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(stored)
        self.batches.restore(state["batches"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"resumed at step {self.step}, {self.elapsed / 60:.1f} min", flush=True)

    def average(self):
        """Moving average whose horizon grows with the run: about a tenth of the steps so far."""
        decay = min(self.args.ema, (1 + self.step) / (10 + self.step))
        names, live = zip(*self.model.state_dict().items())
        torch._foreach_lerp_([self.ema[n] for n in names], list(live), 1 - decay)

    def evaluate(self, draws):
        """Held-out figure of the rounded moving average, in float32."""
        model = self.task.network()
        model.load_state_dict(rounded(self.ema))
        return self.task.evaluate(model.eval(), draws)

    def train_step(self):
        args = self.args
        factor = learning_rate_factor(self.step, self.step / args.steps, args.warmup)
        for optimiser, rate in zip(self.optimisers, self.base_rates):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        rows = self.batches.next()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = self.task.loss(self.model, rows, self.batches.rng)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.average()
        return loss.item()

    def train(self):
        args = self.args
        began = last_log = last_save = last_eval = time.monotonic()
        seen, total = 0, 0.0
        while self.step < args.steps:
            seen, total = seen + 1, total + self.train_step()
            now = time.monotonic()
            self.elapsed, began = self.elapsed + now - began, now
            if now - last_log > 30:
                rate = seen * args.batch / (now - last_log)
                print(f"step {self.step} loss {total / seen:.4f} {rate:.0f} molecules/s", flush=True)
                last_log, seen, total = now, 0, 0.0
            if now - last_save > 60 * args.save_minutes:
                self.save()
                last_save = now
            if now - last_eval > 60 * args.eval_minutes:
                print(f"step {self.step} {self.task.METRIC} {self.evaluate(1):.4f}", flush=True)
                last_eval = began = time.monotonic()
        self.save()

    def command(self):
        args = self.args
        exact = "" if args.bf16 else " --no-bf16"
        return (
            f"tools/train/train_molecules.py --task {args.task} --batch {args.batch} --steps {args.steps} "
            f"--lr-matrix {args.lr_matrix:g}{exact}"
        )

    def export(self):
        args = self.args
        facts = {
            "steps": self.step,
            "batch": args.batch,
            "minutes": round(self.elapsed / 60, 1),
            "seed": args.seed,
            "command": self.command(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "trained_on": len(self.task.train),
            "held_out": round(self.evaluate(args.draws), 5),
            "held_out_molecules": len(self.task.test),
            "held_out_draws": args.draws,
        }
        print(json.dumps(facts), flush=True)
        self.task.export(args.export, self.ema, facts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=["prior", *UNITS])
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", required=True, help="folder of the checkpoints")
    parser.add_argument("--export", required=True, help="folder of the model files")
    parser.add_argument("--export-only", action="store_true")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3, help="AdamW: biases, embeddings, layers with one output")
    parser.add_argument("--lr-matrix", type=float, default=0.01, help="Muon: all other weights")
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-bf16", dest="bf16", action="store_false")
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--eval-minutes", type=float, default=5)
    parser.add_argument("--draws", type=int, default=5, help="noise draws of the reported held-out loss")
    args = parser.parse_args()
    Path(args.work).mkdir(parents=True, exist_ok=True)
    run = Run(args)
    run.resume()
    if not args.export_only:
        run.train()
    run.export()


if __name__ == "__main__":
    main()
