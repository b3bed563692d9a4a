"""Frames that a run wrote, read from trajectory.h5 or from the numbered extended XYZ files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError


class Snapshot(NamedTuple):
    """One frame of a file: step; names (n,) of str; x (n, 3) Å; cell."""

    step: int
    names: np.ndarray
    x: np.ndarray
    cell: Cell


def read_frames(folder: str | Path, most: int = 50) -> Iterator[Snapshot]:
    """At most `most` frames of a run, evenly spaced; from trajectory.h5 where there is one. Raises InputError."""
    folder = Path(folder)
    path = folder / "trajectory.h5"
    if path.is_file():
        try:
            with h5py.File(path, "r", locking=False) as file:
                everything = file["particles/all"]
                steps = everything["position/step"][:]
                names = np.array(file["parameters/elements"].asstr()[:])[everything["species"][:]]
                pbc = np.array([b in ("periodic", b"periodic") for b in everything["box"].attrs["boundary"]])
                for k in _spread(np.flatnonzero(steps >= 0), most):
                    yield Snapshot(int(steps[k]), names, everything["position/value"][k],
                                   Cell(everything["box/edges/value"][k], pbc))
        except (OSError, KeyError) as error:
            raise InputError(f"{path}: not a valid H5MD trajectory: {error}") from None
        return
    from rxmdnn.io.read_atoms import read_atoms  # ASE, only where it is used

    files = sorted(f for f in folder.glob("*.xyz") if f.stem.isdigit())
    for file in _spread(files, most):
        atoms = read_atoms(file, "-1", "extxyz")[0]
        yield Snapshot(int(file.stem), np.array(atoms.get_chemical_symbols()), atoms.positions,
                       Cell(np.array(atoms.cell), atoms.pbc))


def _spread(items: Sequence[Any] | np.ndarray, most: int) -> list[Any]:
    """At most `most` of the items, evenly spaced, the last one among them."""
    if len(items) <= most:
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, most).round().astype(int)]
