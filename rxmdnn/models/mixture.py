"""A weighted sum of potentials, which keeps the answer of each member for the spread of a committee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rxmdnn.arrays import Array, namespace, to_device_of
from rxmdnn.atoms import Edges
from rxmdnn.models.interface import Potential


class Mixture:
    """The potential E = Σ_k w_k E_k, g = Σ_k w_k g_k. Weights w and 1 - w mix a ground and an excited state.

    Parameters
    ----------
    members : potentials over the same element list; each sees only the edges inside its own cutoffs
    weights : one per member; equal by default
    added : a potential that is added unweighted, such as a repulsion; it does not enter the spread

    Attributes
    ----------
    answers : list of (e_i, g_ij)
        Of the last call, one per member, before weighting.
    elements, cutoff : as of Potential; the largest cutoff of all parts
    """

    def __init__(self, members: Sequence[Potential], weights: Sequence[float] | None = None,
                 added: Potential | None = None) -> None:
        self.added = added
        self.members = list(members)
        self.weights = [1.0 / len(members)] * len(members) if weights is None else list(weights)
        self.elements = members[0].elements
        self.cutoff = np.max([part.cutoff for part in (*members, *([added] if added else []))], axis=0)
        self.answers: list[tuple[Array, Array]] = []

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """See Potential.compute; fills ``answers``."""
        self.answers = [self.of_member(member, edges, species) for member in self.members]
        xp = namespace(edges.r_ij)
        e_i, g_ij = (xp.zeros(len(edges.first) - 1), xp.zeros((len(edges.center), 3))) if self.added is None else \
            self.of_member(self.added, edges, species)
        for weight, (e, g) in zip(self.weights, self.answers, strict=True):
            e_i += weight * e
            g_ij += weight * g
        return e_i, g_ij

    def of_member(self, member: Potential, edges: Edges, species: Array) -> tuple[Array, Array]:
        """The answer of one member to edges inside the cutoffs of the mixture, or to all pairs of a list."""
        if edges.with_skin or np.array_equal(member.cutoff, self.cutoff):
            return member.compute(replace(edges, scratch=None), species)  # each member keeps its answer
        xp = namespace(edges.r_ij)
        r_c = to_device_of(edges.r_ij, member.cutoff)[species[edges.center], species[edges.neighbor]]
        kept = xp.flatnonzero((edges.r_ij**2).sum(axis=1) < r_c**2)
        first = xp.searchsorted(kept, edges.first)
        e_i, g_kept = member.compute(Edges(edges.center[kept], edges.neighbor[kept], edges.r_ij[kept], first), species)
        g_ij = xp.zeros_like(edges.r_ij)
        g_ij[kept] = g_kept
        return e_i, g_ij


def together_unweighted(parts: Sequence[Potential]) -> Potential | None:
    """The sum of potentials, each with weight 1; None for none."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return Mixture(parts, [1.0] * len(parts))
