"""What every potential is to the engine: pairs in, energies of atoms and gradients of pairs out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rxmdnn.atoms import Edges


class Potential(Protocol):
    """A strictly local potential E = Σ_i e_i({r_ij}) of directed pairs.

    Attributes
    ----------
    elements : tuple of str
        The run's element list; ``species`` indexes it.
    cutoff : (n_elements, n_elements) float64, Å
        Cutoff of the ordered pair (center, neighbor). A pair with |r_ij| >= cutoff contributes exactly zero.
    """

    elements: tuple[str, ...]
    cutoff: np.ndarray

    def compute(self, edges: Edges, species: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies of the owned atoms and the gradient of their sum.

        Parameters
        ----------
        edges : Edges, all inside the cutoff of their pair of species unless they are ``whole``
        species : (n_all,) int32

        Returns
        -------
        e_i : (n_owned,) float64, eV
        g_ij : (m, 3) float64, eV/Å: ∂E/∂r_ij; it may be ``edges.gradient()``. Then f[center] += g_ij,
            f[neighbor] -= g_ij.
        """
        ...
