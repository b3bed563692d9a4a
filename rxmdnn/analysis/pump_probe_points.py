"""Points of reciprocal space: reflections and their families, lines and planes, on the lattice of a periodic cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError

ON_LATTICE = 1e-6  # largest deviation of an index from a whole number
SAME_METRIC = 1e-3  # relative deviation of lengths and angles of a lattice from its symmetry


def read_hkl(words: Sequence[str], option: str) -> np.ndarray:
    """(m, 3) float64 reflections of words such as ``220,400``, ``-1-11``, or ``10 0 0``, three numbers each.

    Raises InputError.
    """
    numbers: list[float] = []
    for word in words:
        parts = [part for part in word.split(",") if part]
        if len(numbers) % 3 == 0 and all(re.fullmatch(r"(-?\d){3}", part) for part in parts):
            parts = [n for part in parts for n in re.findall(r"-?\d", part)]
        try:
            numbers += map(float, parts)
        except ValueError:
            numbers.append(np.nan)
    if not numbers or len(numbers) % 3 or not np.isfinite(numbers).all():
        raise InputError(f"structure: {option}: '{' '.join(words)}' are not reflections; write three digits each, as "
                         "220,400, or three numbers per reflection, as 10 0 0")
    return np.array(numbers).reshape(-1, 3)


def label(hkl: Sequence[float]) -> str:
    """The name of a reflection: "220", "-1-11", or "10_0_0" where an index has not one digit."""
    words = [f"{round(n, 4):g}" for n in hkl]
    return "".join(words) if all(len(w.lstrip("-")) == 1 for w in words) else "_".join(words)


@dataclass(frozen=True)
class Crystal:
    """A cell that holds a number of unit cells along its vectors, and the reciprocal lattice of both.

    Attributes
    ----------
    cell : Cell, of the run
    cells (3,) float64 : unit cells along a, b, c; whole numbers along the axes that repeat
    """

    cell: Cell
    cells: np.ndarray

    def __post_init__(self) -> None:
        whole = np.abs(self.cells - np.round(self.cells)) < ON_LATTICE
        if not (whole | ~self.cell.pbc).all() or not (self.cells > 0).all():
            raise InputError("structure: --cells: along an axis that repeats, the number of unit cells is a whole "
                             f"number above zero, not {' '.join(f'{n:g}' for n in self.cells)}")

    @property
    def count(self) -> float:
        """Unit cells in the cell."""
        return float(np.prod(self.cells))

    def q(self, hkl: np.ndarray) -> np.ndarray:
        """(m, 3) Q, 1/Å, of hkl : (m, 3) in the reciprocal lattice of the unit cell."""
        return (hkl * self.cells) @ (2 * np.pi * self.cell.inverse.T)

    def waves(self, hkl: np.ndarray, option: str) -> np.ndarray:
        """(m, 3) indices in the reciprocal lattice of the cell, int64 where all are whole, otherwise float64.

        Raises InputError for a point that is not a wave vector of the periodic cell.
        """
        n = hkl * self.cells
        whole = np.round(n)
        off = (np.abs(n - whole) > ON_LATTICE * np.maximum(1, np.abs(n))) & self.cell.pbc
        if off.any():
            row, axis = np.argwhere(off)[0]
            near = whole[row] / self.cells
            raise InputError(
                f"structure: {option}: {' '.join(f'{x:g}' for x in hkl[row])} is not a wave vector of the cell of the "
                f"run: it holds {self.cells[axis]:g} unit cells along {'abc'[axis]}, so {'hkl'[axis]} is a multiple of "
                f"1/{self.cells[axis]:g}; the nearest is {' '.join(f'{x:g}' for x in near)}. Are --cells right?")
        exact = np.where(self.cell.pbc, whole, n)
        return exact.astype(np.int64) if np.array_equal(exact, whole) else exact

    @cached_property
    def operations(self) -> np.ndarray:
        """(k, 3, 3) int64 W: the point group of the lattice of the unit cell; W @ h are indices equivalent to h.

        Those with elements -1, 0, 1 that keep the metric tensor: all, for the reduced and conventional cells.
        """
        unit = self.cell.h / self.cells[:, None]
        metric = unit @ unit.T
        rows = np.array(list(product((-1, 0, 1), repeat=3)))
        lengths = np.einsum("ni,ij,nj->n", rows, metric, rows)
        fit = [rows[np.abs(lengths - metric[k, k]) < SAME_METRIC * metric[k, k]] for k in range(3)]
        scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
        w = np.array([[a, b, c] for a in fit[0] for b in fit[1] for c in fit[2]
                      if round(abs(np.linalg.det([a, b, c]))) == 1])
        same = np.abs(np.einsum("nij,jk,nlk->nil", w, metric, w) - metric) < SAME_METRIC * scale
        moved = (w[:, :, ~self.cell.pbc] != np.eye(3, dtype=int)[:, ~self.cell.pbc]).any(axis=(1, 2))
        moved |= (w[:, ~self.cell.pbc] != np.eye(3, dtype=int)[~self.cell.pbc]).any(axis=(1, 2))
        return w[same.all(axis=(1, 2)) & ~moved]

    def family(self, hkl: np.ndarray) -> np.ndarray:
        """(k, 3) the reflections equivalent to hkl : (3,), by the lattice; one of each pair ±, itself first."""
        found = np.unique(np.round(np.concatenate([self.operations @ hkl, -(self.operations @ hkl)]), 9), axis=0)
        first = np.array([row[np.flatnonzero(row)[0]] > 0 if row.any() else True for row in found])
        half = found[first]
        own = (np.abs(half - hkl) < ON_LATTICE).all(axis=1) | (np.abs(half + hkl) < ON_LATTICE).all(axis=1)
        return np.concatenate([np.array(hkl)[None], half[~own]])

    def held(self, hkl: np.ndarray) -> np.ndarray:
        """(m,) bool: the points of hkl : (m, 3) that are wave vectors of the cell."""
        n = hkl * self.cells
        return ((np.abs(n - np.round(n)) < ON_LATTICE * np.maximum(1, np.abs(n))) | ~self.cell.pbc).all(axis=1)

    def expanded(self, hkl: np.ndarray, family: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The points over which the intensities at hkl : (m, 3) are averaged, each of them once.

        Returns
        -------
        members (k, 3); group (k,) int of each member; of (m,) int, the group of each point. Without ``family`` they
        are the points themselves.
        """
        if not family:
            return hkl, np.arange(len(hkl)), np.arange(len(hkl))
        number: dict[tuple[float, ...], int] = {}
        members, group, of = [], [], []
        for point in hkl:
            equivalents = self.family(point)
            name = max(map(tuple, np.round(np.concatenate([equivalents, -equivalents]), 6).tolist()))
            if name not in number:
                number[name] = len(number)
                own = equivalents[self.held(equivalents)]
                members.append(own)
                group += [number[name]] * len(own)
            of.append(number[name])
        return np.concatenate(members), np.array(group), np.array(of)

    def line(self, start: np.ndarray, end: np.ndarray, option: str) -> np.ndarray:
        """(m, 3) the wave vectors of the cell on the line between two points, both included, without 0 0 0."""
        steps = self._steps(start, end, option)
        points = start + np.linspace(0, 1, steps + 1)[:, None] * (end - start)
        return points[np.abs(points).max(axis=1) > ON_LATTICE]

    def plane(self, origin: np.ndarray, right: np.ndarray, up: np.ndarray, option: str) -> np.ndarray:
        """(m_up, m_right, 3) the wave vectors of the cell from ``origin`` to the corners ``right`` and ``up``."""
        if np.linalg.norm(np.cross(right - origin, up - origin)) < ON_LATTICE:
            raise InputError(f"structure: {option}: the three points are on one line; name the origin and the ends of "
                             "two sides")
        a = np.linspace(0, 1, self._steps(origin, right, option) + 1)[None, :, None] * (right - origin)
        return origin + a + np.linspace(0, 1, self._steps(origin, up, option) + 1)[:, None, None] * (up - origin)

    def _steps(self, start: np.ndarray, end: np.ndarray, option: str) -> int:
        """The steps between two points whose ends are all wave vectors of the cell; a fine grid on open axes."""
        if np.abs(end - start).max() < ON_LATTICE:
            raise InputError(f"structure: {option}: its ends are one point")
        self.waves(np.array([start, end]), option)
        n = ((end - start) * self.cells)[self.cell.pbc]
        steps = int(np.gcd.reduce(np.round(n).astype(np.int64))) if len(n) else 0
        return steps or max(2, int(np.ceil(4 * np.abs((end - start) * self.cells).max())))
