"""Strain and shear at a constant rate, from the shape of the cell at the start of the run to another at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.dynamics.ensembles import cell_change
from rxmdnn.dynamics.ensembles.cell_change import CellChange
from rxmdnn.errors import InputError
from rxmdnn.parallel import AgreedError

if TYPE_CHECKING:
    from rxmdnn.dynamics.ensembles.ensemble import Motion, StepTargets


class StrainSchedule(CellChange):
    """Lengths a (1 + s e), angles α + s δ, with s from 0 to 1 over the run; atoms follow, in any ensemble.

    The total energy changes by the work of the stress, -V σ : dε with the kinetic part, which ``work`` accounts for.

    Parameters
    ----------
    motion : Motion
    stretch : (3,) final strain along a, b, c
    shear : (3,) final change of α, β, γ, degrees
    start, stop : steps
    """

    def __init__(self, motion: Motion, stretch: np.ndarray, shear: np.ndarray, start: int, stop: int) -> None:
        super().__init__(motion)
        self.stretch, self.shear, self.start, self.stop = stretch, shear, start, stop
        self.h: np.ndarray | None = None  # (3, 3) Å, at the start

    def begin(self, virial: Callable[[], np.ndarray]) -> None:
        if self.h is None:
            self.h = self.motion.forces.domain.cell.h
        self.shape(self.stop)
        super().begin(virial)

    def shape(self, step: int) -> np.ndarray:
        """(3, 3) Å, the cell vectors at a step. Raises AgreedError if the angles do not define a cell."""
        assert self.h is not None
        s = (step - self.start) / max(self.stop - self.start, 1)
        first = Cell(self.h).parameters
        lengths, angles = np.array(first[:3]) * (1.0 + s * self.stretch), np.array(first[3:]) + s * self.shear
        try:
            # in the standard orientation, rotated to that of the start
            return Cell.from_parameters(*lengths, *angles).h @ Cell.from_parameters(*first).inverse @ self.h
        except InputError as error:
            raise AgreedError(f"strain_ramp, shear_ramp: {error}") from None

    def act(self, atoms: Atoms, targets: StepTargets) -> None:
        by = self.motion.forces.domain.cell.inverse @ self.shape(targets.step + 1)
        inverse = np.linalg.inv(by)
        strain = 0.5 * (by - inverse)
        if not np.abs(strain).max() < cell_change.LARGEST:
            raise AgreedError("strain_ramp, shear_ramp: the cell would change by "
                              f"{100 * np.abs(strain).max():.0f} % in one step; make the run longer")
        self.apply(atoms, by, inverse.T, strain)

    def state(self) -> dict[str, Any]:
        return super().state() | {"h": self.h, "start": self.start}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        if state["start"] == self.start:
            self.h = state["h"]
