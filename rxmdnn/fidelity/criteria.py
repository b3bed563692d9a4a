"""Criteria of failure on plain arrays, for one system or a batch of replicas, after a force evaluation.

Each criterion returns `Found`: rows of atoms, the values there, and their limits. Rows may belong to one domain, to a
whole system, or to many replicas (row = replica n + atom); this module depends on no simulation, rank or file. `Limits`
holds the limits by species, `examine` applies all criteria on atoms, `Band` follows temperatures and energies.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from rxmdnn.fidelity.bonds import BONDED, BROKEN, covalent_pairs, covalent_sums
from rxmdnn.units import KB

WHOLE = -1  # gid of an event of the whole system
FLOOR, SIGMAS, WINDOW = 100.0, 6.0, 100.0  # K, 1, fs
CLOSEST = 0.55  # in sums of covalent radii: pairs below collide


class Event(NamedTuple):
    """One failure of one atom (gid -1: of the whole system). time : fs; value, threshold : in the unit of the kind."""

    kind: str
    step: int
    time: float
    gid: int
    value: float
    threshold: float


class Found(NamedTuple):
    """Atoms that violate one criterion.

    kind : key of words.CRITERIA; row (k,) int64, ascending, each atom once; value, threshold (k,) float64
    """

    kind: str
    row: np.ndarray
    value: np.ndarray
    threshold: np.ndarray

    def events(self, step: int, time: float, gid: np.ndarray) -> list[Event]:
        """One event per row. gid : of all rows"""
        return [Event(self.kind, step, time, int(g), float(v), float(t))
                for g, v, t in zip(gid[self.row], self.value, self.threshold)]


@dataclass(frozen=True)
class Limits:
    """Limits of normal configurations, by species (center first); an infinite limit never applies.

    Attributes
    ----------
    elements : tuple of str
    closest           (T, T) float64, Å: shortest distance of a pair
    bonded            (T, T) float64, Å: pairs within are bonded, in the reference topology and for coordination; 0
                      where bonds cannot be told from other pairs
    shortest, longest (T, T) float64, Å: range of the length of a bond of the reference topology
    fewest, most      (T, T) float64: range of the number of neighbors of the second species bonded to the first
    force             (T,) float64, eV/Å: largest force on an atom
    latent            (T,) float64: largest distance of the features of an atom
    spread            (T,) float64, eV/Å: largest disagreement of a committee
    trained           bool: whether ``bonded`` is from training frames
    """

    elements: tuple[str, ...]
    closest: np.ndarray
    bonded: np.ndarray
    shortest: np.ndarray
    longest: np.ndarray
    fewest: np.ndarray
    most: np.ndarray
    force: np.ndarray
    latent: np.ndarray
    spread: np.ndarray
    trained: bool = False

    @classmethod
    def of(cls, elements: tuple[str, ...]) -> Limits:
        """Limits from covalent radii alone: collisions, and broken bonds between nonmetals."""
        sums, t, covalent = covalent_sums(elements), len(elements), covalent_pairs(elements)
        never, pairs = np.full(t, np.inf), np.full((t, t), np.inf)
        return cls(elements, CLOSEST * sums, np.where(covalent, BONDED * sums, 0.0), CLOSEST * sums,
                   np.where(covalent, BROKEN * sums, np.inf), -pairs, pairs, never, never.copy(), never.copy())

    @property
    def reach(self) -> float:
        """Å: no criterion depends on pairs beyond this distance."""
        finite = [a[np.isfinite(a)] for a in (self.closest, self.bonded, self.longest)]
        return float(np.concatenate(finite).max(initial=0.0))

    def bonds_text(self) -> str:
        """The pairs of species whose bonds and coordination are checked, those whose are not, and why."""
        e, t = self.elements, len(self.elements)
        names = {told: [f"{e[a]}-{e[b]}" for a in range(t) for b in range(a, t) if (self.bonded[a, b] > 0) == told]
                 for told in (True, False)}
        why = "the training frames do not tell bonds from other pairs there" if self.trained else \
            "without statistics of training frames, only bonds between nonmetals are known"
        return "; ".join(([f"watched for {', '.join(names[True])}"] if names[True] else [])
                         + ([f"not watched for {', '.join(names[False])}: {why}"] if names[False] else []))

    def only(self, kinds: frozenset[str] | set[str]) -> Limits:
        """These limits for some kinds, infinite ones for all others (bonds: see ``examine``)."""
        wide = {"pair": {"closest": np.zeros_like(self.closest)},
                "bond": {"shortest": np.zeros_like(self.closest), "longest": np.full_like(self.closest, np.inf)},
                "coordination": {"fewest": np.full_like(self.closest, -np.inf),
                                 "most": np.full_like(self.closest, np.inf)},
                **{kind: {kind: np.full_like(self.force, np.inf)} for kind in ("force", "latent", "spread")}}
        off: dict[str, Any] = {k: v for kind, arrays in wide.items() if kind not in kinds for k, v in arrays.items()}
        return replace(self, **off)


@dataclass(frozen=True)
class Close:
    """Edges within the reach of the criteria.

    center, neighbor (k,) int; r (k,) float64, Å; grouped by center
    """

    center: np.ndarray
    neighbor: np.ndarray
    r: np.ndarray


def close_edges(center: np.ndarray, neighbor: np.ndarray, r_ij: np.ndarray, reach: float) -> Close:
    """The edges within reach, Å. r_ij : (m, 3) float64, Å."""
    r_sq = np.einsum("ij,ij->i", r_ij, r_ij)
    near = np.flatnonzero(r_sq < reach * reach)
    return Close(center[near], neighbor[near], np.sqrt(r_sq[near]))


def worst(kind: str, row: np.ndarray, value: np.ndarray, threshold: np.ndarray) -> Found:
    """For each row the value farthest beyond its limit, relative to the limit; the first of equal values."""
    if not len(row):
        return Found(kind, row.astype(np.int64), value, threshold)
    beyond = np.abs(value - threshold) / np.maximum(np.abs(threshold), 1e-12)
    order = np.lexsort((-beyond, row))
    keep = order[np.r_[True, np.diff(row[order]) > 0]]
    return Found(kind, row[keep].astype(np.int64), value[keep], threshold[keep])


def close_pairs(close: Close, species: np.ndarray, closest: np.ndarray) -> Found:
    """Centers with a neighbor nearer than closest[species, species]; value : distance of the worst such pair, Å."""
    limit = closest[species[close.center], species[close.neighbor]]
    bad = np.flatnonzero(close.r < limit)
    return worst("pair", close.center[bad], close.r[bad], limit[bad])


def topology(close: Close, species: np.ndarray, gid: np.ndarray, n: int, bonded: np.ndarray,
             width: int | None = None) -> np.ndarray:
    """(n, B) int64 gids of the atoms bonded to each center, ascending, padded with -1.

    width : B, the same on all ranks; by default the largest number of bonds of a center
    """
    bond = np.flatnonzero(close.r < bonded[species[close.center], species[close.neighbor]])
    pairs = np.unique(np.stack([close.center[bond].astype(np.int64), gid[close.neighbor[bond]]]), axis=1)
    first = np.searchsorted(pairs[0], np.arange(n + 1))
    most = int(np.diff(first).max(initial=0))
    table = np.full((n, most if width is None else max(width, most)), -1, np.int64)
    table[pairs[0], np.arange(pairs.shape[1]) - first[pairs[0]]] = pairs[1]
    return table


def bad_bonds(close: Close, species: np.ndarray, gid: np.ndarray, bonds: np.ndarray, kind_of: np.ndarray,
              shortest: np.ndarray, longest: np.ndarray, reach: float) -> Found:
    """Centers with a bond outside its range; value : its length, at most ``reach``, Å.

    Parameters
    ----------
    bonds   (n, B) int64: `topology` of the reference
    kind_of (n, B) int: species of those atoms; arbitrary where bonds is -1
    """
    length = np.full(bonds.shape, np.inf)
    edge, slot = np.nonzero(bonds[close.center] == gid[close.neighbor][:, None])
    np.minimum.at(length, (close.center[edge], slot), close.r[edge])
    own = species[: len(bonds), None]
    low, high = shortest[own, kind_of], longest[own, kind_of]
    row, slot = np.nonzero((bonds >= 0) & ((length < low) | (length > high)))
    seen = np.minimum(length[row, slot], reach)
    return worst("bond", row, seen, np.where(seen < low[row, slot], low[row, slot], high[row, slot]))


def odd_coordination(close: Close, species: np.ndarray, n: int, bonded: np.ndarray, fewest: np.ndarray,
                     most: np.ndarray) -> Found:
    """Centers with a number of bonded neighbors of a species outside [fewest, most]; value : that number."""
    t = len(bonded)
    kind = species[close.neighbor].astype(np.int64)
    bond = close.r < bonded[species[close.center], kind]
    count = np.bincount(close.center[bond] * t + kind[bond], minlength=n * t)[: n * t].reshape(n, t)
    low, high = fewest[species[:n]], most[species[:n]]
    row, other = np.nonzero((count < low) | (count > high))
    seen = count[row, other].astype(float)
    return worst("coordination", row, seen,
                  np.where(seen < low[row, other], low[row, other], high[row, other]))


def outliers(kind: str, value: np.ndarray, species: np.ndarray, limit: np.ndarray) -> Found:
    """Atoms whose value exceeds limit[species]. value : (n,) float64"""
    threshold = limit[species[: len(value)]]
    row = np.flatnonzero(value > threshold)
    return Found(kind, row, value[row].astype(float), threshold[row])


def not_finite(*arrays: np.ndarray) -> Found:
    """Atoms with a NaN or infinite number in any array; value : 1. arrays : (n, 3) each"""
    row = np.flatnonzero(~np.logical_and.reduce([np.isfinite(a).all(axis=1) for a in arrays]))
    return Found("finite", row, np.ones(len(row)), np.zeros(len(row)))


def examine(limits: Limits, center: np.ndarray, neighbor: np.ndarray, r_ij: np.ndarray, species: np.ndarray,
            gid: np.ndarray, x: np.ndarray, v: np.ndarray, f: np.ndarray, bonds: np.ndarray | None = None,
            bond_species: np.ndarray | None = None, latent: np.ndarray | None = None,
            spread: np.ndarray | None = None) -> list[Found]:
    """Results of all criteria on atoms, without those that found nothing.

    Parameters
    ----------
    limits : Limits of the run's elements
    center, neighbor (m,) int, r_ij (m, 3) float64, Å: the directed edges of the last force call
    species, gid (n_all,): of owned atoms and copies
    x, v, f (n, 3) float64: of the owned atoms
    bonds, bond_species (n, B): `topology` of the reference and the species of those atoms; None: bonds are not checked
    latent, spread (n,) float64, or None
    """
    n = len(f)
    close = close_edges(center, neighbor, r_ij, limits.reach)
    found = [not_finite(x, v, f), close_pairs(close, species, limits.closest),
             odd_coordination(close, species, n, limits.bonded, limits.fewest, limits.most),
             outliers("force", np.sqrt(np.einsum("ij,ij->i", f, f)), species, limits.force)]
    if bonds is not None and bond_species is not None:
        found.append(bad_bonds(close, species, gid, bonds, bond_species, limits.shortest, limits.longest,
                               limits.reach))
    found += [outliers(kind, value, species, getattr(limits, kind))
              for kind, value in (("latent", latent), ("spread", spread)) if value is not None]
    return [a for a in found if len(a.row)]


# ---------------------------------------------------------------------- criteria on the whole system
def sigma_t(temperature: float | np.ndarray, n: int) -> float | np.ndarray:
    """Standard deviation of the temperature of n atoms in the canonical ensemble, T √(2/(3n)), K."""
    return temperature * np.sqrt(2.0 / (3.0 * n))


def allowed(temperature: float | np.ndarray, n: int, floor: float = FLOOR, sigmas: float = SIGMAS) -> np.ndarray:
    """Allowed deviation of the temperature, K: max(floor, sigmas σ_T(n))."""
    return np.maximum(floor, sigmas * sigma_t(temperature, n))


def energy_as_temperature(energy: float | np.ndarray, n: int) -> float | np.ndarray:
    """An energy of n atoms, eV, as a temperature, K: 2 E/(3 n k_B)."""
    return 2.0 * energy / (3.0 * n * KB)


def published(temperature: float | np.ndarray, target: float = 200.0, band: float = 100.0) -> np.ndarray:
    """The criterion of the published times to failure, abs(T - target) > band, meant for every 10th step."""
    return ~(np.abs(np.asarray(temperature) - target) <= band)


class Band:
    """Running mean of a quantity over a time window, compared with a band. Replicas are elements of the arrays.

    Parameters
    ----------
    interval : float, fs, between two values
    window : float, fs
    """

    def __init__(self, interval: float, window: float = WINDOW) -> None:
        self.values: deque[np.ndarray] = deque(maxlen=max(1, round(window / interval)))

    def push(self, value: float | np.ndarray) -> np.ndarray:
        """Add a value; the mean over the window, or over all values so far at the beginning."""
        self.values.append(np.asarray(value, float))
        return np.mean(self.values, axis=0)

    def outside(self, value: float | np.ndarray, target: float | np.ndarray, width: float | np.ndarray
                ) -> tuple[np.ndarray, np.ndarray]:
        """Add a value; whether abs(mean - target) > width or the mean is NaN, and the mean."""
        mean = self.push(value)
        return ~(np.abs(mean - target) <= width), mean
