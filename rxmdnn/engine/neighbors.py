"""Positions -> linked cells -> edges, with a skin.

Periodicity is copying: every function but ``pairs`` sees explicit copies only and never wraps an image, so cells are
Cartesian boxes along x, y, z whatever the shape of the periodic cell. Slabs without atoms are left out of the grid and
thinly filled ones are merged, so its size follows the number of atoms, not the empty space between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.atoms import Edges
from rxmdnn.backend import Backend
from rxmdnn.cell import Cell, transform
from rxmdnn.errors import InputError
from rxmdnn.kernels import n_chunks

GROW = 1.2
MARGIN = 1e-9  # relative: cells are this much wider than the reach, for the rounding of slab numbers
MAX_SLABS = 1 << 20  # along one axis; wider slabs beyond
SORT_CHUNKS = 8  # of a counting sort, at most
FINE = (1, 1, 2)  # cells in one reach along x, y, z


class _Buffers:
    """Arrays kept between builds, because fresh pages cost more than what is written to them."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._flat: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """A view of the wanted shape on the array called ``name``, contents undefined."""
        n = prod(shape)
        if name not in self._flat or len(self._flat[name]) < n or self._flat[name].dtype != dtype:
            self._flat[name] = self._xp.empty(int(n * GROW) + 1, dtype)
        return self._flat[name][:n].reshape(shape)


class _Grid:
    """Atoms sorted into cells; the atoms within ``width`` of one in cell c are in the cells c + runs.

    Attributes
    ----------
    cell  (n,)           int32  cell of each row
    first (n_cells + 1,) int64  order[first[c]:first[c + 1]] are the rows in cell c, ascending
    order (n,)     int32
    runs  (n_runs, 2)    int64  first and last cell of each run, relative to the cell of the center
    """

    def __init__(self, backend: Backend, x: np.ndarray, width: float, fine: tuple[int, int, int],
                 buffers: _Buffers) -> None:
        n = len(x)
        lows, highs = (buffers.take(name, (n_chunks(n), 3), np.float64) for name in ("low", "high"))
        backend.extent(x, lows, highs)
        low, high = backend.to_host(lows), backend.to_host(highs)
        origin = low.min(axis=0) if n else np.zeros(3)
        span = (high.max(axis=0) if n else np.zeros(3)) - origin
        if not np.isfinite(span).all():
            x = backend.to_host(x)
            bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
            raise InputError(f"positions: NaN or infinite coordinates of {len(bad)} atom(s), the first in "
                             f"row {bad[0]}: {x[bad[0]]}; look for a time step too long or a broken file")
        size = width * (1 + MARGIN) + 8 * np.finfo(float).eps * float(max(abs(low).max(), abs(high).max()) if n else 0)
        cut = np.maximum(size / np.array(fine), span / (MAX_SLABS - 1))
        counts = (span / cut).astype(np.int64) + 2
        marks = buffers.take("occupied", (3, int(counts.max())), np.uint8)
        marks.fill(0)
        backend.mark_slabs(x, origin, 1.0 / cut, marks)
        occupied = backend.to_host(marks)
        number = np.cumsum(occupied, axis=1, dtype=np.int32) - occupied
        used = number[:, -1] + occupied[:, -1]
        merge = np.ones(3, np.int64)
        rim = np.array(fine)
        while (shape := -(-used // merge) + 2 * rim).prod() > 4 * n + 64 and (used > merge).any():
            # Beyond one slab in each reach the stencil still covers the neighbors, with room to spare.
            a = int(np.argmax(-(-used // merge)))
            merge[a] *= 2
            rim[a] = -(-fine[a] // merge[a])
        slab = (number // merge[:, None].astype(np.int32) + rim[:, None].astype(np.int32)).astype(np.int32)
        self.shape = shape.astype(np.int64)
        self.cell = buffers.take("cell", (n,), np.int32)
        self.order = buffers.take("order", (n,), np.int32)
        backend.bin_atoms(x, origin, 1.0 / cut, backend.from_host(slab), self.shape, self.cell)
        n_cells = int(self.shape.prod())
        work = buffers.take("cell_work", (_sort_chunks(n), n_cells), np.int64)
        self.first = buffers.take("cell_first", (n_cells + 1,), np.int64)
        backend.sort_by_key(self.cell, work, self.first, self.order)
        dx, dy = (np.arange(-rim[a], rim[a] + 1) for a in (0, 1))
        center = ((dx[:, None] * self.shape[1] + dy) * self.shape[2]).ravel()
        self.runs = np.stack([center - rim[2], center + rim[2]], axis=1)


def _sort_chunks(n: int) -> int:
    return max(1, min(SORT_CHUNKS, n_chunks(n)))


def spatial_order(backend: Backend, x: np.ndarray, gid: np.ndarray, width: float) -> np.ndarray:
    """Permutation that sorts atoms by cell of the given width along a space-filling curve, and by gid inside a cell.

    Rows that are near in memory are then near in space, which is worth a factor in everything that runs over edges.
    It is a pure function of the set of (x, gid): the rows' present order has no influence.

    Parameters
    ----------
    x   : (n, 3) float64, Å
    gid : (n,) int64, all different
    width : float, Å

    Returns
    -------
    rows : (n,) int32: the sorted atoms are x[rows], gid[rows].
    """
    buffers = _Buffers(backend.xp)
    grid = _Grid(backend, x, width, (1, 1, 1), buffers)
    n_cells = len(grid.first) - 1
    rank = backend.xp.empty(n_cells, np.int32)
    rank[_curve(backend, grid.shape)] = backend.xp.arange(n_cells, dtype=np.int32)
    backend.sort_by_key(rank[grid.cell], buffers.take("cell_work", (_sort_chunks(len(x)), n_cells), np.int64),
                        grid.first, grid.order)
    backend.sort_segments(gid, grid.first, grid.order)
    return grid.order


def _curve(backend: Backend, shape: np.ndarray) -> Array:
    """Cells of a grid along Morton's curve (bits of the three coordinates interleaved)."""
    xp = backend.xp
    code = xp.zeros(tuple(int(n) for n in shape), np.int64)
    for a in range(3):
        k = np.arange(shape[a])
        spread = sum(((k >> b) & 1) << (3 * b + 2 - a) for b in range(int(shape[a]).bit_length()))
        code += backend.table(np.asarray(spread).reshape([-1 if d == a else 1 for d in range(3)]))
    return xp.argsort(code.reshape(-1), kind="stable")


