"""Golden values of the image operators, from code that shares nothing with the Rust side.

H is applied by scipy.ndimage (blur, anti-aliased bicubic) and torch (interpolate), made a dense matrix by applying it
to unit images, and inverted by numpy's SVD of that matrix.

    python tools/reference/operators.py tests/golden/operators/operators.json
"""

import json
import sys

import numpy as np
import scipy
import scipy.ndimage
import torch

CHANNELS, HEIGHT, WIDTH = 2, 8, 6


def keys(x, a):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def blur(size, sigma, mode):
    k = np.arange(size) - size // 2
    taps = np.exp(-0.5 * (k / sigma) ** 2)
    taps /= taps.sum()

    def apply(plane, axis):
        return scipy.ndimage.correlate1d(plane, taps, axis=axis, mode=mode, cval=0.0)

    return apply


def antialiased(factor):
    """Even factors only: DDRM's taps, half-sample-symmetric borders (scipy's "reflect")."""
    taps = np.array([keys((i - 2 * factor + 0.5) / factor, -0.5) for i in range(4 * factor)])
    taps /= taps.sum()

    def apply(plane, axis):
        # Pad by two whole mirror images, then take the window factor·i − 3·factor/2 … of every block.
        pad = [(0, 0), (0, 0)]
        pad[axis] = (2 * factor, 2 * factor)
        wide = np.moveaxis(np.pad(plane, pad, mode="symmetric"), axis, 0)
        start = 2 * factor - (2 * factor - factor // 2)
        rows = [
            np.tensordot(taps, wide[start + i : start + i + 4 * factor], axes=1)
            for i in range(0, plane.shape[axis], factor)
        ]
        return np.moveaxis(np.stack(rows), 0, axis)

    return apply


def interpolate(factor):
    def both(plane):
        image = torch.from_numpy(np.ascontiguousarray(plane))[None, None]
        size = (plane.shape[0] // factor, plane.shape[1] // factor)
        out = torch.nn.functional.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=False)
        return out[0, 0].numpy()

    return both


def separable(apply):
    return lambda plane: apply(apply(plane, 0), 1)


def dense(both, height, width):
    columns = []
    for k in range(height * width):
        unit = np.zeros(height * width)
        unit[k] = 1.0
        columns.append(both(unit.reshape(height, width)).ravel())
    return np.stack(columns, axis=1)


def dense_axis(apply, n):
    return np.stack([apply(np.eye(n)[k][:, None], 0)[:, 0] for k in range(n)], axis=1)


def pinv_product(matrix, cutoff):
    """Pseudo-inverse of the whole two-dimensional operator; singular values up to the cut-off count as zero."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    keep = s > max(cutoff, 1e-13)
    return (vt[keep].T / s[keep]) @ u[:, keep].T


def mask_case(size):
    hole = np.zeros((HEIGHT, WIDTH), bool)
    top, left = (HEIGHT - size) // 2, (WIDTH - size) // 2
    hole[top : top + size, left : left + size] = True
    return np.eye(HEIGHT * WIDTH)[~hole.ravel()]


def cases():
    blur_spec = lambda size, sigma, boundary, cutoff: {
        "gaussian_blur": {"size": size, "sigma": sigma, "boundary": boundary, "pinv_cutoff": cutoff}
    }
    modes = {"reflect": "mirror", "zero": "constant", "circular": "wrap"}
    yield "center mask", {"center_mask": {"size": 3}}, (m := mask_case(3)), m.T
    yield "identity", {"identity": {}}, np.eye(HEIGHT * WIDTH), np.eye(HEIGHT * WIDTH)
    for boundary, mode in modes.items():
        for size, sigma in ((61, 1.0), (5, 0.7)):
            h = dense(separable(blur(size, sigma, mode)), HEIGHT, WIDTH)
            yield f"blur {boundary} {size} {sigma}", blur_spec(size, sigma, boundary, "none"), h, pinv_product(h, 0.0)
        h = dense(separable(blur(61, 1.0, mode)), HEIGHT, WIDTH)
        yield f"blur {boundary} product", blur_spec(61, 1.0, boundary, {"product": 0.1}), h, pinv_product(h, 0.1)
        apply = blur(61, 1.0, mode)
        factors = [pinv_product(dense_axis(apply, n), 0.25) for n in (HEIGHT, WIDTH)]
        yield f"blur {boundary} per axis", blur_spec(61, 1.0, boundary, {"per_axis": 0.25}), h, np.kron(*factors)
    for kernel, both, cut in (("antialiased", separable(antialiased(2)), 0.4), ("interpolate", interpolate(2), 0.7)):
        h = dense(both, HEIGHT, WIDTH)
        for cutoff, value in (("none", 0.0), ({"product": cut}, cut)):
            spec = {"bicubic": {"factor": 2, "kernel": kernel, "pinv_cutoff": cutoff}}
            yield f"bicubic {kernel} {value}", spec, h, pinv_product(h, value)


def listed(array):
    return [float(f"{v:.8g}") for v in np.ravel(array)]


def main(path):
    rng = np.random.default_rng(20240222)
    x = rng.standard_normal((CHANNELS, HEIGHT * WIDTH)).astype(np.float32)
    found = []
    for name, spec, h, pinv in cases():
        y = x.astype(np.float64) @ h.T
        measurement = rng.standard_normal(y.shape).astype(np.float32)
        found.append(
            {
                "name": name,
                "operator": spec,
                "y": listed(y),
                "measurement": listed(measurement),
                "adjoint": listed(measurement.astype(np.float64) @ h),
                "pinv": listed(measurement.astype(np.float64) @ pinv.T),
                "range_projection": listed(x.astype(np.float64) @ (pinv @ h).T),
            }
        )
    versions = {"numpy": np.__version__, "scipy": scipy.__version__, "torch": torch.__version__.split("+")[0]}
    golden = {
        "made_by": "tools/reference/operators.py",
        "versions": versions,
        "shape": [CHANNELS, HEIGHT, WIDTH],
        "x": listed(x),
        "cases": found,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
