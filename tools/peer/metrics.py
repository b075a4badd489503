"""Metrics of a restored image beside its ground truth, and the memory of the process that restored it."""

import pathlib
import resource

import torch
from torch.nn import functional as F

TAPS, DEVIATION = 11, 1.5


def ssim(image, truth):
    """Mean structural similarity (Wang et al. 2004) of (C, H, W) in [-1, 1], taken as [0, 1] with R = 1.

    As TorchMetrics 1.9 averages it: the whole map behind a reflected border, with variances of at least 0.
    """
    c1, c2 = 0.01**2, 0.03**2
    offsets = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
    window = torch.exp(-0.5 * (offsets / DEVIATION) ** 2)
    window = torch.outer(window, window) / window.sum() ** 2

    def local_mean(planes):
        return F.conv2d(F.pad(planes[:, None], [TAPS // 2] * 4, mode="reflect"), window[None, None])[:, 0]

    a, b = (((x + 1) / 2).double() for x in (image, truth))
    mean_a, mean_b = local_mean(a), local_mean(b)
    variances = (local_mean(a * a) - mean_a**2).clamp_min(0) + (local_mean(b * b) - mean_b**2).clamp_min(0)
    covariance = local_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean().item()


def peak_memory():
    """Largest resident memory of this process so far, in bytes."""
    # Linux's ru_maxrss begins with the memory of the process that started this one; VmHWM does not.
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
