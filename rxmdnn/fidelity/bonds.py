"""Which pairs of species have bonds that can be told from other pairs: only there is a broken bond a failure.

A molecule or a covalent network has bond lengths, then a gap, then the distances of other pairs. Metals, ionic melts
and simple liquids have no such gap, or shells of many neighbors that their atoms leave as they diffuse.
"""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from rxmdnn.isotopes import element_of

BONDED, BROKEN = 1.3, 1.6  # in sums of covalent radii: pairs within are bonded, beyond are broken bonds
# A gap is a range [r, WIDE r] that holds at most FEW of the number of pairs within r, of which there are ENOUGH:
# frames with a few stretched bonds still have one.
WIDE, FEW, ENOUGH = 1.25, 0.02, 20
MOST_BONDS = 8  # neighbors of an atom; shells of more (close-packed crystals have 12) are not bonds
NONMETALS = frozenset([1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 32, 33, 34, 35, 51, 52, 53, 85])  # and metalloids


def covalent_sums(elements: tuple[str, ...]) -> np.ndarray:
    """(T, T) sums of covalent radii, Å, with a radius of 1 Å for names that are not elements."""
    numbers = [atomic_numbers.get(element_of(e)) for e in elements]
    radius = np.array([1.0 if z is None else covalent_radii[z] for z in numbers])
    return radius[:, None] + radius


def covalent_pairs(elements: tuple[str, ...]) -> np.ndarray:
    """(T, T) bool: pairs whose bonds covalent radii tell without any frame, those of two nonmetals (no noble gas)."""
    nonmetal = np.array([atomic_numbers.get(element_of(e)) in NONMETALS for e in elements])
    return nonmetal[:, None] & nonmetal


def bond_range(r: np.ndarray, about: float, cutoff: float) -> tuple[float, float]:
    """The longest bond of a pair of species and the distance that ends its bonds, the middle of the widest gap.

    Parameters
    ----------
    r : (m,) float64, Å, ascending: all distances of the pair within ``cutoff``
    about : Å, 1.3 sums of covalent radii

    Returns
    -------
    (NaN, about) where no pair is that close; (NaN, 0) where bonds cannot be told from other pairs
    """
    if not len(r) or r[0] >= about:
        return np.nan, about
    ends = np.flatnonzero((r > about / 1.2 / WIDE) & (r < about) & (r * WIDE <= cutoff))  # last bonds, perhaps
    ends = ends[ends >= ENOUGH - 1]
    if not len(ends):
        return np.nan, 0.0
    beyond = np.searchsorted(r, WIDE * r[ends], side="right")
    share = (beyond - ends - 1) / (ends + 1)
    best = int(np.argmin(share))
    if share[best] > FEW:
        return np.nan, 0.0
    low, k = r[ends[best]], beyond[best]
    high = WIDE * low
    if share[best] == 0.0:  # nothing between: up to the next distance, but not far beyond a broken bond
        high = max(high, min(r[k] if k < len(r) else cutoff, about * BROKEN / BONDED))
    end = 0.5 * (low + high)
    return float(r[np.searchsorted(r, end) - 1]), float(end)
