"""Draws molecules from a shipped prior and counts how many atoms and molecules are stable.

    python sample_molecules.py models/mini-molecules.yaml --data DATA --count 200 --steps 50

The numbers of atoms are those of random training molecules. DATA is the folder that holds qm9_test_split/.
"""

import argparse
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from egnn import Dynamics
from molecules import by_size, load
from sample import integrate
from train_molecules import noise

# Typical lengths in pm of single, double and triple bonds between H, C, N, O, F, and what may be added to them.
LENGTHS = {
    "single": {"HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92, "CC": 154, "CN": 147, "CO": 143, "CF": 135}
    | {"NN": 145, "NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142},
    "double": {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121},
    "triple": {"CC": 120, "CN": 116, "CO": 113, "NN": 110},
}
MARGINS = {"single": 10, "double": 5, "triple": 3}
VALENCES = torch.tensor([1, 4, 3, 2, 1])


def thresholds(kind):
    """Matrix over pairs of types: a bond is of this kind below that distance, 0 where there is no such bond."""
    table = torch.zeros(5, 5)
    for pair, length in LENGTHS[kind].items():
        i, j = ("HCNOF".index(symbol) for symbol in pair)
        table[i, j] = table[j, i] = length + MARGINS[kind]
    return table


def stable_atoms(x, types):
    """Whether the bond orders of each atom of one molecule (Angstrom) add up to its valence."""
    distance = 100 * torch.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    distance.fill_diagonal_(float("inf"))
    single, double, triple = (distance < thresholds(kind)[types[:, None], types] for kind in LENGTHS)
    orders = single.int() + (single & double).int() + (single & double & triple).int()
    return orders.sum(1) == VALENCES[types]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    description = yaml.safe_load(Path(args.model).read_text())
    config = description["network"]["egnn"]
    model = Dynamics(config["nf"], config["n_layers"]).eval()
    weights = load_file(Path(args.model).parent / description["weights"])
    model.load_state_dict({k.removeprefix("dynamics.egnn."): v.float() for k, v in weights.items()})
    molecules = load(args.data)[0]
    rng = torch.Generator().manual_seed(args.seed)
    sizes = molecules.n[torch.randint(len(molecules), (args.count,), generator=rng)]
    atoms = stable = whole = 0
    for rows in by_size(sizes, 50):
        n = sizes[rows]
        mask = (torch.arange(int(n.max())) < n[:, None]).float()
        state = integrate(model, noise(mask, 9, rng), mask, args.steps)
        for one, size in zip(state, n.tolist()):
            good = stable_atoms(one[:size, :3], one[:size, 3:8].argmax(1))
            atoms, stable, whole = atoms + size, stable + int(good.sum()), whole + int(good.all())
    print(f"{args.count} molecules, midpoint {args.steps} steps, seed {args.seed}: molecule stability "
          f"{whole / args.count:.4f}, atom stability {stable / atoms:.4f}")


if __name__ == "__main__":
    main()
