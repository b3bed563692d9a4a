"""The potential surface of a material of which each atom is excited to a degree of its own.

The energies of atoms are mixed, and with them the gradients of their edges:

    E = Σ_i [(1 - w_i) e_i^ground + w_i e_i^excited],  g_ij = (1 - w_i) g_ij^ground + w_i g_ij^excited

with the weight w_i of the center of an edge. At constant weights the forces are the gradient of E, so that E + K is
conserved, and their sum is zero. Neither holds if forces of two models are mixed atom by atom. Since e_i depends on the
edges of atom i alone, each model sees only the edges of the atoms that have a part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rxmdnn.arrays import Array, namespace, to_device_of
from rxmdnn.atoms import Edges
from rxmdnn.models.interface import Potential


@dataclass(frozen=True)
class Answer:
    """What one model says of the atoms that it was asked for.

    Attributes
    ----------
    e_i  (n_owned,) float64  eV; zero for atoms that it was not asked for
    g_ij (k, 3)     float64  eV/Å, of the edges ``rows``, or of all
    rows (k,)       int64    edges; None: all
    asked (n_owned,) bool    atoms; None: all
    """

    e_i: Array
    g_ij: Array
    rows: Array | None = None
    asked: Array | None = None


@dataclass(frozen=True)
class Answers:
    """What both models say of the same positions; None for a model that no atom has a part of."""

    edges: Edges
    ground: Answer | None
    excited: Answer | None
    added: tuple[Array, Array] | None

    def gap(self) -> Array:
        """(n_owned,) e_i^excited - e_i^ground, eV; zero for atoms that only one model was asked for."""
        xp, n = namespace(self.edges.r_ij), len(self.edges.first) - 1
        if self.ground is None or self.excited is None:
            return xp.zeros(n)
        gap = self.excited.e_i - self.ground.e_i
        for answer in (self.ground, self.excited):
            if answer.asked is not None:
                gap = xp.where(answer.asked, gap, 0.0)
        return gap

    def cover(self, weights: Array) -> bool:
        """Whether the energy and forces at these weights follow from what is known."""
        return _covers(self.excited, weights > 0) and _covers(self.ground, weights < 1)


def _covers(answer: Answer | None, needed: Array) -> bool:
    if answer is None:
        return not bool(needed.any())
    return answer.asked is None or not bool((needed & ~answer.asked).any())


class MixedSurface:
    """Two potentials of the same elements, mixed atom by atom as weights say.

    Parameters
    ----------
    ground, excited : Potential
    added : a potential that is added whatever the weights are, such as a repulsion

    Attributes
    ----------
    elements, cutoff : as of Potential; the largest cutoff of all parts
    """

    uniform = 0.5  # weight of all atoms for ``compute``, which knows none: a trial of a device should see both models

    def __init__(self, ground: Potential, excited: Potential, added: Potential | None = None) -> None:
        self.ground, self.excited, self.added = ground, excited, added
        self.elements = ground.elements
        parts = [ground, excited, *([added] if added is not None else [])]
        self.cutoff = np.max([part.cutoff for part in parts], axis=0)

    @property
    def members(self) -> list[Potential]:
        """The two models."""
        return [self.ground, self.excited]

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """See Potential.compute: of atoms that all have the weight ``uniform``."""
        w = namespace(edges.r_ij).zeros(len(edges.first) - 1) + self.uniform
        return self.combine(self.ask(edges, species, w, w), w)

    def ask(self, edges: Edges, species: Array, now: Array, coming: Array) -> Answers:
        """The answers of both models, for all weights between two.

        Parameters
        ----------
        edges, species : as of Potential.compute
        now, coming : (n_owned,) float64 weights
        """
        part_of = (now < 1) | (coming < 1), (now > 0) | (coming > 0)
        parts: list[Answer | None] = []
        for member, mask in zip(self.members, part_of):
            asked = namespace(mask).flatnonzero(mask)
            if not len(asked):
                parts.append(None)
                continue
            everyone = len(asked) == len(mask)
            # the list has memory for one gradient, which the answer of another model must not overwrite
            lent = edges if not any(parts) else replace(edges, scratch=None)
            parts.append(self._of(member, lent, species, None if everyone else mask))
        added = None
        if self.added is not None:
            answer = self._of(self.added, replace(edges, scratch=None), species, None)
            added = answer.e_i, answer.g_ij if answer.rows is None else _on_all(answer, edges)
        return Answers(edges, parts[0], parts[1], added)

    def combine(self, answers: Answers, weights: Array) -> tuple[Array, Array]:
        """Energies (n_owned,), eV, and gradient (m, 3), eV/Å, at weights (n_owned,). They are new arrays, or those of
        the answer of the only model that counts."""
        edges = answers.edges
        parts = [(answers.ground, 1.0 - weights), (answers.excited, weights)]
        known = [(answer, share) for answer, share in parts if answer is not None]
        if answers.added is None and len(known) == 1 and known[0][0].rows is None:
            return known[0][0].e_i, known[0][0].g_ij
        xp = namespace(edges.r_ij)
        e_i, g_ij = (xp.zeros(len(edges.first) - 1), xp.zeros((len(edges.center), 3))) if answers.added is None else (
            a.copy() for a in answers.added)
        for answer, share in known:
            e_i += share * answer.e_i
            if answer.rows is None:
                g_ij += share[edges.center][:, None] * answer.g_ij
            else:
                g_ij[answer.rows] += share[edges.center[answer.rows]][:, None] * answer.g_ij
        return e_i, g_ij

    def _of(self, member: Potential, edges: Edges, species: Array, mask: Array | None) -> Answer:
        """The answer of a model to edges inside its own cutoffs. mask : (n_owned,) bool, the atoms; None: all."""
        xp, keep = namespace(edges.r_ij), None
        if not (edges.with_skin or np.array_equal(member.cutoff, self.cutoff)):
            r_c = to_device_of(edges.r_ij, member.cutoff)[species[edges.center], species[edges.neighbor]]
            keep = (edges.r_ij**2).sum(axis=1) < r_c**2
        if mask is None and keep is None:
            return Answer(*member.compute(edges, species))
        if mask is not None:
            keep = mask[edges.center] if keep is None else keep & mask[edges.center]
        rows = xp.flatnonzero(keep)
        starts = xp.searchsorted(rows, edges.first)
        if mask is None:
            kept = Edges(edges.center[rows], edges.neighbor[rows], edges.r_ij[rows], starts, with_skin=edges.with_skin)
            return Answer(*member.compute(kept, species), rows)
        # The atoms become the first rows of a list of their own, so that the others cost nothing.
        asked, number = xp.flatnonzero(mask), xp.cumsum(mask) - 1
        kept = Edges(number[edges.center[rows]].astype(np.int32), (edges.neighbor[rows] + len(asked)).astype(np.int32),
                     edges.r_ij[rows], xp.concatenate([starts[asked], starts[-1:]]), with_skin=edges.with_skin)
        e_asked, g_ij = member.compute(kept, xp.concatenate([species[asked], species]))
        e_i = xp.zeros(len(mask))
        e_i[asked] = e_asked
        return Answer(e_i, g_ij, rows, mask)


def _on_all(answer: Answer, edges: Edges) -> Array:
    """(m, 3) the gradient of an answer, zero for edges that it does not know."""
    g_ij = namespace(edges.r_ij).zeros((len(edges.center), 3))
    g_ij[answer.rows] = answer.g_ij
    return g_ij