class NeighborList:
    """Full list of directed pairs (center owned, neighbor any row) within cutoff + skin, and the edges inside it.

    Arrays that methods return are views of buffers which the next call of the same method overwrites.

    Parameters
    ----------
    backend : Backend
    cutoff : (n_species, n_species) float64, Å
        Of the ordered pair (center, neighbor); an edge has r < cutoff strictly. Zero or less: no edges.
    skin : float, Å
        The list is good until an atom has moved skin/2 since ``build``.

    Attributes
    ----------
    reach : float, Å
        Largest cutoff plus skin: how far copies must extend beyond the owned atoms.
    every_pair : bool
        Has each pair of elements a cutoff?

    Raises
    ------
    InputError
        By ``build``, if a coordinate is not finite.
    """

    def __init__(self, backend: Backend, cutoff: np.ndarray, skin: float) -> None:
        cutoff = np.atleast_2d(np.asarray(cutoff, np.float64))
        if not (np.isfinite(cutoff).all() and cutoff.max() > 0 and skin >= 0):
            raise InputError(f"cutoff: a positive cutoff and a skin of at least zero are needed, not {cutoff.max()} "
                             f"and {skin}")
        self.backend, self._longest = backend, float(cutoff.max())
        self.set_skin(skin)
        self._cutoff_sq = np.where(cutoff > 0, cutoff, 0.0) ** 2
        self.every_pair = bool((cutoff > 0).all())
        self._buffers = _Buffers(backend.xp)
        self.n_owned = 0

    @property
    def n_pairs(self) -> int:
        """Pairs of the list, within reach, since ``build``."""
        return len(self._neighbor)

    def set_skin(self, skin: float) -> None:
        """Set the skin, Å, of the next ``build``."""
        self.skin = float(skin)
        self.reach = self._longest + self.skin

    def build(self, x: np.ndarray, n_owned: int) -> None:
        """Make the list of all rows within reach of the owned rows.

        Parameters
        ----------
        x : (n_all, 3) float64, Å
        n_owned : int
        """
        take = self._buffers.take
        self._search(x, n_owned)
        self._reverse_first, self._reverse = (take(name, (0,), np.int64) for name in ("reverse_first", "reverse"))
        self._x_ref = take("x_ref", (n_owned, 3), np.float64)
        self._x_ref[:] = x[:n_owned]

    def _search(self, x: np.ndarray, n_owned: int) -> None:
        """The list itself: neighbor[first[i]:first[i + 1]] are the rows within reach of owned row i."""
        take, backend = self._buffers.take, self.backend
        grid = _Grid(backend, x, self.reach, FINE, self._buffers)
        x_sorted = take("x_sorted", (3, len(x)), np.float64)
        backend.split_positions(x, grid.order, x_sorted)
        near = x_sorted, grid.order, grid.cell, grid.first, grid.runs, n_owned, self.reach**2
        count = take("count", (n_owned,), np.int64)
        backend.count_neighbors(*near, count)
        self._first = self._starts(take("skin_first", (n_owned + 1,), np.int64), count)
        self._neighbor = take("skin_neighbor", (int(self._first[-1]),), np.int32)
        backend.fill_neighbors(*near, self._first, self._neighbor)
        self.n_owned = n_owned

    def displacement_sq(self, *positions: np.ndarray, strain: np.ndarray | None = None) -> float:
        """Largest squared displacement of an owned atom since ``build``, Å^2, over one or several arrays of positions.

        positions : (n_owned or more, 3) float64, Å
        strain : (3, 3) float64, optional: count from where it took the atoms, x_ref strain.
        """
        x_ref = self._x_ref if strain is None else transform(self._x_ref, strain)
        partial = self._buffers.take("displacement", (len(positions), n_chunks(self.n_owned)), np.float64)
        for k, x in enumerate(positions):
            self.backend.displacement(x, x_ref, partial[k])
        return float(self.backend.to_host(partial).max(initial=0.0))

    def is_stale(self, *positions: np.ndarray, strain: np.ndarray | None = None, margin: float = 0.0) -> bool:
        """Could a pair be inside the cutoff that ``build`` did not find (or has an atom lost its coordinates)?

        In a cell that keeps its shape: has an owned atom moved more than skin/2?

        positions : as of displacement_sq
        strain : (3, 3) float64, optional
            S, if the cell's vectors were h then and are h S now. With u the largest displacement besides, a pair now
            at r was at r_0 = (r - u_j + u_i) S^-1: the largest possible |r_0|, (cutoff + 2 u) |S^-1|, must be in reach.
        margin : float, Å, optional
            Every atom may be so far from its x.
        """
        if strain is None and margin == 0.0:
            return not 4 * self.displacement_sq(*positions) <= self.skin**2
        moved = 2 * (float(np.sqrt(self.displacement_sq(*positions, strain=strain))) + margin)
        if strain is None:
            return not moved <= self.skin
        return not (self.reach - self.skin + moved) * np.linalg.norm(np.linalg.inv(strain), 2) <= self.reach

    def edges(self, x: np.ndarray, species: np.ndarray, with_skin: bool = False) -> Edges:
        """The pairs of the list that are inside the cutoff of their species at the present x. Call ``build`` first.

        Parameters
        ----------
        x : (n_all, 3) float64, Å
        species : (n_all,) int32
        with_skin : all pairs of the list, which a potential must take for nothing beyond its cutoff: their number stays
            the same as long as the list, and no device is asked for it
        """
        if with_skin:
            slot, _ = self._count(x, species, np.full_like(self._cutoff_sq, np.inf), 0)
            return self._fill(x, self._first, slot, self.n_pairs, 0, True)
        slot, count = self._count(x, species, self._cutoff_sq, 0)
        first = self._starts(self._buffers.take("first", (self.n_owned + 1,), np.int64), count)
        return self._fill(x, first, slot, int(first[-1]), 0)

    def edges_at(self, positions: Sequence[np.ndarray], species: np.ndarray) -> list[Edges]:
        """``edges`` at each of several arrays of positions, to be used together; one query of a device."""
        counted = [self._count(x, species, self._cutoff_sq, k) for k, x in enumerate(positions)]
        firsts = [self._starts(self._buffers.take(f"first {k}", (self.n_owned + 1,), np.int64), count)
                  for k, (_, count) in enumerate(counted)]
        ends = self.backend.to_host(self.backend.xp.concatenate([first[-1:] for first in firsts]))
        return [self._fill(x, first, slot, int(end), k)
                for k, (x, first, (slot, _), end) in enumerate(zip(positions, firsts, counted, ends, strict=True))]

    # ------------------------------------------------------------------ edges of some rows after the other
    def edges_of_rows(self, x: Array, species: Array, start: int, stop: int, at: int) -> Edges:
        """The edges of owned rows start:stop alone, from edge number ``at`` on; the rows before have none.

        Called for one range of rows after the other, it fills what ``edges`` fills. Arrays on the host.
        """
        take, n = self._buffers.take, self.n_pairs
        slot, count = take("slot 0", (n,), np.int64), take("count of rows", (stop,), np.int64)
        # rows before have an empty range, so that the kernels pass over them
        listed = np.maximum(self._first[: stop + 1], self._first[start])
        self.backend.count_edges(x, species, self._cutoff_sq, listed, self._neighbor, slot, count)
        first = take(f"first from {start}", (stop + 1,), np.int64)
        first[: start + 1] = at
        np.cumsum(count[start:], out=first[start + 1 :])
        first[start + 1 :] += at
        edges = self._edges_in_parts(n, first, slot)
        self.backend.fill_edges(x, listed, self._neighbor, first, slot, edges.center, edges.neighbor, edges.r_ij)
        return edges

    def edges_of_all(self, firsts: Sequence[Array], rows: Sequence[tuple[int, int]]) -> Edges:
        """All edges, after ``edges_of_rows`` of all rows. firsts : ``first`` of each part, of ``rows``"""
        first = self._buffers.take("first", (self.n_owned + 1,), np.int64)
        first[:1] = 0
        for part, (start, stop) in zip(firsts, rows, strict=True):
            first[start : stop + 1] = part[start : stop + 1]
        return self._edges_in_parts(int(first[-1]), first, self._buffers.take("slot 0", (self.n_pairs,), np.int64))

    def gradient_of_parts(self) -> Array:
        """(n_pairs, 3) float64, memory for the gradient of the edges of all rows."""
        return self._buffers.take("scratch of parts", (self.n_pairs, 3), np.float64)

    def _edges_in_parts(self, m: int, first: Array, slot: Array) -> Edges:
        """The first m of as many edges as the list has pairs, in memory of their own."""
        take, n = self._buffers.take, self.n_pairs
        return Edges(take("center of parts", (n,), np.int32)[:m], take("neighbor of parts", (n,), np.int32)[:m],
                     take("r_ij of parts", (n, 3), np.float64)[:m], first, slot)

    def assemble_part(self, edges: Edges, g_ij: Array, f: Array) -> None:
        """As ``assemble``, of ``edges_of_rows``: whole for the rows that no other rows see."""
        if self.backend.reads_reverse() and edges.index_in_list is not None:
            edges.index_in_list[self._first[len(edges.first) - 1] :] = -1  # those of the step before
        self.assemble(edges, g_ij, f)

    def _count(self, x: Array, species: Array, limit: np.ndarray, k: int) -> tuple[Array, Array]:
        """Slots of the pairs within the root of ``limit``, in the k-th array for them; edges of each atom."""
        count, slot = (self._buffers.take(f"{name} {k}", (size,), np.int64)
                       for name, size in (("count", self.n_owned), ("slot", self.n_pairs)))
        self.backend.count_edges(x, species, limit, self._first, self._neighbor, slot, count)
        return slot, count

    def _fill(self, x: Array, first: Array, slot: Array, m: int, k: int, with_skin: bool = False) -> Edges:
        """The edges with slots, in the k-th arrays for them."""
        take = self._buffers.take
        edges = Edges(take(f"center {k}", (m,), np.int32), take(f"neighbor {k}", (m,), np.int32),
                      take(f"r_ij {k}", (m, 3), np.float64), first, slot, with_skin,
                      take(f"scratch {k}", (m, 3), np.float64))
        self.backend.fill_edges(x, self._first, self._neighbor, first, slot, edges.center, edges.neighbor, edges.r_ij)
        return edges

    def assemble(self, edges: Edges, g_ij: np.ndarray, f: np.ndarray) -> None:
        """f[center] += g_ij, f[neighbor] -= g_ij, in a fixed order.

        Parameters
        ----------
        edges : Edges, of the last call of ``edges``, or a whole copy of an earlier one since ``build``
        g_ij : (m, 3) float64, eV/Å: ∂E/∂r_ij
        f : (n_all, 3) float64, eV/Å, OUT (overwritten): a copy's row is what must be given back
        """
        if self.backend.reads_reverse() and not len(self._reverse_first):
            self._index_reverse(len(f))
        self.backend.assemble(g_ij, edges.first, edges.neighbor, self._reverse_first, self._reverse,
                              edges.index_in_list, f)

    def _index_reverse(self, n_all: int) -> None:
        """The pairs of the list by the row that they point to: where ``assemble`` finds what comes in."""
        take = self._buffers.take
        self._reverse_first = take("reverse_first", (n_all + 1,), np.int64)
        self._reverse = take("reverse", (self.n_pairs,), np.int64)
        self.backend.sort_by_key(self._neighbor, take("reverse_work", (_sort_chunks(n_all), n_all), np.int64),
                                 self._reverse_first, self._reverse)

    def virial(self, edges: Edges, g_ij: np.ndarray) -> np.ndarray:
        """(3, 3) float64, eV: W = -Σ r_ij ⊗ g_ij, the same for any number of threads."""
        partial = self._buffers.take("virial", (n_chunks(len(g_ij)), 3, 3), np.float64)
        self.backend.virial(edges.r_ij, g_ij, partial)
        return self.backend.to_host(partial).sum(axis=0)

    def _starts(self, first: Array, count: Array) -> Array:
        """Counts of rows -> first[i]:first[i + 1], in place."""
        first[:1] = 0
        self.backend.xp.cumsum(count, out=first[1:])
        return first


