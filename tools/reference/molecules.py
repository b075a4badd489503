"""Validity, uniqueness classes and SDF files of molecules, compared with RDKit.

    python tools/reference/molecules.py golden tests/golden/molecules
    python tools/reference/molecules.py compare target/release/dflow [samples.npz]

`golden` writes random molecules (molecules.xyz), what RDKit says of them (molecules.csv: valid, class of equal canonical
SMILES), and reads the committed SDF file of the same molecules (molecules.sdf, which a test of the program makes again)
with RDKit. `compare` scores random, G-SchNet's and perturbed molecules with `dflow data score FILE.xyz` and with RDKit:
every validity must be equal, and so must be the classes of equal molecules. One difference is known and allowed among the
random rings: isomers that differ only in the places of the double bonds of a ring that is not aromatic are one class.

samples.npz holds the generated molecules of G-SchNet that EDM ships: n_atoms, positions (Å), atomic_numbers.
"""

import csv
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict

import numpy as np
from rdkit import Chem, RDLogger

RDLogger.DisableLog("rdApp.*")

SYMBOLS = "HCNOF"
NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
# Bond lengths in pm of EDM's qm9/bond_analyze.py: single, double, triple.
LENGTHS = {
    "HH": (74,), "HC": (109,), "HN": (101,), "HO": (96,), "HF": (92,),
    "CC": (154, 134, 120), "CN": (147, 129, 116), "CO": (143, 120, 113), "CF": (135,),
    "NN": (145, 125, 110), "NO": (140, 121), "NF": (136,),
    "OO": (148, 121), "OF": (142,), "FF": (142,),
}
MARGINS = (10, 5, 3)
LIMITS = np.full((5, 5, 3), -1, np.float32)
for pair, lengths in LENGTHS.items():
    a, b = (SYMBOLS.index(symbol) for symbol in pair)
    for order, length in enumerate(lengths):
        LIMITS[a, b, order] = LIMITS[b, a, order] = length + MARGINS[order]
ORDERS = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}


def bond_orders(types, positions):
    """Matrix of bond orders, from f32 distances."""
    x, y, z = np.moveaxis(positions[:, None] - positions[None], -1, 0)
    distance = np.sqrt(x * x + y * y + z * z) * np.float32(100)
    below = distance[..., None] < LIMITS[types[:, None], types[None]]
    orders = below.cumprod(-1).sum(-1)
    np.fill_diagonal(orders, 0)
    return orders


def rdkit_molecule(types, orders):
    molecule = Chem.RWMol()
    for kind in types:
        molecule.AddAtom(Chem.Atom(SYMBOLS[kind]))
    for i, j in zip(*np.nonzero(np.tril(orders))):
        molecule.AddBond(int(i), int(j), ORDERS[int(orders[i, j])])
    return molecule


def smiles(types, positions):
    """Canonical SMILES of the largest fragment, None if RDKit takes the molecule for invalid."""
    molecule = rdkit_molecule(types, bond_orders(types, positions))
    try:
        Chem.SanitizeMol(molecule)
        parts = Chem.GetMolFrags(molecule, asMols=True)
        return Chem.MolToSmiles(max(parts, key=lambda part: part.GetNumAtoms()))
    except ValueError:
        return None


def random_molecules(count, seed, most=12):
    """N- and O-rich heaps: every atom at a bond's length from an earlier one, nearer or further to all others by chance."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = rng.integers(1, most + 1)
        types = rng.choice(5, size, p=(0.1, 0.3, 0.3, 0.27, 0.03))
        positions = np.zeros((size, 3))
        for atom in range(1, size):
            # Neither on the others nor, mostly, within a bond's length of several.
            for _ in range(20):
                other = rng.integers(atom)
                limits = LIMITS[types[atom], types[other]]
                length = rng.choice(limits[limits > 0]) * rng.uniform(0.97, 0.999) / 100
                step = rng.standard_normal(3)
                positions[atom] = positions[other] + length * step / np.linalg.norm(step)
                near = np.linalg.norm(positions[:atom] - positions[atom], axis=1) < 1.66
                if near.sum() == 1 or rng.uniform() < 0.05:
                    break
        yield types, positions.astype(np.float32)


def planar_rings(count, seed):
    """Rings of 3 to 8 heavy atoms with alternating bonds as they fall, and substituents."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = rng.integers(3, 9)
        types = rng.choice([1, 1, 1, 2, 3], size)
        angles = np.arange(size) * 2 * np.pi / size + rng.normal(0, 0.05, size)
        radius = rng.uniform(1.25, 1.5) / (2 * np.sin(np.pi / size))
        ring = radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
        kept = rng.uniform(size=size) < 0.5
        reach = rng.uniform(1.0, 1.45, (size, 1))
        outer = ring + ring / radius * reach
        types = np.concatenate([types, rng.choice(5, kept.sum(), p=(0.4, 0.2, 0.15, 0.2, 0.05))])
        yield types, np.concatenate([ring, outer[kept]]).astype(np.float32)


