"""Base of all ensembles: the motions of a step, the step of constant energy, accounting of heat.

The ``step`` of every ensemble is its splitting, written out. A stochastic barostat changes the cell in the middle of
the drift, between two evaluations of the forces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms
from rxmdnn.cell import transform
from rxmdnn.dynamics.ensembles.cell_change import CellChange
from rxmdnn.dynamics.integrate import drift, kick
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.forces import Forces


@dataclass(frozen=True)
class StepTargets:
    """Targets of one step. step : number of the step, for random numbers; temperature : K; pressure : eV/Å^3."""

    step: int
    temperature: float
    pressure: float = 0.0


@dataclass
class Motion:
    """Motions of a decomposed system. dt : fs, of a whole step."""

    forces: Forces
    kinetics: Kinetics
    dt: float
    seed: int

    @property
    def volume(self) -> float:
        return self.forces.domain.cell.volume

    def kick(self, atoms: Atoms, dt: float) -> None:
        kick(atoms, self.forces, self.kinetics.backend, self.kinetics.mass, dt)

    def drift(self, atoms: Atoms, dt: float) -> None:
        drift(atoms, self.forces, self.kinetics.backend, dt)

    def deform(self, atoms: Atoms, by: np.ndarray) -> None:
        """Deform cell and positions, h -> h by and x -> x by. by : (3, 3) float64."""
        with self.forces.timers("integrate"):
            atoms.x[: atoms.n_owned] = transform(atoms.x[: atoms.n_owned], by)
            self.forces.domain.deform(by)

    def normals(self, stream: int, step: int, gid: Array) -> Array:
        """(n, 3) normal deviates of (seed, stream, step, gid): the same on any rank. stream : of rxmdnn.streams."""
        z = self.kinetics.backend.xp.empty((len(gid), 3))
        self.kinetics.backend.gaussian(self.seed, stream, step, gid, z)
        return z

    def shared_normals(self, stream: int, step: int, n: int) -> np.ndarray:
        """(n, 3) normal deviates of (seed, stream, step, 0 to n - 1), on the host: the same on every rank."""
        backend = self.kinetics.backend
        return backend.to_host(self.normals(stream, step, backend.from_host(np.arange(n))))


class Ensemble:
    """Constant energy (NVE), and the base of the others.

    Parameters
    ----------
    motion : Motion
    tau : float, fs
        Relaxation time of the thermostat.
    barostat : CellChange, optional

    Attributes
    ----------
    heat : float, eV
        Energy that the thermostat has given to the atoms so far.
    """

    keeps_momentum = True
    thermostatted = False

    def __init__(self, motion: Motion, tau: float, barostat: CellChange | None = None) -> None:
        self.motion, self.tau, self.barostat = motion, tau, barostat
        self.heat = 0.0
        self.fresh = True
        motion.kinetics.count_degrees_of_freedom(self.keeps_momentum)

    def begin(self, atoms: Atoms) -> None:
        """Prepare for the first step; of a new state, remove the total momentum that a thermostat would conserve."""
        if self.fresh and self.thermostatted and self.keeps_momentum:
            self.motion.kinetics.zero_momentum(atoms)
        if self.barostat is not None:
            self.barostat.begin(lambda: self.virial(atoms))

    def virial(self, atoms: Atoms) -> np.ndarray:
        """(3, 3) eV, of the present positions; computes forces where none are known, as after a restart."""
        if not self.motion.forces.known:
            self.motion.forces.compute(atoms)
        return self.motion.forces.virial()

    @property
    def keeps_virial(self) -> bool:
        """Whether the next step uses the virial of the last forces."""
        return self.barostat is not None

    def add_virial(self, by: np.ndarray) -> None:
        """Change that virial, where ``keeps_virial``: the forces have changed at fixed positions. by : (3, 3) eV."""
        if self.barostat is not None and self.barostat.virial is not None:
            self.barostat.virial = self.barostat.virial + by

    def step(self, atoms: Atoms, targets: StepTargets) -> None:
        """Take one step. The rows of ``atoms`` may be in a new order afterwards."""
        dt = self.motion.dt
        self.motion.kick(atoms, 0.5 * dt)
        self.drift(atoms, targets)
        self.compute(atoms)
        self.motion.kick(atoms, 0.5 * dt)

    def drift(self, atoms: Atoms, targets: StepTargets) -> None:
        if self.barostat is None:
            self.motion.drift(atoms, self.motion.dt)
        else:
            self.motion.drift(atoms, 0.5 * self.motion.dt)
            self.barostat.act(atoms, targets)
            self.motion.drift(atoms, 0.5 * self.motion.dt)

    def compute(self, atoms: Atoms) -> None:
        self.motion.forces.compute(atoms)
        if self.barostat is not None:
            self.barostat.account(self.motion.forces.virial())

    def conserved(self, total: float, targets: StepTargets) -> float:
        """Conserved quantity, eV, constant but for the error of the time step. total : potential plus kinetic, eV."""
        return total - self.heat - (self.barostat.work if self.barostat else 0.0)

    # ------------------------------------------------------------------ restart
    def state(self) -> dict[str, Any]:
        """State that a restart needs besides the atoms, for a checkpoint."""
        return {"heat": self.heat} | ({"barostat": self.barostat.state()} if self.barostat else {})

    def resume(self, state: dict[str, Any]) -> None:
        self.heat, self.fresh = state["heat"], False
        if self.barostat is not None:
            self.barostat.resume(state["barostat"])
