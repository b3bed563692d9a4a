"""Potentials without a network: Lennard-Jones, for tests and benchmarks, and no interaction, to time the engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rxmdnn.arrays import Array, namespace
from rxmdnn.atoms import Edges
from rxmdnn.backend import Backend


def add_pairs(pair: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], reach: float,
              edges: Edges, species: np.ndarray, e_i: np.ndarray, g_ij: np.ndarray) -> None:
    """Add a sum over pairs, of arrays on the host. Edges beyond ``reach``, Å, cost little.

    pair : gives half the energy of pairs, eV, and its slope, eV/Å, of (distances, species of centers, of neighbors)
    e_i : (n_owned,) float64, eV, and g_ij : (m, 3) float64, eV/Å, OUT: what is added to
    """
    r_sq = np.einsum("ij,ij->i", edges.r_ij, edges.r_ij)
    near = np.flatnonzero(r_sq < reach**2)
    r = np.sqrt(r_sq[near])
    energy, slope = pair(r, species[edges.center[near]], species[edges.neighbor[near]])
    g_ij[near] += edges.r_ij[near] * (slope / r)[:, None]
    np.add.at(e_i, edges.center[near], energy)


class LennardJones:
    """φ(r) = 4ε[(σ/r)^12 - (σ/r)^6] - φ(r_c) for r < r_c, the same for every pair of elements.

    Each of the two directed edges of a pair carries half of φ, so that an atom has half of the energy of its pairs.

    Parameters
    ----------
    epsilon : float, eV
    sigma, cutoff : float, Å
    """

    in_parts = False  # calls for some of the atoms at a time would cost more than the wait for messages

    def __init__(self, backend: Backend, elements: tuple[str, ...], epsilon: float, sigma: float,
                 cutoff: float) -> None:
        self.backend, self.elements = backend, elements
        table = np.ones((len(elements), len(elements)))
        self.cutoff, self.epsilon, self.sigma = table * cutoff, table * epsilon, table * sigma

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        xp = self.backend.xp
        e_i, g_ij = xp.empty(len(edges.first) - 1), edges.gradient()
        self.backend.lennard_jones(
            edges.r_ij, edges.first, edges.neighbor, species, self.epsilon, self.sigma, self.cutoff, e_i, g_ij
        )
        return e_i, g_ij


class Null:
    """The potential without interaction: a step costs only the time of the engine."""

    def __init__(self, elements: tuple[str, ...], cutoff: float) -> None:
        self.elements = elements
        self.cutoff = np.full((len(elements), len(elements)), cutoff)

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        xp = namespace(edges.r_ij)
        return xp.zeros(len(edges.first) - 1), xp.zeros((len(edges.center), 3))
