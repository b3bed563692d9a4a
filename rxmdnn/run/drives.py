"""What acts on the atoms of a run from outside, each made from its lines of the deck."""

from __future__ import annotations

from rxmdnn.deck.fields import has_field
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.drive import Drive
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.io.start import Start
from rxmdnn.run.field import make_field


def make_drives(run: RunDeck, simulation: Simulation, start: Start) -> list[Drive]:
    """The drives of the deck, in the order in which they act. All ranks call it; notes go to ``start.notes``."""
    drives: list[Drive] = []
    if has_field(run.deck):
        drives.append(make_field(run, simulation, start))
    return drives
