"""The worst chosen frames of a learning loop, for the 3-D view of its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from rxmdnn.analysis.structure_view import nearest
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.learning.story import Story, number

SHOWN, MOST_ATOMS = 12, 3000  # of one page


def worst_frames(story: Story, folder: Path) -> list[tuple[Atoms, list[int], str]]:
    """Chosen frames, the farthest from known data in latent space first: frame, marked atoms, caption.

    Frames without a distance come last, those of every round by turns. Raises InputError for a file of frames that
    cannot be read.
    """
    found = [(-_distance(atoms), n, k, atoms, state) for k in range(len(story.rounds))
             for n, (atoms, state) in enumerate(_chosen(folder / f"round_{k}"))]
    shown: list[tuple[Atoms, list[int], str]] = []
    for *_, k, atoms, state in sorted(found, key=lambda f: f[:3])[:SHOWN]:
        if shown and sum(len(a) for a, _, _ in shown) + len(atoms) > MOST_ATOMS:
            break
        marked = np.flatnonzero(atoms.arrays.get("worst", np.zeros(len(atoms)))).tolist()
        shown.append((atoms, marked, _caption(k, atoms, marked, state)))
    return shown


def _chosen(folder: Path) -> list[tuple[Atoms, str]]:
    """The chosen frames of a round that can be drawn, and what has become of each."""
    chosen, labelled, quarantined = (_read(folder / f"{name}.xyz") for name in ("chosen", "labels", "quarantine"))
    states = {_origin(a): state for frames, state in ((labelled, "labelled"), (quarantined, "quarantined"))
              for a in frames}
    return [(a, states.get(_origin(a), "without a label")) for a in chosen if _drawable(a)]


def _origin(atoms: Atoms) -> str:
    return str(atoms.info.get("origin", "an unknown run"))


def _read(path: Path) -> list[Atoms]:
    return read_atoms(path) if path.is_file() else []


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
    return "; ".join(parts) + f". From {_origin(atoms)}"
