"""Scattering of a powder at every delay: S(Q, t) by Debye's equation or by direct sums, and the change of G(r)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rxmdnn import backend as backends
from rxmdnn.analysis.diffraction import binned, densities, wave_vectors
from rxmdnn.analysis.pump_probe_frames import Measurement, Moment
from rxmdnn.analysis.scatterers import amplitudes
from rxmdnn.analysis.structure import Radial
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import pairs

FINE = 0.01  # Å, bins of distances: sin(qr)/(qr) is exact to (0.01 q)²/24
STEP = 0.02  # 1/Å, between the values of q
PER_SHELL = 40  # wave vectors in each shell of a direct sum


def weighted(probe: str, isotopes: Sequence[str], selected: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(kinds, m) amplitudes of the kinds that are selected, zero of the others. selected : (kinds,) bool."""
    return amplitudes(probe, isotopes, q) * selected[:, None]


class Debye(Measurement):
    """S(q) = 1 + Σ_i≠j f_i f_j sin(q r)/(q r) w(r) / Σ N f², of all pairs within r_max, less a uniform density.

    The window w(r) = sin(πr/r_max)/(πr/r_max) takes the place of sharp truncation: it smears q S(q) by about π/r_max.
    P. Debye, Ann. Phys. 351, 809 (1915); E. Lorch, J. Phys. C 2, 229 (1969). Without the uniform density where the
    cell does not repeat in all directions: S then holds the forward scattering of the body at small q.

    Attributes
    ----------
    q (nq,) 1/Å; s (replicas, frames, nq)
    """

    def __init__(self, shape: tuple[int, int], kinds: Sequence[str], index: np.ndarray, f: np.ndarray, q: np.ndarray,
                 r_max: float, cell: Cell) -> None:
        """f : (kinds, nq) amplitudes at q; r_max : Å."""
        self.kinds, self.index, self.f, self.q, self.uniform = kinds, index, f, q, bool(cell.pbc.all())
        self.backend = backends.make("cpu")
        self.radial = Radial(kinds, index, r_max, FINE)
        self.table = np.sinc(np.outer(self.radial.r, q) / np.pi) * np.sinc(self.radial.r / r_max)[:, None]
        self.norm = self.radial.count @ f**2
        self.s = np.zeros((*shape, len(q)))

    def add(self, replica: int, frame: int, moment: Moment) -> None:
        radial, n = self.radial, len(self.kinds)
        i, j, images = pairs(self.backend, moment.x, moment.cell, radial.r_max)
        d = np.linalg.norm(moment.x[j] + images @ moment.cell.h - moment.x[i], axis=1)
        radial.sums[:] = 0.0
        radial.add(i, j, d, moment.cell.volume)
        s, row = np.ones(len(self.q)), 0
        for a in range(n):
            for b in range(a, n):
                ideal = radial.count[a] * (radial.count[b] - (a == b)) / moment.cell.volume * radial.shell
                counted = (radial.sums[row] - self.uniform) * ideal
                s += (1 if a == b else 2) * self.f[a] * self.f[b] * (counted @ self.table) / self.norm
                row += 1
        self.s[replica, frame] += moment.weight * s

    def arrays(self) -> list[np.ndarray]:
        return [self.s]


class Shells(Measurement):
    """S(q) by direct sums, averaged over at most 40 wave vectors of the cell in each shell of |q|.

    Attributes
    ----------
    q (nq,) 1/Å; s (replicas, frames, nq)
    """

    def __init__(self, shape: tuple[int, int], index: np.ndarray, isotopes: Sequence[str], selected: np.ndarray,
                 probe: str, q_max: float, cell: Cell, width: float = 0.1) -> None:
        self.index, self.width = index, width
        self.hkl, self.length = wave_vectors(cell, q_max, PER_SHELL, width)
        self.f = weighted(probe, isotopes, selected, self.length)
        self.norm = np.bincount(index, minlength=len(self.f)) @ self.f**2
        self.q = binned(self.length, self.length, width)[0]
        self.s = np.zeros((*shape, len(self.q)))

    def add(self, replica: int, frame: int, moment: Moment) -> None:
        rho = densities(moment.s, self.index, len(self.f), self.hkl)
        s = np.abs((self.f * rho).sum(axis=0)) ** 2 / self.norm
        self.s[replica, frame] += moment.weight * binned(self.length, s, self.width)[1]

    def arrays(self) -> list[np.ndarray]:
        return [self.s]


def grid(q_min: float, q_max: float) -> np.ndarray:
    """(nq,) equally spaced q, 1/Å, above zero."""
    return np.linspace(q_min, q_max, max(2, round((q_max - q_min) / STEP) + 1))[0 if q_min > 0 else 1:]


def delta_g(q: np.ndarray, delta_s: np.ndarray, r: np.ndarray, damping: float | None = None) -> np.ndarray:
    """(..., nr) ΔG(r) = (2/π) ∫ Q ΔS(Q) sin(Qr) W(Q) dQ over the range of q, 1/Å², by the trapezoidal rule.

    A pair of atoms that is at r2 instead of r1 gives ΔG = [δ(r - r2)/r2 - δ(r - r1)/r1] × its number per atom.

    Parameters
    ----------
    q (nq,) 1/Å; delta_s (..., nq); r (nr,) Å
    damping : Å², of W = exp(-damping Q²); None for the window of Lorch, W = sin(πQ/Q_max)/(πQ/Q_max)
    """
    window = np.sinc(q / q[-1]) if damping is None else np.exp(-damping * q**2)
    step = np.gradient(q)
    step[[0, -1]] = 0.5 * (q[1] - q[0]), 0.5 * (q[-1] - q[-2])
    return 2 / np.pi * (delta_s * (q * window * step)) @ np.sin(np.outer(q, r))

