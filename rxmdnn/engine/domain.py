"""Who owns which atom, and the four verbs of communication: distribute, migrate, copy, give_back.

The cell is cut in fractional coordinates into a grid of equal parts, one a rank. Periodicity is copying: a rank
that is its own neighbor copies to itself, so that nothing else in the engine wraps an image. All traffic goes
over the six faces in three stages (x, y, z); each stage forwards what the former ones received, and repeats
(``hops``) where the halo is wider than a neighbor's part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.arrays import Array
from rxmdnn.atoms import FIELDS, Atoms
from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.engine.balance import Balance
from rxmdnn.engine.neighbors import spatial_order
from rxmdnn.errors import InputError
from rxmdnn.parallel import send_rows
from rxmdnn.traffic import traffic_of

# Rounding of fractional coordinates must not lose a copy that lies exactly at the reach.
MARGIN = 1e-9
LEAST_INNER, LEAST_SHARE = 128, 0.25  # atoms far from other ranks that are evaluated while messages travel
ROW_BYTES = 64  # of an atom that is copied

Rows = dict[str, Array]  # the same rows of several arrays, by name, wherever the backend keeps them


def choose_grid(n_ranks: int, cell: Cell, reach: float) -> tuple[int, int, int]:
    """The rank grid whose parts have the smallest halo, Π(w + 2 reach) - Π w."""
    best = None
    for gx in (g for g in range(1, n_ranks + 1) if n_ranks % g == 0):
        for gy in (g for g in range(1, n_ranks // gx + 1) if (n_ranks // gx) % g == 0):
            grid = (gx, gy, n_ranks // gx // gy)
            part = cell.widths / grid
            halo = float(np.prod(part + 2 * reach) - np.prod(part))
            if best is None or halo < best[0] * (1 - 1e-12):
                best = (halo, grid)
    assert best is not None
    return best[1]


@dataclass
class Flow:
    """One message of the halo plan: rows sent to one neighbor, and where the rows from the opposite one land.

    rows  (k,)  int64    rows of this rank that are sent
    shift (3,)  float64  added to their positions, Å: the period crossed on the way
    axis, period         that period is so many times this cell vector: -1, 0 or 1
    start, stop          where rows land
    out, back            buffers of the messages; none between a rank and itself
    """

    rows: Array
    shift: np.ndarray
    axis: int
    period: int
    send_to: int
    receive_from: int
    start: int = 0
    stop: int = 0
    out: Array = None
    back: Array = None


class Domain:
    """The part of the cell that this rank owns.

    Parameters
    ----------
    comm : MPI communicator
    backend : Backend
    cell : Cell
    grid : three ints whose product is the number of ranks; zeros choose
    reach : float, Å
        Cutoff plus skin: how far copies extend beyond the owned part.
    balance : let ``migrate`` choose parts of unequal width and equal load

    Attributes
    ----------
    load : (n_owned,) int64, optional
        What the owned atoms cost, in any unit, for the next ``migrate``; None: all the same.
    cuts : of each axis (grid + 1,) float64, fractions of the cell where parts end
    parts : two ints
        Owned rows between the two may see copies of other ranks' atoms, the others do not. Since ``migrate``.

    Raises
    ------
    InputError
        If the grid does not fit the number of ranks, or parts that are balanced are thinner than the reach.
    """

    def __init__(self, comm: MPI.Comm, backend: Backend, cell: Cell, grid: tuple[int, int, int], reach: float,
                 balance: bool = False) -> None:
        if not any(grid):
            grid = choose_grid(comm.size, cell, reach)
        if min(grid) < 1 or int(np.prod(grid)) != comm.size:
            raise InputError(
                f"processors: a grid of {grid[0]} x {grid[1]} x {grid[2]} needs {int(np.prod(grid))} ranks, "
                f"and {comm.size} are running; change it, or write 'processors 0 0 0' to let rxmdnn choose"
            )
        self.comm, self.backend, self.reach = comm, backend, reach
        self.traffic = traffic_of(comm)
        self.grid = np.array(grid)
        # RXMD's order of ranks: x runs fastest.
        r = comm.rank
        self.place = np.array([r % grid[0], r // grid[0] % grid[1], r // (grid[0] * grid[1])])
        self.balance = Balance(self.grid) if balance else None
        self.load: Array | None = None
        self._cut([np.arange(g + 1) / g for g in grid])
        if self.balance is not None:
            self.balance.check(cell, reach)
        self.flows: list[list[Flow]] = []
        self.parts = 0, 0
        self._take(cell)

    def _take(self, cell: Cell) -> None:
        """The halo that the next plan needs, and the periods that the present one adds."""
        self.cell = cell
        self.halo = self.reach / cell.widths * (1 + MARGIN) + MARGIN
        self.hops = np.ceil(self.halo * self.grid if self.balance is None else self.halo / self._narrowest).astype(int)
        self.hops[~cell.pbc] = np.minimum(self.hops, self.grid - 1)[~cell.pbc]
        for flow in (flow for hop in self.flows for flow in hop if flow.period):
            flow.shift = flow.period * cell.h[flow.axis]

    def _cut(self, cuts: list[np.ndarray]) -> None:
        """Let the parts along each axis end at ``cuts``, (grid + 1,) float64 fractions of the cell."""
        self.cuts = cuts
        self.lo, self.hi = (np.array([cut[k] for cut, k in zip(cuts, self.place + up)]) for up in (0, 1))
        self._narrowest = np.array([np.diff(cut).min() for cut in cuts])

    def deform(self, by: np.ndarray) -> None:
        """The cell becomes h by; fractional positions keep their owners and the plan stays valid.

        All ranks call it with the same matrix, rank 0's to the last bit. by : (3, 3) float64.
        """
        self._take(self.cell.deformed(self.comm.bcast(by)))

    def set_reach(self, reach: float) -> None:
        """Let the next plan's copies extend by another reach, Å, the same on all ranks."""
        self.reach = reach
        self._take(self.cell)

    def set_cell(self, cell: Cell) -> None:
        """Another cell with the same periodic axes; the plan stays valid as far as the neighbor list does.

        All ranks call it with the same cell.
        """
        self._take(cell)

    def rank_at(self, place: Array) -> Array:
        """Ranks (...) at places (..., 3) of the grid."""
        gx, gy, _ = (int(g) for g in self.grid)
        return place[..., 0] + gx * (place[..., 1] + gy * place[..., 2])

    def face_rank(self, axis: int, step: int) -> int:
        """The rank across a face (step -1 or +1), PROC_NULL beyond the end of an axis that does not repeat."""
        place = self.place.copy()
        place[axis] += step
        if not 0 <= place[axis] < self.grid[axis]:
            if not self.cell.pbc[axis]:
                return MPI.PROC_NULL
            place[axis] %= self.grid[axis]
        return int(self.rank_at(place))

    # ------------------------------------------------------------------ ownership
    def wrap(self, atoms: Atoms) -> None:
        """Bring owned atoms into the cell along its periodic axes, counting the periods in ``image``."""
        xp, table = self.backend.xp, self.backend.table
        s = self.cell.fractional(atoms.x[: atoms.n_owned])
        turns = xp.where(table(self.cell.pbc), xp.floor(s), 0.0)
        moved = xp.flatnonzero(turns.any(axis=1))
        atoms.x[moved] -= self.cell.cartesian(turns[moved])
        atoms.image[moved] += turns[moved].astype(np.int32)

    def owner_place(self, x: Array) -> Array:
        """(n, 3) int64 grid places of the owners of wrapped positions (n, 3), Å: a pure function of their bits."""
        xp, grid = self.backend.xp, self.backend.table(self.grid)
        if self.balance is not None:
            s = self.cell.fractional(x)
            return xp.stack([xp.searchsorted(self.backend.table(cut[1:-1]), s[:, axis].copy(), side="right")
                             for axis, cut in enumerate(self.cuts)], axis=1)
        return xp.clip(xp.floor(self.cell.fractional(x) * grid).astype(np.int64), 0, grid - 1)

    def owner(self, atoms: Atoms) -> Array:
        """(n_owned,) ranks of the owners of wrapped atoms."""
        return self.rank_at(self.owner_place(atoms.x[: atoms.n_owned]))

    def distribute(self, atoms: Atoms) -> None:
        """Send owned atoms, wherever they are, to their owners (all ranks to all: for the start of a run)."""
        self.wrap(atoms)
        to_host, from_host = self.backend.to_host, self.backend.from_host
        rows = {name: to_host(array) for name, array in owned_rows(atoms).items()}
        arrived = send_rows(self.comm, to_host(self.owner(atoms)), list(rows.values()))
        replace_owned(atoms, {name: from_host(array) for name, array in zip(rows, arrived, strict=True)})

    def migrate(self, atoms: Atoms) -> None:
        """Drop copies and hand atoms that left this part to the neighbor across the face, in three stages.

        Rows end in spatial order (cell, then gid), a pure function of the set of atoms: a restart meets the same
        order as the run it continues.
        """
        self.wrap(atoms)
        xp = self.backend.xp
        if self.balance is not None:
            s = self.backend.to_host(self.cell.fractional(atoms.x[: atoms.n_owned]))
            load = None if self.load is None else self.backend.to_host(self.load)
            self._cut(self.balance.cuts(self.comm, s, load, self.halo))
            self._take(self.cell)
        for axis in range(3):
            if self.grid[axis] == 1:
                continue
            n = int(self.grid[axis])
            step = self.owner_place(atoms.x[: atoms.n_owned])[:, axis] - int(self.place[axis])
            if self.cell.pbc[axis]:  # the shorter way around
                step = (step + (n - 1) // 2) % n - (n - 1) // 2
            rows = owned_rows(atoms)
            down, up = take(rows, xp.flatnonzero(step < 0)), take(rows, xp.flatnonzero(step > 0))
            replace_owned(atoms, join(xp, [take(rows, xp.flatnonzero(step == 0)), *self._swap(axis, down, up)]))
        misplaced = bool((self.owner(atoms) != self.comm.rank).any())
        if self.comm.allreduce(misplaced, MPI.LOR):
            # An atom crossed more than one part since the last list: thin parts or a very fast atom.
            self.distribute(atoms)
        order = spatial_order(self.backend, atoms.x[: atoms.n_owned], atoms.gid[: atoms.n_owned], self.reach)
        replace_owned(atoms, take(owned_rows(atoms), self._in_parts(atoms, order)))

    def _in_parts(self, atoms: Atoms, order: Array) -> Array:
        """``order`` with the atoms that may see copies of other ranks in the middle; sets ``parts``."""
        outer = self._outer(atoms.x[: atoms.n_owned])
        if outer is None or not self._worth_parts(int((~outer).sum()), len(order)):
            self.parts = 0, len(order)
            return order
        rim, inner = order[outer[order]], order[~outer[order]]
        half = len(inner) // 2
        self.parts = half, half + len(rim)
        return np.concatenate([inner[:half], rim, inner[half:]])

    def _worth_parts(self, inner: int, n: int) -> bool:
        """Whether ``inner`` of n atoms are enough to be evaluated apart: a network computes whole blocks of edges."""
        return inner >= max(LEAST_INNER, LEAST_SHARE * n, 1)

    def _outer(self, x: Array) -> Array | None:
        """(n,) bool: is an atom within reach of a face to another rank? None without such a face, or on a device."""
        outer = None
        for axis in range(3):
            for step in (-1, 1):
                if self.backend.on_device or self.face_rank(axis, step) in (self.comm.rank, MPI.PROC_NULL):
                    continue
                s = self.cell.fractional(x)[:, axis]
                near = (s < self.lo[axis] + self.halo[axis] if step < 0 else s >= self.hi[axis] - self.halo[axis])
                outer = near if outer is None else outer | near
        return outer

    def _swap(self, axis: int, down: Rows, up: Rows) -> tuple[Rows, Rows]:
        """Exchange rows over both faces of an axis, counts first; gives (from above, from below)."""
        below, above = self.face_rank(axis, -1), self.face_rank(axis, +1)
        if below == above == self.comm.rank:
            return down, up
        xp = self.backend.xp
        out, counts = [as_bytes(xp, down), as_bytes(xp, up)], np.zeros(2, np.int64)
        self._wait(
            [self.comm.Irecv(counts[0:1], above, 0), self.comm.Irecv(counts[1:2], below, 1)],
            [(np.array([len(out[0])]), below, 0), (np.array([len(out[1])]), above, 1)],
        )
        into = [xp.empty((int(n), out[0].shape[1]), np.uint8) for n in counts]
        self._message(into, [above, below], out, [below, above])
        return as_rows(into[0], down), as_rows(into[1], up)

    def _message(self, into: list[Array], sources: list[int], out: list[Array], targets: list[int]) -> None:
        """Send each of ``out`` to its target and fill each of ``into`` from its source, one way after the other."""
        sent = self.backend.outgoing(out)
        come = self.backend.incoming(into)
        self._wait([self.comm.Irecv(buffer, source, way) for way, (buffer, source) in enumerate(zip(come, sources))],
                   [(buffer, target, way) for way, (buffer, target) in enumerate(zip(sent, targets))])
        self.backend.deliver(come, into)

    def _wait(self, receives: list[MPI.Request], sends: list[tuple[Array, int, int]]) -> None:
        requests = receives + [self.comm.Isend(*send) for send in sends]
        with self.traffic.waiting():
            MPI.Request.Waitall(requests)

    # ------------------------------------------------------------------ halo
    def plan(self, atoms: Atoms) -> None:
        """Choose what is copied where, and append the copies (gid, species, x) to the rows of ``atoms``.

        Raises InputError where they would fill the machine's memory.
        """
        self.flows = []
        xp, n_all = self.backend.xp, atoms.n_owned
        self._check_room(n_all)
        parts = [{a.name: getattr(atoms, a.name)[:n_all] for a in FIELDS if a.copied and a.name != "f"}]
        for axis in range(3):
            # Rows that may travel: everything present for the first hop, then what just arrived by the same way.
            present = join(xp, parts)
            parts = [present]
            travel = [(present, 0), (present, 0)]
            for _ in range(self.hops[axis]):
                hop, out = [], []
                for (candidates, offset), step in zip(travel, (-1, +1), strict=True):
                    to = self.face_rank(axis, step)
                    s = self.cell.fractional(candidates["x"])[:, axis]
                    near = s < self.lo[axis] + self.halo[axis] if step < 0 else s >= self.hi[axis] - self.halo[axis]
                    rows = xp.flatnonzero(near) if to != MPI.PROC_NULL else xp.empty(0, np.int64)
                    leaves = self.place[axis] == (0 if step < 0 else self.grid[axis] - 1)
                    period = -step if leaves else 0
                    shift = period * self.cell.h[axis] if leaves else np.zeros(3)
                    sent = take(candidates, rows)
                    sent["x"] += self.backend.table(shift)
                    out.append(sent)
                    hop.append(Flow(rows + offset, shift, axis, period, to, self.face_rank(axis, -step)))
                arrived = self._swap(axis, *out)
                travel = []
                for flow, come in zip(hop, arrived, strict=True):
                    n = len(come["gid"])
                    flow.start, flow.stop = n_all, n_all + n
                    if not self.is_at_home(hop):
                        flow.out, flow.back = xp.empty((len(flow.rows), 3)), xp.empty((len(flow.rows), 3))
                    travel.append((come, n_all))
                    parts.append(come)
                    n_all += n
                self.flows.append(hop)
        for name, array in join(xp, parts).items():
            setattr(atoms, name, array)
        atoms.f = xp.zeros((n_all, 3))

    def _check_room(self, n_owned: int) -> None:
        """Raises InputError where atoms and copies alone would fill the machine's memory: a reach out of all reason."""
        around = 1 + 2 * self.halo * self.grid
        rows = n_owned * float(np.prod(np.where(self.cell.pbc, around, np.minimum(around, self.grid))))
        if rows * ROW_BYTES > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            width = (self.cell.widths / self.grid).min()
            raise InputError(f"skin: with the cutoff it reaches {self.reach:.1f} Å, over parts of the cell {width:.1f} "
                             f"Å wide: {n_owned} atoms would have {rows:.0e} copies, more than this machine holds; "
                             "make it or the cutoff smaller")

    def copy(self, x: Array) -> None:
        """Refresh the copies' positions along the plan, in place. x : (n_all, 3) float64, Å."""
        for hop in self.flows:
            if self.is_at_home(hop):
                self.pack_home(hop, x)
                continue
            for flow in hop:
                self.backend.pack(x, flow.rows, flow.shift, flow.out)
            self._message([x[flow.start : flow.stop] for flow in hop], [flow.receive_from for flow in hop],
                          [flow.out for flow in hop], [flow.send_to for flow in hop])

    def pack_home(self, hop: list[Flow], x: Array) -> None:
        """Copy the rows of a hop between this rank and itself."""
        for flow in hop:
            self.backend.pack(x, flow.rows, flow.shift, x[flow.start : flow.stop])

    def give_back(self, f: Array) -> None:
        """Add the copies' rows to their owners' rows, in place: the adjoint of ``copy``. f : (n_all, 3) float64."""
        for hop in reversed(self.flows):
            out = [f[flow.start : flow.stop] for flow in hop]
            home = self.is_at_home(hop)
            if not home:
                self._message([flow.back for flow in hop], [flow.send_to for flow in hop], out,
                              [flow.receive_from for flow in hop])
            for flow, rows in zip(hop, out, strict=True):
                self.backend.unpack_add(rows if home else flow.back, flow.rows, f)

    def is_at_home(self, hop: list[Flow]) -> bool:
        """Does this rank send to itself? Then rows go where they belong at once."""
        return hop[0].send_to == hop[0].receive_from == self.comm.rank


def owned_rows(atoms: Atoms) -> Rows:
    """All rows that an atom takes along."""
    rows = {a.name: getattr(atoms, a.name) for a in FIELDS if a.migrates} | atoms.extra
    return {name: array[: atoms.n_owned] for name, array in rows.items()}


def replace_owned(atoms: Atoms, rows: Rows) -> None:
    """Make ``rows`` the owned rows of ``atoms``, without copies."""
    for name, array in rows.items():
        if name in atoms.extra:
            atoms.extra[name] = array
        else:
            setattr(atoms, name, array)
    atoms.n_owned = len(atoms.gid)


def take(rows: Rows, index: Array) -> Rows:
    """The rows that ``index``, (k,) int64, chooses of every array."""
    return {name: array[index] for name, array in rows.items()}


def join(xp: Any, parts: list[Rows]) -> Rows:
    """The rows of all parts, one part after the other."""
    return {name: xp.concatenate([part[name] for part in parts]) for name in parts[0]}


def as_bytes(xp: Any, rows: Rows) -> Array:
    """(n, width) uint8: one row after the other, as a message holds them."""
    return xp.concatenate([array.reshape(-1).view(np.uint8).reshape(len(array), width)
                           for array, width in zip(rows.values(), widths(rows))], axis=1)


def as_rows(message: Array, like: Rows) -> Rows:
    """What ``as_bytes`` was given, of types and shapes ``like``."""
    rows, at = {}, 0
    for (name, array), width in zip(like.items(), widths(like)):
        part = message[:, at : at + width].copy()  # also where it is one row: it must be aligned
        rows[name] = part.reshape(-1).view(array.dtype).reshape(len(message), *array.shape[1:])
        at += width
    return rows


def widths(rows: Rows) -> list[int]:
    """Bytes of a row of each array."""
    return [int(np.prod(array.shape[1:], dtype=int)) * array.dtype.itemsize for array in rows.values()]


