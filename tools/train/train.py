"""Trains a class-conditional Cond-OT flow-matching prior on 32x32 images and exports it.

    python train.py --data DATA --config NAME --work DIR --minutes 40 --export models

DATA is a folder with train_images.npy, test_images.npy (uint8, N x 32 x 32 x 3), train_labels.npy and
test_labels.npy (int64), as `dflow data export` writes them.
Every few minutes DIR/checkpoint.pt is replaced; a run that finds one goes on from it. The model file
NAME.yaml and weights/NAME.safetensors (the moving average in float16) are written into the export
folder at the end, or at any time from the latest checkpoint with --export-only.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch

from adm import Adm, network_config
from export import export
from optim import Muon

NETWORKS = {
    # Photographs: most of the parameters sit at 8x8 and 4x4, where they cost little.
    "cifar10": network_config(32, [1, 1, 2, 2], 1, [8], 2),
    # Procedural images: no residual blocks on the way down; about as cheap as the layout allows.
    "mini-images": network_config(32, [1, 1, 2, 2], 0, [8], 2),
}


def load_data(path):
    """Returns (train images, train labels, test images, test labels), images uint8 in NCHW."""
    names = ("train_images", "train_labels", "test_images", "test_labels")
    arrays = [np.load(Path(path) / f"{name}.npy") for name in names]
    for i in (0, 2):
        arrays[i] = np.ascontiguousarray(arrays[i].transpose(0, 3, 1, 2))
    return tuple(torch.from_numpy(array) for array in arrays)


def to_float(images):
    """Bytes 0..255 to [-1, 1]."""
    return images.float() / 127.5 - 1


def on_path(x1, noise, t):
    """The point x_t = t x1 + (1 - t) noise of the Cond-OT path."""
    w = t[:, None, None, None]
    return w * x1 + (1 - w) * noise


class Batches:
    """Endless shuffled epochs; its state is two generators and a position."""

    def __init__(self, images, labels, batch, seed, flip):
        self.images, self.labels, self.batch, self.flip = images, labels, batch, flip
        self.order_rng = torch.Generator().manual_seed(seed)
        self.noise_rng = torch.Generator().manual_seed(seed + 1)
        self.position = 0
        self.order = torch.randperm(len(images), generator=self.order_rng)

    def next(self):
        """Returns (x_t, t, labels, velocity target)."""
        if self.position + self.batch > len(self.order):
            self.order = torch.randperm(len(self.images), generator=self.order_rng)
            self.position = 0
        rows = self.order[self.position : self.position + self.batch]
        self.position += self.batch
        x1 = to_float(self.images[rows])
        if self.flip:
            mirrored = torch.rand(self.batch, generator=self.noise_rng) < 0.5
            x1 = torch.where(mirrored[:, None, None, None], x1.flip(3), x1)
        noise = torch.randn(x1.shape, generator=self.noise_rng)
        # One time in each of `batch` equal strata: uniform, with less variance of the loss.
        strata = torch.arange(self.batch) + torch.rand(self.batch, generator=self.noise_rng)
        t = strata / self.batch
        return on_path(x1, noise, t), t, self.labels[rows], x1 - noise

    def state(self):
        return {
            "order": self.order,
            "position": self.position,
            "order_rng": self.order_rng.get_state(),
            "noise_rng": self.noise_rng.get_state(),
        }

    def restore(self, state):
        self.order, self.position = state["order"], state["position"]
        self.order_rng.set_state(state["order_rng"])
        self.noise_rng.set_state(state["noise_rng"])


@torch.no_grad()
def held_out_loss(model, images, labels, count=1000, draws=1, seed=1234, batch=100):
    """Flow-matching loss per pixel, t uniform (stratified), on `count` images drawn once by seed."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(images), generator=rng)[:count]
    x1, labels = to_float(images[rows]), labels[rows]
    total, terms = 0.0, 0
    for _ in range(draws):
        noise = torch.randn(x1.shape, generator=rng)
        strata = torch.randperm(len(x1), generator=rng) + torch.rand(len(x1), generator=rng)
        t = strata / len(x1)
        xt = on_path(x1, noise, t)
        for i in range(0, len(x1), batch):
            part = slice(i, i + batch)
            velocity = model(xt[part].contiguous(memory_format=torch.channels_last), t[part], labels[part]).float()
            error = (velocity - (x1[part] - noise[part])) ** 2
            total += error.double().sum().item()
            terms += error.numel()
    return total / terms


def linear_field_loss(images, count=20000):
    """(pi/2) mean sqrt(lambda_i): the loss of the best linear velocity field for this data."""
    flat = to_float(images[:count]).flatten(1).double()
    eigenvalues = torch.linalg.eigvalsh(torch.cov(flat.T)).clamp(min=0)
    return math.pi / 2 * eigenvalues.sqrt().mean().item()


def learning_rate_factor(step, progress, warmup):
    """Linear warm-up in steps, then flat, then a linear decay to 0 over the last 60 % of the budget."""
    return min(1.0, (step + 1) / warmup) * min(1.0, (1.0 - progress) / 0.6)


