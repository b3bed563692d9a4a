"""What acts on the atoms of a run from outside, each made from its lines of the deck."""

from __future__ import annotations

from math import inf

from rxmdnn.atoms import EXCITATION
from rxmdnn.deck.electrons import has_electrons
from rxmdnn.deck.fields import has_field
from rxmdnn.deck.light import follows_electrons, has_light
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.drive import Drive
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.errors import InputError
from rxmdnn.excitation.electron_plan import electron_plan
from rxmdnn.excitation.electron_surface import ElectronSurface
from rxmdnn.excitation.electrons import Electrons, notes_of
from rxmdnn.excitation.light import Light
from rxmdnn.excitation.light_plan import absorption_of, plan_of, pulse_notes, region_faults
from rxmdnn.excitation.mixed_forces import MixedForces
from rxmdnn.excitation.weights import LEAST
from rxmdnn.io.start import Start
from rxmdnn.parallel import together
from rxmdnn.run.continuation import Continuation
from rxmdnn.run.field import make_field


def make_drives(run: RunDeck, simulation: Simulation, start: Start) -> list[Drive]:
    """The drives of the deck, in the order in which they act. All ranks call it; notes go to ``start.notes``."""
    drives: list[Drive] = []
    if has_light(run.deck) and not follows_electrons(run.deck):
        drives.append(make_light(run, simulation, start))
    if has_electrons(run.deck):
        drives.append(electrons := make_electrons(run, simulation, start))
        if follows_electrons(run.deck):
            line, least = run.deck["excite_electrons"], run.deck["excite_least"].weight
            drives.append(ElectronSurface(line.t0, line.t1, LEAST if least is None else least, electrons))
    if has_field(run.deck):
        drives.append(make_field(run, simulation, start, span_of(simulation, start)))
    return drives


def make_light(run: RunDeck, simulation: Simulation, start: Start) -> Light:
    """The light of the deck. Raises AgreedError for a region that is larger than the cell."""
    deck = run.deck
    with together(simulation.comm):
        if faults := region_faults(deck, simulation.cell):
            raise InputError(*faults)
        light = plan_of(deck)
    start.notes += pulse_notes(deck, *span_of(simulation, start))
    return Light(light, run.elements)


def make_electrons(run: RunDeck, simulation: Simulation, start: Start) -> Electrons:
    """The electrons of the deck, with the light that they absorb.

    Raises AgreedError for a table that cannot be read.
    """
    with together(simulation.comm):
        plan = electron_plan(run.deck)
        absorption = absorption_of(run.deck, simulation.comm, simulation.backend)
    start.notes += notes_of(plan, simulation.cell, simulation.schedule.dt)
    if absorption is not None:
        start.notes += pulse_notes(run.deck, *span_of(simulation, start))
    return Electrons(plan, absorption)


def span_of(simulation: Simulation, start: Start) -> tuple[float, float]:
    """When a run begins, which is minus infinity for one that goes on, and when it ends, fs."""
    plan = simulation.schedule
    return -inf if start.continued else simulation.time, simulation.time_0 + plan.stop * plan.dt


def choose_drives(simulation: Simulation, drives: list[Drive], start: Start, how: Continuation) -> None:
    """Give the simulation what acts on it from outside; it continues from its state in the checkpoint, if there."""
    saved = start.state.get("drives", {})
    for drive in drives:
        if drive.name in saved:
            drive.continue_from(saved[drive.name], simulation.comm, how.same_stage)
    if saved and not how.same_stage:
        start.notes.append("the conserved quantity and the works of light, electrons and fields begin anew here")
    if drives and start.continued and start.source.endswith("rxff.bin"):
        start.notes.append(f"{start.source} holds positions and velocities only: weights of excited atoms, "
                           "temperatures of electrons, polarization and works begin anew")
    simulation.drives, simulation.forces.added = drives, list(drives)
    if not isinstance(simulation.forces, MixedForces):
        simulation.atoms.extra.pop(EXCITATION, None)  # of an earlier run
