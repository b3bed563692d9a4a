"""Averages over frames for ``rxmdnn structure``: g(r), bonds, structure factors and Bragg amplitudes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI
from tqdm import tqdm

from rxmdnn import backend as backends
from rxmdnn.analysis import diffraction
from rxmdnn.analysis.structure import Bonds, Radial, half_width
from rxmdnn.backend import Backend
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.series import Series
from rxmdnn.parallel import together


@dataclass
class StructureAverages:
    """Sums over the frames of one or several trajectories of the same atoms.

    Attributes
    ----------
    index (n,) kind of each atom
    static : partial structure factors, or None
    cells (3,) unit cells along a, b, c; hkl (m, 3) reflections of the unit cell; q (m,) 1/Å; m is 0 without Bragg peaks
    bragg : of each trajectory (frames, kinds, m) complex ρ_a(q); time : of each (frames,) fs
    """

    index: np.ndarray
    radial: Radial
    bonds: Bonds
    static: diffraction.StaticFactors | None
    cells: np.ndarray
    hkl: np.ndarray
    q: np.ndarray
    bragg: list[np.ndarray] = field(default_factory=list)
    time: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def of(cls, first: Series, kinds: tuple[str, ...], index: np.ndarray, r_max: float, q_max: float = 0.0,
           unit_cells: Sequence[int] | None = None, reflections: Sequence[int] | None = None) -> StructureAverages:
        """Empty averages for trajectories like ``first``.

        Parameters
        ----------
        r_max : Å, of g(r), at most half the narrowest width of the cell
        q_max : 1/Å, of the structure factors; 0 for none
        unit_cells : three numbers along a, b, c, for Bragg intensities; None for none
        reflections : h k l h k l ...; None for those of ``diffraction.reflections``

        Raises InputError for the reflection 0 0 0.
        """
        cell = first.cell(0)
        static = None
        if q_max and cell.pbc.all():
            hkl, q = diffraction.wave_vectors(cell, q_max, 40)
            if len(q):
                static = diffraction.StaticFactors(kinds, np.bincount(index), hkl, q)
        cells, hkl, q = np.array(unit_cells or (1, 1, 1)), np.zeros((0, 3), np.int64), np.zeros(0)
        if unit_cells:
            hkl = np.array(reflections).reshape(-1, 3) if reflections else diffraction.reflections()
            q = np.linalg.norm(hkl * cells @ (2 * np.pi * cell.inverse.T), axis=1)
            if not (q > 0).all():
                raise InputError("structure: --hkl: 0 0 0 is not a reflection")
        return cls(index, Radial(kinds, index, min(r_max, half_width(cell))), Bonds(np.array(kinds)[index]), static,
                   cells, hkl, q)

    def accumulate(self, comm: MPI.Comm, series: Sequence[Series], most: int, quiet: bool) -> None:
        """Add at most ``most`` frames of each trajectory, divided among the ranks; all ranks get the sums."""
        backend = backends.make("cpu")
        for s in series:
            rows = spread(len(s.time), most)
            bragg = np.zeros((len(rows), len(self.radial.elements), len(self.q)), complex)
            lo, hi = block(len(rows), comm.size, comm.rank)
            with together(comm):
                for k in tqdm(range(lo, hi), unit="frame", disable=quiet):
                    self._add(backend, s, int(rows[k]), bragg[k])
            comm.Allreduce(MPI.IN_PLACE, bragg)
            self.bragg.append(bragg)
            self.time.append(s.time[rows])
        self._reduce(comm)

    def _add(self, backend: Backend, series: Series, frame: int, bragg: np.ndarray) -> None:
        """Add one frame. bragg : (kinds, m) OUT."""
        radial, bonds, n_kinds = self.radial, self.bonds, len(self.radial.elements)
        x, cell = series.read("x", [frame])[0].astype(float), series.cell(frame)
        i, j, S = pairs(backend, x, cell, max(radial.r_max, bonds.reach))
        r_ij = x[j] + S @ cell.h - x[i]
        d = np.linalg.norm(r_ij, axis=1)
        near = d < bonds.reach
        bonds.add(i[near], j[near], r_ij[near], d[near])
        near = d < radial.r_max
        radial.add(i[near], j[near], d[near], cell.volume)
        fractional = cell.fractional(x)
        if self.static is not None:
            self.static.add(diffraction.densities(fractional, self.index, n_kinds, self.static.hkl))
        if len(self.q):
            bragg[:] = diffraction.densities(fractional, self.index, n_kinds, self.hkl * self.cells)

    def _reduce(self, comm: MPI.Comm) -> None:
        """Sum over the ranks, in place."""
        radial, static = self.radial, self.static
        for array in (radial.sums, radial.density, *([static.sums] if static else [])):
            comm.Allreduce(MPI.IN_PLACE, array)
        radial.frames = comm.allreduce(radial.frames)
        if static:
            static.frames = comm.allreduce(static.frames)
        self.bonds.gather(comm)


def spread(n: int, most: int) -> np.ndarray:
    """Indices of at most ``most`` of n frames, evenly spaced, the last one among them."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int))
