"""Screened nuclear repulsion (Ziegler-Biersack-Littmark) in torch, for distances that no training data cover."""

from __future__ import annotations

import torch
from torch import Tensor

from rxmdnn.models.repulsion import POWER, PREFACTOR, SCREENING_LENGTH, TERMS


def zbl_pair_energy(z_i: Tensor, z_j: Tensor, r: Tensor) -> Tensor:
    """Half the energy of a pair, without an envelope.

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
