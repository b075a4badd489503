"""Golden traces of torch.optim.LBFGS for src/optim/tests.rs.

usage: lbfgs.py OUT.json [CASE ...]

Runs in f64 with gradients written out by hand, in the order of operations of the Rust tests. Every case stores, for
each outer step (one call of `step()`), the loss and ||x|| of every evaluation, and the relative deviation of a run
whose start is moved by one unit in the last place: how much of a difference rounding alone explains.
torch <= 2.9.1 allows 25 evaluations to every line search, torch >= 2.10 what is left of max_eval.
"""

import json
import math
import os
import sys

# Plain kernels: no fused multiply-add, whose single rounding other machines need not repeat.
os.environ["ATEN_CPU_CAPABILITY"] = "default"

import torch

# `torch.optim` deletes the module's name from itself after the import.
module = sys.modules[torch.optim.LBFGS.__module__]

torch.set_num_threads(1)


def rosenbrock(x):
    a, b = x[:-1], x[1:]
    u = b - a * a
    v = 1.0 - a
    g = torch.zeros_like(x)
    g[:-1] += -400.0 * a * u - 2.0 * v
    g[1:] += 200.0 * u
    return (100.0 * u * u + v * v).sum(), g


def rosenbrock_start(n):
    return torch.tensor([-1.2 if i % 2 == 0 else 1.0 for i in range(n)], dtype=torch.float64)


def ill_conditioned(x):
    """Curvatures 1 to 1e5, and a quartic that keeps the gradient from being affine."""
    n = len(x)
    weight = torch.tensor([10.0 ** (5.0 * i / (n - 1)) for i in range(n)], dtype=torch.float64)
    return (0.5 * weight * x * x + 0.25 * x * x * x * x).sum(), weight * x + x * x * x


def matrix(rows, columns):
    """Entries exact in binary: nothing to disagree about."""
    entry = lambda i, j: ((7 * i + 13 * j + i * j) % 17 - 8) / 8
    return torch.tensor([[entry(i, j) for j in range(columns)] for i in range(rows)], dtype=torch.float64)


def log_scaled(x):
    """10 log10 of a mean squared error with a floor, as -PSNR in dB."""
    n = len(x)
    a = matrix(2 * n, n) * torch.tensor([1.0 / (1 + j) for j in range(n)], dtype=torch.float64)
    noise = torch.tensor([((5 * i) % 11 - 5) / 256 for i in range(2 * n)], dtype=torch.float64)
    truth = a @ ramp(n, 0.25)
    b = truth + 0.01 * truth * truth * truth + noise
    z = a @ x
    r = z + 0.01 * z * z * z - b
    mse = (r * r).mean()
    g = a.T @ (r * (1.0 + 0.03 * z * z)) * (2.0 / len(r))
    return 10.0 / math.log(10.0) * torch.log(mse), g * (10.0 / math.log(10.0) / mse)


def kinked(x):
    """Sum of |x_i - c_i| with weights: no point near a kink fulfils the curvature condition."""
    n = len(x)
    c = torch.tensor([((3 * i) % 7 - 3) / 3 for i in range(n)], dtype=torch.float64)
    w = torch.tensor([1.0 + i % 3 for i in range(n)], dtype=torch.float64)
    u = x - c
    sign = torch.where(u >= 0, 1.0, -1.0).to(torch.float64)
    return (w * u.abs() + 0.05 * u * u).sum(), w * sign + 0.1 * u


def uphill(x):
    """A gradient of the wrong sign: no trial is below the start, the search returns t = 0."""
    return (0.5 * x * x + 0.25 * x * x * x * x).sum(), -(x + x * x * x)


def steep(x):
    """A kink at which the slope jumps by 2e6: searches zoom for long."""
    u = x - 1.0 / 3.0
    sign = torch.where(u >= 0, 1.0, -1.0).to(torch.float64)
    return (1e6 * u.abs() + 0.5 * u * u).sum(), 1e6 * sign + u


