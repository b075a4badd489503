"""Converts a file of torch.save, of any age, to safetensors.

usage: legacy_pickle.py IN.pth OUT.safetensors [--sha256 HEX]      (packages: tools/peer/requirements.txt)

Before torch 1.6 torch.save wrote bare pickles, which dflow never reads: the heads of LPIPS are such files. Only tensors
are taken (weights_only: no code of the file runs), nested dictionaries joined by dots. With --sha256, whole or its first
digits as in the names of public files, the input is checked first. OUT is written whole or not at all.
"""

import argparse
import hashlib
import os
import sys

import torch
from safetensors.torch import save_file


def named_tensors(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{key}", value.detach().cpu().contiguous().clone()
        elif isinstance(value, dict):
            yield from named_tensors(value, f"{prefix}{key}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--sha256", default="")
    options = parser.parse_args()

    with open(options.input, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(options.sha256.lower()):
        sys.exit(f"{options.input}: its sha256 is {digest}, expected is {options.sha256}: fetch the file again")
    state = torch.load(options.input, map_location="cpu", weights_only=True)
    tensors = dict(named_tensors(state)) if isinstance(state, dict) else {}
    if not tensors:
        sys.exit(f"{options.input}: no dictionary of tensors in it: save model.state_dict()")
    partial = f"{options.output}.partial"
    save_file(tensors, partial, metadata={"sha256_of_source": digest})
    os.replace(partial, options.output)
    for name, tensor in tensors.items():
        print(f"{name} {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}")


if __name__ == "__main__":
    main()
