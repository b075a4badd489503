"""E(n)-equivariant graph networks for molecules, in the key layout and arithmetic of the public EDM code.

All pairs of atoms are edges. A batch is padded: tensors are (molecules, atoms, ...) with a 0/1 mask of the real atoms.
"""

import torch
from torch import nn
from torch.nn import functional as F


def mlp(*widths):
    """Linear layers with SiLU between them, numbered 0, 2, 4, ... as in nn.Sequential."""
    layers = [nn.Linear(widths[0], widths[1])]
    for inner, outer in zip(widths[1:], widths[2:]):
        layers += [nn.SiLU(), nn.Linear(inner, outer)]
    return nn.Sequential(*layers)


def linear_on_pairs(linear, h, scalars):
    """linear([h_i, h_j, scalars_ij]) for all pairs: the parts of h_i and h_j are computed once per atom."""
    width = h.shape[-1]
    receiver, sender, rest = linear.weight.split([width, width, scalars.shape[-1]], dim=1)
    left, right = F.linear(h, receiver, linear.bias), F.linear(h, sender)
    with torch.autocast("cpu", enabled=False):
        pairs = (scalars @ rest.T).to(left.dtype)
    pairs += left[:, :, None]
    pairs += right[:, None]
    return pairs


def pair_mask(mask):
    """1 for ordered pairs of two different real atoms."""
    different = 1 - torch.eye(mask.shape[1], dtype=mask.dtype)
    return mask[:, :, None] * mask[:, None] * different


def differences(x):
    """x_i - x_j and its squared length for all pairs."""
    r = x[:, :, None] - x[:, None]
    return r, (r * r).sum(-1)


class Gcl(nn.Module):
    """Gated messages, summed over the senders, then a residual update of the atoms."""

    def __init__(self, nf, scalars):
        super().__init__()
        self.edge_mlp = nn.Sequential(nn.Linear(2 * nf + scalars, nf), nn.SiLU(), nn.Linear(nf, nf), nn.SiLU())
        self.node_mlp = mlp(2 * nf, nf, nf)
        self.att_mlp = nn.Sequential(nn.Linear(nf, 1), nn.Sigmoid())

    def forward(self, h, scalars, pairs):
        message = self.edge_mlp[1:](linear_on_pairs(self.edge_mlp[0], h, scalars))
        gate = self.att_mlp(message)[..., 0] * pairs
        gathered = torch.matmul(gate[:, :, None].to(message.dtype), message)[:, :, 0]
        return h + self.node_mlp(torch.cat([h, gathered], -1))


class CoordinateUpdate(nn.Module):
    """Moves every atom along the directions to the others by at most coords_range each."""

    def __init__(self, nf, coords_range):
        super().__init__()
        self.coords_range = coords_range
        self.coord_mlp = nn.Sequential(
            nn.Linear(2 * nf + 2, nf), nn.SiLU(), nn.Linear(nf, nf), nn.SiLU(), nn.Linear(nf, 1, bias=False)
        )
        nn.init.xavier_uniform_(self.coord_mlp[4].weight, gain=0.001)

    def forward(self, x, h, r, scalars, pairs):
        shift = self.coord_mlp[1:](linear_on_pairs(self.coord_mlp[0], h, scalars))[..., 0]
        length = torch.tanh(shift.float()) * self.coords_range * pairs / (torch.sqrt(scalars[..., 0] + 1e-8) + 1)
        return x + (r * length[..., None]).sum(2)


class Block(nn.Module):
    def __init__(self, nf, coords_range):
        super().__init__()
        self.gcl_0 = Gcl(nf, 2)
        self.gcl_equiv = CoordinateUpdate(nf, coords_range)

    def forward(self, x, h, d0, pairs):
        r, d = differences(x)
        scalars = torch.stack([d, d0], -1)
        h = self.gcl_0(h, scalars, pairs)
        return self.gcl_equiv(x, h, r, scalars, pairs), h


class Dynamics(nn.Module):
    """Field on states (molecules, atoms, 3 + features): equivariant in the coordinates, which stay centred."""

    def __init__(self, nf, n_layers, features=6, coords_range=15.0):
        super().__init__()
        self.embedding = nn.Linear(features + 1, nf)
        self.embedding_out = nn.Linear(nf, features + 1)
        self.blocks = [Block(nf, coords_range) for _ in range(n_layers)]
        for b, block in enumerate(self.blocks):
            self.add_module(f"e_block_{b}", block)

    def forward(self, state, t, mask):
        x0, features = state[..., :3], state[..., 3:]
        pairs = pair_mask(mask)
        d0 = differences(x0)[1]
        time = t[:, None, None].expand(-1, state.shape[1], 1)
        x, h = x0, self.embedding(torch.cat([features, time], -1))
        for block in self.blocks:
            x, h = block(x, h, d0, pairs)
        field = torch.cat([x - x0, self.embedding_out(h)[..., :-1].float()], -1) * mask[..., None]
        return torch.cat([centred(field[..., :3], mask), field[..., 3:]], -1)


class Classifier(nn.Module):
    """Invariant regression of one property from coordinates (Angstrom) and one-hot atom types."""

    def __init__(self, nf, n_layers, types=5):
        super().__init__()
        self.embedding = nn.Linear(types, nf)
        self.layers = [Gcl(nf, 1) for _ in range(n_layers)]
        for k, layer in enumerate(self.layers):
            self.add_module(f"gcl_{k}", layer)
        self.node_dec = mlp(nf, nf, nf)
        self.graph_dec = mlp(nf, nf, 1)

    def forward(self, x, one_hot, mask):
        pairs = pair_mask(mask)
        d = differences(x)[1][..., None]
        h = self.embedding(one_hot)
        for layer in self.layers:
            h = layer(h, d, pairs)
        return self.graph_dec((self.node_dec(h) * mask[..., None]).sum(1))[:, 0].float()


def centred(x, mask):
    """x without its mean over the real atoms."""
    mean = (x * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    return (x - mean) * mask[..., None]
