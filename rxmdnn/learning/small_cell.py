"""A small periodic cell of a crystal in which the atoms around one of them are as in the large cell."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import pairs

NEAR = 0.45  # of a bond of the smallest atoms: an atom this near to a site is the atom of that site
LEAST_WIDTH = 5.0  # Å: an atom in a narrower cell has itself as a neighbor


class SmallCell(NamedTuple):
    """rows (k,) of the atoms that are kept; x (k, 3) Å, their positions; h (3, 3) Å, the vectors of the cell."""

    rows: np.ndarray
    x: np.ndarray
    h: np.ndarray


def small_cell(x: np.ndarray, numbers: np.ndarray, h: np.ndarray, center: int, most: int) -> SmallCell | None:
    """The widest cell of at most ``most`` atoms whose vectors are fractions 1/k of those of a crystal; None without.

    The crystal repeats by a fraction of a vector if each atom, moved by it, comes within 0.45 bond lengths of one
    other atom of its element: a one-to-one map. Of the atoms that are mapped to each other, the one nearest to
    ``center`` is kept where it is. The surroundings of the center are therefore those of the large cell up to about
    half the width of the small one; where the cell meets its images, atoms of different displacements are neighbors.

    Parameters
    ----------
    x (n, 3) Å; numbers (n,) atomic numbers; h (3, 3) Å, the cell, periodic along all axes
    center : row of the atom in the middle
    """
    n, cell = len(x), Cell(h)
    reach = NEAR * 2 * float(covalent_radii[numbers].min())
    by_axis: list[dict[int, np.ndarray]] = []
    for vector, width in zip(cell.h, cell.widths):
        found = {1: np.arange(n)}
        for k in range(2, int(width / LEAST_WIDTH) + 1):
            partner = _partners(x, numbers, cell, vector / k, reach) if n % k == 0 else None
            if partner is not None:
                found[k] = partner
        by_axis.append(found)
    whole = [k for k in product(*by_axis) if np.prod(k) > 1 and n / np.prod(k) <= most]
    for parts in sorted(whole, key=lambda k: (-round(float((cell.widths / k).min()), 6), int(np.prod(k)), k)):
        rows = _kept(x, cell, center, [found[k] for found, k in zip(by_axis, parts)], int(np.prod(parts)))
        if rows is not None:
            return SmallCell(rows, x[center] + _from(x[rows], x[center], cell), cell.h / np.array(parts)[:, None])
    return None


def _partners(x: np.ndarray, numbers: np.ndarray, cell: Cell, step: np.ndarray, reach: float) -> np.ndarray | None:
    """(n,) the atom to whose place each atom comes, moved by ``step``, Å; None where that is not one to one."""
    n = len(x)
    i, j, s = pairs(backends.make("cpu"), np.concatenate([x + step, x]), cell, reach)
    kept = (i < n) & (j >= n)
    i, j, s = i[kept], j[kept] - n, s[kept]
    same = numbers[i] == numbers[j]
    i, j, s = i[same], j[same], s[same]
    r = np.linalg.norm(x[j] + s @ cell.h - x[i] - step, axis=1)
    order = np.lexsort((j, r, i))
    first = order[np.r_[True, np.diff(i[order]) > 0]] if len(order) else order
    partner = j[first]
    return partner if len(partner) == n == len(np.unique(partner)) else None


def _kept(x: np.ndarray, cell: Cell, center: int, partners: list[np.ndarray], size: int) -> np.ndarray | None:
    """(n / size,) of the atoms mapped to each other those nearest to the center; None unless all sets have ``size``."""
    n = len(x)
    to = np.concatenate(partners)
    _, orbit = connected_components(coo_array((np.ones(len(to)), (np.tile(np.arange(n), 3), to)), shape=(n, n)),
                                    directed=False)
    if (np.bincount(orbit) != size).any():
        return None
    r = np.linalg.norm(_from(x, x[center], cell), axis=1)
    order = np.lexsort((np.arange(n), np.round(r, 6), orbit))
    return np.sort(order[::size])


def _from(x: np.ndarray, origin: np.ndarray, cell: Cell) -> np.ndarray:
    """(k, 3) shortest vectors from the origin to periodic images of x (k, 3), Å."""
    s = cell.fractional(x - origin)
    s -= np.round(s)
    around = np.array(list(product((-1, 0, 1), repeat=3)))  # a skewed cell: the nearest may be beyond the next face
    d = cell.cartesian((s[:, None] + around).reshape(-1, 3)).reshape(len(s), -1, 3)
    return d[np.arange(len(s)), np.argmin(np.round(np.linalg.norm(d, axis=2), 6), axis=1)]
