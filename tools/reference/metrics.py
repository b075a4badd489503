"""Golden values of the image metrics, from TorchMetrics 1.3.1 (the paper's era) and 1.9.0.

Two releases cannot be imported in one process, so each is put into a folder of its own and run in a child process:

    pip install --no-deps --target tm/1.3.1 torchmetrics==1.3.1
    pip install --no-deps --target tm/1.9.0 torchmetrics==1.9.0
    python tools/reference/metrics.py tm tests/golden/metrics/metrics.json
"""

import json
import os
import subprocess
import sys

import numpy as np

SHAPE = (3, 18, 15)
DENOMINATOR = 1024


def pairs():
    """(name, reconstruction, truth): integers; divided by DENOMINATOR they are images about [-1, 1]."""
    rng = np.random.default_rng(7)
    rows, cols = np.mgrid[0 : SHAPE[1], 0 : SHAPE[2]]
    smooth = np.stack([np.sin(0.3 * rows + c) * np.cos(0.2 * cols * (c + 1)) for c in range(SHAPE[0])])
    flat = np.full(SHAPE, 0.75)
    flat[:, 6:] = -0.5
    noise = rng.standard_normal(SHAPE)
    found = {
        "noisy": (smooth + 0.05 * noise, smooth),
        "far": (np.clip(noise, -1, 1), smooth),
        "beyond the range": (1.4 * smooth, smooth),
        "nearly equal": (smooth + 2 / DENOMINATOR * np.sign(noise), smooth),
        "flat regions": (flat + 0.01 * noise, flat),
        "shifted": (np.roll(smooth, 1, axis=1), smooth),
    }
    for name, (x, truth) in found.items():
        quantised = [np.rint(np.asarray(a) * DENOMINATOR).astype(int) for a in (x, np.clip(truth, -1, 1))]
        yield name, *quantised


def hole_mask():
    hole = np.zeros(SHAPE[1:], bool)
    hole[4:12, 5:13] = True
    return hole


def child():
    """Scores of all pairs with whichever TorchMetrics is on the path, as JSON on stdout."""
    import torch
    import torchmetrics
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    hole = torch.from_numpy(hole_mask())
    crop = torch.zeros_like(hole)
    crop[5:-5, 5:-5] = True
    era = "tm13" if torchmetrics.__version__.startswith("1.3.") else "tm19"
    region = hole & crop if era == "tm13" else hole
    pooled = torchmetrics.image.PeakSignalNoiseRatio(data_range=2.0)
    rows, psnrs = [], []
    for _, x, truth in pairs():
        x, truth = (torch.from_numpy(a.astype(np.float64) / DENOMINATOR)[None] for a in (x, truth))
        x = x.clamp(-1, 1)
        pooled.update(x, truth)
        psnrs.append(peak_signal_noise_ratio(x, truth, data_range=2.0).item())
        ssim, full = structural_similarity_index_measure(
            (x + 1) / 2, (truth + 1) / 2, data_range=1.0, return_full_image=True
        )
        row = {f"ssim_{era}": ssim.item(), f"hole_ssim_{era}": full[0, :, region].mean().item()}
        if era == "tm13":
            as_bytes = [((a.float() + 1) * 127.5).to(torch.uint8) for a in (x, truth)]
            row["psnr_u8wrap"] = peak_signal_noise_ratio(*as_bytes, data_range=255).item()
        else:
            inside = x[0, :, hole], truth[0, :, hole]
            row |= {
                "mse": torchmetrics.functional.mean_squared_error(x, truth).item(),
                "psnr": psnrs[-1],
                "hole_mse": torchmetrics.functional.mean_squared_error(*(a.contiguous() for a in inside)).item(),
                "hole_psnr": peak_signal_noise_ratio(*inside, data_range=2.0).item(),
            }
        rows.append(row)
    print(
        json.dumps(
            {
                "version": torchmetrics.__version__,
                "torch": torch.__version__.split("+")[0],
                "rows": rows,
                "pooled_psnr": pooled.compute().item(),
                "mean_psnr": float(np.mean(psnrs)),
            }
        )
    )


def run(folder, version):
    env = dict(os.environ, PYTHONPATH=os.path.join(folder, version))
    out = subprocess.run([sys.executable, __file__, "--child"], env=env, check=True, capture_output=True, text=True)
    return json.loads(out.stdout.splitlines()[-1])


def main(folder, path):
    old, new = run(folder, "1.3.1"), run(folder, "1.9.0")
    golden = {
        "made_by": "tools/reference/metrics.py",
        "versions": {"torchmetrics": [old["version"], new["version"]], "torch": new["torch"]},
        "shape": SHAPE,
        "denominator": DENOMINATOR,
        "pooled_psnr": new["pooled_psnr"],
        "mean_psnr": new["mean_psnr"],
        "pairs": [
            {
                "name": name,
                "reconstruction": x.ravel().tolist(),
                "truth": truth.ravel().tolist(),
                "hole": hole_mask().ravel().astype(int).tolist(),
                "scores": a | b,
            }
            for (name, x, truth), a, b in zip(pairs(), old["rows"], new["rows"], strict=True)
        ],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    child() if sys.argv[1] == "--child" else main(*sys.argv[1:])
