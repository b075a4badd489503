"""The molecules the small networks are trained on: the QM9 test split, divided once more."""

from pathlib import Path

import numpy as np
import torch

TYPES = (1, 6, 7, 8, 9)
"""Nuclear charges of the one-hot columns: H, C, N, O, F."""
HELD_OUT = 2000
HARTREE = 27.2114
"""eV per Hartree, as in the published tables."""


class Molecules:
    """Centred coordinates, one-hot types and charges, padded to the largest molecule."""

    def __init__(self, n, positions, charges):
        self.n = n
        self.mask = (torch.arange(charges.shape[1]) < n[:, None]).float()
        mean = (positions * self.mask[..., None]).sum(1, keepdim=True) / n[:, None, None]
        self.x = (positions - mean) * self.mask[..., None]
        self.charges = charges
        self.one_hot = (charges[..., None] == torch.tensor(TYPES)).float()

    def __len__(self):
        return len(self.n)

    def rows(self, rows):
        """(coordinates, one-hot, charges, mask) of some molecules, padded to the largest of them."""
        size = int(self.n[rows].max())
        return tuple(part[rows, :size] for part in (self.x, self.one_hot, self.charges, self.mask))

    def states(self, rows):
        """(normalised states n x 9, mask): coordinates, one-hot / 4, charge / 10."""
        x, one_hot, charges, mask = self.rows(rows)
        return torch.cat([x, one_hot / 4, charges[..., None] / 10], -1), mask


def load(data):
    """Returns (training molecules, their labels, held-out molecules, their labels); labels by property name."""
    stored = np.load(Path(data) / "qm9_test_split" / "test.npz")
    order = np.random.RandomState(0).permutation(len(stored["num_atoms"]))
    labels = {name: stored[name].astype(np.float64) for name in ("alpha", "mu")}
    labels |= {name: stored[name].astype(np.float64) * HARTREE for name in ("gap", "homo", "lumo")}
    # The atomic contributions are taken off, as in the protocol of the published classifiers.
    labels["cv"] = stored["Cv"].astype(np.float64) - stored["Cv_thermo"]
    parts = []
    for rows in (order[HELD_OUT:], order[:HELD_OUT]):
        parts.append(
            Molecules(
                torch.from_numpy(stored["num_atoms"][rows]),
                torch.from_numpy(stored["positions"][rows]).float(),
                torch.from_numpy(stored["charges"][rows]),
            )
        )
        parts.append({name: torch.from_numpy(values[rows]).float() for name, values in labels.items()})
    return tuple(parts)


class Batches:
    """Endless shuffled epochs of molecules of similar size; the state is two generators and a queue.

    A window of `window` batches is drawn at random, sorted by size and cut: little padding, and every
    molecule once per epoch. `rng` is for the noise of the caller.
    """

    def __init__(self, n, batch, seed, window=8):
        self.n, self.batch, self.window = n, batch, window
        self.order_rng = torch.Generator().manual_seed(seed)
        self.rng = torch.Generator().manual_seed(seed + 1)
        self.order = torch.empty(0, dtype=torch.long)
        self.queue = []

    def next(self):
        """Row numbers of the next batch."""
        if not self.queue:
            while len(self.order) < self.batch * self.window:
                epoch = torch.randperm(len(self.n), generator=self.order_rng)
                self.order = torch.cat([self.order, epoch])
            drawn, self.order = self.order[: self.batch * self.window], self.order[self.batch * self.window :]
            parts = drawn[torch.argsort(self.n[drawn], stable=True)].split(self.batch)
            self.queue = [parts[i] for i in torch.randperm(self.window, generator=self.order_rng)]
        return self.queue.pop()

    def state(self):
        return {
            "order": self.order,
            "queue": self.queue,
            "order_rng": self.order_rng.get_state(),
            "rng": self.rng.get_state(),
        }

    def restore(self, state):
        self.order, self.queue = state["order"], state["queue"]
        self.order_rng.set_state(state["order_rng"])
        self.rng.set_state(state["rng"])


def by_size(n, batch):
    """All rows once, in batches of similar size."""
    return torch.argsort(n, stable=True).split(batch)
