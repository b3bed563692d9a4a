"""The interface of a potential: from pairs to energies of atoms and gradients of pairs."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.atoms import Edges


class Potential(Protocol):
    """A strictly local potential E = Σ_i e_i({r_ij}) of directed pairs i → j, r_ij = x_j - x_i.

    A class is a potential if it has the two attributes and the method ``compute`` below. The contract:

    - e_i depends only on the edges whose center is i.
    - An edge with |r_ij| >= cutoff contributes exactly zero to e_i and has g_ij = 0. With ``edges.with_skin`` there are
      such edges; otherwise there are none.
    - e_i is continuous where an edge reaches the cutoff; its gradient should be, or the total energy drifts.
    - The arrays in and out are those of the backend that runs the potential: NumPy, or CuPy on a device.
    - ``edges`` and ``species`` are not changed. The same input gives the same bits.
    - An atom without edges has the energy of an isolated atom.
    - The result may live in memory that the next call overwrites.

    Attributes
    ----------
    elements : tuple of str
        The elements of the run; ``species`` indexes it.
    cutoff : (n_elements, n_elements) float64, Å
        Cutoff of the ordered pair (center, neighbor).

    in_parts : bool, optional
        True where nothing is kept of a call but its answer, and where a call costs much more than a message: several
        ranks then ask for some of their atoms at a time, with ``species`` of more rows, while messages travel. Without
        the attribute they ask for all at once.

    Example
    -------
    A harmonic repulsion, e_i = Σ_j k/4 (r_c - r_ij)², half of the energy of a pair on each of its two edges:

    >>> import numpy as np
    >>> from rxmdnn.atoms import Edges
    >>> class SoftSpheres:
    ...     def __init__(self, elements, k, r_c):
    ...         self.elements, self.k = elements, k
    ...         self.cutoff = np.full((len(elements), len(elements)), r_c)
    ...
    ...     def compute(self, edges, species):
    ...         r_c = self.cutoff[species[edges.center], species[edges.neighbor]]
    ...         r = np.linalg.norm(edges.r_ij, axis=1)
    ...         overlap = np.maximum(r_c - r, 0.0)
    ...         e_i = np.bincount(edges.center, self.k / 4 * overlap**2, minlength=len(edges.first) - 1)
    ...         g_ij = edges.gradient()
    ...         g_ij[:] = (-self.k / 2 * overlap / r)[:, None] * edges.r_ij
    ...         return e_i, g_ij
    >>> pair = Edges(np.array([0, 1]), np.array([1, 0]), np.array([[1.0, 0, 0], [-1.0, 0, 0]]), np.array([0, 1, 2]))
    >>> e_i, g_ij = SoftSpheres(("Ar",), k=4.0, r_c=2.0).compute(pair, np.zeros(2, np.int32))
    >>> float(e_i.sum()), float(g_ij[0, 0] - g_ij[1, 0])  # eV; eV/Å along x, the force on atom 0 away from atom 1
    (2.0, -4.0)
    """

    elements: tuple[str, ...]
    cutoff: np.ndarray

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """Energies of the owned atoms and the gradient of their sum.

        Parameters
        ----------
        edges : Edges, all inside the cutoff of their pair of species unless ``edges.with_skin``
        species : (n_all,) int32, index into ``elements``

        Returns
        -------
        e_i : (n_owned,) float64, eV
        g_ij : (m, 3) float64, eV/Å: ∂E/∂r_ij; it may be ``edges.gradient()``. The forces are the sums over edges of
            f[center] += g_ij and f[neighbor] -= g_ij.
        """
        ...
