"""Forces on a mixed surface: a change of the weights between two steps costs a sum over edges, no model is asked."""

from __future__ import annotations

from typing import Protocol

from mpi4py import MPI

from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms, Edges
from rxmdnn.dynamics.ensembles import Ensemble
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.excitation.surfaces import Answers, MixedSurface
from rxmdnn.timers import Timers


class WeightSource(Protocol):
    """Tells the weights of atoms at their present positions."""

    def present(self, atoms: Atoms) -> Array:
        """(n_owned,) float64 weights now."""

    def coming(self, atoms: Atoms) -> Array:
        """(n_owned,) float64 weights of the next change."""


class Frozen:
    """Weights that stay as they are. name : row of Atoms.extra that holds them"""

    def __init__(self, name: str) -> None:
        self.name = name

    def present(self, atoms: Atoms) -> Array:
        return atoms.extra[self.name]

    def coming(self, atoms: Atoms) -> Array:
        return atoms.extra[self.name]


class MixedForces(Forces):
    """As Forces, of a MixedSurface.

    Attributes
    ----------
    source : WeightSource
    weights : (n_owned,) float64, those of the forces; answers : of both models. Of the last ``compute``.
    """

    potential: MixedSurface
    weights: Array
    answers: Answers

    def __init__(self, domain: Domain, neighbors: NeighborList, potential: MixedSurface, timers: Timers,
                 source: WeightSource) -> None:
        super().__init__(domain, neighbors, potential, timers)
        self.source = source

    def evaluate(self, edges: Edges, atoms: Atoms) -> tuple[Array, Array]:
        """As of Forces, at the present weights; the models answer for the coming ones too."""
        self.weights = self.source.present(atoms)
        self.answers = self.potential.ask(edges, atoms.species, self.weights, self.source.coming(atoms))
        return self.potential.combine(self.answers, self.weights)

    def settle(self, atoms: Atoms) -> None:
        """Know what both models say of the present positions, in the present order of rows. All ranks call it.

        Neither is known after a restart, and the order of rows changes after a checkpoint: both compute here, so that a
        restarted run repeats the bits of the run that it continues.
        """
        if self.stale or not self.known:
            self.compute(atoms)

    def cover(self, weights: Array) -> bool:
        """Whether both models were asked for what other weights need, on all ranks. All ranks call it."""
        return self.domain.comm.allreduce(self.answers.cover(weights), MPI.LAND)

    def reweigh(self, atoms: Atoms, weights: Array) -> float:
        """Change the weights at fixed positions, and ``atoms.f`` with them. All ranks call it, after ``settle``.

        weights : (n_owned,) float64, which the answers cover. Returns Σ Δw_i (e_i^excited - e_i^ground), eV, of this
        rank: the change of the potential energy.
        """
        answers = self.answers
        gained = float(((weights - self.weights) * answers.gap()).sum())
        self.weights = weights
        with self.timers("network"):
            e_i, g_ij = self.potential.combine(answers, weights)
        self._assemble(answers.edges, e_i, g_ij, atoms)
        return gained

    def reweigh_within(self, ensemble: Ensemble, atoms: Atoms, weights: Array) -> float:
        """As ``reweigh``; the virial that a barostat has kept for its next step changes too."""
        before = self.virial() if ensemble.keeps_virial else None
        gained = self.reweigh(atoms, weights)
        if before is not None:
            ensemble.add_virial(self.virial() - before)
        return gained
