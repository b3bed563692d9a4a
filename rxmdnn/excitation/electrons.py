"""Electrons that exchange energy with the atoms: the two-temperature model, by cells of a grid.

    C_e ∂T_e/∂t = ∇·(κ_e ∇T_e) - g (T_e - T_a) + P_abs

g (T_e - T_a) is not computed but measured: after each step velocities change, and what the atoms of a cell gain its
electrons lose. So the energy of atoms and electrons together is kept to rounding. The change is one of two:

LANGEVIN  v -> c v + sqrt((1 - c²) k_B T_e/m) z, the exact Ornstein-Uhlenbeck process with T_e of the cell and c of
          ``ElectronGas.exchanged`` (Duffy and Rutherford, J. Phys.: Condens. Matter 19, 016207 (2007)). The friction
          acts on the whole velocity, that of a cell as a whole included. A step also moves energy at random, with a
          standard deviation of k_B sqrt(3 N (1 - c²) T_e T_a): the electrons of a small cold cell may have less.
SCALING   velocities relative to the mean of their cell are multiplied, so that the cell gains its mean share and no
          more (Ivanov and Zhigilei, Phys. Rev. B 68, 064114 (2003)). Nothing is random, momentum is kept.
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


LANGEVIN, SCALING = "langevin", "scaling"
FEW = 50.0  # k_B: with a smaller heat capacity of a cell the noise of LANGEVIN is a large part of its energy


class Absorption(Protocol):
    """Light that electrons absorb."""

    def begin(self, atoms: Atoms, cell: Cell) -> None:
        """Prepare for the first step; all ranks call it."""

    def absorbed(self, grid: Grid, cell: Cell, share: np.ndarray, start: float, stop: float) -> np.ndarray:
        """(n_cells,) eV absorbed between two times, fs. share : (n_cells,) part of each cell that holds electrons."""

    def state(self) -> dict[str, Any]:
        """What a restart needs."""

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""


@dataclass(frozen=True)
class ElectronPlan:
    """What a deck says of electrons.

    shape : cells of the grid; temperature : K, T_e at the start; exchange : LANGEVIN or SCALING
    """

    model: ElectronModel
    shape: tuple[int, int, int]
    temperature: float
    exchange: str = LANGEVIN


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
    shown = ("Te_K", "Ta_K")
    gas: ElectronGas

    def __init__(self, plan: ElectronPlan, absorption: Absorption | None = None) -> None:
        super().__init__()
        self.plan, self.absorption, self.absorbed = plan, absorption, 0.0
        self._saved: dict[str, Any] = {}

    # ------------------------------------------------------------------ beginning
    def begin(self, simulation: Simulation) -> None:
        """See Drive. Cells without atoms at the start hold no electrons in the whole run, and insulate."""
        self.kinetics, self.domain, self.timers = simulation.kinetics, simulation.domain, simulation.forces.timers
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
        with self.timers("electrons"):
            self._advance(atoms, self.domain.cell, now)

    def _advance(self, atoms: Atoms, cell: Cell, now: StepTime) -> None:
        """Exchange energy with the atoms, absorb light, conduct."""
        given = (self._kick if self.plan.exchange == LANGEVIN else self._scale)(atoms, cell, now)
        self.gas.energy = self.gas.energy - given
        if self.grid.comm.rank == 0:
            self.work += float(given.sum())
        if self.absorption is not None:
            self._gain(self.absorption.absorbed(self.grid, cell, self.gas.share, now.time, now.time + now.dt))
        self.gas.conduct(self.lattice_temperature, cell, now.dt)

    def _kick(self, atoms: Atoms, cell: Cell, now: StepTime) -> np.ndarray:
        """LANGEVIN: change the velocities; (n_cells,) eV that the atoms of each cell gain.

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
        return given

    def _scale(self, atoms: Atoms, cell: Cell, now: StepTime) -> np.ndarray:
        """SCALING: as ``_kick``. N atoms have 3N - 3 degrees of freedom.

        A single atom, and atoms at rest, gain nothing.
        """
        grid, v = self.grid, atoms.v
        index, mass = grid.index(atoms, cell), self.kinetics.of_atoms(self.kinetics.mass, atoms)
        self.count, kinetic, total, *p = grid.sums(index, self._energy(atoms, mass), mass, *(mass * v[:, a] for a in
                                                                                             range(3)))
        mean = np.stack(p, axis=1) / np.where(total > 0, total, 1.0)[:, None]
        inner = kinetic - 0.5 * total * (mean**2).sum(axis=1) / ACCELERATION
        moving = inner > 1e-12 * kinetic
        t, free = self.gas.temperature(cell), np.maximum(self.count - 1, 0)
        part = self.gas.exchanged(t, free, cell, now.dt)
        given = np.where(moving, part * (1.5 * KB * free * t - inner), 0.0)
        change = np.sqrt(1.0 + given / np.where(moving, inner, 1.0)) - 1.0
        atoms.v += grid.of_atoms(change, index)[:, None] * (v - grid.of_atoms(mean, index))
        self.kinetic = kinetic + given
        return given

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
        if self.absorption is not None and state["absorption"]:
            self.absorption.resume(state["absorption"])


def notes_of(plan: ElectronPlan, cell: Cell, dt: float) -> list[str]:
    """Notes on the stages of conduction in a step of dt fs at the start, and on cells too small for LANGEVIN."""
    share = np.ones(int(np.prod(plan.shape)))
    gas = ElectronGas.at(plan.temperature, plan.model, plan.shape, cell, share)
    gas.conduct(np.full(len(share), plan.temperature), cell, dt)
    notes = []
    if gas.stages:
        notes.append(f"electrons: conduction takes {gas.stages} stages per step at {plan.temperature:g} K")
    heat = float(plan.model.capacity.capacity(np.array([plan.temperature]))[0]) * cell.volume / len(share) / KB
    if heat < FEW and plan.exchange == LANGEVIN and plan.model.coupling > 0:
        notes.append(f"electrons: the heat capacity of a grid cell is {heat:.3g} k_B at {plan.temperature:g} K, little "
                     f"beside the noise of the exchange; use larger grid cells, or 'electrons_exchange {SCALING}'")
    return notes

