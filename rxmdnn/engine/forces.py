"""Positions -> energy, forces, virial: the one path that every integrator and minimizer shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from mpi4py import MPI

from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms, Edges
from rxmdnn.device import Device
from rxmdnn.engine.balance import ATOM_LOAD
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.engine.overlap import Overlap
from rxmdnn.graphs import Repeated
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture
from rxmdnn.parallel import AgreedError
from rxmdnn.timers import Timers

FRESH, STALE, LOST = 0, 1, 2  # ranks agree on the worst
FARTHEST = 1e6  # Å: no atom moves so far between two lists


class AddedForces(Protocol):
    """Forces that are not of the potential (rxmdnn.dynamics.drive)."""

    def add_forces(self, atoms: Atoms) -> None:
        """Add to ``atoms.f``, owned rows."""

    def virial(self) -> np.ndarray:
        """(3, 3) eV, of those added last; this rank's share."""

    def energy(self) -> float:
        """eV, of which they are the negative gradient; this rank's share."""


class Forces:
    """Keeps the halo and the neighbor list as fresh as the positions need, and fills ``atoms.f``.

    Parameters
    ----------
    domain : Domain
    neighbors : NeighborList whose reach is the domain's
    potential : Potential
    timers : Timers, filled by part: halo, neighbors, network, assembly

    Attributes
    ----------
    stale : bool
        Set it to have the next call migrate atoms and rebuild everything.
    builds, edges : int
        Lists built so far; directed edges of the last call.
    overlap : bool
        Set it to False, on all ranks, to have every message waited for; the bits are the same.
    added : list of AddedForces, which every ``compute`` adds to those of the potential
    """

    def __init__(self, domain: Domain, neighbors: NeighborList, potential: Potential, timers: Timers) -> None:
        self.domain, self.neighbors, self.potential, self.timers = domain, neighbors, potential, timers
        self.stale = True
        self._listed = False
        self.builds = 0
        self.edges = 0
        self.added: list[AddedForces] = []
        self._last: tuple[Edges, np.ndarray, np.ndarray] | None = None
        self._built_in = domain.cell
        self.overlap = True
        self._overlapping = Overlap(self)
        self.repeated: Repeated[Atoms, tuple[Edges, np.ndarray, np.ndarray]] | None = None

    def use_graphs(self, say: Callable[[str], None]) -> None:
        """Replay the steps between two lists as CUDA graphs; ``say`` why where that is impossible.

        The part after the halo's copies and before they give their forces back; on one rank, whose copies are its
        own, with both.
        """
        device = self.domain.backend
        if not isinstance(device, Device):
            say("there is no device")
        elif not self.neighbors.every_pair:
            say("some pair of elements has no cutoff")
        else:
            self.repeated = Repeated(device, self._repeat, say)

    @property
    def known(self) -> bool:
        """Whether ``compute`` has been called."""
        return self._last is not None

    @property
    def last(self) -> tuple[Edges, np.ndarray, np.ndarray]:
        """Edges, e_i and g_ij of the last ``compute``; its next call overwrites them."""
        assert self._last is not None
        return self._last

    def forget(self) -> None:
        """Discard the list and the last answer, because the atoms were moved from outside."""
        self.stale, self._listed, self._last = True, False, None

    def _strain(self) -> np.ndarray | None:
        """(3, 3) what the cell was multiplied by since the list was built; None if it is the same."""
        cell = self.domain.cell
        return None if cell is self._built_in else self._built_in.inverse @ cell.h

    def _state(self, positions: Sequence[np.ndarray], margin: float = 0.0) -> int:
        """Whether this rank's list is good for the present positions, and for any that are ``margin`` Å from them."""
        if not (self.stale or self.neighbors.is_stale(*positions, strain=self._strain(), margin=margin)):
            return FRESH
        lost = self._listed and not self.neighbors.displacement_sq(*positions) < FARTHEST**2
        return LOST if lost else STALE

    def prepare(self, atoms: Atoms) -> None:
        """Decide what a new list depends on, before it is made."""

    def refresh(self, atoms: Atoms, positions: Sequence[np.ndarray]) -> bool:
        """Let the list hold every pair inside the cutoff at each of ``positions``; True if list and row order are new.

        positions : (n_owned or more, 3) float64 arrays, Å, where the owned atoms are; copies are not refreshed.
        """
        timers = self.timers
        with timers("neighbors"):
            state = self._state(positions)
        with timers("halo"):
            state = self.domain.comm.allreduce(state, MPI.MAX)
        if state == FRESH:
            return False
        self._rebuild(atoms, state)
        return True

    def _rebuild(self, atoms: Atoms, state: int) -> None:
        """Migrate atoms and make a new list. state : the worst of all ranks"""
        timers = self.timers
        with timers("halo"):
            if state == LOST:
                raise AgreedError("positions: an atom moved by more than 10^6 Å since the last list, or its "
                                  "coordinates are NaN or infinite: the simulation has become unstable; restart from "
                                  "the last checkpoint with a smaller 'time' dt")
            if self.domain.balance is not None:
                # after a checkpoint, of which a run may go on that knows no edges, atoms count alike
                self.domain.load = None if self.stale or self._last is None else (
                    self.domain.backend.xp.diff(self._last[0].first) + ATOM_LOAD)
            self.prepare(atoms)
            self.domain.migrate(atoms)
            self.domain.plan(atoms)
        with timers("neighbors"):
            self.neighbors.build(atoms.x, atoms.n_owned)
            self._built_in = self.domain.cell
            self.builds += 1
            self._listed = True
            self.stale = False
            if self.repeated is not None:
                self.repeated.forget()

    @property
    def overlaps(self) -> bool:
        """Whether ``compute`` evaluates atoms far from other ranks while messages travel; the same on all ranks."""
        return (self.overlap and self.domain.comm.size > 1 and not self.domain.backend.on_device
                and getattr(self.potential, "in_parts", False))

    def compute(self, atoms: Atoms) -> None:
        """Fill ``atoms.f`` (owned rows: the whole force). After a rebuild the rows of ``atoms`` are in new order."""
        if self.overlaps:
            self._compute_overlapped(atoms)
            return
        timers = self.timers
        new = self.refresh(atoms, [atoms.x])
        if self.repeated is not None and self.repeated.possible:
            self._compute_by_graph(atoms)
            self._add(atoms)
            return
        if not new:
            with timers("halo"):
                self.domain.copy(atoms.x)
        with timers("neighbors"):
            edges = self.neighbors.edges(atoms.x, atoms.species)
        with timers("network"):
            e_i, g_ij = self.evaluate(edges, atoms)
        self._assemble(edges, e_i, g_ij, atoms)

    def _compute_overlapped(self, atoms: Atoms) -> None:
        """As ``compute``, to the same bits."""
        answer = None
        if self.stale:
            self.refresh(atoms, [atoms.x])
        else:
            with self.timers("neighbors"):
                state = self._state([atoms.x])
            answer, state = self._overlapping.compute(atoms, state)
            if answer is None:
                self._rebuild(atoms, state)
        if answer is None:
            answer = self._overlapping.compute_listed(atoms)
        self.edges = len(answer[0].center)
        self._last = answer
        self._add(atoms)

    def evaluate(self, edges: Edges, atoms: Atoms) -> tuple[Array, Array]:
        """(e_i, g_ij) of the potential, as of Potential.compute."""
        return self.potential.compute(edges, atoms.species)

    def _assemble(self, edges: Edges, e_i: Array, g_ij: Array, atoms: Atoms) -> None:
        """Fill ``atoms.f`` from the gradients of the edges, and keep the answer."""
        with self.timers("assembly"):
            self.neighbors.assemble(edges, g_ij, atoms.f)
        with self.timers("halo"):
            self.domain.give_back(atoms.f)
        self.edges = len(edges.center)
        self._last = (edges, e_i, g_ij)
        self._add(atoms)

    def _add(self, atoms: Atoms) -> None:
        """Add the forces that are not of the potential."""
        for added in self.added:
            added.add_forces(atoms)

    def _with_added(self, virial: np.ndarray) -> np.ndarray:
        """A virial of this rank together with that of the added forces."""
        return sum((added.virial() for added in self.added), virial)

    def _compute_by_graph(self, atoms: Atoms) -> None:
        """The rest of ``compute``, timed as a whole as the network."""
        assert self.repeated is not None
        alone = self.domain.comm.size == 1
        if not alone:
            with self.timers("halo"):
                self.domain.copy(atoms.x)
        with self.timers("network"):
            self._last = self.repeated(atoms, atoms.x, atoms.f, atoms.species, self.domain.cell)
        if not alone:
            with self.timers("halo"):
                self.domain.give_back(atoms.f)
        self.edges = len(self._last[0].center)

    def _repeat(self, atoms: Atoms) -> tuple[Edges, np.ndarray, np.ndarray]:
        """The part of ``compute`` that is the same in every step between two lists."""
        alone = self.domain.comm.size == 1
        if alone:
            self.domain.copy(atoms.x)
        edges = self.neighbors.edges(atoms.x, atoms.species, with_skin=True)
        e_i, g_ij = self.potential.compute(edges, atoms.species)
        self.neighbors.assemble(edges, g_ij, atoms.f)
        if alone:
            self.domain.give_back(atoms.f)
        return edges, e_i, g_ij

    def energy(self) -> float:
        """Potential energy of all atoms, eV, at the last ``compute``. All ranks call it."""
        assert self._last is not None
        return self.domain.comm.allreduce(float(self._last[1].sum()))

    def enthalpy(self) -> float:
        """``energy`` with the energy of the added forces, eV: what a minimization lowers. All ranks call it."""
        return self.energy() + (self.domain.comm.allreduce(sum(added.energy() for added in self.added))
                                if self.added else 0.0)

    def virial(self) -> np.ndarray:
        """(3, 3) W = -Σ r_ij ⊗ g_ij, with that of the added forces, eV, at the last ``compute``. All ranks call it."""
        assert self._last is not None
        edges, _, g_ij = self._last
        with self.timers("assembly"):
            mine = self._with_added(self.neighbors.virial(edges, g_ij))
        return self.domain.comm.allreduce(mine)

    def spread(self, atoms: Atoms) -> tuple[float, float] | None:
        """Standard deviation over the members of a mixture: of the energy (eV), and of the forces (eV/Å, rms over
        components). None for a single potential. All ranks call it, after ``compute``."""
        if not isinstance(self.potential, Mixture) or len(self.potential.answers) < 2 or self._last is None:
            return None
        comm = self.domain.comm
        energies = [comm.allreduce(float(e_i.sum())) for e_i, _ in self.potential.answers]
        total = comm.allreduce(float(np.var(self.member_forces(atoms), axis=0).sum()))
        n_global = comm.allreduce(atoms.n_owned)
        return float(np.std(energies)), float(np.sqrt(total / (3 * n_global)))

    def member_forces(self, atoms: Atoms) -> np.ndarray:
        """(members, n_owned, 3) forces by each member of a mixture, eV/Å. All ranks call it, after ``compute``."""
        assert isinstance(self.potential, Mixture)
        forces = np.empty((len(self.potential.answers), *atoms.f.shape))
        for host, (_, g_ij) in zip(forces, self.potential.answers):
            f = self.domain.backend.from_host(host)
            self.neighbors.assemble(self.last[0], g_ij, f)
            self.domain.give_back(f)
            host[:] = self.domain.backend.to_host(f)
        return forces[:, : atoms.n_owned]