def rounded(model_state):
    """Weights as they are shipped: float16 and back."""
    return {k: v.half().float() for k, v in model_state.items()}


class Run:
    """Model, moving average, optimisers, data order and the time already spent."""

    def __init__(self, args):
        self.args = args
        self.config = NETWORKS[args.config]
        torch.manual_seed(args.seed)
        self.model = Adm(self.config).to(memory_format=torch.channels_last)
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        matrices = [p for n, p in self.model.named_parameters() if p.ndim >= 2 and self._is_hidden(n)]
        ids = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in ids]
        self.optimisers = [
            Muon(matrices, lr=args.lr_matrix),
            torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
        ]
        self.base_rates = [args.lr_matrix, args.lr]
        train_x, train_y, self.test_x, self.test_y = load_data(args.data)
        self.batches = Batches(train_x, train_y, args.batch, args.seed, args.flip)
        self.step = 0
        self.elapsed = 0.0
        self.checkpoint = Path(args.work) / "checkpoint.pt"

    @staticmethod
    def _is_hidden(name):
        """First and last layers and the class table are left to AdamW."""
        return not name.startswith(("input_blocks.0.", "out.", "label_emb", "time_embed.0"))

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

    def progress(self):
        if self.args.steps:
            return self.step / self.args.steps
        return self.elapsed / (60 * self.args.minutes)

    def evaluate(self, draws):
        """Held-out loss of the rounded moving average, in float32."""
        model = Adm(self.config).to(memory_format=torch.channels_last)
        model.load_state_dict(rounded(self.ema))
        return held_out_loss(model.eval(), self.test_x, self.test_y, draws=draws)

    def train(self):
        args = self.args
        forward = torch.compile(self.model) if args.compile else self.model
        last_log = last_save = last_eval = began = time.monotonic()
        seen, total = 0, 0.0
        while self.progress() < 1:
            factor = learning_rate_factor(self.step, self.progress(), args.warmup)
            for optimiser, rate in zip(self.optimisers, self.base_rates):
                for group in optimiser.param_groups:
                    group["lr"] = rate * factor
            xt, t, labels, target = self.batches.next()
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                velocity = forward(xt.contiguous(memory_format=torch.channels_last), t, labels)
            loss = torch.mean((velocity.float() - target) ** 2)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimiser in self.optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            self.step += 1
            self.average()
            seen, total = seen + 1, total + loss.item()
            now = time.monotonic()
            # Compilation falls into the first step and is not charged to the budget.
            if seen > 1:
                self.elapsed += now - began
            began = now
            if now - last_log > 30:
                rate = seen * args.batch / (now - last_log)
                print(
                    f"step {self.step} {100 * self.progress():.1f}% loss {total / seen:.4f} {rate:.0f} images/s",
                    flush=True,
                )
                last_log, seen, total = now, 1, loss.item()
            if now - last_save > 60 * args.save_minutes:
                self.save()
                last_save = now
            if now - last_eval > 60 * args.eval_minutes:
                print(f"step {self.step} held-out {self.evaluate(1):.4f}", flush=True)
                last_eval = time.monotonic()
        self.save()

    def linear_field_loss(self):
        """Computed once and kept beside the data: the eigenvalues take a minute."""
        kept = Path(self.args.data) / "linear_field_loss.txt"
        if not kept.exists():
            kept.write_text(f"{linear_field_loss(self.batches.images):.5f}\n")
        return float(kept.read_text())

    def command(self):
        """What repeats this run, up to how far a time budget reaches on another machine."""
        args = self.args
        flip = " --flip" if args.flip else ""
        return f"tools/train/train.py --config {args.config} --batch {args.batch} --steps {self.step}{flip}"

    def export(self):
        args = self.args
        facts = {
            "steps": self.step,
            "batch": args.batch,
            "images_seen": self.step * args.batch,
            "minutes": round(self.elapsed / 60, 1),
            "seed": args.seed,
            "command": self.command(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "held_out_loss": round(self.evaluate(args.draws), 5),
            "held_out_images": 1000,
            "held_out_draws": args.draws,
            "linear_field_loss": self.linear_field_loss(),
        }
        export(args.export, args.config, self.config, self.ema, facts)
        print(json.dumps(facts), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", required=True, choices=sorted(NETWORKS))
    parser.add_argument("--work", required=True, help="folder of the checkpoint")
    parser.add_argument("--export", required=True, help="folder of the model file")
    parser.add_argument("--export-only", action="store_true")
    parser.add_argument("--minutes", type=float, default=40, help="training time over all attempts")
    parser.add_argument("--steps", type=int, default=0, help="replaces --minutes")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3, help="AdamW: biases, norms, first and last layers")
    parser.add_argument("--lr-matrix", type=float, default=0.01, help="Muon: all other weights")
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flip", action="store_true", help="random horizontal flips")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--draws", type=int, default=5, help="noise draws of the reported held-out loss")
    parser.add_argument("--eval-minutes", type=float, default=10)
    args = parser.parse_args()
    Path(args.work).mkdir(parents=True, exist_ok=True)
    run = Run(args)
    run.resume()
    if not args.export_only:
        run.train()
    run.export()


if __name__ == "__main__":
    main()
