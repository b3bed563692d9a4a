"""A grid of cells in fractional coordinates, on which densities, temperatures and absorbed energies live.

The grid deforms with the simulation cell: cell (i, j, k) holds the atoms whose fractional coordinates lie in
[i/nx, (i + 1)/nx) and so on. Every rank holds the whole grid, which is small, as arrays of NumPy.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend
from rxmdnn.cell import Cell


class Grid:
    """nx × ny × nz cells; values of the cells are arrays of length ``n_cells``, the last axis running fastest.

    Parameters
    ----------
    comm : communicator of the ranks that share the atoms
    backend : Backend of the atoms
    shape : three ints, at least 1
    """

    def __init__(self, comm: MPI.Comm, backend: Backend, shape: tuple[int, int, int]) -> None:
        self.comm, self.backend, self.shape = comm, backend, shape
        self.n_cells = int(np.prod(shape))

    def index(self, atoms: Atoms, cell: Cell) -> Array:
        """(n_owned,) int64 number of the grid cell of each owned atom.

        Periods are taken off along periodic axes. Along others, atoms beyond the cell count to its outermost cells.
        """
        xp, table = self.backend.xp, self.backend.table
        s = cell.fractional(atoms.x[: atoms.n_owned])
        s = s - xp.where(table(cell.pbc), xp.floor(s), 0.0)
        shape = table(np.array(self.shape))
        place = xp.clip(xp.floor(s * shape).astype(np.int64), 0, shape - 1)
        _, ny, nz = self.shape
        return (place[:, 0] * ny + place[:, 1]) * nz + place[:, 2]

    def sums(self, index: Array, *values: Array) -> np.ndarray:
        """Number of atoms of each cell and sums of ``values`` over them: (len(values) + 1, n_cells) float64.

        They are added on the host, in the order of rows and of ranks, so that a run repeats its bits; the result is
        the same to the last bit on all ranks. All ranks call it.

        index : (n_owned,) of ``index``; values : (n_owned,) float64 each
        """
        place = self.backend.to_host(index)
        rows = [None, *(self.backend.to_host(v) for v in values)]
        mine = np.array([np.bincount(place, row, self.n_cells) for row in rows], np.float64)
        if self.comm.size == 1:
            return mine
        total = np.empty_like(mine)
        self.comm.Reduce(mine, total)
        self.comm.Bcast(total)
        return total

    def of_atoms(self, values: np.ndarray, index: Array) -> Array:
        """(n_owned,) value of the grid cell of each owned atom. values : (n_cells,) on the host."""
        return self.backend.from_host(values)[index]

    def centers(self) -> np.ndarray:
        """(n_cells, 3) float64 fractional coordinates of the middle of each cell."""
        axes = ((np.arange(n) + 0.5) / n for n in self.shape)
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    def volume(self, cell: Cell) -> float:
        """Volume of one grid cell, Å^3."""
        return cell.volume / self.n_cells

    def widths(self, cell: Cell) -> np.ndarray:
        """(3,) float64 distances between opposite faces of a grid cell, Å."""
        return cell.widths / self.shape


def metric(cell: Cell) -> np.ndarray:
    """(3, 3) float64 G, 1/Å^2, of the reciprocal cell: ∇·(κ ∇T) = Σ_kl ∂_k (κ G_kl ∂_l T) in fractional coordinates."""
    return cell.inverse.T @ cell.inverse