def unbounded(x):
    """Falls ever faster: the steps grow tenfold until the bracketing runs out of evaluations."""
    return -(0.25 * x * x * x * x + 0.5 * x * x).sum(), -(x * x * x + x)


def normalise(x):
    return (x - x.mean()) / ((x - x.mean()) * (x - x.mean())).mean().sqrt()


def ramp(n, scale):
    return torch.tensor([scale * ((i * 5) % 9 - 4.25) for i in range(n)], dtype=torch.float64)


# name: function, start, outer steps, options, alteration of x between outer steps
CASES = {
    "rosenbrock_2": (rosenbrock, rosenbrock_start(2), 3, {}, None),
    "rosenbrock_10": (rosenbrock, rosenbrock_start(10), 4, {}, None),
    "rosenbrock_100": (rosenbrock, rosenbrock_start(100), 4, {}, None),
    "rosenbrock_short_memory": (rosenbrock, rosenbrock_start(10), 4, {"history_size": 3, "lr": 0.5}, None),
    "ill_conditioned": (ill_conditioned, ramp(40, 0.5), 4, {}, None),
    "log_scaled": (log_scaled, ramp(20, 0.01), 4, {}, None),
    "kinked": (kinked, ramp(12, 0.7), 4, {}, None),
    "uphill": (uphill, ramp(6, 0.3), 3, {}, None),
    "steep": (steep, ramp(3, 0.3), 3, {}, None),
    "unbounded": (unbounded, ramp(3, 0.3), 1, {}, None),
    "altered": (rosenbrock, rosenbrock_start(10), 8, {"max_iter": 5}, normalise),
}


def run(function, start, outer_steps, options, alter):
    """Losses and norms per outer step, and the evaluations of the longest line search."""
    x = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.LBFGS([x], line_search_fn="strong_wolfe", **{"max_iter": 20, **options})
    outers, searches = [], [0]
    strong_wolfe = module._strong_wolfe

    def counted(*arguments, **named):
        result = strong_wolfe(*arguments, **named)
        searches.append(result[3])
        return result

    module._strong_wolfe = counted

    def closure():
        with torch.no_grad():
            loss, x.grad = function(x.detach())
        outers[-1].append([float(loss), float(x.detach().norm())])
        return loss

    for _ in range(outer_steps):
        outers.append([])
        optimizer.step(closure)
        if alter is not None:
            with torch.no_grad():
                x.copy_(alter(x.detach()))
    module._strong_wolfe = strong_wolfe
    return outers, max(searches)


def deviations(outers, others):
    """Largest relative deviation of loss or norm up to each evaluation, None from where the counts differ."""
    worst, out = 0.0, []
    for outer, other in zip(outers, others):
        for i, (a, b) in enumerate(zip(outer, other)):
            worst = max(worst, *(abs(p - q) / max(abs(p), 1e-2) for p, q in zip(a, b)))
            out.append(worst)
        if len(outer) != len(other):
            return out + [None]
    return out


def main():
    path, names = sys.argv[1], sys.argv[2:] or list(CASES)
    cases = {}
    for name in names:
        function, start, outer_steps, options, alter = CASES[name]
        outers, longest = run(function, start, outer_steps, options, alter)
        up = torch.nextafter(start, start + 1)
        deviation = deviations(outers, run(function, up, outer_steps, options, alter)[0])
        print(
            name,
            [len(outer) for outer in outers],
            "at 30: %.1e, at 75: %s, end: %s" % (deviation[: 30][-1], deviation[:75][-1], deviation[-1]),
            "loss %.17g" % outers[-1][-1][0],
            "longest search:", longest,
        )
        cases[name] = {
            "start": start.tolist(),
            "options": options,
            "altered": alter is not None,
            "longest_search": longest,
            "outer_steps": outers,
            "ulp_deviation": [d if d is None else float("%.2e" % d) for d in deviation],
        }
    with open(path, "w") as file:
        json.dump({"made_by": "tools/reference/lbfgs.py", "torch": torch.__version__.split("+")[0], "cases": cases}, file)
        file.write("\n")


main()
