"""Diffraction by neutrons, x-rays and electrons: static structure factors and Bragg intensities, by direct sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np

from rxmdnn.analysis.scatterers import amplitudes
from rxmdnn.cell import Cell

CHUNK = 1 << 21  # complex numbers of phases at a time
SEED = 20  # of the choice among vectors of one shell


def wave_vectors(cell: Cell, q_max: float, a_shell: int, width: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal-lattice vectors of a periodic cell up to q_max, at most `a_shell` of each shell of |q|.

    Returns
    -------
    hkl (m, 3) int64, one of each pair ±q; |q| (m,) float64, 1/Å, ascending
    """
    reciprocal = 2 * np.pi * cell.inverse.T  # rows
    most = np.floor(q_max / (2 * np.pi) * np.linalg.norm(cell.h, axis=1)).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-m if k else 0, m + 1) for k, m in enumerate(most)), indexing="ij"), -1)
    hkl = grid.reshape(-1, 3)
    hkl = hkl[(hkl[:, 0] > 0) | (hkl[:, 1] > 0) | ((hkl[:, 1] == 0) & (hkl[:, 2] > 0))]
    q = np.linalg.norm(hkl @ reciprocal, axis=1)
    inside = (q <= q_max) & (q > 0)
    hkl, q = hkl[inside], q[inside]
    order = np.random.default_rng(SEED).permutation(len(q))
    shell = (q[order] / width).astype(int)
    by_shell = np.argsort(shell, kind="stable")
    place = np.arange(len(q)) - np.searchsorted(shell[by_shell], shell[by_shell])
    kept = np.sort(order[by_shell][place < a_shell])
    kept = kept[np.argsort(q[kept], kind="stable")]
    return hkl[kept], q[kept]


def densities(s: np.ndarray, kind: np.ndarray, n_kinds: int, hkl: np.ndarray) -> np.ndarray:
    """(n_kinds, m) complex ρ_a(q) = Σ exp(i q·x) over the atoms of each kind. s : (n, 3) fractional; hkl : (m, 3)."""
    order = np.argsort(kind, kind="stable")
    s, count = s[order], np.bincount(kind, minlength=n_kinds)
    first = np.concatenate([[0], np.cumsum(count)])
    low = hkl.min(axis=0)
    tables = [np.exp(2j * np.pi * np.arange(low[a], hkl[:, a].max() + 1)[:, None] * s[:, a]) for a in range(3)]
    out = np.zeros((n_kinds, len(hkl)), complex)
    step = max(1, CHUNK // max(len(s), 1))
    for lo in range(0, len(hkl), step):
        part = hkl[lo:lo + step] - low
        phase = tables[0][part[:, 0]]
        phase *= tables[1][part[:, 1]]
        phase *= tables[2][part[:, 2]]
        for k in range(n_kinds):
            out[k, lo:lo + step] = phase[:, first[k]:first[k + 1]].sum(axis=1)
    return out


@dataclass
class StaticFactors:
    """Partial structure factors of frames: Σ over frames of Re ρ_a ρ_b*, for each wave vector."""

    kinds: Sequence[str]
    count: np.ndarray
    hkl: np.ndarray
    q: np.ndarray
    frames: int = 0
    sums: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.pairs = list(combinations_with_replacement(range(len(self.kinds)), 2))
        self.sums = np.zeros((len(self.pairs), len(self.q)))

    def add(self, rho: np.ndarray) -> None:
        self.sums += np.array([(rho[a] * rho[b].conj()).real for a, b in self.pairs])
        self.frames += 1

    def shells(self, probe: str, scatterers: Sequence[str], width: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
        """Total structure factor for a probe, averaged over shells of |q|; it tends to 1 at large q.

        S(q) = Σ_ab f_a f_b <ρ_a ρ_b*> / Σ_a N_a f_a². Returns q (1/Å) and S.
        """
        f = amplitudes(probe, scatterers, self.q)
        total = sum((1 if a == b else 2) * f[a] * f[b] * s for (a, b), s in zip(self.pairs, self.sums))
        s = np.asarray(total) / max(self.frames, 1) / (self.count @ f**2)
        return _binned(self.q, s, width)

    def partial(self, width: float = 0.1) -> dict[str, np.ndarray]:
        """{"q": 1/Å, "N-H": <ρ_a ρ_b*>/sqrt(N_a N_b)} averaged over shells."""
        out = {}
        for (a, b), s in zip(self.pairs, self.sums):
            norm = max(self.frames, 1) * np.sqrt(float(self.count[a]) * self.count[b])
            out["q"], out[f"{self.kinds[a]}-{self.kinds[b]}"] = _binned(self.q, s / norm, width)
        return out


def _binned(q: np.ndarray, y: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    shell = (q / width).astype(int)
    n = np.bincount(shell)
    some = n > 0
    return np.bincount(shell, q)[some] / n[some], np.bincount(shell, y)[some] / n[some]


# ------------------------------------------------------------------ Bragg
def reflections(most: int = 16) -> np.ndarray:
    """(m, 3) hkl with h >= k >= l >= 0 and h² + k² + l² <= most, by that sum."""
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    keep = (grid[:, 0] >= grid[:, 1]) & (grid[:, 1] >= grid[:, 2]) & ((grid**2).sum(axis=1) <= most) & (grid[:, 0] > 0)
    return grid[keep][np.argsort((grid[keep] ** 2).sum(axis=1), kind="stable")]


def intensities(rho: np.ndarray, f: np.ndarray, cells: int) -> np.ndarray:
    """(..., m) |Σ_a f_a ρ_a|² of one unit cell. rho : (..., kinds, m); f : (kinds, m); cells : unit cells."""
    return np.abs((f * rho).sum(axis=-2) / cells) ** 2


def debye_waller(rho: np.ndarray, f: np.ndarray, q: np.ndarray, u_sq: np.ndarray, cells: int) -> np.ndarray:
    """(m,) intensities of atoms at mean places whose kinds are spread by Gaussians: ρ_a exp(-q² <u²>_a / 6).

    u_sq : (kinds,) <u²>, three-dimensional, Å². With one kind I/I_0 = exp(-q² <u²>/3).
    """
    return intensities(rho * np.exp(-(q**2) * u_sq[:, None] / 6), f, cells)
