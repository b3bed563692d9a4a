"""What is labelled of a frame: its worst atom with its surroundings, a cluster of whole molecules or a small cell."""

from __future__ import annotations

from typing import NamedTuple

import ase
import numpy as np
from ase.geometry import complete_cell
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.fidelity.bonds import BROKEN, covalent_pairs, covalent_sums
from rxmdnn.io.ase_atoms import cell_of
from rxmdnn.labelling.file_tasks import unlabelled
from rxmdnn.learning.small_cell import small_cell

VACUUM = 5.0  # Å, on each side of a cluster in a box
WORST = "worst"  # array of a frame, 1 for the atom of the alarm
RADIUS = "cut_radius"  # word of a frame, Å: all atoms nearer to the worst one are in the cluster


def cut(frame: ase.Atoms, worst: int, most: int = 64, axes: tuple[int, ...] = (0, 1, 2, 3)) -> ase.Atoms:
    """The part of a frame that is labelled for its worst atom, without labels, velocities and constraints.

    A frame of at most ``most`` atoms is kept whole. Of a larger one:

    - Molecules: whole molecules in the order of their distance (of the nearest atoms) to the worst atom, until the
      next one does not fit. The worst atom is unwrapped in the middle of an open box; a molecule may be there with two
      of its periodic images. Atoms are of one molecule within 1.6 sums of their covalent radii, so that a stretched
      bond is not cut. The cluster has a surface: its labels are right for what it is, a droplet, not for the liquid.
    - Networks (silicon, a polymer, of more than ``most`` atoms), metals and salts in a crystal: a small periodic cell,
      a fraction of that of the frame, if its atoms repeat there nearly (``small_cell``).
    - Networks, metals and salts that do not repeat, as a melt: the atoms nearest to the worst one, as an open cluster
      with cut bonds, whose surface no bulk has and whose charges need not add up to zero. A larger ``most``, or whole
      frames of a smaller system, are better there.

    Parameters
    ----------
    worst : row of the atom
    most : number of atoms
    axes : along how many axes a frame may repeat for the engine that labels (``Engine.axes``). Where that is not
        the number here but 3 is among them, open axes become periodic, with a vacuum of 5 Å on each side.

    Returns
    -------
    Atoms with the arrays ``worst`` (1 for the worst atom, 0 for all others) and ``frame_atom`` (its row in ``frame``),
    masses, charges and magnetic moments where ``frame`` has them, the words of ``frame`` that are not labels, and
    ``cut_radius``, Å: up to this distance the surroundings of the worst atom are complete (not of whole frames).

    Raises InputError for NaN or infinite coordinates, a row that does not exist, and a cell that cannot be used.
    """
    source = str(frame.info.get("origin", "frame"))
    if not 0 <= worst < len(frame):
        raise InputError(f"{source}: has no atom {worst}: it has {len(frame)}, counted from 0")
    if most < 1:
        raise InputError(f"{source}: at most {most} atoms: give 1 or more")
    cell = cell_of(frame, source)
    if len(frame) <= most:
        return _accepted(_part(frame, Cluster(np.arange(len(frame)), frame.positions, None), worst), axes)
    found = molecules(frame, cell, most)
    if frame.pbc.all() and (found.size == 1).all():
        small = small_cell(frame.positions, frame.numbers, cell.h, worst, most)
        if small is not None:
            atoms = _part(frame, Cluster(small.rows, small.x, None), worst)
            atoms.set_cell(small.h)
            return _accepted(atoms, axes)
    atoms = _part(frame, nearest(found, cell, worst, most), worst)
    atoms.pbc = False
    return _accepted(_boxed(atoms), axes)


class Molecules(NamedTuple):
    """unit (n,) int: the molecule of each atom; size (n,) int: its number of atoms; x (n, 3) Å: each in one piece."""

    unit: np.ndarray
    size: np.ndarray
    x: np.ndarray


class Cluster(NamedTuple):
    """rows (k,) of a frame; x (k, 3) Å, their positions; radius : Å, within which nothing is missing, or None."""

    rows: np.ndarray
    x: np.ndarray
    radius: float | None


def molecules(frame: ase.Atoms, cell: Cell, most: int) -> Molecules:
    """The molecules of a frame; every atom of one that is larger than ``most`` atoms, or endless, stands alone."""
    elements = tuple(dict.fromkeys(frame.get_chemical_symbols()))
    species = np.array([elements.index(s) for s in frame.get_chemical_symbols()])
    bonded = np.where(covalent_pairs(elements), BROKEN * covalent_sums(elements), 0.0)
    n, x, shift = len(frame), frame.positions, np.zeros((len(frame), 3), np.int64)
    if not bonded.any():
        return Molecules(np.arange(n), np.ones(n, np.int64), x)
    i, j, s = pairs(backends.make("cpu"), x, cell if cell.pbc.any() else None, float(bonded.max()))
    near = np.linalg.norm(x[j] + s @ cell.h - x[i], axis=1) < bonded[species[i], species[j]]
    i, j, s = i[near].astype(np.int64), j[near].astype(np.int64), s[near].astype(np.int64)
    _, unit = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)
    known = np.zeros(n, bool)
    known[np.unique(unit, return_index=True)[1]] = True  # the first atom of each stays where it is
    while (new := np.flatnonzero(known[i] & ~known[j])).size:
        shift[j[new]] = shift[i[new]] + s[new]
        known[j[new]] = True
    endless = np.unique(unit[i[(shift[j] != shift[i] + s).any(axis=1)]])  # reached over two ways, at two images
    size = np.bincount(unit)[unit]
    alone = np.isin(unit, endless) | (size > most)
    return Molecules(np.where(alone, unit.max() + 1 + np.arange(n), unit), np.where(alone, 1, size),
                     np.where(alone[:, None], x, x + shift @ cell.h))


