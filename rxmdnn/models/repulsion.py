"""Short-range repulsion of nuclei (Ziegler-Biersack-Littmark) added to any model; zero at bond distances.

The energy of a pair (both directed edges) is (e²/4πε₀) Z_i Z_j/r ψ(r/a) u(r/r_c), with the screening ψ of ZBL and the
polynomial envelope u of Allegro (p = 6: two derivatives vanish at r_c; above 0.9 below r_c/2). r_c is a fraction of the
sum of covalent radii, so that the repulsion is zero at the distances of bonded atoms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from rxmdnn.arrays import Array
from rxmdnn.atoms import Edges
from rxmdnn.backend import Backend
from rxmdnn.device import Device
from rxmdnn.errors import InputError
from rxmdnn.isotopes import element_of
from rxmdnn.models.pair import add_pairs

# Ziegler, Biersack, Littmark, "The Stopping and Range of Ions in Matter" (1985), with the constants of LAMMPS.
PREFACTOR = 0.5 * 14.399645  # e²/(4πε₀) in eV Å, half for each of the directed edges i → j and j → i
SCREENING_LENGTH = 0.46850  # Å
POWER = 0.23
TERMS = ((0.02817, -0.20162), (0.28022, -0.40290), (0.50986, -0.94229), (0.18175, -3.19980))
ENVELOPE = 6.0
FRACTION = 0.8  # of the sum of covalent radii, by default


def reaches(elements: tuple[str, ...], fraction: float) -> np.ndarray:
    """(T, T) float64, Å: the fraction of the sum of covalent radii of each pair of elements.

    Raises InputError for an element that is not a chemical symbol.
    """
    if unknown := [e for e in elements if atomic_numbers.get(element_of(e), 0) < 1]:
        raise InputError(f"zbl: {', '.join(unknown)}: not a chemical symbol, so the nuclear charge is unknown")
    radius = np.array([covalent_radii[atomic_numbers[element_of(e)]] for e in elements])
    return fraction * (radius[:, None] + radius)


class Repulsion:
    """The repulsion as a potential.

    Parameters
    ----------
    fraction : cutoff as a fraction of the sum of covalent radii
    backend : a Device, for edges whose arrays live there
    cutoff : (T, T) float64, Å, instead of ``fraction``
    power : of the envelope

    Raises InputError for an element that is not a chemical symbol.
    """

    def __init__(self, elements: tuple[str, ...], fraction: float = FRACTION, backend: Backend | None = None,
                 cutoff: np.ndarray | None = None, power: float = ENVELOPE) -> None:
        self.elements, self.power = elements, float(power)
        self._device = backend if isinstance(backend, Device) else None
        self.cutoff = reaches(elements, fraction) if cutoff is None else cutoff
        self.z = np.array([float(atomic_numbers[element_of(e)]) for e in elements])
        self._inv_length = (self.z[:, None] ** POWER + self.z**POWER) / SCREENING_LENGTH
        if self._device is not None:
            pairs = np.stack([PREFACTOR * self.z[:, None] * self.z, self._inv_length, 1.0 / self.cutoff], axis=-1)
            self._device_tables = self._device.from_host(pairs), self._device.from_host(np.array(TERMS))

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """See Potential.compute. Edges beyond the cutoff cost little."""
        xp: Any = np if self._device is None else self._device.xp
        e_i, g_ij = xp.zeros(len(edges.first) - 1), xp.zeros((len(edges.center), 3))
        self.add(edges, species, e_i, g_ij)
        return e_i, g_ij

    def add(self, edges: Edges, species: Array, e_i: Array, g_ij: Array) -> None:
        """Add the energies and gradients of ``compute`` to e_i (n_owned,), eV, and g_ij (m, 3), eV/Å."""
        if self._device is not None:
            self._device.launch("add_zbl", len(e_i), edges.r_ij, edges.first, edges.neighbor, species, len(self.z),
                                *self._device_tables, self.power, e_i, g_ij)
            return
        add_pairs(self.pair, float(self.cutoff.max()), edges, species, e_i, g_ij)

    def pair(self, r: np.ndarray, t_i: np.ndarray, t_j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half the energy of pairs (eV) and its slope (eV/Å), (m,) each. r : (m,) Å; t_i, t_j : (m,) species."""
        scale = self._inv_length[t_i, t_j]
        parts = [c * np.exp(d * scale * r) for c, d in TERMS]
        psi = np.sum(parts, axis=0)
        d_psi = scale * np.sum([d * part for (_, d), part in zip(TERMS, parts)], axis=0)
        r_c, p = self.cutoff[t_i, t_j], self.power
        x = np.minimum(r / r_c, 1.0)
        u = 1 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1) - 0.5 * p * (p + 1) * x ** (p + 2)
        d_u = -0.5 * p * (p + 1) * (p + 2) * x ** (p - 1) * (1 - x) ** 2 / r_c
        bare = PREFACTOR * self.z[t_i] * self.z[t_j] / r
        return bare * psi * u, bare * ((d_psi - psi / r) * u + psi * d_u)
