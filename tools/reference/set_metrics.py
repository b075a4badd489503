"""Golden values of the metrics of a set, from pytorch-fid, TorchMetrics and torch-fidelity.

    python tools/reference/set_metrics.py tests/golden/set_metrics/set_metrics.json

The features are made by a formula that the tests repeat bit for bit (their blake3 is in the file), so that 2,048
dimensions need no large file. KID is that of all samples in one subset: the packages draw subsets as they like.

Packages: numpy 2.4.6, scipy 1.17.1, torch 2.15.0, torchvision 0.29.2, torchmetrics 1.9.0, pytorch-fid 0.3.0,
torch-fidelity 0.4.0, blake3.
"""

import json
import sys

import blake3
import numpy as np

# (dimensions, samples of each set)
SIZES = [(64, 400), (192, 500), (2048, 2500)]
# Seed and shift of the reference and of the set.
REFERENCE, SET = (1, 0.25), (2, 0.3125)


def uniform(seed, n):
    """n numbers in [0, 1), multiples of 2^-24: splitmix64."""
    with np.errstate(over="ignore"):
        z = (np.arange(n, dtype=np.uint64) + np.uint64(seed << 40)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def features(seed, shift, n, dims):
    """Correlated, rectified, of unequal variances, as features of a network are. Every step is one f32 operation."""
    half, one = np.float32(0.5), np.float32(1)
    own = uniform(2 * seed, n * dims).reshape(n, dims) - half
    common = (uniform(2 * seed + 1, n) - half) * half
    scale = one / (one + np.arange(dims, dtype=np.float32) / np.float32(256))
    return np.maximum(own * scale + common[:, None] + np.float32(shift), np.float32(0))


def scores(reference, features):
    import torch
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_kid import kernel_mmd
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    statistics = []
    for rows in (reference, features):
        rows = rows.astype(np.float64)
        statistics += [rows.mean(axis=0), np.cov(rows, rowvar=False)]
    found = {"fid_pytorch_fid": float(calculate_frechet_distance(*statistics))}
    found["fid_torchmetrics"] = float(_compute_fid(*[torch.from_numpy(part) for part in statistics]))
    double = [rows.astype(np.float64) for rows in (features, reference)]
    found["kid_torch_fidelity"] = float(kernel_mmd(*double))
    found["kid_torchmetrics"] = float(poly_mmd(*[torch.from_numpy(rows) for rows in double], 3, None, 1.0))
    return found


def main(path):
    import torch

    torch.set_num_threads(1)
    cases = []
    for dims, n in SIZES:
        sets = [features(*source, n, dims) for source in (REFERENCE, SET)]
        hashes = [blake3.blake3(rows.tobytes()).hexdigest() for rows in sets]
        cases.append({"dims": dims, "n": n, "blake3": hashes, **scores(*sets)})
        print(cases[-1], file=sys.stderr)
    packages = "numpy 2.4.6, scipy 1.17.1, torch 2.15.0, torchmetrics 1.9.0, pytorch-fid 0.3.0, torch-fidelity 0.4.0"
    golden = {"made_by": "tools/reference/set_metrics.py", "packages": packages,
              "reference": REFERENCE, "set": SET, "cases": cases}
    with open(path, "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
