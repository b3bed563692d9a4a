"""Electrons that exchange energy with the atoms: the two-temperature model, by cells of a grid.

    C_e ∂T_e/∂t = ∇·(κ_e ∇T_e) - g (T_e - T_a) + P_abs

Duffy and Rutherford, J. Phys.: Condens. Matter 19, 016207 (2007), with g (T_e - T_a) not computed but measured: after
each step atoms get the exact Ornstein-Uhlenbeck change of their velocities, v -> c v + sqrt((1 - c²) k_B T_e/m) z, with
c of ``ElectronGas.exchanged`` and T_e of their cell, and what they gain their cell loses. So the energy of atoms and
electrons together is kept to rounding. The friction acts on the whole velocity, that of a cell as a whole included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rxmdnn import streams
from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.dynamics.drive import Drive, StepTime
from rxmdnn.excitation.electron_gas import ElectronGas, ElectronModel, matter_share
from rxmdnn.excitation.grid import Grid
from rxmdnn.parallel import AgreedError
from rxmdnn.units import ACCELERATION, KB

if TYPE_CHECKING:
    from rxmdnn.dynamics.simulation import Simulation


class Absorption(Protocol):
    """Light that electrons absorb."""

    def begin(self, atoms: Atoms, cell: Cell) -> None:
        """Prepare for the first step; all ranks call it."""

    def absorbed(self, x: np.ndarray, cell: Cell, start: float, stop: float) -> np.ndarray:
        """(n,) eV/Å^3 absorbed between two times, fs, at positions (n, 3), Å."""

    def state(self) -> dict[str, Any]:
        """What a restart needs."""

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""


@dataclass(frozen=True)
class ElectronPlan:
    """What a deck says of electrons. shape : cells of the grid; temperature : K, T_e at the start"""

    model: ElectronModel
    shape: tuple[int, int, int]
    temperature: float


class Electrons(Drive):
    """The drive of the electrons; its work is the energy that they have given to the atoms.

    Attributes
    ----------
    gas : ElectronGas, after ``begin``; the same on every rank, as all that follows
    count, kinetic : (n_cells,) number of atoms of each cell and their kinetic energy, eV, after the last step
    absorbed : float, eV, of light and of what ``deposit`` was given, so far
    """

    name = "electrons"
    column_names = ("electron_energy_eV", "absorbed_electrons_eV", "Te_K", "Te_min_K", "Te_max_K", "Ta_K")
    gas: ElectronGas

    def __init__(self, plan: ElectronPlan, absorption: Absorption | None = None) -> None:
        super().__init__()
        self.plan, self.absorption, self.absorbed = plan, absorption, 0.0
        self._saved: dict[str, Any] = {}

    # ------------------------------------------------------------------ beginning
    def begin(self, simulation: Simulation) -> None:
        """See Drive. Cells without atoms at the start hold no electrons in the whole run, and insulate."""
        self.kinetics, self.domain = simulation.kinetics, simulation.domain
        self.grid = Grid(simulation.comm, simulation.backend, self.plan.shape)
        atoms, cell = simulation.atoms, simulation.cell
        if self._saved:
            self._take(self._saved)
        else:
            mass = self.kinetics.of_atoms(self.kinetics.mass, atoms)
            self.count, self.kinetic = self.grid.sums(self.grid.index(atoms, cell), self._energy(atoms, mass))
            self.gas = ElectronGas.at(self.plan.temperature, self.plan.model, self.plan.shape, cell,
                                      matter_share(self.count))
        if self.absorption is not None:
            self.absorption.begin(atoms, cell)

    def _energy(self, atoms: Atoms, mass: Array) -> Array:
        """(n_owned,) kinetic energies, eV."""
        v = atoms.v
        return (0.5 / ACCELERATION) * mass * (v[:, 0] * v[:, 0] + v[:, 1] * v[:, 1] + v[:, 2] * v[:, 2])

    # ------------------------------------------------------------------ a step
    def after(self, atoms: Atoms, now: StepTime) -> None:
        cell = self.domain.cell
        self._exchange(atoms, cell, now)
        if self.absorption is not None:
            x = cell.cartesian(self.grid.centers())
            self._gain(self.gas.volumes(cell) * self.absorption.absorbed(x, cell, now.time, now.time + now.dt))
        self.gas.conduct(self.lattice_temperature, cell, now.dt)

    def _exchange(self, atoms: Atoms, cell: Cell, now: StepTime) -> None:
        """Change the velocities, and take the energy that this needs from the electrons.

        The number of atoms of a cell, which sets the friction, is that after the last step: so one sum over all ranks
        is enough.
        """
        grid, kinetics, t = self.grid, self.kinetics, self.gas.temperature(cell)
        part = self.gas.exchanged(t, self.count, cell, now.dt)
        index, mass = grid.index(atoms, cell), kinetics.of_atoms(kinetics.mass, atoms)
        before = self._energy(atoms, mass)
        z = grid.backend.xp.empty((atoms.n_owned, 3))
        grid.backend.gaussian(now.seed, streams.ELECTRONS, now.step, atoms.gid[: atoms.n_owned], z)
        width = grid.of_atoms(np.sqrt(part * (KB * ACCELERATION) * t), index)
        z *= (width / mass**0.5)[:, None]
        atoms.v *= grid.of_atoms(np.sqrt(1.0 - part), index)[:, None]
        atoms.v += z
        after = self._energy(atoms, mass)
        self.count, given, self.kinetic = grid.sums(index, after - before, after)
        self.gas.energy = self.gas.energy - given
        if grid.comm.rank == 0:
            self.work += float(given.sum())

    def deposit(self, atoms: Atoms, energy: Array) -> None:
        """Give energy to the electrons at atoms; where there are no electrons, to all in proportion to their volume.

        All ranks call it, between two steps. energy : (n_owned,) float64, eV
        """
        cell = self.domain.cell
        _, gained = self.grid.sums(self.grid.index(atoms, cell), energy)
        lost = float(gained[~self.gas.filled].sum())
        volume = self.gas.volumes(cell)
        self._gain(np.where(self.gas.filled, gained, 0.0) + lost / volume.sum() * volume)

    def _gain(self, energy: np.ndarray) -> None:
        self.gas.energy = self.gas.energy + energy
        self.absorbed += float(energy.sum())

    # ------------------------------------------------------------------ what is known of them
    @property
    def lattice_temperature(self) -> np.ndarray:
        """(n_cells,) T_a, K, of the kinetic energy of the atoms of each cell after the last step; 0 without atoms."""
        return np.divide(self.kinetic, 1.5 * KB * self.count, out=np.zeros_like(self.kinetic), where=self.count > 0)

    def temperature(self) -> np.ndarray:
        """(n_cells,) T_e, K; 0 in cells without electrons."""
        return self.gas.temperature(self.domain.cell)

    def of_atoms(self, atoms: Atoms) -> Array:
        """(n_owned,) T_e, K, where each atom is."""
        return self.grid.of_atoms(self.temperature(), self.grid.index(atoms, self.domain.cell))

    def columns(self) -> dict[str, float]:
        t, volume, inside = self.temperature(), self.gas.volumes(self.domain.cell), self.gas.filled
        mean = float(t @ volume / volume.sum())
        lattice = self.kinetic[inside].sum() / (1.5 * KB * max(float(self.count[inside].sum()), 1.0))
        values = (self.gas.energy.sum(), self.absorbed, mean, t[inside].min(), t[inside].max(), lattice)
        return dict(zip(self.column_names, map(float, values), strict=True))

    # ------------------------------------------------------------------ restart
    def state(self) -> dict[str, Any]:
        return {"shape": list(self.plan.shape), "share": self.gas.share, "energy": self.gas.energy,
                "count": self.count, "kinetic": self.kinetic, "absorbed": self.absorbed,
                "absorption": {} if self.absorption is None else self.absorption.state()}

    def resume(self, state: dict[str, Any]) -> None:
        if tuple(state["shape"]) != self.plan.shape:
            then, now = (" x ".join(map(str, shape)) for shape in (state["shape"], self.plan.shape))
            raise AgreedError(f"electrons: the grid is {now}, but that of the checkpoint is {then}; write the latter, "
                              "or begin with '--start structure' or '--start rxff'")
        self._saved = state
        if hasattr(self, "gas"):  # within a run, which goes back to an earlier step
            self._take(state)

    def _take(self, state: dict[str, Any]) -> None:
        share, energy, self.count, self.kinetic = (np.array(state[k]) for k in ("share", "energy", "count", "kinetic"))
        self.gas = ElectronGas(self.plan.model, self.plan.shape, self.domain.cell.pbc, share, energy)
        self.absorbed = state["absorbed"]
        if self.absorption is not None:
            self.absorption.resume(state["absorption"])


def stages_note(plan: ElectronPlan, cell: Cell, dt: float) -> list[str]:
    """A note on the stages of conduction in a step of dt fs, at the start; empty where nothing conducts."""
    share = np.ones(int(np.prod(plan.shape)))
    gas = ElectronGas.at(plan.temperature, plan.model, plan.shape, cell, share)
    gas.conduct(np.full(len(share), plan.temperature), cell, dt)
    return [f"electrons: conduction takes {gas.stages} stages per step at {plan.temperature:g} K"] if gas.stages else []

