"""Monitoring of a run by the criteria: checks after a step, with the same events on all ranks.

A check uses the edges, forces and hidden scalars of the network from the step, so its cost is one pass over the edges
and three reductions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms, Edges
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.engine.forces import Forces
from rxmdnn.fidelity import criteria
from rxmdnn.fidelity.criteria import FLOOR, WHOLE, Band, Event, Limits
from rxmdnn.fidelity.martingale import Martingale
from rxmdnn.fidelity.observer_models import ObserverModels
from rxmdnn.fidelity.reference import Reference
from rxmdnn.models.mixture import Mixture

BONDS, BOND_SPECIES = "fidelity_bonds", "fidelity_bond_species"  # rows that migrate with their atom
SETTLING = 5.0  # thermostat times from the start, before which the temperature is not checked
EdgeArrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # center, neighbor (m,), r_ij (m, 3) Å
THERMOSTATTED = (0, 5, 6, 7, 8, 9)  # mdmodes that control the temperature


def networks_of(potential: Any) -> list[Any]:
    """Networks of a potential, in the order of its members."""
    members = potential.members if isinstance(potential, Mixture) else [potential]
    return [m for m in members if hasattr(m, "watched")]


class Watch:
    """Per-atom quantities of the networks other than forces: distances of features, spread of a committee.

    Parameters
    ----------
    forces : Forces
    references : one per network, in the order of ``networks_of``; None where the model file has none
    observers : ObserverModels, or None: the committee is the models of the forces
    """

    def __init__(self, forces: Forces, references: Sequence[Reference | None],
                 observers: ObserverModels | None = None) -> None:
        self.forces, self.observers = forces, observers
        self.pairs = [(net, r) for net, r in zip(networks_of(forces.potential), references) if r is not None]

    @contextmanager
    def open(self, watch: bool = True) -> Iterator[None]:
        """A block in which the networks keep their features."""
        for net, _ in self.pairs:
            net.watched = watch
        try:
            yield
        finally:
            for net, _ in self.pairs:
                net.watched = False

    def latent(self, species: np.ndarray) -> np.ndarray | None:
        """(n_owned,) distance of the features of the last evaluation, the largest over the networks; or None."""
        found = [reference.distance(net.features(), species) for net, reference in self.pairs]
        return np.max(found, axis=0) if found else None

    def spread(self, atoms: Atoms, step: int = 0) -> np.ndarray | None:
        """(n_owned,) √(Σ_c var f_c) over the members of a committee, eV/Å. All ranks call it.

        None for one model, or at a step at which observers are not evaluated.
        """
        potential = self.forces.potential
        if self.observers is not None:
            return _spread(self.observers.model_forces(atoms)) if self.observers.due(step) else None
        if not isinstance(potential, Mixture) or len(potential.members) < 2:
            return None
        return _spread(self.forces.member_forces(atoms))

    @property
    def has_committee(self) -> bool:
        """Whether there are several models."""
        potential = self.forces.potential
        return self.observers is not None or (isinstance(potential, Mixture) and len(potential.members) > 1)


def _spread(forces: np.ndarray) -> np.ndarray:
    """(n,) √(Σ_c var f_c). forces : (models, n, 3)"""
    return np.sqrt(np.var(forces, axis=0).sum(axis=1))


class Monitor:
    """The checks of one run.

    Parameters
    ----------
    simulation : Simulation
    kinds : keys of words.CRITERIA
    limits : Limits
    every : steps between checks, for the window of running means
    watch : Watch
    floors : {"temperature", "energy": K}: smallest deviation that is a failure
    martingale : Martingale of the scores, or None

    Attributes
    ----------
    scores : (n_owned,) float64: deviation of each atom at the last check, 1 at the limit
    strength : (n_owned,) float64, eV/Å: magnitude of the force on each atom at the last check
    """

    def __init__(self, simulation: Simulation, kinds: frozenset[str], limits: Limits, every: int, watch: Watch,
                 floors: dict[str, float] | None = None, martingale: Martingale | None = None) -> None:
        self.simulation, self.kinds, self.watch, self.martingale = simulation, kinds, watch, martingale
        self.limits = limits.only(kinds)
        self.floors = {"temperature": FLOOR, "energy": FLOOR} | (floors or {})
        self.every = every
        plan, tau = simulation.schedule, simulation.ensemble.tau
        self.settled = plan.start + SETTLING * tau / plan.dt
        self.restart()
        self.energy_0: tuple[float, float] | None = None  # conserved energy, eV, and temperature, K, at the start
        self.scores, self.strength = np.zeros(0), np.zeros(0)

    def describe(self) -> list[str]:
        """Lines for the header of the log: the criteria, whose bonds they watch or not, and the finite limits."""
        e, lines = self.limits.elements, [f"fidelity     : every {self.every} steps: {', '.join(sorted(self.kinds))}"]
        of_bonds = sorted(self.kinds & {"bond", "coordination"})
        if of_bonds or not self.limits.bonded.any():
            lines.append(f"    {' and '.join(of_bonds) or 'bond and coordination'}: {self.limits.bonds_text()}")
        rows: dict[str, list[str]] = {
            kind: [f"{e[a]}-{e[b]} {table[a, b]:.3f}" for a in range(len(e)) for b in range(a, len(e))
                   if 0 < table[a, b] < np.inf]
            for kind, table in (("closest", self.limits.closest), ("longest bond", self.limits.longest))}
        rows |= {kind: [f"{e[a]} {x:.3f}" for a, x in enumerate(getattr(self.limits, kind)) if x < np.inf]
                 for kind in ("force", "latent", "spread")}
        if (observers := self.watch.observers) is not None:
            lines.append(f"    spread: {len(observers.members)} observers, every {observers.every} steps")
        lines += [self.martingale.describe()] if self.martingale is not None else []
        return lines + ["    limits of " + kind + ": " + ", ".join(row) for kind, row in rows.items() if row]

    def restart(self) -> None:
        """Clear the running means, after a rollback too."""
        interval = self.every * self.simulation.schedule.dt
        self.temperature, self.energy = Band(interval), Band(interval)
        if self.martingale is not None:
            self.martingale.restart()

    def begin(self) -> None:
        """Take the present energy and bonds as the reference, unless a checkpoint gave one."""
        s = self.simulation
        if "energy" in self.kinds and self.energy_0 is None and s.forces.known:
            kinetic = s.kinetics.energy(s.atoms)
            self.energy_0 = s.conserved(s.forces.energy() + kinetic), s.kinetics.temperature_of(kinetic)
        if "bond" not in self.kinds or s.comm.allreduce(BONDS in s.atoms.extra, MPI.LOR):
            return
        if not s.forces.known:
            s.forces.compute(s.atoms)
        atoms, n = s.atoms.on(s.backend.to_host), s.atoms.n_owned
        close = criteria.close_edges(*self.topology_edges(s.atoms), self.limits.reach)
        mine = criteria.topology(close, atoms.species, atoms.gid, n, self.limits.bonded)
        width = s.comm.allreduce(mine.shape[1], MPI.MAX)
        if not width:
            return
        bonds = criteria.topology(close, atoms.species, atoms.gid, n, self.limits.bonded, width)
        edge, slot = np.nonzero(bonds[close.center] == atoms.gid[close.neighbor][:, None])
        kinds = np.zeros(bonds.shape, np.int32)
        kinds[close.center[edge], slot] = atoms.species[close.neighbor[edge]]
        s.atoms.extra |= {BONDS: s.backend.from_host(bonds), BOND_SPECIES: s.backend.from_host(kinds)}

    def check(self) -> list[Event]:
        """All events of the present step, sorted by gid and kind. All ranks call it."""
        s, atoms = self.simulation, self.simulation.atoms.on(self.simulation.backend.to_host)
        n, step, time = atoms.n_owned, s.step, s.time_0 + s.step * s.schedule.dt
        latent = self.watch.latent(atoms.species[:n]) if "latent" in self.kinds else None
        spread = self.watch.spread(atoms, step) if "spread" in self.kinds else None
        found = self.examine(atoms, latent, spread)
        self._score(found, atoms, latent, spread)
        mine = [event for a in found for event in a.events(step, time, atoms.gid)]
        alive, some = s.comm.allreduce(np.array([n, len(mine)]))
        events = [event for rank in s.comm.allgather(mine) for event in rank] if some else []
        events += self._whole(step, time, int(alive))
        events = [e for e in events if e.kind in self.kinds]
        if self.martingale is not None:
            events += self._bet(self.martingale, step, time, atoms, latent, spread)
        return sorted(events, key=lambda e: (e.gid, e.kind))

    def _bet(self, martingale: Martingale, step: int, time: float, atoms: Atoms, latent: np.ndarray | None,
             spread: np.ndarray | None) -> list[Event]:
        """Add the scores of a regular check to the martingale; its alarm. atoms : on the host"""
        scores, n = martingale.scores, atoms.n_owned
        if step % self.every == 0:  # not a further check before output
            close = criteria.close_edges(*self._last_edges(), scores.reach)
            least = scores.least(close, atoms.species, atoms.f[:n], latent, spread)
            martingale.look(float(self.simulation.comm.allreduce(least, MPI.MIN)))
        return [Event("martingale", step, time, WHOLE, martingale.wealth, 1 / martingale.alpha)] * martingale.alarmed

    def topology_edges(self, atoms: Atoms) -> EdgeArrays:
        """The pairs from which the reference topology is made."""
        return self._last_edges()

    def _last_edges(self) -> EdgeArrays:
        """Edges of the last force evaluation, on the host."""
        return self.near(self.simulation.forces.last[0])

    def near(self, edges: Edges) -> EdgeArrays:
        """Edges on the host; from a device only those within the reach of the criteria and scores."""
        backend = self.simulation.backend
        arrays = edges.center, edges.neighbor, edges.r_ij
        if not backend.on_device:
            return arrays
        reach = max(self.limits.reach, self.martingale.scores.reach if self.martingale is not None else 0.0)
        near = backend.xp.flatnonzero((edges.r_ij**2).sum(axis=1) < reach**2)
        center, neighbor, r_ij = (backend.to_host(a[near]) for a in arrays)
        return center, neighbor, r_ij

    def examine(self, atoms: Atoms, latent: np.ndarray | None, spread: np.ndarray | None) -> list[criteria.Found]:
        """Results of the criteria on atoms after the last force evaluation. atoms : on the host"""
        n = atoms.n_owned
        self.strength = np.sqrt((atoms.f[:n] ** 2).sum(axis=1))
        return criteria.examine(
            self.limits, *self._last_edges(), atoms.species, atoms.gid, atoms.x[:n], atoms.v, atoms.f[:n],
            atoms.extra.get(BONDS), atoms.extra.get(BOND_SPECIES), latent, spread)

    def _whole(self, step: int, time: float, alive: int) -> list[Event]:
        """Events of the whole system."""
        s, out = self.simulation, []
        n, target = s.n_global, s.schedule.target(step)
        kinetic, potential = s.kinetics.energy(s.atoms), s.forces.energy()
        temperature = s.kinetics.temperature_of(kinetic)
        if alive != n:
            out.append(Event("finite", step, time, WHOLE, float(n - alive), 0.0))
        if not np.isfinite(kinetic + potential):
            out.append(Event("finite", step, time, WHOLE, float("nan"), 0.0))
        if "temperature" in self.kinds:
            width = float(criteria.allowed(target, n, self.floors["temperature"]))
            outside, mean = self.temperature.outside(temperature, target, width)
            if outside and step >= self.settled:
                edge = float(target + width * np.sign(mean - target))
                out.append(Event("temperature", step, time, WHOLE, float(mean), edge))
        if "energy" in self.kinds:
            conserved = s.conserved(potential + kinetic)
            self.energy_0 = (conserved, temperature) if self.energy_0 is None else self.energy_0
            width = float(criteria.allowed(self.energy_0[1], n, self.floors["energy"]))
            change = criteria.energy_as_temperature(conserved - self.energy_0[0], n)
            outside, mean = self.energy.outside(change, 0.0, width)
            if outside:
                out.append(Event("energy", step, time, WHOLE, float(mean), float(width * np.sign(mean))))
        if "published" in self.kinds and step % 10 == 0 and criteria.published(temperature):
            out.append(Event("published", step, time, WHOLE, temperature, 100.0 if temperature < 200.0 else 300.0))
        return out

    def _score(self, found: list[criteria.Found], atoms: Atoms, latent: np.ndarray | None,
               spread: np.ndarray | None) -> None:
        own = atoms.species[: atoms.n_owned]
        self.scores = np.zeros(len(own))
        for value, limit in ((self.strength, self.limits.force), (latent, self.limits.latent),
                             (spread, self.limits.spread)):
            if value is not None:
                self.scores = np.fmax(self.scores, value / limit[own])
        for a in found:
            beyond = 1.0 + np.abs(a.value - a.threshold) / np.maximum(np.abs(a.threshold), 1e-12)
            self.scores[a.row] = np.fmax(self.scores[a.row], beyond)


def default_kinds(simulation: Simulation, limits: Limits, watch: Watch) -> frozenset[str]:
    """All criteria with limits in this run, except the published one."""
    kinds = {"finite", "pair"} | ({"bond"} if limits.bonded.any() else set())
    if np.isfinite(limits.most).any():
        kinds.add("coordination")
    kinds |= {k for k in ("force", "latent", "spread") if np.isfinite(getattr(limits, k)).any()}
    if not watch.pairs:
        kinds.discard("latent")
    return frozenset(kinds | whole_kinds(simulation))


def whole_kinds(simulation: Simulation) -> set[str]:
    """Which of temperature and conserved energy are constant in this run."""
    plan = simulation.schedule
    kinds = set()
    if simulation.ensemble.thermostatted or plan.mdmode in THERMOSTATTED:
        kinds.add("temperature")
    if plan.mdmode == 1 and plan.ramp[0] == plan.ramp[1] and plan.pressures[0] == plan.pressures[1]:
        kinds.add("energy")
    return kinds
