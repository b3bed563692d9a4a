"""Short-range repulsion of nuclei under any model: Ziegler-Biersack-Littmark, ended below the bonds.

No torch, but on a device.

The whole pair's energy is (e²/4πε₀) Z_i Z_j/r ψ(r/a) u(r/r_c), with ZBL's screening ψ and the polynomial envelope u of
Allegro (p = 6: two derivatives vanish at r_c; above 0.9 below r_c/2). r_c is a fraction of the sum of covalent radii,
so that atoms at the distances of chemistry never feel it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from rxmdnn.atoms import Edges
from rxmdnn.backend import Backend
from rxmdnn.device import Device
from rxmdnn.errors import InputError

# Ziegler, Biersack, Littmark, "The Stopping and Range of Ions in Matter" (1985), with the constants of LAMMPS.
PREFACTOR = 0.5 * 14.399645  # e²/(4πε₀) in eV Å, half for each of the directed edges i → j and j → i
SCREENING_LENGTH = 0.46850  # Å
POWER = 0.23
TERMS = ((0.02817, -0.20162), (0.28022, -0.40290), (0.50986, -0.94229), (0.18175, -3.19980))
ENVELOPE = 6.0
FRACTION = 0.8  # of the sum of covalent radii, by default


def reaches(elements: tuple[str, ...], fraction: float) -> np.ndarray:
    """(T, T) float64, Å: fraction of the sum of covalent radii. Raises InputError."""
    if strange := [e for e in elements if atomic_numbers.get(e, 0) < 1]:
        raise InputError(f"zbl: {', '.join(strange)}: no chemical symbol, so no nuclear charge is known")
    radius = np.array([covalent_radii[atomic_numbers[e]] for e in elements])
    return fraction * (radius[:, None] + radius)


class Repulsion:
    """The repulsion as a potential.

    Parameters
    ----------
    fraction : of the sum of covalent radii, where it ends
    backend : a Device, for edges whose arrays live there

    Raises InputError for an element that is no chemical symbol.
    """

    def __init__(self, elements: tuple[str, ...], fraction: float = FRACTION, backend: Backend | None = None) -> None:
        self.elements = elements
        self._device = backend if isinstance(backend, Device) else None
        self.cutoff = reaches(elements, fraction)
        self.z = np.array([float(atomic_numbers[e]) for e in elements])
        if self._device is not None:
            import torch

            from rxmdnn.models.torch_device import join

            join(self._device)
            self._there = [torch.from_numpy(a).to(self._device.torch_device)
                           for a in (np.arange(len(self.z)), self.z, 1.0 / self.cutoff)]

    def compute(self, edges: Edges, species: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As Potential.compute; edges beyond the cutoff cost next to nothing."""
        if self._device is not None:
            return self._compute_there(self._device, edges, species)
        n, g_ij = len(edges.first) - 1, np.zeros((len(edges.center), 3))
        r_sq = np.einsum("ij,ij->i", edges.r_ij, edges.r_ij)
        near = np.flatnonzero(r_sq < self.cutoff.max() ** 2)
        t_i, t_j = species[edges.center[near]], species[edges.neighbor[near]]
        energy, slope = self.pair(np.sqrt(r_sq[near]), t_i, t_j)
        g_ij[near] = edges.r_ij[near] * (slope / np.sqrt(r_sq[near]))[:, None]
        e_i = np.zeros(n)
        np.add.at(e_i, edges.center[near], energy)
        return e_i, g_ij

    def _compute_there(self, device: Device, edges: Edges, species: Any) -> tuple[Any, Any]:
        """As ``compute``, on a device."""
        from rxmdnn.models.allegro_torch import Block, add_zbl
        from rxmdnn.models.torch_device import tensor

        n, m = len(edges.first) - 1, len(edges.center)
        e_i, g_ij = device.xp.zeros(n), device.xp.zeros((m, 3))
        if n:
            r_ij, neighbor, first, kind, e_out, g_out = (tensor(device, a) for a in (
                edges.r_ij, edges.neighbor, edges.first, species, e_i, g_ij))
            type_of, z, inv_cutoff = self._there
            add_zbl(Block(r_ij, neighbor, first, kind, type_of, 0, n, 0, m), z, inv_cutoff, ENVELOPE, e_out, g_out)
        return e_i, g_ij

    def pair(self, r: np.ndarray, t_i: np.ndarray, t_j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half the pair's energy (eV) and its slope (eV/Å), (m,) each. r : (m,) Å; t_i, t_j : (m,) species."""
        scale = (self.z[t_i] ** POWER + self.z[t_j] ** POWER) / SCREENING_LENGTH
        parts = [c * np.exp(d * scale * r) for c, d in TERMS]
        psi = np.sum(parts, axis=0)
        d_psi = scale * np.sum([d * part for (_, d), part in zip(TERMS, parts)], axis=0)
        r_c, p = self.cutoff[t_i, t_j], ENVELOPE
        x = np.minimum(r / r_c, 1.0)
        u = 1 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1) - 0.5 * p * (p + 1) * x ** (p + 2)
        d_u = -0.5 * p * (p + 1) * (p + 2) * x ** (p - 1) * (1 - x) ** 2 / r_c
        bare = PREFACTOR * self.z[t_i] * self.z[t_j] / r
        return bare * psi * u, bare * ((d_psi - psi / r) * u + psi * d_u)
