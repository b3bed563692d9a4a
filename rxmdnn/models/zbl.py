"""Ziegler-Biersack-Littmark screened nuclear repulsion, so that close atoms never meet a network's guess."""

from __future__ import annotations

import torch
from torch import Tensor

from rxmdnn.models.repulsion import POWER, PREFACTOR, SCREENING_LENGTH, TERMS


def zbl_pair_energy(z_i: Tensor, z_j: Tensor, r: Tensor) -> Tensor:
    """Half the pair's energy, without an envelope.

    Constants and source: rxmdnn.models.repulsion.

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
