"""The monitor and the guard of a run, from the fidelity lines of the deck; all faults are reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from mpi4py import MPI

from rxmdnn.deck.language import Deck
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.errors import InputError
from rxmdnn.fidelity import calibration
from rxmdnn.fidelity.bonds import BONDED, covalent_sums
from rxmdnn.fidelity.criteria import Limits
from rxmdnn.fidelity.guard import GuardSettings
from rxmdnn.fidelity.martingale import Martingale, Scores
from rxmdnn.fidelity.monitor import Monitor, Watch, default_kinds, whole_kinds
from rxmdnn.fidelity.observer_models import ObserverModels
from rxmdnn.fidelity.reference import Reference, read
from rxmdnn.fidelity.rings import UNWATCHED, RingMonitor
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture, together_unweighted
from rxmdnn.models.repulsion import Repulsion
from rxmdnn.parallel import together


def guard_settings(deck: Deck) -> GuardSettings:
    """The settings of the guard."""
    line, heal = deck["fidelity"], deck["fidelity_heal"]
    return GuardSettings(line.action, line.every, heal.keep, heal.interval, heal.retries, heal.calm)


def references(run: RunDeck) -> list[Reference | None]:
    """References in the model files, one per network, None where a file has none. Raises InputError."""
    found = [read(line.parameters["file"]) for line in run.models if line.kind == "allegro"]
    return [None if r is None else r.of(run.elements) for r in found]


def make_monitor(comm: MPI.Comm, run: RunDeck, simulation: Simulation,
                 observers: Sequence[Potential] = ()) -> Monitor:
    """The monitor of a run. All ranks call it. Raises AgreedError if a requested criterion has no limits.

    observers : the potentials of ``run.observers``
    """
    deck, plan = run.deck, simulation.schedule
    species = simulation.backend.to_host(simulation.atoms.species[: simulation.atoms.n_owned])
    counts = comm.allreduce(np.bincount(species, minlength=len(run.elements)))
    with together(comm):
        known = references(run)
        limits = Limits.of(run.elements)
        for reference in known:
            limits = limits if reference is None else reference.tighten(limits)
        line = deck["fidelity_calibration"]
        if line.file:
            checks = (plan.stop - plan.start) / deck["fidelity"].every
            limits = calibration.calibrated(limits, calibration.read(line.file), counts, checks,
                                            deck["fidelity"].alarms)
        limits, floors = given(deck, limits)
        ring = deck["pimd"].beads is not None
        seen_by = ObserverModels(simulation.forces, observers, deck["fidelity_observers"].nstep) if observers else None
        watch = Watch(simulation.forces, [] if ring else known, seen_by)
        asked = frozenset(deck["fidelity_watch"].kind)
        kinds = asked or default_kinds(simulation, limits, watch) - (UNWATCHED.keys() if ring else set())
        faults = [deck["fidelity_watch"].fault(f"{kind}: {text}") for kind in sorted(asked)
                  if (text := _missing(kind, run, simulation, limits, watch))]
        for limit in (limit for limit in deck["fidelity_limit"] if limit.kind not in kinds):
            why = _missing(limit.kind, run, simulation, limits, watch)
            faults.append(limit.fault(f"{limit.kind}: without effect: "
                                      + (why or "it is not monitored; add it to fidelity_watch, or omit this line")))
        if seen_by is not None and "spread" not in kinds:
            faults.append(deck["fidelity_observers"].fault(
                "the criterion spread is not monitored, so nothing is observed; write 'fidelity_limit spread <eV/Å>' "
                "or give a calibration, and add spread to fidelity_watch if there is such a line"))
        heal = deck["fidelity_heal"]
        if deck["fidelity"].action == "heal" and heal.repulsion:
            repulsion = Repulsion(run.elements)
            if (repulsion.cutoff > simulation.forces.potential.cutoff).any():
                faults.append(heal.fault("the repulsion would extend beyond the cutoff of the model"))
        martingale = make_martingale(run, simulation, limits, kinds, counts)
        if martingale is not None and not martingale.scores.tests:
            faults.append(deck["fidelity_martingale"].fault(
                f"{line.file} has no tails of the elements and criteria of this run; calibrate a run of this system"))
        if faults:
            raise InputError(*faults)
    make = RingMonitor if ring else Monitor
    return make(simulation, kinds | {"finite"}, limits, deck["fidelity"].every, watch, floors, martingale)


def make_martingale(run: RunDeck, simulation: Simulation, limits: Limits, kinds: frozenset[str],
                    counts: np.ndarray) -> Martingale | None:
    """The martingale of a run, where the deck asks for one. counts : (T,) atoms of each element"""
    deck = run.deck
    line, every = deck["fidelity_martingale"], deck["fidelity"].every
    if line.alpha is None:
        return None
    tails = calibration.read(deck["fidelity_calibration"].file)
    checks = max(1, round(line.block / (every * simulation.schedule.dt)))
    return Martingale(line.alpha, checks, Scores(tuple(run.elements), tails, limits.bonded, kinds, counts))


def given(deck: Deck, limits: Limits) -> tuple[Limits, dict[str, float]]:
    """``limits`` with those of the deck, and the smallest deviations of temperature and energy that fail, K."""
    floors: dict[str, float] = {}
    for line in deck["fidelity_limit"]:
        kind, value = line.kind, line.value
        if kind in ("temperature", "energy"):
            floors[kind] = value
        elif kind == "pair":
            limits = replace(limits, closest=value * covalent_sums(limits.elements))
        elif kind == "bond":
            sums = covalent_sums(limits.elements)  # asked for by name: bonds of every pair of species
            bonded = np.where(limits.bonded == 0, BONDED * sums, limits.bonded)
            limits = replace(limits, bonded=bonded, longest=np.maximum(value * sums, bonded))
        else:
            every: dict[str, np.ndarray] = {kind: np.full(len(limits.elements), value)}
            limits = replace(limits, **every)  # type: ignore[arg-type]
    return limits, floors


def _missing(kind: str, run: RunDeck, simulation: Simulation, limits: Limits, watch: Watch) -> str | None:
    """Why a criterion is not available in this run and what to do, or None."""
    if run.deck["pimd"].beads is not None and kind in UNWATCHED:
        return f"not available for a ring polymer: {UNWATCHED[kind]}; omit it"
    files = [str(m.parameters["file"]) for m in run.models if m.kind == "allegro"]
    fit = f"add them with 'rxmdnn fidelity fit {files[0] if files else 'MODEL'} FRAMES'"
    if kind == "latent" and not watch.pairs:
        if not files:
            return "no model of rxmdnn.in is a network, so there are no features; omit it"
        return f"{files[0]} has no training statistics; {fit}"
    if kind == "bond" and not limits.bonded.any():
        return f"{limits.bonds_text()}; omit it, or write 'fidelity_limit bond <sums of covalent radii>'"
    if kind == "coordination" and limits.trained and not np.isfinite(limits.most).any():
        return f"{limits.bonds_text()}; omit it"
    if kind == "coordination" and not np.isfinite(limits.most).any():
        return f"no model file has training statistics; {fit}" if files else \
            "no model of rxmdnn.in has training statistics; omit it"
    if kind == "spread" and not watch.has_committee:
        return "a single model has no spread; name several in rxmdnn.in, or omit it"
    if kind in ("force", "spread", "latent") and not np.isfinite(getattr(limits, kind)).any():
        unit = "number" if kind == "latent" else "eV/Å"
        return f"no limit is known; write 'fidelity_limit {kind} <{unit}>', or give a calibration"
    if kind == "temperature" and kind not in whole_kinds(simulation):
        return "the temperature is not controlled in this run; use energy, or an ensemble line"
    if kind == "energy" and kind not in whole_kinds(simulation):
        return "no energy is conserved when velocities are rescaled or a target changes; use temperature"
    return None


def with_repulsion(run: RunDeck, simulation: Simulation) -> Potential | None:
    """The potential with a repulsion added, if healing uses one and the potential has none; else None."""
    potential, deck = simulation.forces.potential, run.deck
    if deck["fidelity"].action != "heal" or not deck["fidelity_heal"].repulsion or run.repulsion is not None:
        return None
    repulsion = Repulsion(run.elements, backend=simulation.backend)
    if isinstance(potential, Mixture):
        added = [] if potential.added is None else [potential.added]
        return Mixture(potential.members, potential.weights, together_unweighted([*added, repulsion]))
    return Mixture([potential], [1.0], repulsion)
