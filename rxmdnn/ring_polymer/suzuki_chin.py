"""Suzuki-Chin path integrals: averages of fourth order in 1/P.

Beads are numbered from 0. Even and odd beads have different weights, and odd beads have a further term of the forces
(Chin, Phys. Lett. A 226, 344 (1997), with α = 0):

    V_sc = (1/P) [Σ_even 2/3 V(q_j) + Σ_odd (4/3 V(q_j) + Σ_i |f_i(q_j)|^2/(9 m_i ω_P^2))],   ω_P = P k_B T/ħ

The gradient of the last sum is a derivative of the forces along the accelerations g_i = f_i/m_i, taken by a central
difference (Kapil, Behler and Ceriotti, J. Chem. Phys. 145, 234103 (2016)):

    ∂/∂x_i Σ_k |f_k|^2/m_k = 2 d f_i(q + h g)/dh

Averages of positions are taken over even beads alone (operator estimators); derivatives of ln Z (thermodynamic
estimators) include the last sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.units import ACCELERATION, HBAR, KB

EVEN, ODD = 2.0 / 3.0, 4.0 / 3.0  # weights of V
TERM = 1.0 / 9.0  # of |f|^2/(m ω_P^2)
# Å, of the atom with the largest acceleration: short for the anharmonicity of a bond, long for the rounding of forces
# in single precision.
DISPLACEMENT = 0.005


@dataclass
class SuzukiChin:
    """Parameters of the sum over odd beads, and its terms at the last forces.

    Attributes
    ----------
    inv_mass (n_elements,) float64, 1/amu
    stiffness : float, eV/(amu Å^2), ω_P^2
    potential : float, eV, operator estimator: mean of V over even beads
    pull (n_owned,) float64, eV, mean over even beads of (q - centroid)·f
    term (n_owned,) float64, eV, each atom's share of the sum over odd beads
    """

    inv_mass: np.ndarray
    stiffness: float
    potential: float = 0.0
    pull: Array = field(default_factory=lambda: np.zeros(0))
    term: Array = field(default_factory=lambda: np.zeros(0))


def suzuki_chin(mass: np.ndarray, temperature: float, beads: int) -> SuzukiChin:
    """The parameters at a temperature. mass : (n_elements,) float64, amu; temperature : K."""
    return SuzukiChin(1.0 / np.asarray(mass), (beads * KB * temperature / HBAR) ** 2 / ACCELERATION)


def stiffening(frequency: float, temperature: float, beads: int) -> float:
    """Factor by which a harmonic frequency, 1/fs, is raised on odd beads, the stiffest."""
    return float(np.sqrt(ODD + 2.0 * TERM * (frequency * HBAR / (beads * KB * temperature)) ** 2))
