"""Conduction of heat on the grid, V ∇·(κ ∇T), by finite volumes in fractional coordinates.

With the reciprocal metric G (``grid.metric``) the flow through the face between two cells that are neighbors along
axis k is κ Σ_l G_kl ∂_l T: the difference across the face for l = k, and for other l the mean of the slopes in both
cells. What one cell loses its neighbor receives, so the sum over cells is kept to rounding. The error is of second
order in the width of the cells.

Time: an explicit step of the largest stable length, C_e h²/(6 κ_e) for cubes with edges h, is far below the time step
of the atoms for a metal on a fine grid. So steps are taken by Runge-Kutta-Legendre stages of second order, s of which
cover (s² + s - 2)/4 such steps (RKL2 of Meyer, Balsara and Aslam, J. Comput. Phys. 257, 594 (2014)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.excitation.grid import metric

SAFETY = 0.9  # of the largest stable step: κ and C_e may change within it
SKEWED = 1.125  # mixed derivatives raise the largest eigenvalue by this factor at most
MOST_STAGES = 20  # of one step; a longer time takes several: a step damps the shortest waves by a factor of 2 only
MIXED = 1e-13  # of the diagonal of G: what is smaller is rounding


class Conduction:
    """Flows between cells. All arrays have one value per cell, (n_cells,), in the order of ``Grid``.

    Parameters
    ----------
    shape : cells along each axis
    pbc : (3,) bool; the outer faces along other axes insulate
    share : (n_cells,) float64, 0 to 1: the part of the volume of each cell that conducts; the faces of cells without
        such a part insulate
    """

    def __init__(self, shape: tuple[int, int, int], pbc: np.ndarray, share: np.ndarray) -> None:
        self.share = share
        self.axes = [k for k in range(3) if shape[k] > 1]
        n, number = len(self.axes), np.arange(share.size).reshape(shape)
        self.cells = np.array([float(shape[k]) for k in self.axes]).reshape(n, 1)
        self.rows = np.arange(n)[:, None]
        # (axes, n_cells) the neighbors after and before, and of the face to the one after the part that conducts
        self.after = np.array([np.roll(number, -1, k).reshape(-1) for k in self.axes], int).reshape(n, share.size)
        self.before = np.array([np.roll(number, 1, k).reshape(-1) for k in self.axes], int).reshape(n, share.size)
        self.open = np.minimum(share, share[self.after])
        for row, k in enumerate(self.axes):
            if not pbc[k]:
                self.open[row, np.take(number, -1, axis=k).reshape(-1)] = 0.0
        passes = (self.open > 0).astype(float)
        self.sides = np.maximum(passes + passes[self.rows, self.before], 1.0)
        self.scale = passes * self.cells
        self._cell: Cell | None = None

    def flow(self, t: np.ndarray, kappa: np.ndarray, cell: Cell) -> np.ndarray:
        """(n_cells,) energy that each cell receives per time, eV/fs. t : K; kappa : eV/(fs Å K)."""
        self._know(cell)
        slope = (t[self.after] - t) * self.scale
        gradient = slope * self.diagonal
        if self.tilted:
            inside = (slope + slope[self.rows, self.before]) / self.sides
            for k, after in enumerate(self.after):
                along = self.mixed[k] @ inside
                gradient[k] += along + along[after]
        through = gradient * (kappa[self.after] + kappa) * self.face
        return (through - through[self.rows, self.before]).sum(axis=0)

    def stable_step(self, capacity: np.ndarray, kappa: np.ndarray, cell: Cell) -> float:
        """The largest length of an explicit step, fs: C_e h²/(6 κ_e) for cubes with edges h, less a safety margin.

        capacity : eV/(Å^3 K); kappa : eV/(fs Å K). Infinite where nothing conducts.
        """
        self._know(cell)
        face = 0.5 * (kappa[self.after] + kappa) * self.open * (self.diagonal * self.cells**2)
        rate = (face + face[self.rows, self.before]).sum(axis=0)
        content = capacity * self.share
        highest = float(np.max(np.divide(rate, content, out=np.zeros_like(rate), where=rate > 0), initial=0.0))
        return SAFETY / (highest * (SKEWED if self.tilted else 1.0)) if highest > 0 else np.inf

    def _know(self, cell: Cell) -> None:
        """Keep what of a cell enters the flows: most steps have the cell of the step before."""
        if cell is self._cell:
            return
        self._cell, g = cell, metric(cell)[np.ix_(self.axes, self.axes)]
        self.diagonal, self.mixed, self.tilted = np.diag(g)[:, None], 0.5 * (g - np.diag(np.diag(g))), skewed(g)
        self.face = (0.5 * cell.volume / self.share.size) * self.open * self.cells


def skewed(g: np.ndarray) -> bool:
    """Whether some axes of a metric are not orthogonal."""
    diagonal = np.sqrt(np.diag(g))
    return bool((np.abs(g - np.diag(np.diag(g))) > MIXED * np.outer(diagonal, diagonal)).any())


def super_step(time: float, longest: float) -> tuple[float, int]:
    """Length of the next step and number of its stages, at least 2. time : fs, left; longest : fs, of a single step."""
    if time <= longest:
        return time, 2
    stages = int(np.ceil(0.5 * (np.sqrt(9.0 + 16.0 * time / longest) - 1.0)))
    if stages <= MOST_STAGES:
        return time, stages
    whole = 0.25 * (MOST_STAGES**2 + MOST_STAGES - 2) * longest
    return time / np.ceil(time / whole), MOST_STAGES


def advanced(y: np.ndarray, rate: Callable[[np.ndarray], np.ndarray], step: float, stages: int) -> np.ndarray:
    """y after a step of RKL2. rate : y -> dy/dt, which keeps the sum of y as this does; stages : at least 2."""
    b = [1.0 / 3.0] * 2 + [(j * j + j - 2.0) / (2.0 * j * (j + 1.0)) for j in range(2, stages + 1)]
    w = 4.0 / (stages * stages + stages - 2.0)
    first = step * rate(y)
    before, now = y, y + b[1] * w * first
    for j in range(2, stages + 1):
        mu, nu = (2.0 * j - 1.0) / j * b[j] / b[j - 1], -(j - 1.0) / j * b[j] / b[j - 2]
        new = (mu * now + nu * before + (1.0 - mu - nu) * y
               + mu * w * (step * rate(now) - (1.0 - b[j - 1]) * first))
        before, now = now, new
    return now
