"""Temperatures by species and region: of the atoms, and of the electrons, on grids of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rxmdnn.excitation.electrons import Electrons
from rxmdnn.excitation.grid import Grid
from rxmdnn.units import ACCELERATION, KB

if TYPE_CHECKING:
    from rxmdnn.dynamics.simulation import Simulation


class Profile:
    """Temperatures of a simulation on a grid of cells.

    Parameters
    ----------
    simulation : Simulation
    shape : cells along the cell vectors
    """

    def __init__(self, simulation: Simulation, shape: tuple[int, int, int]) -> None:
        self.simulation, self.shape, self.kinds = simulation, shape, len(simulation.mass)
        nx, ny, nz = shape
        self.grid = Grid(simulation.comm, simulation.backend, shape)
        self.parts = Grid(simulation.comm, simulation.backend, (nx, ny, nz * self.kinds))  # species run fastest

    def values(self) -> dict[str, np.ndarray]:
        """Quantities of the present step, on every rank; all ranks call it.

        count (nx, ny, nz, n_elements)   atoms of each element in each cell
        T     (nx, ny, nz, n_elements)   K, 2 K/(3 N k_B) of their velocities; NaN without atoms
        T_e   (mx, my, mz)               K, of the electrons on their own grid; NaN where there are none
        """
        s = self.simulation
        atoms, kinetics = s.atoms, s.kinetics
        v, mass = atoms.v, kinetics.of_atoms(kinetics.mass, atoms)
        twice = mass * (v[:, 0] * v[:, 0] + v[:, 1] * v[:, 1] + v[:, 2] * v[:, 2])
        part = self.grid.index(atoms, s.cell) * self.kinds + atoms.species[: atoms.n_owned]
        count, total = self.parts.sums(part, twice)
        t = np.divide(total, 3.0 * KB * ACCELERATION * count, out=np.full_like(total, np.nan), where=count > 0)
        shape = (*self.shape, self.kinds)
        out = {"count": count.astype(np.int64).reshape(shape), "T": t.reshape(shape)}
        for drive in s.drives:
            if isinstance(drive, Electrons):
                inside = np.where(drive.gas.filled, drive.temperature(), np.nan)
                out["T_e"] = inside.reshape(drive.plan.shape)
        return out
