"""What acts on the atoms from outside during a run: light, electrons, fields.

It is constant during a step and changes between two steps, at fixed positions. Each step is then one of a Hamiltonian
that does not depend on time, whatever the ensemble, and the work of each change is known exactly: the conserved
quantity of a driven run, K + E - Σ work, is as flat as that of an undriven one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.schema import Item

if TYPE_CHECKING:
    from rxmdnn.dynamics.simulation import Simulation


@dataclass(frozen=True)
class StepTime:
    """When a step begins and how long it takes. step : its number; time, dt : fs.

    part : of a step that is taken in several shorter ones (rxmdnn.fidelity.guard), from 0; seed : of random numbers
    """

    step: int
    time: float
    dt: float
    part: int = 0
    seed: int = 0


class Drive:
    """Base of everything that acts from outside; it does nothing.

    Attributes
    ----------
    name : key in checkpoints, and of the column work_<name>_eV
    column_names : of the further columns, each with its unit
    shown : those of them that the log shows too
    stored : what its state in a checkpoint must hold
    work : float, eV
        Energy that it has given to the atoms so far: the share of this rank.
    """

    name = "none"
    column_names: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    stored: ClassVar[Mapping[str, Item]] = {}

    def __init__(self) -> None:
        self.work = 0.0

    def begin(self, simulation: Simulation) -> None:
        """Prepare for the first step of a run, new or restarted, whose forces may not be known yet."""

    def before(self, atoms: Atoms, now: StepTime) -> None:
        """Change to the values of a step, before its first half kick: ``atoms.f`` (owned rows) and ``work``."""

    def after(self, atoms: Atoms, now: StepTime) -> None:
        """Act at the end of a step, after its last half kick."""

    def add_forces(self, atoms: Atoms) -> None:
        """Add to ``atoms.f``, owned rows, whenever the forces of the potential have been computed."""

    def virial(self) -> np.ndarray:
        """(3, 3) eV, this rank's share, of the forces that ``add_forces`` has added last."""
        return np.zeros((3, 3))

    def energy(self) -> float:
        """eV, this rank's share: the potential energy of these forces at constant drive, for minimizations."""
        return 0.0

    def columns(self) -> dict[str, float]:
        """Further columns of energies.csv, {one of column_names: value}; all ranks call it and get the same."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a restart needs besides the atoms and ``work``, the same on every rank."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""

    def total_work(self, comm: MPI.Comm) -> float:
        """eV, of all ranks. All ranks call it."""
        return comm.allreduce(self.work)

    def saved(self, comm: MPI.Comm) -> dict[str, Any]:
        """The state for a checkpoint. All ranks call it.

        The work moves to rank 0, as after a restart, so that both add up the same numbers in the same order.
        """
        total = self.total_work(comm)
        self.work = total if comm.rank == 0 else 0.0
        return {"work": total, **self.state()}

    def continue_from(self, saved: dict[str, Any], comm: MPI.Comm, with_work: bool = True) -> None:
        """Continue from what ``saved`` has given. with_work : False where the conserved quantity begins anew."""
        self.work = saved["work"] if comm.rank == 0 and with_work else 0.0
        self.resume(saved)
