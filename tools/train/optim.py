"""Muon: momentum whose matrix is replaced by a nearly orthogonal one before each step.

Small budgets reach a clearly lower loss with it than with AdamW alone. Convolution weights are
taken as matrices (output channels) x (everything else).
"""

import torch


def orthogonalise(matrix, steps=5):
    """Moves all singular values near 1 by a quintic Newton-Schulz iteration; the shape is kept."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.size(0) > matrix.size(1) else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.size(0) > matrix.size(1) else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; the step has RMS lr * sqrt(max(1, rows / columns)) / sqrt(columns).

    A group may name the `units` of its inputs, one per column: the step is that of the layer on inputs / units.
    """

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer, units = state["momentum"], group.get("units", 1)
                gradient = p.grad / units
                buffer.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(buffer, group["momentum"]).reshape(p.size(0), -1)
                update = orthogonalise(update.bfloat16()).to(p.dtype)
                scale = max(1.0, update.size(0) / update.size(1)) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.reshape(p.shape) / units, alpha=-group["lr"] * scale)
