"""The ensemble of a run, made from the lines of its deck."""

from __future__ import annotations

import numpy as np

from rxmdnn.deck.language import Deck
from rxmdnn.deck.motion import cell_is_driven
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.ensembles import Barostat, CellChange, Ensemble, StrainSchedule
from rxmdnn.dynamics.ensembles import make as make_ensemble
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.io.start import Start
from rxmdnn.parallel import AgreedError
from rxmdnn.ring_polymer.economised import Economy
from rxmdnn.ring_polymer.setup import choose_ring
from rxmdnn.units import FS_PER_PS, GPA_PER_EV_A3


def choose_ensemble(deck: Deck, simulation: Simulation, start: Start, resumes: bool,
                    economy: Economy | None = None) -> None:
    """Give the simulation the ensemble of the deck; with ``resumes`` it continues from its state in the checkpoint.

    Raises AgreedError where that state is damaged or of another version.
    """
    line, cell_line = deck["ensemble"], deck["barostat"]
    barostat: Barostat | CellChange | None = None
    if cell_is_driven(deck):
        plan = simulation.schedule
        stretch, shear = (np.array([*deck[name]]) for name in ("strain_ramp", "shear_ramp"))
        barostat = StrainSchedule(simulation.motion(), stretch, shear, plan.start, plan.stop)
        simulation.ensemble = Ensemble(simulation.motion(), 0.0, barostat)
    if cell_line.kind is not None:
        barostat = Barostat(cell_line.kind, cell_line.tau_p * FS_PER_PS, cell_line.shape,
                            cell_line.compressibility * GPA_PER_EV_A3)
    if line.kind is not None:
        simulation.ensemble = make_ensemble(simulation.motion(), line.kind, (line.tau or 0.0) * FS_PER_PS, barostat)
    simulation.ensemble = choose_ring(deck, simulation.ensemble, simulation.atoms, economy)
    saved = start.state.get("ensemble")
    if saved and resumes:
        try:
            simulation.ensemble.resume(saved)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise AgreedError(f"{start.source}: what it holds of '{line.kind}' was written by another version of "
                              "rxmdnn, or is damaged; start a new ensemble with '--start rxff'") from None


def target_pressures(deck: Deck) -> tuple[float, float]:
    """Target pressures at the first and last step, eV/Å^3."""
    steady = deck["minimizer"].pressure if deck["mdmode"].mode == MINIMIZATION else deck["barostat"].pressure or 0.0
    ends = tuple(deck["pramp"]) if deck["pramp"].p0 is not None else (steady, steady)
    return ends[0] / GPA_PER_EV_A3, ends[1] / GPA_PER_EV_A3
