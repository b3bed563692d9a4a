"""Labelled frames as HDF5: atoms of all frames in one array, frame k is ``first[k]:first[k + 1]``.

Datasets: ``first`` (n + 1,), ``numbers`` (atoms,), ``positions`` and ``forces`` (atoms, 3), ``cell`` (n, 3, 3), ``pbc``
(n, 3), ``energy`` (n,), ``stress`` (n, 3, 3), NaN if not labelled, ``masses`` (atoms,) where a frame has isotopes, and
``info/<key>`` (n,) of text for the words that every frame has. Units: eV, Å, amu.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols

from rxmdnn.errors import InputError
from rxmdnn.files import atomic
from rxmdnn.hdf5 import is_kind, opened
from rxmdnn.io.hdf5_file import changing
from rxmdnn.io.labels import labels_of
from rxmdnn.schema import Item

VECTORS = Item("float", ("atoms", 3), finite=False)
NAMES = {"numbers": Item("int", ("atoms",), low=0, high=len(chemical_symbols) - 1), "positions": VECTORS,
         "forces": VECTORS, "cell": Item("float", ("frames", 3, 3)), "pbc": Item("bool", ("frames", 3)),
         "energy": Item("float", ("frames",), finite=False)}
OPTIONAL = {"masses": Item("float", ("atoms",), low=0), "stress": Item("float", ("frames", 3, 3), finite=False)}


def is_labelled_hdf5(path: Path) -> bool:
    """Whether an HDF5 file has the datasets of labelled frames."""
    return is_kind(path, "first", *NAMES)


def write_labelled_hdf5(path: Path, structures: Sequence[Atoms]) -> None:
    """Write labelled ASE structures. Raises InputError for one without labels."""
    labels = []
    for number, atoms in enumerate(structures, 1):
        found, wrong = labels_of(atoms)
        if found is None:
            raise InputError(*(f"frame {number}: {w}" for w in wrong))
        labels.append(found)
    keys = sorted(set.intersection(*(set(a.info) for a in structures)))
    with atomic(path) as new, changing(new, new=True) as f:
        f["first"] = np.cumsum([0, *map(len, structures)])
        rows = {"numbers": [a.numbers for a in structures], "positions": [a.positions for a in structures],
                "forces": [of.forces for of in labels]}
        if any(a.has("masses") for a in structures):
            rows["masses"] = [a.get_masses() for a in structures]
        for name, parts in rows.items():
            f.create_dataset(name, data=np.concatenate(parts), compression="gzip")
        f["cell"] = np.array([np.array(a.cell) for a in structures])
        f["pbc"] = np.array([a.pbc for a in structures])
        f["energy"] = np.array([of.energy for of in labels])
        f["stress"] = np.array([of.stress for of in labels])
        for key in keys:
            f[f"info/{key}"] = [str(a.info[key]) for a in structures]


def read_labelled_hdf5(path: Path) -> list[Atoms]:
    """The frames of a file. Raises InputError."""
    structures = []
    with opened(path, "labelled frames") as f:
        first = f.array("first", Item("int", (None,), low=0))
        n, sizes = len(first) - 1, f.checked.sizes
        if n < 0 or first[0] != 0 or (np.diff(first) < 0).any():
            raise f.checked.fault("first", "not the first rows of frames")
        sizes |= {"frames": n, "atoms": int(first[-1])}
        rows = {name: f.array(name, item) for name, item in NAMES.items()}
        more = {name: f.array(name, item) for name, item in OPTIONAL.items() if name in f}
        keys = list(f.group("info")) if "info" in f else []
        info = {key: f.array(f"info/{key}", Item("text", ("frames",))) for key in keys}
        masses, stress = more.get("masses"), more.get("stress", np.full((n, 3, 3), np.nan))
        for k, (a, b) in enumerate(pairwise(first.tolist())):
            atoms = Atoms([chemical_symbols[z] for z in rows["numbers"][a:b]], positions=rows["positions"][a:b],
                          cell=rows["cell"][k], pbc=rows["pbc"][k], info={key: v[k] for key, v in info.items()},
                          masses=None if masses is None else masses[a:b])
            labels = {} if np.isnan(stress[k]).any() else {"stress": stress[k]}
            atoms.calc = SinglePointCalculator(atoms, energy=rows["energy"][k], forces=rows["forces"][a:b], **labels)
            structures.append(atoms)
    return structures
