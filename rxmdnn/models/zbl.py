"""Ziegler-Biersack-Littmark screened nuclear repulsion, so that close atoms never meet a network's guess."""

from __future__ import annotations

import torch
from torch import Tensor

PREFACTOR = 0.5 * 14.399645  # e²/(4πε₀) in eV Å, half for each of the directed edges i → j and j → i
SCREENING_LENGTH = 0.46850  # Å
POWER = 0.23
TERMS = ((0.02817, -0.20162), (0.28022, -0.40290), (0.50986, -0.94229), (0.18175, -3.19980))


def zbl_pair_energy(z_i: Tensor, z_j: Tensor, r: Tensor) -> Tensor:
    """Half the pair's energy, without an envelope.

    Ziegler, Biersack, Littmark, "The Stopping and Range of Ions in Matter" (1985), with the constants of LAMMPS.

    Parameters
    ----------
    z_i, z_j : (m,) float64, atomic numbers
    r : (m,) float64, Å

    Returns
    -------
    (m,) float64, eV
    """
    x = (z_i**POWER + z_j**POWER) * r / SCREENING_LENGTH
    psi = sum((c * torch.exp(d * x) for c, d in TERMS), torch.zeros_like(x))
    return PREFACTOR * z_i * z_j / r * psi
