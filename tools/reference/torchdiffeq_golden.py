"""Golden ODE solutions of torchdiffeq for the flow solvers.

The field is the closed-form Cond-OT velocity of a two-dimensional Gaussian mixture, in f64. For each solver and
direction: end points, and the gradient of <cotangent, end> with respect to the start (autograd through the solver).

    python tools/reference/torchdiffeq_golden.py    # writes tests/golden/torchdiffeq/solutions.json
"""

import json
import math
from pathlib import Path

import torch
import torchdiffeq
from torchdiffeq._impl import rk_common
from torchdiffeq._impl.fixed_grid import FixedGridODESolver
from torchdiffeq._impl.odeint import SOLVERS
from torchdiffeq._impl.rk_common import rk4_step_func

torch.set_default_dtype(torch.float64)

WEIGHTS = [0.4, 0.6]
MEANS = [[1.0, -0.5], [-0.7, 0.8]]
COVARIANCES = [[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.05], [-0.05, 0.6]]]
STARTS = [[0.3, -1.2], [1.5, 0.4], [-0.8, 0.1]]
COTANGENTS = [[1.0, -0.5], [0.3, 0.8], [-1.1, 0.2]]


class ClassicalRk4(FixedGridODESolver):
    """The classical tableau: torchdiffeq's own "rk4" is the 3/8 rule."""

    order = 4

    def _step_func(self, func, t0, dt, t1, y0):
        f0 = func(t0, y0)
        return rk4_step_func(func, t0, dt, t1, y0, f0=f0), f0


SOLVERS["rk4_classical"] = ClassicalRk4
# Step sizes count as constants in a gradient; torchdiffeq differentiates the first one.
rk_common._select_initial_step = torch.no_grad()(rk_common._select_initial_step)


def velocity(t, x):
    """u_t(x) of one state."""
    weights, means, covariances = map(torch.tensor, (WEIGHTS, MEANS, COVARIANCES))
    alpha, sigma = t, 1 - t
    identity = torch.eye(2)
    logs, velocities = [], []
    for weight, mean, covariance in zip(weights, means, covariances):
        marginal = alpha**2 * covariance + sigma**2 * identity
        centred = x - alpha * mean
        solved = torch.linalg.solve(marginal, centred)
        logs.append(weight.log() - 0.5 * (centred @ solved + torch.linalg.slogdet(marginal)[1]))
        data = mean + alpha * covariance @ solved
        noise = sigma * solved
        velocities.append(data - noise)
    return torch.softmax(torch.stack(logs), 0) @ torch.stack(velocities)


def case(method, direction, *, steps=None, tolerance=None, clipped=False):
    """One solver on every start. An adaptive solve steps beyond the end and interpolates, unless it is clipped."""
    ends, gradients = [], []
    for start, cotangent in zip(STARTS, COTANGENTS):
        start = torch.tensor(start, requires_grad=True)
        # The grid as integers over the number of steps, never accumulated.
        t = torch.arange(steps + 1) / steps if steps else torch.tensor([0.0, 1.0])
        t = t if direction == "forward" else 1 - t
        options = {"rtol": tolerance, "atol": tolerance} if tolerance else {}
        if clipped:
            options["options"] = {"step_t": t[-1:]}
        end = torchdiffeq.odeint(velocity, start, t, method=method, **options)[-1]
        (gradient,) = torch.autograd.grad(end @ torch.tensor(cotangent), start)
        ends.append(end.tolist())
        gradients.append(gradient.tolist())
    size = {"steps": steps} if steps else {"tolerance": tolerance, "clipped": clipped}
    return {"method": method, "direction": direction, **size, "ends": ends, "gradients": gradients}


def main():
    cases = []
    for direction in ["forward", "backward"]:
        for method, steps in [("euler", 7), ("midpoint", 3), ("midpoint", 10), ("heun2", 5), ("rk4_classical", 4)]:
            cases.append(case(method, direction, steps=steps))
        # At looser tolerances the interpolation at the end is off by up to a hundred tolerances.
        for tolerance in [1e-5, 1e-8]:
            cases.append(case("dopri5", direction, tolerance=tolerance))
        for tolerance in [1e-3, 1e-5, 1e-8]:
            cases.append(case("dopri5", direction, tolerance=tolerance, clipped=True))
    assert all(math.isfinite(v) for c in cases for row in c["ends"] + c["gradients"] for v in row)
    golden = {
        "made_by": "tools/reference/torchdiffeq_golden.py",
        "torch": torch.__version__.split("+")[0],
        "torchdiffeq": torchdiffeq.__version__,
        "weights": WEIGHTS,
        "means": MEANS,
        "covariances": COVARIANCES,
        "starts": STARTS,
        "cotangents": COTANGENTS,
        "cases": cases,
    }
    out = Path(__file__).parents[2] / "tests/golden/torchdiffeq/solutions.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
