"""Directions in which atoms vibrate, by energy, summed over segments of velocities in bounded memory."""

from __future__ import annotations

import numpy as np
import scipy.fft

from rxmdnn.analysis.powder import PARTS, Sites
from rxmdnn.units import HBAR

WIDTH = 2.0  # meV: bins of energy, or one per frequency where those are further apart
MOST = 512  # atoms of a kind, spread over it; an average over more changes nothing
CHUNK = 64  # atoms transformed at once


class SiteSums:
    """Sums of m Re v_a(ν) v_b(ν)* of some atoms over segments.

    Parameters
    ----------
    kind : (n,) kind of each atom, below n_kinds; length : frames of a segment; dt : fs

    Attributes
    ----------
    sums : (2, atoms, bins, 6): of even and of odd segments, any unit; Allreduce them over the ranks
    """

    def __init__(self, kind: np.ndarray, n_kinds: int, length: int, dt: float) -> None:
        chosen = []
        for k in range(n_kinds):
            own = np.flatnonzero(kind == k)
            chosen.append(own[np.unique(np.linspace(0, len(own) - 1, min(MOST, len(own))).round().astype(int))])
        self.atoms = np.sort(np.concatenate(chosen))
        self.kind = kind[self.atoms]
        spacing = 2e3 * np.pi * HBAR / (length * dt)
        self.width = max(WIDTH, spacing)
        at = (np.arange(length // 2 + 1) * spacing / self.width + 0.5).astype(int)
        self.starts = np.flatnonzero(np.diff(at, prepend=-1))
        self.sums = np.zeros((2, len(self.atoms), len(self.starts), 6))

    def add(self, v: np.ndarray, low: int, segment: int, window: np.ndarray) -> None:
        """Add a segment v (frames, n, 3), Å/fs, of the atoms from ``low`` on. window : (frames,)."""
        first, last = np.searchsorted(self.atoms, [low, low + v.shape[1]])
        for a in range(first, last, CHUNK):
            rows = slice(a, min(a + CHUNK, last))
            part = v[:, self.atoms[rows] - low] * window[:, None, None].astype(v.dtype)
            f = scipy.fft.rfft(part, axis=0)
            for k, (i, j, _) in enumerate(PARTS):
                product = f[..., i].real * f[..., j].real + f[..., i].imag * f[..., j].imag
                self.sums[segment % 2, rows, :, k] += np.add.reduceat(product, self.starts, axis=0).T

    def sites(self) -> dict[int, Sites]:
        """{kind: its sites}, with two halves that do not share segments; nothing for a single segment."""
        if not self.sums[1].any():
            return {}
        return {int(k): Sites.of(self.width, self.sums[:, self.kind == k]) for k in np.unique(self.kind)}
