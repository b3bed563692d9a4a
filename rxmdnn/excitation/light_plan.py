"""What light does to a run, as its deck says: to a mixed surface, or to the electrons alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI

from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.deck.language import Deck, Entry
from rxmdnn.deck.light import follows_electrons, has_light, pulses_of, read_pulse_table
from rxmdnn.excitation.absorption import AbsorbedLight, Flash
from rxmdnn.excitation.illumination import Beam, Pulse, weight_of_fluence
from rxmdnn.excitation.pulses import FlatPulse, GaussianPulse, PulseShape, SechPulse, TablePulse, cut_by_run
from rxmdnn.excitation.regions import Region, Slab, Sphere
from rxmdnn.excitation.weights import LEAST

LATTICE, ELECTRONS = "lattice", "electrons"  # what the heat of a decay goes to
RISE = 0.2  # of the width of a flat pulse
LOST = 1e-3  # of a pulse, before the run begins: more is told


@dataclass(frozen=True)
class LightPlan:
    """What light does to a run.

    Attributes
    ----------
    by_place : weights are a function of the position, not bound to atoms
    start : the weight before any light
    regions : where the start and the light are; none: everywhere
    pulses, beam : see illumination
    lifetime : fs, of bound weights; None: no decay; heat_to : LATTICE or ELECTRONS
    least : see weights.snapped
    """

    by_place: bool = False
    start: float = 0.0
    regions: Sequence[Region] = ()
    pulses: Sequence[Pulse] = ()
    beam: Beam = field(default_factory=Beam)
    lifetime: float | None = None
    heat_to: str = LATTICE
    least: float = LEAST


def plan_of(deck: Deck) -> LightPlan:
    """The plan of a deck that has a line excite. Raises InputError for a table that cannot be read."""
    by_place, start, decay = deck["excite"].weights == "place", deck["excite_start"].weight, deck["excite_decay"]
    if start is None:
        start = 1.0 if by_place and not pulses_of(deck) else 0.0
    return LightPlan(by_place, start, [region for region, _ in regions_of(deck)],
                     [_pulse(deck, line) for line in pulses_of(deck)], _beam(deck), decay.tau, decay.to,
                     LEAST if deck["excite_least"].weight is None else deck["excite_least"].weight)


def excites_atoms(deck: Deck) -> bool:
    """Whether light acts on the weights of atoms, not on electrons."""
    return has_light(deck) and not follows_electrons(deck)


def absorption_of(deck: Deck, comm: MPI.Comm, backend: Backend) -> AbsorbedLight | None:
    """The light that electrons absorb: the pulses of a deck where they excite no atoms; None without pulses."""
    if excites_atoms(deck) or not pulses_of(deck):
        return None
    entering = 1.0 - deck["pulse_photon"].reflectivity
    return AbsorbedLight([Flash(_shape(line), entering * line.amount) for line in pulses_of(deck)], _beam(deck), comm,
                         backend)


def regions_of(deck: Deck) -> list[tuple[Region, Entry]]:
    """The regions, each with its line."""
    slabs = [(Slab("abc".index(e.axis), e.center, 0.5 * e.thickness, e.rim), e) for e in deck["excite_slab"]]
    spheres = [(Sphere((e.center_a, e.center_b, e.center_c), e.radius, e.rim), e) for e in deck["excite_sphere"]]
    return [*slabs, *spheres]


def region_faults(deck: Deck, cell: Cell) -> list[str]:
    """Faults of regions that are larger than the cell."""
    return [e.fault(f"half the thickness or the radius, and the rim, are {region.size + region.rim:g} Å together, more "
                    f"than half the width of the cell, {region.room(cell):g} Å: it would meet its own image")
            for region, e in regions_of(deck) if region.size + region.rim > region.room(cell)]


def pulse_notes(deck: Deck, first: float, stop: float) -> list[str]:
    """Notes on pulses that reach beyond a run, or that excite more carriers than the excited model has.

    first, stop : fs, the beginning of a new run (minus infinity for one that goes on) and its end
    """
    notes, by_place = [], has_light(deck) and deck["excite"].weights == "place"
    for line in pulses_of(deck):
        shape = _shape(line)
        lost = shape.passed(first) > LOST and not by_place  # a tail may be, and a weight by place is that of the time
        notes += [line.fault(text) for text in cut_by_run("pulse", shape.begin, shape.end, first if lost else -np.inf,
                                                          stop)]
        if excites_atoms(deck) and line.of == "fluence" and (most := _pulse(deck, line).amount) > 1:
            depth = deck["pulse_absorption"].depth * np.log(most)
            notes.append(line.fault(f"at the surface the fluence makes {most:.3g} times the carriers of the excited "
                                    f"model (excite_density); the weight is limited to 1, down to {depth:.3g} Å"))
    return notes


def _beam(deck: Deck) -> Beam:
    line, absorption, spot = deck["pulse_direction"], deck["pulse_absorption"], deck["pulse_spot"]
    if not line.given:
        return Beam()
    direction = np.array([line.nx, line.ny, line.nz])
    return Beam(direction / np.linalg.norm(direction), line.index, absorption.depth, absorption.surface,
                (spot.radius, (spot.center_a, spot.center_b, spot.center_c)) if spot.given else None)


def _pulse(deck: Deck, line: Entry) -> Pulse:
    """The pulse of a line pulse or pulse_table."""
    amount, photon = line.amount, deck["pulse_photon"]
    if line.of == "fluence":
        amount = weight_of_fluence(amount, photon.reflectivity, deck["pulse_absorption"].depth, photon.energy,
                                   deck["excite_density"].carriers)
    return Pulse(_shape(line), amount, line.of == "rate")


def _shape(line: Entry) -> PulseShape:
    if "file" in line.values:
        return TablePulse(*read_pulse_table(line.file))
    if line.shape == "flat":
        return FlatPulse(line.t0, line.fwhm, line.rise or RISE * line.fwhm)
    return (GaussianPulse if line.shape == "gauss" else SechPulse)(line.t0, line.fwhm)
