"""Changes of the cell in the middle of the drift of a step, with accounting of the work done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.cell import transform

if TYPE_CHECKING:
    from rxmdnn.dynamics.ensembles.ensemble import Motion, StepTargets

LARGEST = 0.05  # strain allowed in one step


class CellChange(ABC):
    """Base of barostats and schedules: h -> h A, x -> x A, v -> v A^-T, the canonical transformation.

    Attributes
    ----------
    virial : (3, 3) float64, eV, of the last forces; None before the first
    work : float, eV
        Energy that the changes of the cell have added to the atoms so far.
    """

    def __init__(self, motion: Motion) -> None:
        self.motion = motion
        self.virial: np.ndarray | None = None
        self.work = 0.0
        self._strain = np.zeros((3, 3))

    def begin(self, virial: Callable[[], np.ndarray]) -> None:
        """Prepare for the first step. virial : () -> (3, 3) eV of the present positions, called where none is known."""
        if self.virial is None:
            self.virial = virial()

    @abstractmethod
    def act(self, atoms: Atoms, targets: StepTargets) -> None:
        """Change the cell once."""

    def apply(self, atoms: Atoms, by: np.ndarray, back: np.ndarray, strain: np.ndarray) -> None:
        """Transform cell, positions and velocities. by : (3, 3) A; back : A^-T; strain : log A to second order."""
        motion = self.motion.kinetics.tensors(atoms).sum(axis=0)
        self.motion.deform(atoms, by)
        atoms.v = transform(atoms.v, back)
        self.work += 0.5 * float(np.trace(back.T @ motion @ back - motion))
        self._strain = strain

    def account(self, virial: np.ndarray) -> None:
        """Add the work on the potential energy, -ε : W, with W the mean of the virials before and after the strain.

        virial : (3, 3) float64, eV, of the forces after the strain
        """
        assert self.virial is not None
        self.work -= 0.5 * float((self._strain * (self.virial + virial)).sum())
        self.virial = virial

    def state(self) -> dict[str, Any]:
        return {"work": self.work, "virial": self.virial}

    def resume(self, state: dict[str, Any]) -> None:
        self.work, self.virial = state["work"], state["virial"]
