"""Ensembles: what the deck's ``ensemble`` and ``barostat`` lines name. Adding one adds a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rxmdnn.dynamics.ensembles.cell_change import CellChange
from rxmdnn.dynamics.ensembles.cell_rescaling import SHAPES, CellRescaling
from rxmdnn.dynamics.ensembles.ensemble import Ensemble, Motion, Now
from rxmdnn.dynamics.ensembles.langevin import Langevin
from rxmdnn.dynamics.ensembles.nose_hoover import MartynaTobiasKlein, NoseHoover
from rxmdnn.dynamics.ensembles.schedule import StrainSchedule
from rxmdnn.dynamics.ensembles.velocity_rescaling import VelocityRescaling

__all__ = ["BAROSTATS", "ENSEMBLES", "SHAPES", "Barostat", "CellChange", "Ensemble", "Motion", "Now", "StrainSchedule",
           "make"]


@dataclass(frozen=True)
class Barostat:
    """tau : fs; shape : key of SHAPES; compressibility : Å^3/eV."""

    kind: str
    tau: float
    shape: str = "isotropic"
    compressibility: float = 0.5


ENSEMBLES: dict[str, type[Ensemble]] = {
    "nve": Ensemble,
    "nose-hoover": NoseHoover,
    "langevin": Langevin,
    "svr": VelocityRescaling,
}
BAROSTATS: dict[str, Callable[[type[Ensemble], Motion, float, Barostat], Ensemble]] = {
    "scr": lambda kind, motion, tau, b: kind(motion, tau, CellRescaling(motion, b.tau, b.compressibility, b.shape)),
    "mtk": lambda kind, motion, tau, b: MartynaTobiasKlein(motion, tau, b.tau, b.shape),
}


def make(motion: Motion, kind: str, tau: float, barostat: Barostat | CellChange | None = None) -> Ensemble:
    """The ensemble of an ``ensemble`` line and, if there is one, a ``barostat`` line or a schedule. tau : fs."""
    if barostat is None or isinstance(barostat, CellChange):
        return ENSEMBLES[kind](motion, tau, barostat)
    return BAROSTATS[barostat.kind](ENSEMBLES[kind], motion, tau, barostat)
