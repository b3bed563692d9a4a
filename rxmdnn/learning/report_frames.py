"""The worst chosen frames of a learning loop, for the 3-D view of its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread

from rxmdnn.analysis.structure_view import nearest
from rxmdnn.errors import InputError
from rxmdnn.learning.story import Story, number

SHOWN, MOST_ATOMS = 12, 3000  # of one page


def worst_frames(story: Story, folder: Path) -> list[tuple[Atoms, list[int], str]]:
    """Chosen frames of all rounds, the farthest from known data in latent space first: frame, marked atoms, caption.

    Raises InputError for a file of frames that cannot be read.
    """
    found = []
    for k in range(len(story.rounds)):
        path = folder / f"round_{k}"
        if (path / "chosen.xyz").is_file():
            quarantined = {str(a.info.get("origin")) for a in _read(path / "quarantine.xyz")}
            labelled = {str(a.info.get("origin")) for a in _read(path / "labels.xyz")}
            for atoms in _read(path / "chosen.xyz"):
                origin = str(atoms.info.get("origin"))
                state = ("quarantined" if origin in quarantined else
                         "labelled" if origin in labelled else "without a label")
                if _drawable(atoms):
                    found.append((_distance(atoms), k, atoms, state))
    found.sort(key=lambda f: -f[0])  # stable: without distances in the order of the loop
    shown: list[tuple[Atoms, list[int], str]] = []
    for _, k, atoms, state in found[:SHOWN]:
        if shown and sum(len(a) for a, _, _ in shown) + len(atoms) > MOST_ATOMS:
            break
        marked = np.flatnonzero(atoms.arrays.get("worst", np.zeros(len(atoms)))).tolist()
        shown.append((atoms, marked, _caption(k, atoms, marked, state)))
    return shown


def _read(path: Path) -> Iterator[Atoms]:
    if not path.is_file():
        return
    try:
        yield from iread(path, ":", format="extxyz")
    except Exception as error:  # whatever the reader of a damaged file raises
        raise InputError(f"{path}: cannot be read: {error}") from None


def _drawable(atoms: Atoms) -> bool:
    """Whether the coordinates are finite, and the cell has a volume if it is periodic."""
    return bool(np.isfinite(atoms.positions).all() and (atoms.cell.rank == 3 or not atoms.pbc.any()))


def _distance(atoms: Atoms) -> float:
    distance = _scalar(atoms.info.get("latent_distance"))
    return distance if np.isfinite(distance) else -np.inf


def _scalar(value: Any) -> float:
    return number(value.item() if isinstance(value, np.generic) else value)


def _caption(k: int, atoms: Atoms, marked: list[int], state: str) -> str:
    parts = [f"round {k}", f"alarm: {atoms.info.get('alarm', 'unknown')}", f"{len(atoms)} atoms",
             "periodic cell" if atoms.pbc.any() else "cluster", state]
    if np.isfinite(distance := _distance(atoms)):
        parts.append(f"latent distance {distance:.3g}")
    for row in marked[:1]:
        near = nearest(atoms, row)
        if near is not None:
            parts.append(f"marked atom {atoms.symbols[row]} {row}, nearest neighbor {atoms.symbols[near[0]]} at "
                         f"{near[1]:.2f} Å")
    return "; ".join(parts) + f". From {atoms.info.get('origin', 'an unknown run')}"
