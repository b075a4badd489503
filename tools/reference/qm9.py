"""Golden values of QM9's splits, and the statistics of its molecules once more, by numpy.

The split is that of EDM (github.com/ehoogeboom/e3_diffusion_for_molecules at fce07d7, qm9/data/prepare/qm9.py and
qm9/data/utils.py), the histograms are its DistributionProperty (qm9/models.py); both are written here anew.

    python tools/reference/qm9.py splits tests/golden/qm9/splits.json
    python tools/reference/qm9.py statistics qm9_test_split/test.npz datasets/qm9-statistics.json

The second form compares: every number of the file must be what numpy finds, to the last bit. It also checks that the
molecules are the test molecules of the split, and that the atoms' own heat capacities are 2.981 each.
"""

import json
import sys

import blake3
import numpy as np

KEPT, TRAIN, TEST = 133885 - 3054, 100000, (133885 - 3054) // 10
SYMBOLS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
BINS = 1000


def checksum(order):
    return blake3.blake3(np.asarray(order).astype("<u4").tobytes()).hexdigest()


def qm9_split():
    train, valid, test = np.split(np.random.RandomState(0).permutation(KEPT), [TRAIN, KEPT - TEST])
    return train, valid, test


def splits(path):
    sizes = [(0, 2), (0, 5), (42, 1000), (1, 623), (7, 624), (123456789, 65536), (2**32 - 1, 65537), (0, 13083)]
    permutations = []
    for seed, n in sizes:
        order = np.random.RandomState(seed).permutation(n)
        first = order[:10].tolist()
        permutations.append({"seed": seed, "n": n, "first": first, "blake3": checksum(order)})
    train, valid, test = qm9_split()
    halves = np.random.RandomState(42).permutation(TRAIN)
    lists = {
        "train": train,
        "valid": valid,
        "test": test,
        "first_half": halves[: TRAIN // 2],
        "second_half": halves[TRAIN // 2 :],
    }
    golden = {
        "made_by": "tools/reference/qm9.py",
        "versions": {"numpy": np.__version__},
        "checksum": "blake3 of the list as little-endian uint32",
        "permutations": permutations,
        "qm9": {key: {"count": len(order), "blake3": checksum(order)} for key, order in lists.items()},
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


def mean(values):
    # One by one, in order: numpy's own sum adds in pairs.
    return float(np.cumsum(values)[-1]) / len(values)


def histogram(values):
    low, high = values.min(), values.max()
    index = np.minimum(((values - low) / (high - low + 1e-12) * BINS).astype(int), BINS - 1)
    bins, counts = np.unique(index, return_counts=True)
    return {"min": float(low), "max": float(high), "bins": bins.tolist(), "counts": counts.tolist()}


def statistics(npz, path):
    data = np.load(npz)
    rows = len(data["num_atoms"])

    # A molecule's number less one is its position among the kept ones plus the molecules left out before it: if this is
    # EDM's test file, the difference never falls, and stays below the number of those left out.
    left_out = data["index"] - 1 - np.sort(qm9_split()[2])
    assert (np.diff(left_out) >= 0).all() and 0 <= left_out[0] and left_out[-1] <= 3054

    counts = np.stack([(data["charges"] == z).sum(1) for z in SYMBOLS.values()], 1)
    cv_atoms, *_ = np.linalg.lstsq(counts, data["Cv_thermo"], rcond=None)
    assert np.abs(cv_atoms - 2.981).max() < 1e-12, cv_atoms
    assert np.abs(counts @ cv_atoms - data["Cv_thermo"]).max() < 1e-11

    train = np.random.RandomState(0).permutation(rows)[2000:]
    double = lambda name: data[name].astype(np.float64)[train]
    values = {
        "alpha": ("Bohr³", double("alpha")),
        "gap": ("eV", double("gap") * 27.2114),
        "homo": ("eV", double("homo") * 27.2114),
        "lumo": ("eV", double("lumo") * 27.2114),
        "mu": ("D", double("mu")),
        "cv": ("cal/(mol K)", double("Cv") - double("Cv_thermo")),
    }
    atoms = data["num_atoms"][train]
    sizes = np.unique(atoms).tolist()
    expected = {
        "format": 1,
        "made_from": f"{len(train):,} training molecules of qm9-test-split",
        "molecules": len(train),
        "bins": BINS,
        "atoms": {str(n): int((atoms == n).sum()) for n in sizes},
        "elements": {symbol: int(counts[train, i].sum()) for i, symbol in enumerate(SYMBOLS)},
        "properties": {
            key: {
                "unit": unit,
                "mean": mean(v),
                "mad": mean(np.abs(v - mean(v))),
                "by_atoms": {str(n): histogram(v[atoms == n]) for n in sizes},
            }
            for key, (unit, v) in values.items()
        },
    }
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    assert len(found.pop("manifest")) == 64
    assert list(found) == list(expected), list(found)
    for key, value in expected.items():
        assert found[key] == value, f"{path}: {key} differs"
    filled = sum(len(h["bins"]) for p in expected["properties"].values() for h in p["by_atoms"].values())
    print(f"{path}: as numpy {np.__version__} finds it ({len(train)} molecules, {filled} bins that are not empty)")


if __name__ == "__main__":
    {"splits": splits, "statistics": statistics}[sys.argv[1]](*sys.argv[2:])
