"""Who owns which atom, and the four verbs of communication: distribute, migrate, copy, give_back.

The cell is cut in fractional coordinates into a grid of equal parts, one a rank. Periodicity is copying: a rank
that is its own neighbor copies to itself, so that nothing else in the engine wraps an image. All traffic goes
over the six faces in three stages (x, y, z); each stage forwards what the former ones received, and repeats
(``hops``) where the halo is wider than a neighbor's part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import FIELDS, Atoms
from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.neighbors import spatial_order
from rxmdnn.parallel import send_rows

# Rounding of fractional coordinates must not lose a copy that lies exactly at the reach.
MARGIN = 1e-9


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
    """

    rows: np.ndarray
    shift: np.ndarray
    axis: int
    period: int
    send_to: int
    receive_from: int
    start: int
    stop: int
    out: np.ndarray
    back: np.ndarray


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

    Raises
    ------
    InputError
        If the grid does not fit the number of ranks.
    """

    def __init__(self, comm: MPI.Comm, backend: Backend, cell: Cell, grid: tuple[int, int, int], reach: float) -> None:
        if not any(grid):
            grid = choose_grid(comm.size, cell, reach)
        if min(grid) < 1 or int(np.prod(grid)) != comm.size:
            raise InputError(
                f"processors: a grid of {grid[0]} x {grid[1]} x {grid[2]} needs {int(np.prod(grid))} ranks, "
                f"and {comm.size} are running; change it, or write 'processors 0 0 0' to let rxmdnn choose"
            )
        self.comm, self.backend, self.reach = comm, backend, reach
        self.grid = np.array(grid)
        # RXMD's order of ranks: x runs fastest.
        r = comm.rank
        self.place = np.array([r % grid[0], r // grid[0] % grid[1], r // (grid[0] * grid[1])])
        self.lo = self.place / self.grid
        self.hi = (self.place + 1) / self.grid
        self.flows: list[list[Flow]] = []
        self._take(cell)

    def _take(self, cell: Cell) -> None:
        """The halo that the next plan needs, and the periods that the present one adds."""
        self.cell = cell
        self.halo = self.reach / cell.widths * (1 + MARGIN) + MARGIN
        self.hops = np.ceil(self.halo * self.grid).astype(int)
        self.hops[~cell.pbc] = np.minimum(self.hops, self.grid - 1)[~cell.pbc]
        for flow in (flow for hop in self.flows for flow in hop if flow.period):
            flow.shift = flow.period * cell.h[flow.axis]

    def deform(self, by: np.ndarray) -> None:
        """The cell becomes h by; fractional positions keep their owners and the plan stays valid.

        All ranks call it with the same matrix, rank 0's to the last bit. by : (3, 3) float64.
        """
        self._take(self.cell.deformed(self.comm.bcast(by)))

    def set_reach(self, reach: float) -> None:
        """Let the next plan's copies extend by another reach, Å, the same on all ranks."""
        self.reach = reach
        self._take(self.cell)

    def restore(self, cell: Cell) -> None:
        """An earlier cell again; a plan must follow. All ranks call it with the same cell."""
        self._take(cell)

    def rank_at(self, place: np.ndarray) -> np.ndarray:
        """(..., 3) places in the grid -> ranks."""
        return place[..., 0] + self.grid[0] * (place[..., 1] + self.grid[1] * place[..., 2])

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
        s = self.cell.fractional(atoms.x[: atoms.n_owned])
        turns = np.where(self.cell.pbc, np.floor(s), 0.0)
        moved = np.flatnonzero(turns.any(axis=1))
        atoms.x[moved] -= self.cell.cartesian(turns[moved])
        atoms.image[moved] += turns[moved].astype(np.int32)

    def owner_place(self, x: np.ndarray) -> np.ndarray:
        """(n, 3) wrapped positions -> (n, 3) place of the owner; a pure function of the position's bits."""
        return np.clip(np.floor(self.cell.fractional(x) * self.grid).astype(np.int64), 0, self.grid - 1)

    def distribute(self, atoms: Atoms) -> None:
        """Send owned atoms, wherever they are, to their owners (all ranks to all: for the start of a run)."""
        self.wrap(atoms)
        rank = self.rank_at(self.owner_place(atoms.x[: atoms.n_owned]))
        kind = row_type(atoms)
        (here,) = send_rows(self.comm, rank, [pack_rows(atoms, np.arange(atoms.n_owned), kind)])
        unpack_rows(atoms, here)

    def migrate(self, atoms: Atoms) -> None:
        """Drop copies and hand atoms that left this part to the neighbor across the face, in three stages.

        Rows end in spatial order (cell, then gid), a pure function of the set of atoms: a restart meets the same
        order as the run it continues.
        """
        self.wrap(atoms)
        kind = row_type(atoms)
        for axis in range(3):
            if self.grid[axis] == 1:
                continue
            n = int(self.grid[axis])
            step = (self.owner_place(atoms.x[: atoms.n_owned])[:, axis] - self.place[axis]) % n
            down = np.flatnonzero(step > n // 2) if n > 2 else np.empty(0, np.int64)
            up = np.flatnonzero((step > 0) & (step <= n // 2)) if n > 2 else np.flatnonzero(step)
            stay = pack_rows(atoms, np.flatnonzero(step == 0), kind)
            arrived = self._swap(axis, pack_rows(atoms, down, kind), pack_rows(atoms, up, kind))
            unpack_rows(atoms, np.concatenate([stay, *arrived]))
        astray = bool((self.rank_at(self.owner_place(atoms.x[: atoms.n_owned])) != self.comm.rank).any())
        if self.comm.allreduce(astray, MPI.LOR):
            # An atom crossed more than one part since the last list: thin parts or a very fast atom.
            self.distribute(atoms)
        order = spatial_order(self.backend, atoms.x[: atoms.n_owned], atoms.gid[: atoms.n_owned], self.reach)
        unpack_rows(atoms, pack_rows(atoms, order, kind))

    def _swap(self, axis: int, down: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exchange record arrays over both faces of an axis, counts first; gives (from above, from below)."""
        below, above = self.face_rank(axis, -1), self.face_rank(axis, +1)
        if below == above == self.comm.rank:
            return down, up
        counts = np.zeros(2, np.int64)
        self._wait(
            [self.comm.Irecv(counts[0:1], above, 0), self.comm.Irecv(counts[1:2], below, 1)],
            [(np.array([len(down)]), below, 0), (np.array([len(up)]), above, 1)],
        )
        from_above, from_below = np.empty(counts[0], down.dtype), np.empty(counts[1], down.dtype)
        self._wait(
            [self.comm.Irecv(as_bytes(from_above), above, 2), self.comm.Irecv(as_bytes(from_below), below, 3)],
            [(as_bytes(down), below, 2), (as_bytes(up), above, 3)],
        )
        return from_above, from_below

    def _wait(self, receives: list[MPI.Request], sends: list[tuple[np.ndarray, int, int]]) -> None:
        MPI.Request.Waitall(receives + [self.comm.Isend(*send) for send in sends])

    # ------------------------------------------------------------------ halo
    def plan(self, atoms: Atoms) -> None:
        """Choose what is copied where, and append the copies (gid, species, x) to the rows of ``atoms``."""
        self.flows = []
        kind = np.dtype([(a.name, a.dtype, a.row) for a in FIELDS if a.copied and a.name != "f"])
        here = np.empty(atoms.n_owned, kind)
        for name in kind.names or ():
            here[name] = getattr(atoms, name)[: atoms.n_owned]
        parts, n_all = [here], atoms.n_owned
        for axis in range(3):
            # Rows that may travel: everything present for the first hop, then what just arrived by the same way.
            present = np.concatenate(parts)
            parts = [present]
            travel = [(present, 0), (present, 0)]
            for _ in range(self.hops[axis]):
                hop, out = [], []
                for (candidates, offset), step in zip(travel, (-1, +1), strict=True):
                    to = self.face_rank(axis, step)
                    s = self.cell.fractional(candidates["x"])[:, axis]
                    near = s < self.lo[axis] + self.halo[axis] if step < 0 else s >= self.hi[axis] - self.halo[axis]
                    rows = np.flatnonzero(near) if to != MPI.PROC_NULL else np.empty(0, np.int64)
                    leaves = self.place[axis] == (0 if step < 0 else self.grid[axis] - 1)
                    period = -step if leaves else 0
                    shift = period * self.cell.h[axis] if leaves else np.zeros(3)
                    sent = candidates[rows]
                    sent["x"] += shift
                    out.append(sent)
                    hop.append(Flow(rows + offset, shift, axis, period, to, self.face_rank(axis, -step), 0, 0,
                                    np.empty((len(rows), 3)), np.empty((len(rows), 3))))
                arrived = self._swap(axis, *out)
                travel = []
                for flow, come in zip(hop, arrived, strict=True):
                    flow.start, flow.stop = n_all, n_all + len(come)
                    travel.append((come, n_all))
                    parts.append(come)
                    n_all += len(come)
                self.flows.append(hop)
        everything = np.concatenate(parts)
        for name in kind.names or ():
            setattr(atoms, name, np.ascontiguousarray(everything[name]))
        atoms.f = np.zeros((n_all, 3))

    def copy(self, x: np.ndarray) -> None:
        """Refresh the copies' positions along the plan, in place. x : (n_all, 3) float64, Å."""
        for hop in self.flows:
            for flow in hop:
                self.backend.pack(x, flow.rows, flow.shift, flow.out)
            self._exchange(hop, [x[flow.start : flow.stop] for flow in hop], [flow.out for flow in hop], forward=True)

    def give_back(self, f: np.ndarray) -> None:
        """Add the copies' rows to their owners' rows, in place: the adjoint of ``copy``. f : (n_all, 3) float64."""
        for hop in reversed(self.flows):
            self._exchange(hop, [flow.back for flow in hop], [f[flow.start : flow.stop] for flow in hop], forward=False)
            for flow in hop:
                self.backend.unpack_add(flow.back, flow.rows, f)

    def _exchange(self, hop: list[Flow], into: list[np.ndarray], out: list[np.ndarray], forward: bool) -> None:
        if hop[0].send_to == hop[0].receive_from == self.comm.rank:
            for target, source in zip(into, out, strict=True):
                target[:] = source
            return
        ends = [(flow.send_to, flow.receive_from) if forward else (flow.receive_from, flow.send_to) for flow in hop]
        self._wait(
            [self.comm.Irecv(rows, ends[way][1], way) for way, rows in enumerate(into)],
            [(rows, ends[way][0], way) for way, rows in enumerate(out)],
        )


def row_type(atoms: Atoms) -> np.dtype:
    """One atom as a record: what a migrating atom takes along."""
    rows = [(a.name, a.dtype, a.row) for a in FIELDS if a.migrates]
    return np.dtype(rows + [(name, array.dtype, array.shape[1:]) for name, array in atoms.extra.items()])


def pack_rows(atoms: Atoms, rows: np.ndarray, kind: np.dtype) -> np.ndarray:
    """(k,) records of the given owned rows."""
    packed = np.empty(len(rows), kind)
    for name in kind.names or ():
        packed[name] = (atoms.extra[name] if name in atoms.extra else getattr(atoms, name))[rows]
    return packed


def unpack_rows(atoms: Atoms, packed: np.ndarray) -> None:
    """Make the records the owned atoms, with no copies."""
    for name in packed.dtype.names or ():
        array = np.ascontiguousarray(packed[name])
        if name in atoms.extra:
            atoms.extra[name] = array
        else:
            setattr(atoms, name, array)
    atoms.n_owned = len(packed)


def as_bytes(records: np.ndarray) -> np.ndarray:
    return records.view(np.uint8) if len(records) else np.empty(0, np.uint8)


