"""Compares the Fréchet distance of 10,000 x 2,048 features with scipy.linalg.sqrtm on the same statistics, in one run.

    cargo bench --locked --bench set_metrics --no-run
    python tools/bench/fid.py target/release/deps/set_metrics-* [--samples 10000 --dims 2048 --threads 2]

needs numpy and scipy; both sides may use `--threads` threads.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "reference"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--dims", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    # Before numpy is loaded.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import numpy as np
    import scipy.linalg

    from set_metrics import REFERENCE, SET, features

    sets = [features(*source, options.samples, options.dims) for source in (REFERENCE, SET)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}.f32" for name in ("reference", "set")]
        for path, rows in zip(paths, sets):
            rows.tofile(path)
        environment = {**os.environ, "RAYON_NUM_THREADS": str(options.threads)}
        command = [options.program, "fid", *paths, str(options.dims)]
        ours = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)

    start = time.perf_counter()
    means = [rows.mean(axis=0, dtype=np.float64) for rows in sets]
    covariances = [np.cov(rows.astype(np.float64), rowvar=False) for rows in sets]
    statistics_seconds = time.perf_counter() - start
    start = time.perf_counter()
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    sqrtm_seconds = time.perf_counter() - start
    shift = means[0] - means[1]
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    theirs = shift @ shift + traces - 2 * np.trace(root).real
    print(json.dumps({
        "ours": ours,
        "scipy": {"fid": theirs, "statistics_seconds": statistics_seconds, "sqrtm_seconds": sqrtm_seconds},
        "relative_difference": abs(ours["fid"] - theirs) / theirs,
    }, indent=1))


if __name__ == "__main__":
    main()
