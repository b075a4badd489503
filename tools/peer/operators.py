"""Linear degradations as torch code: measurements are flat vectors of the observed entries, channel by channel.

The separable ones compute in float64: the inverse of a blur multiplies rounding errors by up to 5000.

Definitions: the settings of Pokle et al. (arXiv 2310.04432) as D-Flow uses them. Images are (C, H, W) in [-1, 1].
"""

import math

import numpy as np
import torch


class Mask:
    """Keeps the pixels of a boolean (H, W) map in every channel."""

    def __init__(self, shape, keep):
        self.shape = shape
        keep = torch.from_numpy(np.broadcast_to(keep, shape).copy())
        self.index, self.hole = torch.nonzero(keep.reshape(-1))[:, 0], ~keep

    def forward(self, x):
        return x.reshape(-1)[self.index]

    def pinv(self, y):
        x = torch.zeros(math.prod(self.shape), dtype=y.dtype)
        x[self.index] = y
        return x.view(self.shape)

    def lift(self, y):
        return self.pinv(y)

    adjoint = pinv

    def regularised(self, e, r2, sigma2):
        """H^T (r2 H H^T + sigma2 I)^-1 e."""
        return self.pinv(e) / (r2 + sigma2)


class Separable:
    """Rows and columns of each channel multiplied by one matrix A: A X A^T."""

    hole = None

    def __init__(self, shape, matrix, lift_is_pinv, per_axis=0.0, product=0.0):
        self.shape, self.lift_is_pinv = shape, lift_is_pinv
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        values = np.outer(s, s)
        self.values, self.all_u, self.all_v = map(torch.from_numpy, (values, u.copy(), vt.T.copy()))
        keep = s > max(per_axis, 1e-12 * s[0])
        u, s, vt = u[:, keep], s[keep], vt[keep]
        inverse = 1.0 / np.outer(s, s)
        if product > 0:
            inverse[np.outer(s, s) < product] = 0.0
        self.a, self.u, self.v, self.inverse = (
            torch.from_numpy(np.ascontiguousarray(part)) for part in (matrix, u, vt.T, inverse)
        )

    def forward(self, x):
        return (self.a @ x.double() @ self.a.T).reshape(-1)

    def pinv(self, y):
        y = y.double().view(self.shape[0], self.a.shape[0], self.a.shape[0])
        return self.v @ (self.inverse * (self.u.T @ y @ self.u)) @ self.v.T

    def adjoint(self, y):
        return self.a.T @ y.double().view(self.shape[0], self.a.shape[0], self.a.shape[0]) @ self.a

    def regularised(self, e, r2, sigma2):
        """H^T (r2 H H^T + sigma2 I)^-1 e; without noise H^+ e / r2, with the cut-off of H^+."""
        if sigma2 == 0:
            return self.pinv(e) / r2
        e = e.double().view(self.shape[0], self.a.shape[0], self.a.shape[0])
        gains = self.values / (r2 * self.values**2 + sigma2)
        return self.all_v @ (gains * (self.all_u.T @ e @ self.all_u)) @ self.all_v.T

    def lift(self, y):
        return self.pinv(y) if self.lift_is_pinv else y.view(self.shape)


class Identity:
    hole = None

    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        return x.reshape(-1)

    def pinv(self, y):
        return y.view(self.shape)

    lift = adjoint = pinv

    def regularised(self, e, r2, sigma2):
        return self.pinv(e) / (r2 + sigma2)


def center_mask(shape, size):
    keep = np.ones(shape[1:], bool)
    top, left = (shape[1] - size) // 2, (shape[2] - size) // 2
    keep[top : top + size, left : left + size] = False
    return Mask(shape, keep)


def bicubic(shape, factor):
    """Anti-aliased Keys kernel (a = -0.5), borders mirrored with the edge repeated."""

    def keys(x):
        x, a = abs(x), -0.5
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    size = shape[1]
    matrix = np.zeros((size // factor, size))
    for row in range(size // factor):
        # Pixel centres: output row r lies at factor * (r + 1/2) - 1/2.
        centre = factor * (row + 0.5) - 0.5
        taps = range(math.floor(centre - 2 * factor) + 1, math.ceil(centre + 2 * factor))
        weights = np.array([keys((tap - centre) / factor) for tap in taps])
        for tap, weight in zip(taps, weights / weights.sum()):
            tap = -tap - 1 if tap < 0 else tap
            matrix[row, 2 * size - 1 - tap if tap >= size else tap] += weight
    return Separable(shape, matrix, lift_is_pinv=True)


def gaussian_blur(shape, sigma, taps=61, boundary="reflect", **cutoff):
    """A Gaussian of `taps` entries; `reflect` mirrors without repeating the edge, as often as needed."""
    size, half = shape[1], taps // 2
    offsets = np.arange(-half, half + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((size, size))
    for row in range(size):
        for offset, weight in zip(offsets, kernel):
            column = row + offset
            if boundary == "reflect":
                column %= max(2 * size - 2, 1)
                column = min(column, 2 * size - 2 - column)
            elif boundary == "circular":
                column %= size
            elif not 0 <= column < size:
                continue
            matrix[row, column] += weight
    return Separable(shape, matrix, lift_is_pinv=False, **cutoff)


def build(spec, shape):
    """The operator of a pipeline file's `operator:` entry."""
    ((kind, options),) = spec.items()
    if kind == "center_mask":
        return center_mask(shape, options["size"])
    if kind == "bicubic" and options.get("kernel", "antialiased") == "antialiased":
        return bicubic(shape, options["factor"])
    if kind == "gaussian_blur":
        cutoff = options.get("pinv_cutoff", "none")
        return gaussian_blur(
            shape,
            options["sigma"],
            options.get("size", 61),
            options.get("boundary", "reflect"),
            **({} if cutoff == "none" else cutoff),
        )
    if kind == "identity":
        return Identity(shape)
    raise SystemExit(f"the peer has no operator {spec}")
