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
from rxmdnn.excitation.grid import Grid
from rxmdnn.excitation.illumination import EV_A2_PER_MJ_CM2, Beam, with_surface
from rxmdnn.excitation.pulses import PulseShape

HALF_LAYER = 1.5  # Å: the surface is at the first atoms, whose layer begins about this far above them


@dataclass(frozen=True)
class Flash:
    """A pulse by its energy. fluence : mJ/cm^2 that enters the material"""

    shape: PulseShape
    fluence: float


class AbsorbedLight:
    """The energy that the cells of a grid absorb: F exp(-d/δ)/δ per volume of each pulse, spread over its time.

    It is integrated over each cell along the light, from the surface on, so that cells thicker than δ absorb what they
    should: a film absorbs F (1 - exp(-thickness/δ)) per area, whatever the grid.

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

    def absorbed(self, grid: Grid, cell: Cell, share: np.ndarray, start: float, stop: float) -> np.ndarray:
        """(n_cells,) eV absorbed between two times, fs. share : (n_cells,) part of each cell that holds electrons.

        Delay and spot are those of the middle of a cell.
        """
        total = np.zeros(grid.n_cells)
        acting = [f for f in self.flashes if f.shape.acts(start - self.beam.travel(cell), stop)]
        if not acting:
            return total
        x = cell.cartesian(grid.centers())
        profile, delay = replace(self.beam, depth=None).reaches(x, cell)
        for flash in acting:
            part = flash.shape.passed(stop - delay) - flash.shape.passed(start - delay)
            total += flash.fluence * EV_A2_PER_MJ_CM2 * profile * part
        below, density = self._in_depth(grid, cell, x)
        return total * density * np.minimum(share, below) * grid.volume(cell)

    def _in_depth(self, grid: Grid, cell: Cell, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n_cells,) part of each cell that light reaches, and the mean of exp(-d/δ)/δ below the surface, 1/Å.

        A cell is cut by the surface, less HALF_LAYER, across its longest side along the light. x : (n_cells, 3) Å,
        centers
        """
        beam = self.beam
        assert beam.depth is not None and beam.direction is not None and beam.surface is not None
        sides = np.abs(cell.h @ beam.direction) / np.array(grid.shape)
        longest = sides.max()
        d = beam.along(x) - beam.surface
        first, last = np.maximum(d - 0.5 * longest, 0.0), np.maximum(d + 0.5 * longest, 0.0)
        thick = np.maximum(last - first, 1e-9)  # above the surface: 1/δ
        density = np.exp(-first / beam.depth) * -np.expm1(-thick / beam.depth) / thick
        for q in np.delete(sides, sides.argmax()) / (2.0 * beam.depth):  # the mean of an exponential over a side
            density *= np.sinh(q) / q if q > 0 else 1.0
        return np.clip((d + 0.5 * longest + HALF_LAYER) / longest, 0.0, 1.0), density

    def state(self) -> dict[str, Any]:
        """What a restart needs: where the surface was."""
        return {"surface": self.beam.surface}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.beam = replace(self.beam, surface=state["surface"])
