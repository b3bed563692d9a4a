"""One evaluation of the forces while messages travel.

Owned rows are in three parts (``Domain.parts``): atoms far from other ranks, atoms that may see copies of theirs, and
again atoms far from them. The first part is evaluated while positions come and while the ranks agree on whether their
lists are still good; the second when they are there; the last while forces go back. Sums are made in the order of the
evaluation without overlap, so that the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms, Edges
from rxmdnn.engine.exchange import Copying, GivingBack

if TYPE_CHECKING:
    from rxmdnn.engine.forces import Forces

Answer = tuple[Edges, Array, Array]


class OutdatedError(Exception):
    """Raised within an evaluation when the ranks have agreed that the list is too old for it."""


class Overlap:
    """The evaluation of a potential that can be asked for some of the atoms at a time.

    Parameters
    ----------
    forces : Forces, on several ranks, with arrays on the host
    """

    def __init__(self, forces: Forces) -> None:
        self.forces = forces
        self._rim_forces = np.zeros((0, 3))

    def compute(self, atoms: Atoms, state: int) -> tuple[Answer | None, int]:
        """Energies and gradients, with ``atoms.f`` whole, if no rank has a worse state than 0; and that worst state.

        state : of this rank (Forces); on all ranks the plan is that of the list
        """
        forces, comm = self.forces, self.forces.domain.comm
        mine, worst = np.array([state]), np.zeros(1, np.int64)
        with forces.timers("halo"):
            agreement = comm.Iallreduce(mine, worst, MPI.MAX)
            copying = Copying(forces.domain, atoms.x)

        def progress() -> None:
            copying.advance()
            if agreement.Test() and worst[0]:
                raise OutdatedError

        parts = _EvaluationInParts(self.forces, atoms)
        if not state:
            with suppress(OutdatedError):  # then the worst state is above 0
                parts.evaluate(0, progress)
        with forces.timers("halo"):
            copying.finish()
            with forces.domain.traffic.waiting():
                agreement.Wait()
        if worst[0]:
            return None, int(worst[0])
        return self._rest(parts, atoms), 0

    def compute_listed(self, atoms: Atoms) -> Answer:
        """As ``compute``, with copies that are already there: after a new list."""
        parts = _EvaluationInParts(self.forces, atoms)
        parts.evaluate(0)
        return self._rest(parts, atoms)

    def _rest(self, parts: _EvaluationInParts, atoms: Atoms) -> Answer:
        """The second and the last part, and the forces."""
        forces, timers = self.forces, self.forces.timers
        parts.evaluate(1)
        with timers("assembly"):
            if len(self._rim_forces) != atoms.n_all:
                self._rim_forces = np.empty((atoms.n_all, 3))
            forces.neighbors.assemble_part(parts.edges[1], parts.g_ij, self._rim_forces)
        with timers("halo"):
            giving = GivingBack(forces.domain, self._rim_forces)
        parts.evaluate(2, giving.advance)
        edges, e_i, g_ij = parts.whole()
        with timers("assembly"):
            forces.neighbors.assemble(edges, g_ij, atoms.f)
        with timers("halo"):
            giving.add_to(atoms.f)
        return edges, e_i, g_ij


class _EvaluationInParts:
    """Edges, energies and gradients, part by part."""

    def __init__(self, forces: Forces, atoms: Atoms) -> None:
        self.forces, self.atoms = forces, atoms
        n, (a, b) = atoms.n_owned, forces.domain.parts
        self.rows = [(0, a), (a, b), (b, n)]
        self.edges: list[Edges] = []
        self.e_i = np.empty(n)
        self.g_ij = forces.neighbors.gradient_of_parts()

    def evaluate(self, part: int, progress: Callable[[], None] | None = None) -> None:
        """Ask the potential for a part, after those before it."""
        forces, (start, stop) = self.forces, self.rows[part]
        with forces.timers("neighbors"):
            edges = forces.neighbors.edges_of_rows(self.atoms.x, self.atoms.species, start, stop,
                                                   int(self.edges[-1].first[-1]) if self.edges else 0)
            self.edges.append(edges)
        if stop == start:
            return
        with forces.timers("network"):
            first, last = int(edges.first[start]), int(edges.first[stop])
            # The atoms become the first rows of a list of their own, so that the others cost nothing.
            own = Edges(edges.center[first:last] - np.int32(start), edges.neighbor[first:last] + np.int32(stop - start),
                        edges.r_ij[first:last], edges.first[start:] - first, scratch=self.g_ij[first:last],
                        progress=progress)
            species = np.concatenate([self.atoms.species[start:stop], self.atoms.species])
            e_i, g_ij = forces.potential.compute(own, species)
            self.e_i[start:stop] = e_i
            if not np.shares_memory(g_ij, self.g_ij):
                self.g_ij[first:last] = g_ij

    def whole(self) -> Answer:
        """The edges of all atoms, e_i and g_ij."""
        edges = self.forces.neighbors.edges_of_all([part.first for part in self.edges], self.rows)
        return edges, self.e_i, self.g_ij[: len(edges.center)]