def pairs(
    backend: Backend, x: np.ndarray, cell: Cell | None, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Full list of directed pairs of a periodic system, r < cutoff strictly; an atom's own images are its neighbors.

    Atoms may lie outside the cell, and the cutoff may exceed it.

    Parameters
    ----------
    x : (n, 3) float64, Å
    cell : Cell, or None for a non-periodic system
    cutoff : float, Å

    Returns
    -------
    i, j : (m,) int32, i ascending
    S : (m, 3) int32: r_ij = x[j] + S @ cell.h - x[i]

    Raises
    ------
    InputError
        If a coordinate or the cutoff is not finite.
    """
    x = np.array(x, np.float64).reshape(-1, 3)
    n = len(x)
    home = np.zeros((n, 3), np.int32)
    row, image = np.arange(n, dtype=np.int32), np.zeros((n, 3), np.int32)
    everything = x
    if cell is not None and cell.pbc.any() and n and np.isfinite(x).all():
        turns = np.where(cell.pbc, np.floor(cell.fractional(x)), 0.0)
        home = turns.astype(np.int32)
        moved = turns.any(axis=1)
        x[moved] -= cell.cartesian(turns[moved])
        row, image = periodic_copies(cell, cell.fractional(x), cutoff)
        everything = x[row]
        everything[n:] += cell.cartesian(image[n:].astype(np.float64))
    neighbors = NeighborList(backend, np.array([[cutoff]]), 0.0)
    neighbors._search(backend.from_host(everything), n)
    m, xp = len(neighbors._neighbor), backend.xp
    i, j, S = xp.empty(m, np.int32), xp.empty(m, np.int32), xp.empty((m, 3), np.int32)
    backend.expand_pairs(neighbors._first, neighbors._neighbor, *map(backend.from_host, (row, image, home)), i, j, S)
    return backend.to_host(i), backend.to_host(j), backend.to_host(S)


def periodic_copies(cell: Cell, s: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and periods of all atoms within ``cutoff`` of the region that the atoms fill; the atoms themselves first.

    s : (n, 3) fractional. Returns row (n_all,) int32, image (n_all, 3) int32.
    """
    row, image = np.arange(len(s), dtype=np.int32), np.zeros((len(s), 3), np.int32)
    for a in np.flatnonzero(cell.pbc):
        halo = cutoff / cell.widths[a] * (1 + MARGIN) + 1e-12
        low, high = s[:, a].min() - halo, s[:, a].max() + halo
        here = s[row, a]
        parts = [(row, image)]
        for k in range(int(np.ceil(low - here.max())), int(np.floor(high - here.min())) + 1):
            if k:
                chosen = np.flatnonzero(here <= high - k if k > 0 else here >= low - k)
                shifted = image[chosen]
                shifted[:, a] = k
                parts.append((row[chosen], shifted))
        row = np.concatenate([part[0] for part in parts])
        image = np.concatenate([part[1] for part in parts])
    return row, image
