"""What acts on the atoms of a run from outside, each made from its lines of the deck."""

from __future__ import annotations

from rxmdnn.deck.electrons import has_electrons
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.drive import Drive
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.excitation.electron_plan import electron_plan
from rxmdnn.excitation.electrons import Electrons, stages_note
from rxmdnn.io.start import Start
from rxmdnn.parallel import together


def make_drives(run: RunDeck, simulation: Simulation, start: Start) -> list[Drive]:
    """The drives of the deck, in the order in which they act. All ranks call it; notes go to ``start.notes``."""
    drives: list[Drive] = []
    if has_electrons(run.deck):
        drives.append(make_electrons(run, simulation, start))
    return drives


def make_electrons(run: RunDeck, simulation: Simulation, start: Start) -> Electrons:
    """The electrons of the deck. Raises AgreedError for a table that cannot be read."""
    with together(simulation.comm):
        plan = electron_plan(run.deck)
    start.notes += stages_note(plan, simulation.cell, simulation.schedule.dt)
    return Electrons(plan)
