"""One time step of normal modes as a word of letters: B kick, A half a turn of the free ring, O friction and noise.

The free ring turns either exactly or by the square root of the Cayley map of a step (Korol, Rosa-Raíces, Bou-Rabee and
Miller, J. Chem. Phys. 152, 104102 (2020)): (ω u, v) is rotated by arctan(ω dt/2). With it no mode meets a resonance
with the forces, and the harmonic average of places is exact at every stable step (BCOCB). Friction is that of PILE,
γ_k = 2 λ ω_k (Ceriotti, Parrinello, Markland and Manolopoulos, J. Chem. Phys. 133, 124104 (2010)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rxmdnn.arrays import namespace


class Word(NamedTuple):
    """before, after : letters on both sides of the forces; turn : of half a step, radians, from ω dt."""

    before: str
    after: str
    turn: Callable[[np.ndarray], np.ndarray]


INTEGRATORS = {
    "bcocb": Word("BAOA", "B", lambda x: np.arctan(0.5 * x)),
    "baoab": Word("BAOA", "B", lambda x: 0.5 * x),
    "obabo": Word("OBAA", "BO", lambda x: 0.5 * x),
}


class Splitting:
    """The maps of a step for K modes; arrays are (..., K, c) with c components.

    Parameters
    ----------
    name : key of INTEGRATORS
    frequency : (K,) float64, 1/fs; 0 is a free mode
    friction : (K,) float64, 1/fs
    dt : float, fs
    inertia : (K,) float64, optional
        The dynamic mass of each mode, in units of the atom's.
    table : callable
        Brings a small array to where the atoms' arrays are (Backend.table).
    """

    def __init__(self, name: str, frequency: np.ndarray, friction: np.ndarray, dt: float,
                 inertia: np.ndarray | None = None, table: Callable[[np.ndarray], Any] = lambda values: values) -> None:
        self.word, self.dt, self._table = INTEGRATORS[name], dt, table
        omega = np.asarray(frequency, np.float64)[:, None]
        angle = self.word.turn(omega * dt)
        self._cos, self._down = np.cos(angle), omega * np.sin(angle)
        self._up = np.where(omega > 0, np.sin(angle) / np.where(omega > 0, omega, 1.0), 0.5 * dt)
        parts = (self.word.before + self.word.after).count("O")
        self._keep = np.exp(-np.asarray(friction, np.float64)[:, None] * dt / parts)
        self._noise = np.sqrt(1.0 - self._keep**2)
        self.inertia = np.ones(len(omega)) if inertia is None else np.asarray(inertia, np.float64)
        self.noisy = bool(self._noise.any())

    def play(self, word: str, u: np.ndarray, v: np.ndarray, a: np.ndarray, thermal: np.ndarray,
             normals: Callable[[int], np.ndarray]) -> np.ndarray:
        """The letters of ``word`` (``self.word.before`` or ``.after``), in place.

        Parameters
        ----------
        u, v : (..., K, c) float64, Å and Å/fs, INOUT
        a : (..., K, c) float64, Å/fs^2, acceleration by the forces
        thermal : (..., 1, 1) float64, Å/fs: sqrt(k_B T/m) of a mode of inertia 1
        normals : which O of ``word`` -> (..., K, c) normal deviates

        Returns
        -------
        gain : (...) float64, (Å/fs)^2: what friction and noise added to Σ_k inertia v_k^2
        """
        table = self._table
        gain = namespace(v).zeros(v.shape[:-2])
        for position, letter in enumerate(word):
            if letter == "B":
                v += 0.5 * self.dt * a
            elif letter == "A":
                before = u.copy()
                u *= table(self._cos)
                u += table(self._up) * v
                v *= table(self._cos)
                v -= table(self._down) * before
            elif self.noisy:
                gain -= self._weight(v)
                v *= table(self._keep)
                width = table(self._noise / np.sqrt(self.inertia)[:, None])
                v += width * thermal * normals(word[:position].count("O"))
                gain += self._weight(v)
        return gain

    def _weight(self, v: np.ndarray) -> np.ndarray:
        return namespace(v).einsum("...kc,...kc,k->...", v, v, self._table(self.inertia))
