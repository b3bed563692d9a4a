"""Heat for the atoms near those that give it: velocities relative to the mean of a small part of the cell are scaled.

Momentum and energy are conserved to rounding. The parts are the cells of a coarse grid, each of some 64 atoms.
"""

from __future__ import annotations

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.excitation.grid import Grid
from rxmdnn.units import ACCELERATION

ATOMS = 64.0  # of a part, on average
MOST_COOLING = 0.5  # of the kinetic energy of a part, in one step


def shape_for(cell: Cell, n_global: int) -> tuple[int, int, int]:
    """Numbers of grid cells along the cell vectors, so that each is about as wide as high and holds ATOMS atoms."""
    width = (cell.volume * ATOMS / max(n_global, 1)) ** (1.0 / 3.0)
    nx, ny, nz = (max(1, int(w / width)) for w in cell.widths)
    return nx, ny, nz


class LatticeHeat:
    """Gives energy to the atoms around those where it is set free.

    Attributes
    ----------
    owed : (n_cells,) float64, eV
        Heat that could not be given yet: in a part whose atoms do not move, or where it would stop them.
    """

    def __init__(self, grid: Grid, kinetics: Kinetics) -> None:
        self.grid, self.kinetics = grid, kinetics
        self.owed = np.zeros(grid.n_cells)

    def give(self, atoms: Atoms, cell: Cell, heat: Array) -> float:
        """Change ``atoms.v``; the energy, eV, that the atoms of this rank have got. All ranks call it.

        heat : (n_owned,) float64, eV, set free at each atom; negative where it is taken
        """
        grid, m = self.grid, self.kinetics.of_atoms(self.kinetics.mass, atoms)
        index, v = grid.index(atoms, cell), atoms.v
        p = [m * v[:, a] for a in range(3)]
        squares = m * (v[:, 0] ** 2 + v[:, 1] ** 2 + v[:, 2] ** 2)
        _, mass, px, py, pz, twice, free = grid.sums(index, m, *p, squares, heat)
        mass = np.where(mass > 0.0, mass, 1.0)
        mean = np.stack([px, py, pz], axis=1) / mass[:, None]
        inner = 0.5 * (twice - (mean**2).sum(axis=1) * mass) / ACCELERATION
        moving = inner > 1e-12 * np.abs(twice) / ACCELERATION
        due = free + self.owed
        given = np.where(moving, np.maximum(due, -MOST_COOLING * inner), 0.0)
        self.owed = due - given
        scale = np.sqrt(1.0 + given / np.where(moving, inner, 1.0)) - 1.0
        change = grid.of_atoms(scale, index)[:, None] * (v - grid.of_atoms(mean, index))
        got = 0.5 / ACCELERATION * float((m[:, None] * change * (v + v + change)).sum())
        v += change
        return got
