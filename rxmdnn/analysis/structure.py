"""Structure in space: g(r) and coordination numbers, bonds, angles, hydrogen bonds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import pairs
from rxmdnn.io.trajectory import Snapshot
from rxmdnn.isotopes import ISOTOPES

BOND = 1.25  # an atom is bonded within this times the sum of covalent radii
DONORS = ("N", "O", "F")
HYDROGEN = ("H", *ISOTOPES)
FARTHEST = 3.0  # Å, the largest H...acceptor distance in the histogram of hydrogen bonds


class Radial:
    """g(r) of every pair of elements, accumulated frame by frame.

    g_ab(r) = <pairs within dr> / (N_a (N_b - δ_ab) / V * 4 π r² dr).

    Attributes
    ----------
    r (bins,) Å; frames : their number; sums (pairs, bins) Σ of g over frames; density (elements,) Σ of N_b / V, 1/Å^3
    """

    def __init__(self, elements: Sequence[str], kind: np.ndarray, r_max: float, width: float = 0.04) -> None:
        self.elements, self.kind, self.r_max = list(elements), kind, r_max
        self.edges = np.linspace(0.0, r_max, 1 + max(20, round(r_max / width)))
        self.r = 0.5 * (self.edges[1:] + self.edges[:-1])
        self.shell = 4 / 3 * np.pi * np.diff(self.edges**3)
        self.names = [f"{a}-{b}" for a, b in combinations_with_replacement(self.elements, 2)]
        self.count = np.bincount(kind, minlength=len(self.elements))
        n = len(self.elements)
        self._number = np.full((n, n), -1)
        for k, (a, b) in enumerate(combinations_with_replacement(range(n), 2)):
            self._number[a, b] = k
        self.frames, self.sums, self.density = 0, np.zeros((len(self.names), len(self.r))), np.zeros(n)

    def add(self, i: np.ndarray, j: np.ndarray, d: np.ndarray, volume: float) -> None:
        """Add a frame: its directed pairs within r_max and their distances, Å. volume : Å^3."""
        number = self._number[self.kind[i], self.kind[j]]
        own = number >= 0
        bins = np.minimum(np.searchsorted(self.edges, d[own], "right") - 1, len(self.r) - 1)
        flat = np.bincount(number[own] * len(self.r) + bins, minlength=self.sums.size)
        for k, (a, b) in enumerate(combinations_with_replacement(range(len(self.elements)), 2)):
            ideal = self.count[a] * (self.count[b] - (a == b)) / volume * self.shell
            self.sums[k] += flat[k * len(self.r):(k + 1) * len(self.r)] / np.maximum(ideal, 1e-300)
        self.density += self.count / volume
        self.frames += 1

    @property
    def g(self) -> dict[str, np.ndarray]:
        """{"A-B": (bins,)} g(r), averaged over the frames."""
        return dict(zip(self.names, self.sums / max(self.frames, 1)))

    @property
    def coordination(self) -> dict[str, np.ndarray]:
        """{"A-B": (bins,)} mean number of B atoms within the outer edge of each bin around an A atom."""
        out = {}
        for name, g in self.g.items():
            b = self.elements.index(name.split("-")[1])
            same = name.split("-")[0] == name.split("-")[1]
            rho = self.density[b] / max(self.frames, 1) * ((self.count[b] - 1) / self.count[b] if same else 1.0)
            out[name] = np.cumsum(g * self.shell) * rho
        return out


def half_width(cell: Cell) -> float:
    """Half the narrowest width of a periodic cell, Å: beyond it g(r) counts images of the same atoms."""
    return float(cell.widths[cell.pbc].min()) / 2 if cell.pbc.any() else np.inf


def radial(frames: list[Snapshot], r_max: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """g(r) of every pair of elements, averaged over frames, up to r_max or half the narrowest width.

    Returns
    -------
    r (bins,) Å, and {"N-H": (bins,)}
    """
    backend = backends.make("cpu")
    r_max = min([r_max] + [half_width(f.cell) for f in frames])
    elements = sorted(set(frames[0].names.tolist()))
    out = None
    for f in frames:
        kind = np.searchsorted(elements, f.names)
        if out is None:
            out = Radial(elements, kind, r_max)
        out.kind = kind  # separate files may have different orders of atoms
        i, j, S = pairs(backend, f.x, f.cell, r_max)
        out.add(i, j, np.linalg.norm(f.x[j] + S @ f.cell.h - f.x[i], axis=1), f.cell.volume)
    assert out is not None
    return out.r, out.g


class Bonds:
    """Histograms of bond lengths, bond angles and hydrogen bonds, accumulated frame by frame.

    Attributes
    ----------
    length, angle : {"N-H": (bins,)}, {"H-N-H": (bins,)} counts
    joint : (60, 60) counts of hydrogen bonds by H...acceptor distance (1.2 to 3 Å) and angle (0 to 180 degrees)
    """

    LENGTH, ANGLE = np.linspace(0.6, 2.6, 401), np.linspace(0.0, 180.0, 181)
    FAR, BEND = np.linspace(1.2, FARTHEST, 61), np.linspace(0.0, 180.0, 61)

    def __init__(self, names: np.ndarray) -> None:
        from ase.data import atomic_numbers, covalent_radii

        plain = np.where(np.isin(names, HYDROGEN), "H", names)
        self.names = plain
        self.radius = np.array([covalent_radii[atomic_numbers[e]] for e in plain.tolist()])
        self.reach = max(BOND * 2 * float(self.radius.max()), FARTHEST if (plain == "H").any() else 0.0)
        self.length: dict[str, np.ndarray] = {}
        self.angle: dict[str, np.ndarray] = {}
        self.joint = np.zeros((60, 60), np.int64)
        self.frames = 0

    def add(self, i: np.ndarray, j: np.ndarray, r_ij: np.ndarray, d: np.ndarray) -> None:
        """Add a frame: its directed pairs within ``reach``, i ascending; r_ij = x_j - x_i (pairs, 3), Å."""
        self.frames += 1
        bonded = d < BOND * (self.radius[i] + self.radius[j])
        bi, bj, unit, bd = i[bonded], j[bonded], r_ij[bonded] / d[bonded, None], d[bonded]
        a, b = self.names[bi], self.names[bj]
        for x, y in sorted({tuple(sorted(p)) for p in zip(a.tolist(), b.tolist())}):
            own = ((a == x) & (b == y)) & ((bi < bj) | (x != y))
            _count(self.length, f"{y}-{x}" if x == "H" else f"{x}-{y}", bd[own], self.LENGTH)
        for step in range(1, int(np.bincount(bi).max(initial=1))):
            row = np.flatnonzero(bi[:-step] == bi[step:])
            cosine = (unit[row] * unit[row + step]).sum(axis=1)
            ends = np.sort(np.stack([b[row], b[row + step]]), axis=0)
            label = np.array([f"{x}-{c}-{y}" for x, c, y in zip(ends[0], a[row], ends[1])], dtype=object)
            for kind in sorted(set(label.tolist())):
                _count(self.angle, kind, np.degrees(np.arccos(np.clip(cosine[label == kind], -1, 1))), self.ANGLE)
        self._hydrogen_bonds(i, j, r_ij, d, bonded)

    def _hydrogen_bonds(self, i: np.ndarray, j: np.ndarray, r_ij: np.ndarray, d: np.ndarray,
                        bonded: np.ndarray) -> None:
        """Count every donor-H...acceptor with H...acceptor up to FARTHEST; the angle is that at the hydrogen."""
        from_h = (self.names[i] == "H") & np.isin(self.names[j], DONORS)
        donor = np.full((len(self.names), 3), np.nan)
        own = from_h & bonded
        donor[i[own]] = r_ij[own] / d[own, None]
        far = from_h & ~bonded & (d < FARTHEST) & np.isfinite(donor[i, 0])
        cosine = (donor[i[far]] * r_ij[far]).sum(axis=1) / d[far]
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        self.joint += np.histogram2d(d[far], angle, [self.FAR, self.BEND])[0].astype(np.int64)

    def gather(self, comm: MPI.Comm) -> None:
        """Sum over ranks, in place."""
        for name in ("length", "angle"):
            tables = comm.allgather(getattr(self, name))
            keys = sorted({k for t in tables for k in t})
            setattr(self, name, {k: sum(t[k] for t in tables if k in t) for k in keys})
        comm.Allreduce(MPI.IN_PLACE, self.joint)
        self.frames = comm.allreduce(self.frames)


def _count(table: dict[str, np.ndarray], key: str, values: np.ndarray, edges: np.ndarray) -> None:
    found = np.histogram(values, edges)[0]
    table[key] = table[key] + found if key in table else found


def moments(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a histogram."""
    x, n = 0.5 * (edges[1:] + edges[:-1]), counts.sum()
    mean = float(counts @ x / max(n, 1))
    return mean, float(np.sqrt(max(counts @ (x - mean) ** 2 / max(n, 1), 0.0)))
