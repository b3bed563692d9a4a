"""Light that the electrons of the two-temperature model absorb, where no excited model takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.excitation.illumination import EV_A2_PER_MJ_CM2, Beam, with_surface
from rxmdnn.excitation.pulses import PulseShape


@dataclass(frozen=True)
class Flash:
    """A pulse by its energy. fluence : mJ/cm^2 that enters the material"""

    shape: PulseShape
    fluence: float


class AbsorbedLight:
    """The density of absorbed energy: F exp(-d/δ)/δ of each pulse, spread over its time.

    Parameters
    ----------
    flashes : sequence of Flash
    beam : Beam with a direction and an absorption depth
    comm, backend : of the atoms, whose first in the way of the light is the surface
    """

    def __init__(self, flashes: Sequence[Flash], beam: Beam, comm: MPI.Comm, backend: Backend) -> None:
        self.flashes, self.beam, self.comm, self.backend = list(flashes), beam, comm, backend

    def begin(self, atoms: Atoms, cell: Cell) -> None:
        """Find the surface, unless it is known; all ranks call it."""
        self.beam = with_surface(self.beam, self.backend.to_host(atoms.x[: atoms.n_owned]), self.comm)

    def absorbed(self, x: np.ndarray, cell: Cell, start: float, stop: float) -> np.ndarray:
        """(n,) eV/Å^3 absorbed between two times, fs, at positions (n, 3), Å."""
        assert self.beam.depth is not None
        profile, delay = self.beam.reaches(x, cell)
        total = np.zeros(len(x))
        for flash in self.flashes:
            part = flash.shape.passed(stop - delay) - flash.shape.passed(start - delay)
            total += flash.fluence * EV_A2_PER_MJ_CM2 / self.beam.depth * profile * part
        return total

    def state(self) -> dict[str, Any]:
        """What a restart needs: where the surface was."""
        return {"surface": self.beam.surface}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.beam = replace(self.beam, surface=state["surface"])
