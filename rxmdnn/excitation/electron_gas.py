"""Electrons on the grid: their energy and temperature by cell, conduction, and what they exchange with the lattice.

The energy of each cell, eV, is what is kept, so that a change of the simulation cell changes T_e and not the energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rxmdnn.arrays import Array, namespace
from rxmdnn.cell import Cell
from rxmdnn.excitation.conduction import Conduction, advanced, super_step
from rxmdnn.excitation.heat_capacity import HeatCapacity
from rxmdnn.parallel import FailedRunError
from rxmdnn.units import KB

COLDEST = 1.0  # K: a colder lattice counts as this in κ_e = κ0 T_e/T_a


@dataclass(frozen=True)
class ElectronModel:
    """Properties of the electrons of a material.

    Attributes
    ----------
    capacity : HeatCapacity C_e(T_e)
    coupling : g, eV/(fs Å^3 K), of electrons and lattice
    conductivity : κ_e, or κ0 where ``scaled``, eV/(fs Å K); 0: the cells exchange nothing
    scaled : κ_e = κ0 T_e/T_a
    """

    capacity: HeatCapacity
    coupling: float
    conductivity: float = 0.0
    scaled: bool = False


class ElectronGas:
    """Electrons of all cells of a grid; the same on every rank.

    Parameters
    ----------
    model : ElectronModel
    shape, pbc : of the grid
    share : (n_cells,) float64, 0 to 1: the part of each cell that holds electrons
    energy : (n_cells,) float64, eV

    Attributes
    ----------
    stages : evaluations of the flow in the last call of ``conduct``
    """

    def __init__(self, model: ElectronModel, shape: tuple[int, int, int], pbc: np.ndarray, share: np.ndarray,
                 energy: np.ndarray) -> None:
        self.model, self.share, self.energy = model, share, energy
        self.filled = share > 0
        self.conduction = Conduction(shape, pbc, share)
        self.stages = 0

    @classmethod
    def at(cls, temperature: float, model: ElectronModel, shape: tuple[int, int, int], cell: Cell,
           share: np.ndarray) -> ElectronGas:
        """Electrons at one temperature, K."""
        volume = share * (cell.volume / len(share))
        return cls(model, shape, cell.pbc, share, volume * model.capacity.energy(np.full(len(share), temperature)))

    def volumes(self, cell: Cell) -> np.ndarray:
        """(n_cells,) volume that holds electrons, Å^3; zero in empty cells."""
        return self.share * (cell.volume / len(self.share))

    def temperature(self, cell: Cell) -> np.ndarray:
        """(n_cells,) T_e, K; 0 in cells without electrons. Raises FailedRunError where one is negative or NaN."""
        t = self._temperature(self.energy, self._measure(cell))
        if not (t >= 0).all():
            where = np.flatnonzero(~(t >= 0))
            raise FailedRunError(
                f"electrons: T_e = {t[where[0]]:.4g} K in {len(where)} of {self.filled.sum()} grid cells: they lost "
                "more energy to the atoms than they had; use fewer and larger grid cells, a smaller 'time' dt, or a "
                "smaller coupling; instead of langevin, 'electrons_exchange scaling', which has no noise; with "
                "'excite ... electrons', temperatures of excite_electrons at which they have the energy of the excited "
                "model")
        return t

    def _measure(self, cell: Cell) -> np.ndarray:
        """(n_cells,) volumes, and 1 for cells without electrons, whose energy is zero."""
        return np.where(self.filled, self.volumes(cell), 1.0)

    def _temperature(self, energy: np.ndarray, measure: np.ndarray) -> np.ndarray:
        """T_e of energies, unchecked. measure : of ``_measure``."""
        return self.model.capacity.temperature(energy / measure)

    def conduct(self, t_atoms: np.ndarray, cell: Cell, dt: float) -> None:
        """Let heat flow between the cells during ``dt`` fs, in as many explicit stages as their stability needs.

        t_atoms : (n_cells,) K, of the lattice
        """
        model, self.stages, left, measure = self.model, 0, dt, self._measure(cell)
        if model.conductivity == 0.0 or not self.conduction.axes:
            return

        def flow(energy: np.ndarray) -> np.ndarray:
            t = np.maximum(self._temperature(energy, measure), 0.0)
            return self.conduction.flow(t, self.conductivity(t, t_atoms), cell)

        while left > 0:
            t = self.temperature(cell)
            longest = self.conduction.stable_step(model.capacity.capacity(t), self.conductivity(t, t_atoms), cell)
            step, stages = super_step(left, longest)
            self.energy = advanced(self.energy, flow, step, stages)
            self.stages += stages
            left = left - step if step < left else 0.0

    def conductivity(self, t: np.ndarray, t_atoms: np.ndarray) -> np.ndarray:
        """(n_cells,) κ_e, eV/(fs Å K). t, t_atoms : (n_cells,) K."""
        if not self.model.scaled:
            return np.full_like(t, self.model.conductivity)
        return self.model.conductivity * t / np.maximum(t_atoms, COLDEST)

    def exchanged(self, t: np.ndarray, count: np.ndarray, cell: Cell, dt: float) -> np.ndarray:
        """(n_cells,) part of the difference T_e - T_a by which the kinetic energy of a cell approaches 3/2 N k_B T_e.

        With the heat capacities C_a = 3/2 N k_B of the velocities and C_e V of the electrons,
        C_a dT_a/dt = g V (T_e - T_a) = -C_e V dT_e/dt has the solution
        ΔT_a = (T_e - T_a) (1 - exp[-g V (1/C_a + 1/(C_e V)) dt]) C_e V/(C_a + C_e V), the energy that this returns per
        degree of freedom. So a step of any length is exact in the mean while C_e is constant. For C_e V >> C_a it is
        1 - exp(-2 λ dt), of the friction m λ = m g V/(3 N k_B).

        t : (n_cells,) T_e, K; count : (n_cells,) number of atoms N; dt : fs
        """
        volume = self.volumes(cell)
        some = self.filled & (count > 0)
        atoms = np.where(some, 1.5 * KB * count, 1.0)
        electrons = np.where(some, self.model.capacity.capacity(t) * volume, 1.0)
        some &= electrons > 0
        electrons = np.where(some, electrons, 1.0)
        rate = self.model.coupling * volume * (1.0 / atoms + 1.0 / electrons)
        return np.where(some, -np.expm1(-rate * dt) * electrons / (atoms + electrons), 0.0)


def matter_share(count: np.ndarray) -> np.ndarray:
    """(n_cells,) float64 part of each cell that holds electrons, from the number of atoms of each cell, (n_cells,).

    None where there are no atoms (vacuum). A cell with fewer than half as many atoms as the median of the others, at a
    surface, holds electrons in proportion, so that each of its atoms takes part as one of the bulk.
    """
    filled = count[count > 0]
    if not len(filled):
        return np.zeros(len(count))
    return np.minimum(1.0, 2.0 * count / np.median(filled))


def surface_weight(t: Array, first: float, last: float) -> Array:
    """Weight of a surface that follows T_e: 0 below ``first`` K, 1 above ``last`` K, and x² (3 - 2x) between them.

    It and its slope are continuous. t : K, of any shape
    """
    x = namespace(t).clip((t - first) / (last - first), 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)
