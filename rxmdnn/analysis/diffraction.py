"""Diffraction by neutrons, x-rays and electrons: static structure factors and Bragg intensities, by direct sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np

from rxmdnn.analysis.scatterers import amplitudes
from rxmdnn.cell import Cell

CHUNK = 1 << 21  # number of complex phases, or of entries of their tables, in memory at a time
SEED = 20  # of the random choice of vectors in a shell


def wave_vectors(cell: Cell, q_max: float, per_shell: int, width: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal-lattice vectors of a periodic cell up to q_max, at most `per_shell` in each shell of |q|.

    Returns
    -------
    hkl (m, 3) int64, one of each pair ±q; |q| (m,) float64, 1/Å, ascending
    """
    reciprocal = 2 * np.pi * cell.inverse.T  # rows
    most = np.floor(q_max / (2 * np.pi) * np.linalg.norm(cell.h, axis=1)).astype(int)
    k, l = (part.ravel() for part in np.meshgrid(*(np.arange(-m, m + 1) for m in most[1:]), indexing="ij"))  # noqa: E741
    random = np.random.default_rng(SEED)
    hkl, q, lot = np.zeros((0, 3), np.int64), np.zeros(0), np.zeros(0)
    worst = np.ones(int(q_max / width) + 2)  # of a shell: a vector is kept if its random number is below
    for h in range(most[0] + 1):  # a plane at a time, as the full grid grows with the volume of the cell
        half = np.flatnonzero((k > 0) | ((k == 0) & (l > 0))) if h == 0 else np.arange(len(k))
        plane = np.stack([np.full(len(half), h), k[half], l[half]], axis=1)
        length, drawn = np.linalg.norm(plane @ reciprocal, axis=1), random.random(len(half))
        limit = worst[np.minimum(length / width, len(worst) - 1).astype(int)]
        new = np.flatnonzero((length <= q_max) & (drawn < limit))
        hkl = np.concatenate([hkl, plane[new]])
        q, lot = np.concatenate([q, length[new]]), np.concatenate([lot, drawn[new]])
        shell = (q / width).astype(int)
        order = np.lexsort([lot, shell])
        number = np.arange(len(q)) - np.searchsorted(shell[order], shell[order])
        full = order[number == per_shell - 1]
        worst[shell[full]] = lot[full]
        kept = np.sort(order[number < per_shell])
        hkl, q, lot = hkl[kept], q[kept], lot[kept]
    ascending = np.argsort(q, kind="stable")
    return hkl[ascending], q[ascending]


def densities(s: np.ndarray, kind: np.ndarray, n_kinds: int, hkl: np.ndarray) -> np.ndarray:
    """(n_kinds, m) complex ρ_a(q) = Σ exp(i q·x) over the atoms of each kind.

    s : (n, 3) fractional; hkl : (m, 3) int64, or float64 with any indices along axes that do not repeat
    """
    if not np.issubdtype(hkl.dtype, np.integer):
        return _densities_between(s, kind, n_kinds, hkl)
    low, high = hkl.min(axis=0), hkl.max(axis=0)
    out = np.zeros((n_kinds, len(hkl)), complex)
    most = max(1, CHUNK // int((high - low + 1).sum()))  # atoms at a time, for the tables
    for kind_of in range(n_kinds):
        rows = np.flatnonzero(kind == kind_of)
        for start in range(0, len(rows), most):
            part = s[rows[start : start + most]]
            tables = [np.exp(2j * np.pi * np.arange(low[a], high[a] + 1)[:, None] * part[:, a]) for a in range(3)]
            step = max(1, CHUNK // len(part))
            for lo in range(0, len(hkl), step):
                at = hkl[lo : lo + step] - low
                phase = tables[0][at[:, 0]]
                phase *= tables[1][at[:, 1]]
                phase *= tables[2][at[:, 2]]
                out[kind_of, lo : lo + step] += phase.sum(axis=1)
    return out


def _densities_between(s: np.ndarray, kind: np.ndarray, n_kinds: int, hkl: np.ndarray) -> np.ndarray:
    """As ``densities``, phase by phase."""
    out = np.zeros((n_kinds, len(hkl)), complex)
    for kind_of in range(n_kinds):
        own = s[kind == kind_of]
        step = max(1, CHUNK // max(len(own), 1))
        for lo in range(0, len(hkl), step):
            out[kind_of, lo : lo + step] = np.exp(2j * np.pi * (hkl[lo : lo + step] @ own.T)).sum(axis=1)
    return out


@dataclass
class StaticFactors:
    """Partial structure factors: Σ over frames of Re ρ_a ρ_b*, for each wave vector.

    Attributes
    ----------
    kinds : names; count (kinds,) atoms; hkl (m, 3); q (m,) 1/Å, of the wave vectors
    pairs : of kinds a <= b; sums (pairs, m); frames : number of frames in the sums
    """

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
        """Add a frame. rho : (kinds, m) complex, of ``densities``."""
        self.sums += np.array([(rho[a] * rho[b].conj()).real for a, b in self.pairs])
        self.frames += 1

    def shells(self, probe: str, scatterers: Sequence[str], width: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
        """Total structure factor for a probe, averaged over shells of |q|; it tends to 1 at large q.

        S(q) = Σ_ab f_a f_b <ρ_a ρ_b*> / Σ_a N_a f_a². Returns q (1/Å) and S.
        """
        f = amplitudes(probe, scatterers, self.q)
        total = sum((1 if a == b else 2) * f[a] * f[b] * s for (a, b), s in zip(self.pairs, self.sums))
        s = np.asarray(total) / max(self.frames, 1) / (self.count @ f**2)
        return binned(self.q, s, width)

    def partial(self, width: float = 0.1) -> dict[str, np.ndarray]:
        """{"q": 1/Å, "N-H": <ρ_a ρ_b*>/sqrt(N_a N_b)} averaged over shells."""
        out = {}
        for (a, b), s in zip(self.pairs, self.sums):
            norm = max(self.frames, 1) * np.sqrt(float(self.count[a]) * self.count[b])
            out["q"], out[f"{self.kinds[a]}-{self.kinds[b]}"] = binned(self.q, s / norm, width)
        return out


def binned(q: np.ndarray, y: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of q and y over shells of |q| of this width, 1/Å, that are not empty."""
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
    """(..., m) |Σ_a f_a ρ_a|² per unit cell. rho : (..., kinds, m); f : (kinds, m); cells : unit cells."""
    return np.abs((f * rho).sum(axis=-2) / cells) ** 2


def debye_waller(rho: np.ndarray, f: np.ndarray, q: np.ndarray, u_sq: np.ndarray, cells: int) -> np.ndarray:
    """(m,) intensities of atoms with Gaussian displacements about their mean positions: ρ_a exp(-q² <u²>_a / 6).

    u_sq : (kinds,) <u²>, three-dimensional, Å². With one kind I/I_0 = exp(-q² <u²>/3).
    """
    return intensities(rho * np.exp(-(q**2) * u_sq[:, None] / 6), f, cells)
