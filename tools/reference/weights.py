"""Weight files as torch.save writes them, for the tests of src/net/weights.

usage: weights.py OUT_DIR     (tests/golden/weights; torch 2.9.1)

Every tensor holds (0, 1, 2, …) / 8 in row-major order, whatever its strides, so that the tests need no second file.
"""

import argparse
import collections
import pathlib

import torch


def ramp(*shape, dtype=torch.float32):
    count = int(torch.tensor(shape).prod()) if shape else 1
    return (torch.arange(count, dtype=torch.float64) / 8).reshape(shape).to(dtype)


def tensors():
    shared = torch.cat([torch.full((4,), -1.0), ramp(6)])
    transposed = torch.empty(3, 2)
    transposed.T.copy_(ramp(2, 3))
    return collections.OrderedDict(
        {
            "f16": ramp(2, 3, dtype=torch.float16),
            "bf16": ramp(5, dtype=torch.bfloat16),
            "f32": ramp(2, 2, 3),
            "f64": ramp(7, dtype=torch.float64),
            "i64": (ramp(4) * 8).long(),
            "bool": torch.tensor([False, True]),
            "scalar": ramp(),
            "empty": ramp(0, 3),
            "transposed": transposed.T,
            "view": shared[4:].view(2, 3),
            "expanded": torch.zeros(1).expand(3),
            "parameter": torch.nn.Parameter(ramp(3)),
        }
    )


def main():
    out = pathlib.Path(__import__("sys").argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(), out / "state_dict.pt")
    torch.save(tensors(), out / "state_dict_protocol4.npy", pickle_protocol=4)
    nested = {
        "epoch": 3,
        "loss": 0.5,
        "args": argparse.Namespace(lr=0.1),
        "ema": {"state_dict": {"a.weight": ramp(2, 2)}, "decay": 0.999},
        "model": torch.nn.Sequential(torch.nn.Linear(1, 1)).state_dict(),
    }
    torch.save(nested, out / "checkpoint.pth")
    torch.save({"a": ramp(2)}, out / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"a": torch.tensor([1.0, float("nan")])}, out / "nan.pt")
    torch.save({"state": [1, 2]}, out / "no_tensors.pt")
    (out / "VERSION.txt").write_text(f"tools/reference/weights.py, torch {torch.__version__}\n")


if __name__ == "__main__":
    main()
