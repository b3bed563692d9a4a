"""One time step of normal modes as a sequence of operators: B kicks, A moves the free ring polymer by half a step,
O applies friction and noise.

A rotates (ω u, v) either by the exact angle ω dt/2 or by arctan(ω dt/2), the square root of the Cayley map of a step
(Korol, Rosa-Raíces, Bou-Rabee and Miller, J. Chem. Phys. 152, 104102 (2020)). With the Cayley map no mode is in
resonance with the forces, and averages over positions in a harmonic well are exact at every stable step (BCOCB).
Friction is that of PILE, γ_k = 2 λ ω_k (Ceriotti, Parrinello, Markland and Manolopoulos, J. Chem. Phys. 133, 124104
(2010)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rxmdnn.arrays import Array, namespace


class OperatorSequence(NamedTuple):
    """before, after : operators before and after the forces are computed; angle : ω dt -> rotation of A, radians."""

    before: str
    after: str
    angle: Callable[[np.ndarray], np.ndarray]


OPERATOR_SEQUENCES = {
    "bcocb": OperatorSequence("BAOA", "B", lambda x: np.arctan(0.5 * x)),
    "baoab": OperatorSequence("BAOA", "B", lambda x: 0.5 * x),
    "obabo": OperatorSequence("OBAA", "BO", lambda x: 0.5 * x),
}


class Splitting:
    """The operators of a step of K modes; arrays are (..., K, c) with c components.

    Parameters
    ----------
    name : key of OPERATOR_SEQUENCES
    frequency : (K,) float64, 1/fs; 0 is a free mode
    friction : (K,) float64, 1/fs
    dt : float, fs
    inertia : (K,) float64, optional
        The dynamic mass of each mode, in units of the mass of the atom.
    table : callable
        Brings a small array to the memory of the atoms' arrays (Backend.table).
    """

    def __init__(self, name: str, frequency: np.ndarray, friction: np.ndarray, dt: float,
                 inertia: np.ndarray | None = None,
                 table: Callable[[np.ndarray], Array] = lambda values: values) -> None:
        self.sequence, self.dt, self._table = OPERATOR_SEQUENCES[name], dt, table
        omega = np.asarray(frequency, np.float64)[:, None]
        angle = self.sequence.angle(omega * dt)
        self._cos, self._down = np.cos(angle), omega * np.sin(angle)
        self._up = np.where(omega > 0, np.sin(angle) / np.where(omega > 0, omega, 1.0), 0.5 * dt)
        parts = (self.sequence.before + self.sequence.after).count("O")
        self._keep = np.exp(-np.asarray(friction, np.float64)[:, None] * dt / parts)
        self._noise = np.sqrt(1.0 - self._keep**2)
        self.inertia = np.ones(len(omega)) if inertia is None else np.asarray(inertia, np.float64)
        self.noisy = bool(self._noise.any())

    def apply(self, operators: str, u: np.ndarray, v: np.ndarray, a: np.ndarray, thermal: np.ndarray,
              normals: Callable[[int], np.ndarray]) -> np.ndarray:
        """Apply ``operators`` (``self.sequence.before`` or ``.after``) from left to right, in place.

        Parameters
        ----------
        u, v : (..., K, c) float64, Å and Å/fs, INOUT
        a : (..., K, c) float64, Å/fs^2, acceleration by the forces
        thermal : (..., 1, 1) float64, Å/fs: sqrt(k_B T/m) of a mode of inertia 1
        normals : index of an O in ``operators`` -> (..., K, c) normal deviates

        Returns
        -------
        gain : (...) float64, (Å/fs)^2: change of Σ_k inertia v_k^2 by friction and noise
        """
        table = self._table
        gain = namespace(v).zeros(v.shape[:-2])
        for position, operator in enumerate(operators):
            if operator == "B":
                v += 0.5 * self.dt * a
            elif operator == "A":
                before = u.copy()
                u *= table(self._cos)
                u += table(self._up) * v
                v *= table(self._cos)
                v -= table(self._down) * before
            elif self.noisy:
                gain -= self._weight(v)
                v *= table(self._keep)
                width = table(self._noise / np.sqrt(self.inertia)[:, None])
                v += width * thermal * normals(operators[:position].count("O"))
                gain += self._weight(v)
        return gain

    def _weight(self, v: np.ndarray) -> np.ndarray:
        return namespace(v).einsum("...kc,...kc,k->...", v, v, self._table(self.inertia))