def nearest(found: Molecules, cell: Cell, worst: int, most: int) -> Cluster:
    """Whole molecules in the order of their distance to an atom, until the next does not fit into ``most`` atoms."""
    n = len(found.x)
    reach = (3 / (4 * np.pi) * (most + 1) * cell.volume / n) ** (1 / 3)
    while True:
        image, r = _images(found, cell, worst, reach)
        seen = r <= reach
        # Rounding: equal distances, as in a crystal, are ordered by molecule and not by the last bits.
        keys = np.column_stack([image[seen], found.unit[image[seen, 3]]])[:, [0, 1, 2, 4]]
        each, which = np.unique(keys, axis=0, return_inverse=True)
        least = np.full(len(each), np.inf)
        np.minimum.at(least, which.ravel(), r[seen])
        order = np.lexsort((*each.T[::-1], np.round(least, 6)))
        count = np.bincount(found.unit)[each[order, 3]]
        total = np.cumsum(count)
        if total[-1] > most:
            break
        reach *= 1.3
    last = int(np.searchsorted(total, most, side="right"))
    rows, x = [], []
    members = np.argsort(found.unit, kind="stable")
    first = np.searchsorted(found.unit[members], each[order[:last], 3])
    for (a, b, c, _), start, k in zip(each[order[:last]], first, count):
        own = members[start : start + k]
        rows.append(own)
        x.append(found.x[own] + np.array([a, b, c]) @ cell.h)
    return Cluster(np.concatenate(rows), np.concatenate(x), float(least[order[last]]) if last < len(order) else None)


def _images(found: Molecules, cell: Cell, worst: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """(m, 4) periods and row of the images of atoms that may be within ``reach``, and (m,) their distances, Å."""
    s = cell.fractional(found.x - found.x[worst])
    first = np.unique(found.unit, return_index=True)[1]
    home = np.zeros((int(found.unit.max()) + 1, 3), np.int64)
    home[found.unit[first]] = np.where(cell.pbc, -np.round(s[first]), 0).astype(np.int64)
    home -= home[found.unit[worst]]
    s = s + home[found.unit]
    most = np.where(cell.pbc, np.floor(reach / cell.widths + np.abs(s).max(axis=0)), 0).astype(np.int64)
    periods = np.stack(np.meshgrid(*(np.arange(-k, k + 1) for k in most), indexing="ij"), axis=-1).reshape(-1, 3)
    r = np.linalg.norm(cell.cartesian((s[None] + periods[:, None]).reshape(-1, 3)), axis=1)
    n = len(s)
    image = np.column_stack([(periods[:, None] + home[found.unit][None]).reshape(-1, 3),
                             np.tile(np.arange(n), len(periods))])
    return image, r


def _part(frame: ase.Atoms, part: Cluster, worst: int) -> ase.Atoms:
    """Some atoms of a frame at given positions; the first of them that is the worst atom is marked."""
    atoms = unlabelled(frame)
    del atoms.arrays["positions"]
    atoms.arrays = {name: values[part.rows] for name, values in atoms.arrays.items() if name != "id"}
    atoms.arrays["positions"] = np.array(part.x, float)
    mark = np.zeros(len(part.rows), np.int64)
    mark[np.flatnonzero(part.rows == worst)[0]] = 1
    atoms.arrays |= {WORST: mark, "frame_atom": np.array(part.rows, np.int64)}
    if part.radius is not None:
        atoms.info[RADIUS] = round(part.radius, 4)
    return atoms


def _boxed(atoms: ase.Atoms) -> ase.Atoms:
    """Open axes with a vacuum on each side of the atoms, which are in the middle."""
    given = np.where(atoms.pbc[:, None], np.array(atoms.cell), 0.0)
    h = complete_cell(given)
    along = np.linalg.solve(h.T, atoms.positions.T).T
    low, high = along.min(axis=0), along.max(axis=0)
    width = np.where(atoms.pbc, 1.0, high - low + 2 * VACUUM)
    atoms.set_cell(h * width[:, None])
    atoms.positions += np.where(atoms.pbc, 0.0, VACUUM - low) @ h
    return atoms


def _accepted(atoms: ase.Atoms, axes: tuple[int, ...]) -> ase.Atoms:
    """The atoms with open axes as periodic ones with a vacuum, where the engine needs that."""
    if int(atoms.pbc.sum()) in axes or 3 not in axes:
        return atoms
    atoms = _boxed(atoms)
    atoms.pbc = True
    return atoms
