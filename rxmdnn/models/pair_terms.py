"""The pair terms that RXMD-NN adds to its models: a short-range repulsion (shparams) and springs (spparams).

A pair has one energy, of which each of its two directed edges carries half; the virial follows from the gradients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.atoms import Edges
from rxmdnn.models.pair import add_pairs


class PairTerm(ABC):
    """A sum over pairs of atoms of φ(r), which depends on their species, for edges on the host.

    Parameters
    ----------
    elements : names of the species
    listed : (T, T) bool, the pairs of species that have a term
    parameters : (4, T, T) float64, symmetric; their meaning is that of the subclass

    Attributes
    ----------
    cutoff : (T, T) float64, Å; zero for a pair of species without a term
    """

    def __init__(self, elements: tuple[str, ...], listed: np.ndarray, parameters: np.ndarray) -> None:
        self.elements, self._parameters = elements, parameters
        self.cutoff = np.where(listed, parameters[3], 0.0)

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """See Potential.compute."""
        e_i, g_ij = np.zeros(len(edges.first) - 1), np.zeros((len(edges.center), 3))
        add_pairs(self.pair, float(self.cutoff.max()), edges, species, e_i, g_ij)
        return e_i, g_ij

    def pair(self, r: np.ndarray, t_i: np.ndarray, t_j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half the energy of pairs (eV) and its slope (eV/Å), (m,) each. r : (m,) Å; t_i, t_j : (m,) species."""
        energy, slope = self.phi(r, *self._parameters[:, t_i, t_j])
        inside = r < self.cutoff[t_i, t_j]
        return np.where(inside, 0.5 * energy, 0.0), np.where(inside, 0.5 * slope, 0.0)

    @abstractmethod
    def phi(self, r: np.ndarray, *parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """φ(r), eV, and dφ/dr, eV/Å, (m,) each, below the cutoff."""


class ShortRange(PairTerm):
    """φ(r) = A (σ/r)^n cos(π r / 2 r_c) for r < r_c; parameters A (eV), σ (Å), n, r_c (Å). The force is not continuous
    at r_c: it ends at A (σ/r_c)^n π / 2 r_c."""

    def phi(self, r: np.ndarray, *parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, sigma, n, r_c = parameters
        with np.errstate(divide="ignore", invalid="ignore"):  # pairs without a term
            power, k = a * (sigma / r) ** n, np.pi / (2 * r_c)
            cos, sin = np.cos(k * r), np.sin(k * r)
            return power * cos, -power * (n / r * cos + k * sin)


class Springs(PairTerm):
    """φ(r) = A (r - r_0)² for r_in < r < r_out; parameters A (eV/Å²), r_0, r_in, r_out (Å). The energy is not
    continuous at r_in and r_out unless it is zero there."""

    def phi(self, r: np.ndarray, *parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, r_0, r_in, _ = parameters
        stretch = np.where(r > r_in, r - r_0, 0.0)
        return a * stretch**2, 2 * a * stretch


PAIR_TERM_KINDS: dict[str, type[PairTerm]] = {"shparams": ShortRange, "spparams": Springs}
