"""The runs of a study, and the structures they start from."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.structure import read_structure


@dataclass(frozen=True)
class Model:
    """file : Path; arm : str; seed : int, of its training; name : str, unique in the study"""

    file: Path
    arm: str
    seed: int
    name: str


@dataclass(frozen=True)
class Run:
    """One run of a study: model, atoms, temperature (K), replica; draw : which of the draws of velocities and noise."""

    model: Model
    n: int
    temperature: float
    replica: int
    draw: int = 0

    @property
    def name(self) -> str:
        return f"{self.model.name}/{self.n}/{self.temperature:g}/{self.replica}"

    @property
    def key(self) -> int:
        """The run's own random numbers: those of the same size, temperature, replica and draw of every model."""
        return zlib.crc32(f"{self.n} {self.temperature:.6f} {self.replica}{f' {self.draw}' * bool(self.draw)}".encode())

    @property
    def start(self) -> int:
        """Which of the frames it starts from, counted on and on."""
        return self.replica + self.draw


@dataclass(frozen=True)
class Start:
    """Cell, names (n,) and positions (k, n, 3), Å, of the frames of one size."""

    cell: Cell
    names: np.ndarray
    x: np.ndarray


def factors(multiple: int, widths: np.ndarray) -> tuple[int, int, int]:
    """How often to repeat a cell along its axes for ``multiple`` copies that make the most cubic cell."""
    every = [(a, b, multiple // (a * b)) for a in range(1, multiple + 1) if multiple % a == 0
             for b in range(1, multiple // a + 1) if multiple % (a * b) == 0]
    return min(every, key=lambda f: (np.ptp(np.log(np.array(f) * widths)).round(9), f))


def read_starts(paths: Sequence[Path], sizes: Sequence[int]) -> dict[int, Start]:
    """The start of every size: the largest of the files' cells that divides it, repeated. Raises InputError."""
    found: list[Start] = []
    for path in paths:
        if path.suffix in (".xyz", ".extxyz") and path.read_text(errors="replace").count("Lattice") > 1:
            try:
                frames: Any = ase.io.read(path, ":", format="extxyz", parallel=False)
            except Exception as error:  # ASE's readers raise whatever their parsing met
                raise InputError(f"{path}: ASE cannot read it: {error}") from None
            first = frames[0]
            if any(list(f.symbols) != list(first.symbols) or not np.allclose(f.cell, first.cell) for f in frames):
                raise InputError(f"{path}: frames differ in atoms or cell; one file holds the starts of one system")
            found.append(Start(Cell(np.array(first.cell)), np.array(first.get_chemical_symbols()),
                               np.array([f.positions for f in frames])))
        else:
            one = read_structure(path)
            found.append(Start(one.cell, one.names, one.x[None]))
    out = {}
    for n in sizes:
        fitting = [s for s in found if n % len(s.names) == 0]
        if not fitting:
            have = ", ".join(str(len(s.names)) for s in found)
            raise InputError(f"sizes: {n} atoms do not fit: the starts have {have} atoms; choose multiples, or give a "
                             "'start' of that size")
        unit = max(fitting, key=lambda s: len(s.names))
        times = factors(n // len(unit.names), unit.cell.widths)
        shift = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), axis=-1).reshape(-1, 3)
        x = unit.x[:, None] + unit.cell.cartesian(shift.astype(float))[None, :, None]
        out[n] = Start(Cell(unit.cell.h * np.array(times)[:, None], unit.cell.pbc), np.tile(unit.names, len(shift)),
                       x.reshape(len(unit.x), n, 3))
    return out
