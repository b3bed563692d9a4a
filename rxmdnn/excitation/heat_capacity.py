"""Heat capacity of electrons per volume, C_e(T_e), their energy u = ∫ C_e dT_e from 0 K, and T_e of an energy.

Energies are in eV/Å^3, heat capacities in eV/(Å^3 K). A negative energy gives a negative temperature, which the caller
reports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from rxmdnn.deck.columns import read_pairs

PER_J_M3 = 1e-30 / 1.602176634e-19  # J/m^3 in eV/Å^3


class HeatCapacity(Protocol):
    """C_e of any form; arrays in, arrays of the same shape out."""

    def capacity(self, t: np.ndarray) -> np.ndarray:
        """C_e at temperatures t, K."""

    def energy(self, t: np.ndarray) -> np.ndarray:
        """u at temperatures t, K."""

    def temperature(self, u: np.ndarray) -> np.ndarray:
        """The temperature, K, at which the energy is u."""


class ConstantCapacity:
    """C_e = c. c : eV/(Å^3 K)."""

    def __init__(self, c: float) -> None:
        self.c = c

    def capacity(self, t: np.ndarray) -> np.ndarray:
        return np.full_like(t, self.c)

    def energy(self, t: np.ndarray) -> np.ndarray:
        return self.c * t

    def temperature(self, u: np.ndarray) -> np.ndarray:
        return u / self.c


class LinearCapacity:
    """C_e = γ T_e, that of a degenerate electron gas (Sommerfeld), u = γ T_e²/2. gamma : eV/(Å^3 K^2)."""

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def capacity(self, t: np.ndarray) -> np.ndarray:
        return self.gamma * t

    def energy(self, t: np.ndarray) -> np.ndarray:
        return 0.5 * self.gamma * t * t

    def temperature(self, u: np.ndarray) -> np.ndarray:
        return np.copysign(np.sqrt(2.0 * np.abs(u) / self.gamma), u)


class TabulatedCapacity:
    """C_e between the points of a table by straight lines; below the first and above the last it is theirs.

    Parameters
    ----------
    t : (n,) K, ascending, the first at least 0
    c : (n,) eV/(Å^3 K), positive
    """

    def __init__(self, t: np.ndarray, c: np.ndarray) -> None:
        self.t, self.c = np.asarray(t, np.float64), np.asarray(c, np.float64)
        steps = np.diff(self.t)
        self.slope = np.append(np.diff(self.c) / steps, 0.0)  # beyond the last point C_e is constant
        self.u = self.c[0] * self.t[0] + np.append(0.0, np.cumsum(0.5 * (self.c[1:] + self.c[:-1]) * steps))

    def capacity(self, t: np.ndarray) -> np.ndarray:
        return np.interp(t, self.t, self.c)

    def energy(self, t: np.ndarray) -> np.ndarray:
        k = np.clip(np.searchsorted(self.t, t, side="right") - 1, 0, None)
        above = t - self.t[k]
        return np.where(t < self.t[0], self.c[0] * t, self.u[k] + above * (self.c[k] + 0.5 * self.slope[k] * above))

    def temperature(self, u: np.ndarray) -> np.ndarray:
        k = np.clip(np.searchsorted(self.u, u, side="right") - 1, 0, None)
        above = np.maximum(u - self.u[k], 0.0)
        root = np.sqrt(self.c[k] ** 2 + 2.0 * self.slope[k] * above)  # of C_e, at the temperature that is sought
        return np.where(u < self.u[0], u / self.c[0], self.t[k] + 2.0 * above / (self.c[k] + root))


def read_capacity(file: str | Path) -> TabulatedCapacity:
    """C_e from a text file of two columns, T_e in K and C_e in J/(m^3 K); '#' starts a comment.

    Raises InputError with file and line.
    """
    t, c = read_pairs(file, "T_e (K)", "C_e (J/(m^3 K))", lambda t, c: None if t >= 0 and c > 0 else
                      "T_e must be at least 0 and C_e above zero")
    return TabulatedCapacity(t, c * PER_J_M3)
