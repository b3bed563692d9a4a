"""Structures from which the runs of a study start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.ase_atoms import cell_of
from rxmdnn.io.canonical import names_of
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.io.structure import read_structure


@dataclass(frozen=True)
class StartFrames:
    """Cell, names (n,), D and T among them, and positions x (k, n, 3), Å, of k frames of n atoms."""

    cell: Cell
    names: np.ndarray
    x: np.ndarray


def factors(multiple: int, widths: np.ndarray) -> tuple[int, int, int]:
    """Repeats of a cell along its axes: ``multiple`` in all, with the result as cubic as possible. widths : (3,) Å."""
    choices = [(a, b, multiple // (a * b)) for a in range(1, multiple + 1) if multiple % a == 0
               for b in range(1, multiple // a + 1) if multiple % (a * b) == 0]
    return min(choices, key=lambda f: (np.ptp(np.log(np.array(f) * widths)).round(9), f))


def read_starts(paths: Sequence[Path], sizes: Sequence[int]) -> dict[int, StartFrames]:
    """Start frames of every size: the largest cell of the files that divides it, repeated. Raises InputError."""
    found: list[StartFrames] = []
    for path in paths:
        if path.suffix in (".xyz", ".extxyz") and path.read_text(errors="replace").count("Lattice") > 1:
            frames = read_atoms(path, format="extxyz")
            first, names = frames[0], names_of(frames[0])
            if any(not np.array_equal(names_of(f), names) or not np.allclose(f.cell, first.cell) for f in frames):
                raise InputError(f"{path}: frames differ in atoms or cell; a start file must hold one system")
            found.append(StartFrames(cell_of(first, str(path)), names, np.array([f.positions for f in frames])))
        else:
            structure = read_structure(path)
            if not structure.vectors.all():
                raise InputError(f"{path}: no cell; times to failure need a start with three cell vectors")
            found.append(StartFrames(structure.cell, structure.names, structure.x[None]))
    out = {}
    for n in sizes:
        fitting = [s for s in found if n % len(s.names) == 0]
        if not fitting:
            available = ", ".join(str(len(s.names)) for s in found)
            raise InputError(f"sizes: {n} atoms do not fit: the starts have {available} atoms; choose multiples, or "
                             "add a 'start' of that size")
        unit = max(fitting, key=lambda s: len(s.names))
        repeats = factors(n // len(unit.names), unit.cell.widths)
        shift = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), axis=-1).reshape(-1, 3)
        x = unit.x[:, None] + unit.cell.cartesian(shift.astype(float))[None, :, None]
        out[n] = StartFrames(Cell(unit.cell.h * np.array(repeats)[:, None], unit.cell.pbc),
                             np.tile(unit.names, len(shift)), x.reshape(len(unit.x), n, 3))
    return out