def charged_groups(count, seed):
    """Nitro groups, azides and what lies between: chains of N with O, N, C or H at their ends, atoms in any order."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        chain = rng.integers(1, 4)
        x = np.cumsum([0, *rng.uniform(1.05, 1.32, chain - 1)])
        types, positions = [2] * chain, [(at, 0, 0) for at in x]
        for begin, ahead in ((x[0], -1), (x[-1], 1)):
            for side in (-1, 1):
                kind = rng.choice([0, 1, 2, 3, 3, 3, -1])
                if kind >= 0:
                    length = rng.uniform(*[(0.98, 1.1), (1.3, 1.5), (1.2, 1.5), (1.15, 1.3)][kind])
                    types.append(kind)
                    positions.append((begin + ahead * 0.5 * length, side * 0.866 * length, 0))
                if chain > 1 and rng.uniform() < 0.5:
                    break
        order = rng.permutation(len(types))
        yield np.array(types)[order], np.array(positions)[order].astype(np.float32)


def gschnet(path):
    data = np.load(path)
    begins = np.cumsum(data["n_atoms"])[:-1]
    kinds = np.searchsorted([NUMBERS[symbol] for symbol in SYMBOLS], data["atomic_numbers"])
    return list(zip(np.split(kinds, begins), np.split(data["positions"], begins)))


def perturbed(molecules, seed, noise=0.0, flips=0.0):
    """Normal noise (Å) on every coordinate, and every element another one with a probability."""
    rng = np.random.default_rng(seed)
    for types, positions in molecules:
        moved = (positions + noise * rng.standard_normal(positions.shape)).astype(np.float32)
        flipped = np.where(rng.uniform(size=len(types)) < flips, rng.integers(0, 5, len(types)), types)
        yield flipped, moved


def write_xyz(path, molecules):
    with open(path, "w") as file:
        for types, positions in molecules:
            file.write(f"{len(types)}\n\n")
            for kind, position in zip(types, positions):
                values = " ".join(np.format_float_positional(value, unique=True) for value in position)
                file.write(f"{SYMBOLS[kind]} {values}\n")


def classes(names):
    """For every name the place of the first equal one; None stays None."""
    first = {}
    return [None if name is None else first.setdefault(name, place) for place, name in enumerate(names)]


def golden(folder):
    os.makedirs(folder, exist_ok=True)
    molecules = [
        *random_molecules(200, seed=1, most=6),
        *planar_rings(80, seed=2),
        *[group for group in charged_groups(2000, seed=8) if "+" in (smiles(*group) or "")][:40],
    ]
    write_xyz(f"{folder}/molecules.xyz", molecules)
    names = [smiles(*molecule) for molecule in molecules]
    with open(f"{folder}/molecules.csv", "w") as file:
        file.write("index,valid,same_as\n")
        for index, first in enumerate(classes(names)):
            file.write(f"{index},{int(first is not None)},{'' if first is None else first}\n")
    path = f"{folder}/molecules.sdf"
    if not os.path.exists(path):
        print(f"{path} is not there: the test that needs it says where it writes a new one")
        return
    valid = [molecule for molecule, name in zip(molecules, names) if name is not None]
    records = list(Chem.SDMolSupplier(path, removeHs=False))
    assert len(records) == len(valid), f"{path}: {len(records)} records, {len(valid)} valid molecules"
    charged = 0
    for number, (record, (types, positions)) in enumerate(zip(records, valid), 1):
        where = f"{path}, record {number}"
        assert record is not None, f"{where}: RDKit does not read it"
        expected = rdkit_molecule(types, bond_orders(types, positions))
        Chem.SanitizeMol(expected)
        # Of a file with positions RDKit reads the stereochemistry too.
        found = [Chem.MolToSmiles(molecule, isomericSmiles=False) for molecule in (record, expected)]
        assert found[0] == found[1], f"{where}: {found[0]} instead of {found[1]}"
        assert [atom.GetSymbol() for atom in record.GetAtoms()] == [SYMBOLS[kind] for kind in types], where
        charges = [[atom.GetFormalCharge() for atom in found.GetAtoms()] for found in (record, expected)]
        assert charges[0] == charges[1], where
        assert np.abs(record.GetConformer().GetPositions() - positions).max() < 0.51e-4, where
        charged += any(charges[0])
    print(f"SDF: {len(records)} records read by RDKit {Chem.rdBase.rdkitVersion}, {charged} of them with charges")


def score(dflow, molecules):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/molecules.xyz"
        write_xyz(path, molecules)
        answer = subprocess.run([dflow, "data", "score", path], check=True, capture_output=True, text=True)
    return list(csv.DictReader(answer.stdout.splitlines()))


def compare_set(dflow, name, molecules):
    """Number of molecules with another validity, and of those in classes that are not RDKit's."""
    molecules = list(molecules)
    rows = score(dflow, molecules)
    assert len(rows) == len(molecules), f"{name}: {len(rows)} rows for {len(molecules)} molecules"
    names = [smiles(*molecule) for molecule in molecules]
    differing = [i for i, row in enumerate(rows) if (row["valid"] == "1") != (names[i] is not None)]
    of_class, of_name = defaultdict(Counter), defaultdict(Counter)
    for row, found in zip(rows, names):
        if found is not None and row["same_as"]:
            of_class[row["same_as"]][found] += 1
            of_name[found][row["same_as"]] += 1
    # Classes of ours that hold several SMILES, and SMILES that several of ours share.
    merged = [members for members in of_class.values() if len(members) > 1]
    parted = [found for found, members in of_name.items() if len(members) > 1]
    # Only double bonds that may stand elsewhere in a ring tell the members of such a class apart.
    shifted = [members for members in merged if all("1" in found for found in members)]
    assert len(shifted) == len(merged), f"{name}: one class of several SMILES without rings: {merged}"
    valid = sum(found is not None for found in names)
    print(
        f"{name}: {len(rows)} molecules, {valid} valid, {len(differing)} with another validity than RDKit's; "
        f"{len(of_name)} SMILES, {len(of_class)} classes, {len(merged)} classes of several SMILES, "
        f"{len(parted)} SMILES in several classes"
    )
    for place in differing[:5]:
        print(f"  molecule {place}: ours {rows[place]['valid']}, RDKit {names[place]}")
    for members in merged[:8]:
        print("  one class:", *members)
    for found in parted[:8]:
        print("  several classes:", found, dict(of_name[found]))
    return len(differing), len(merged), len(parted)


def compare(dflow, samples=None):
    sets = {
        "N- and O-rich": random_molecules(20_000, seed=3),
        "small": random_molecules(20_000, seed=4, most=5),
        "rings": planar_rings(20_000, seed=5),
        "charged groups": charged_groups(20_000, seed=9),
    }
    if samples:
        shipped = gschnet(samples)
        sets["G-SchNet"] = shipped
        for noise in (0.02, 0.05, 0.1):
            sets[f"G-SchNet, noise {noise} Å"] = perturbed(shipped, seed=6, noise=noise)
        for flips in (0.05, 0.1):
            sets[f"G-SchNet, {flips:.0%} other elements"] = perturbed(shipped, 7, noise=0.02, flips=flips)
    else:
        print("no samples.npz: only random molecules are compared")
    wrong = []
    for name, molecules in sets.items():
        differing, merged, parted = compare_set(dflow, name, molecules)
        if differing or parted or (merged and name != "rings"):
            wrong.append(name)
    if wrong:
        sys.exit("not as RDKit: " + "; ".join(wrong))
    print("validity and classes are RDKit's")


if __name__ == "__main__":
    {"golden": golden, "compare": compare}[sys.argv[1]](*sys.argv[2:])
