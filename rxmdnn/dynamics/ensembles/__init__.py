"""Ensembles by the words of the deck lines ``ensemble`` and ``barostat``. A new one is a new row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rxmdnn.dynamics.ensembles.cell_change import CellChange
from rxmdnn.dynamics.ensembles.cell_rescaling import STRAIN_PROJECTIONS, CellRescaling
from rxmdnn.dynamics.ensembles.ensemble import Ensemble, Motion, StepTargets
from rxmdnn.dynamics.ensembles.langevin import Langevin
from rxmdnn.dynamics.ensembles.nose_hoover import MartynaTobiasKlein, NoseHoover
from rxmdnn.dynamics.ensembles.schedule import StrainSchedule
from rxmdnn.dynamics.ensembles.velocity_rescaling import VelocityRescaling

__all__ = ["BAROSTAT_MAKERS", "ENSEMBLE_CLASSES", "STRAIN_PROJECTIONS", "Barostat", "CellChange", "Ensemble", "Motion",
           "StepTargets", "StrainSchedule", "make"]


@dataclass(frozen=True)
class Barostat:
    """kind : key of BAROSTAT_MAKERS; tau : fs; shape : key of STRAIN_PROJECTIONS; compressibility : Å^3/eV."""

    kind: str
    tau: float
    shape: str = "isotropic"
    compressibility: float = 0.5


ENSEMBLE_CLASSES: dict[str, type[Ensemble]] = {
    "nve": Ensemble,
    "nose-hoover": NoseHoover,
    "langevin": Langevin,
    "svr": VelocityRescaling,
}
BAROSTAT_MAKERS: dict[str, Callable[[type[Ensemble], Motion, float, Barostat], Ensemble]] = {
    "scr": lambda kind, motion, tau, b: kind(motion, tau, CellRescaling(motion, b.tau, b.compressibility, b.shape)),
    "mtk": lambda kind, motion, tau, b: MartynaTobiasKlein(motion, tau, b.tau, b.shape),
}


def make(motion: Motion, kind: str, tau: float, barostat: Barostat | CellChange | None = None) -> Ensemble:
    """The ensemble of an ``ensemble`` line, with the barostat of a ``barostat`` line or a schedule of strain if given.

    kind : key of ENSEMBLE_CLASSES; tau : fs
    """
    if barostat is None or isinstance(barostat, CellChange):
        return ENSEMBLE_CLASSES[kind](motion, tau, barostat)
    return BAROSTAT_MAKERS[barostat.kind](ENSEMBLE_CLASSES[kind], motion, tau, barostat)
