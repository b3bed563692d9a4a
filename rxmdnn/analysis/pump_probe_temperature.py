"""Temperature and excitation by kind of atom and by region at every delay."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

import numpy as np

from rxmdnn.analysis.pump_probe_frames import Measurement, Replica
from rxmdnn.atoms import EXCITATION
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.units import ACCELERATION, KB

COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class Slabs:
    """Slabs of equal thickness between planes along two cell vectors.

    axis : number of the third cell vector; edges (slabs + 1,) in fractions of it; repeats : whether it is periodic
    """

    axis: int
    edges: np.ndarray
    repeats: bool

    @classmethod
    def of(cls, n: int, axis: int, cell: Cell, s: np.ndarray) -> Slabs:
        """n slabs of the cell or, along an axis that does not repeat, of the extent of s : (atoms, 3) fractional."""
        repeats = bool(cell.pbc[axis])
        low, high = (0.0, 1.0) if repeats else (float(s[:, axis].min()), float(s[:, axis].max()))
        return cls(axis, np.linspace(low, high, n + 1) if n else np.zeros(1), repeats)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def number(self, x: np.ndarray, cell: Cell) -> np.ndarray:
        """(n,) slab of atoms at x : (n, 3) Å; beyond the ends of an open axis those of the ends."""
        s = cell.fractional(x)[:, self.axis]
        s = s - np.floor(s) if self.repeats else s
        return np.clip(np.searchsorted(self.edges, s, "right") - 1, 0, len(self) - 1)

    def middle(self, cell: Cell) -> np.ndarray:
        """(slabs,) distance from the face of the cell, Å."""
        return 0.5 * (self.edges[1:] + self.edges[:-1]) * cell.widths[self.axis]


@dataclass(frozen=True)
class Where:
    """A condition on the excitation of atoms, as ``excitation > 0.5``."""

    comparison: str
    value: float

    @classmethod
    def read(cls, text: str) -> Where:
        """Raises InputError."""
        found = re.fullmatch(rf"\s*{EXCITATION}\s*(>=|<=|>|<)\s*(\S+)\s*", text)
        try:
            return cls(found[1], float(found[2]))  # type: ignore[index]
        except (TypeError, ValueError):
            raise InputError(f"structure: --where: '{text}' is not a condition; write for example 'excitation > 0.5'"
                             ) from None

    def holds(self, w: np.ndarray) -> np.ndarray:
        """(n,) bool. w : (n,) excitation"""
        return COMPARISONS[self.comparison](w, self.value)


class Temperatures(Measurement):
    """Kinetic energies and degrees of freedom of each kind in the whole, in slabs, and of atoms that meet a condition.

    T = 2 Σ ½ m (v - V)² / (k_B g) with V the velocity of the center of mass of the region, and g = 3 Σ (1 - m/M) over
    the atoms of the kind: what remains of 3 N when the 3 components of V, shared by mass, are taken off.

    Attributes
    ----------
    energy (replicas, frames, regions, kinds) eV : region 0 is the whole, then the slabs; with a condition the last two
        are the atoms that do not meet it and those that do
    freedom (replicas, frames, regions, kinds) : g
    """

    def __init__(self, shape: tuple[int, int], index: np.ndarray, n_kinds: int, mass: np.ndarray, slabs: Slabs,
                 where: Where | None = None) -> None:
        self.index, self.n_kinds, self.mass, self.slabs, self.where = index, n_kinds, mass, slabs, where
        self.energy, self.freedom = np.zeros((2, *shape, 1 + len(slabs) + (2 if where else 0), n_kinds))

    def finish(self, replica: int, frame: int, of: Replica) -> None:
        v = of.velocities(frame)
        if v is None:
            return
        energy, freedom, last = self.energy[replica, frame], self.freedom[replica, frame], 1 + len(self.slabs)
        self._regions(v, np.zeros(len(v), int), energy[:1], freedom[:1])
        if len(self.slabs):
            x, cell = of.series.read("x", [frame])[0].astype(float), of.series.cell(frame)
            self._regions(v, self.slabs.number(x, cell), energy[1:last], freedom[1:last])
        if self.where:
            meets = self.where.holds(of.series.read(EXCITATION, [frame])[0])
            self._regions(v, meets.astype(int), energy[last:], freedom[last:])

    def _regions(self, v: np.ndarray, region: np.ndarray, energy: np.ndarray, freedom: np.ndarray) -> None:
        """energy, freedom : (regions, kinds) OUT."""
        n = len(energy)
        mass = np.bincount(region, self.mass, n)
        with np.errstate(invalid="ignore", divide="ignore"):
            flow = np.stack([np.bincount(region, self.mass * v[:, a], n) / mass for a in range(3)], axis=1)
        own = 0.5 * self.mass * ((v - flow[region]) ** 2).sum(axis=1) / ACCELERATION
        at = region * self.n_kinds + self.index
        energy[:] = np.bincount(at, own, energy.size).reshape(energy.shape)
        freedom[:] = np.bincount(at, 3 * (1 - self.mass / mass[region]), energy.size).reshape(energy.shape)

    def arrays(self) -> list[np.ndarray]:
        return [self.energy, self.freedom]


def temperature(energy: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """(...) K, of kinetic energies in eV; NaN without degrees of freedom."""
    return ratio(2 * energy, KB * freedom)


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...) a/b; NaN where b is next to nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b > 1e-9 * KB, a / b, np.nan)


class Excitations(Measurement):
    """Sums of the excitation of atoms, the weight of the excited surface, and their numbers.

    Attributes
    ----------
    weight, number (replicas, frames, regions, kinds) : region 0 is the whole, the others are slabs
    """

    def __init__(self, shape: tuple[int, int], index: np.ndarray, n_kinds: int, slabs: Slabs) -> None:
        self.index, self.n_kinds, self.slabs = index, n_kinds, slabs
        self.weight, self.number = np.zeros((2, *shape, 1 + len(slabs), n_kinds))

    def finish(self, replica: int, frame: int, of: Replica) -> None:
        w, n = of.series.read(EXCITATION, [frame])[0].astype(float), self.n_kinds
        regions = [(0, np.zeros(len(w), int))]
        if len(self.slabs):
            x = of.series.read("x", [frame])[0].astype(float)
            regions.append((1, self.slabs.number(x, of.series.cell(frame))))
        for first, region in regions:
            size = n * (len(self.slabs) if first else 1)
            rows = slice(first, first + size // n)
            at = region * n + self.index
            self.weight[replica, frame, rows] = np.bincount(at, w, size).reshape(-1, n)
            self.number[replica, frame, rows] = np.bincount(at, minlength=size).reshape(-1, n)

    def arrays(self) -> list[np.ndarray]:
        return [self.weight, self.number]
