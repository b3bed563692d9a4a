"""The configuration file rxff.bin of RXMD, written and read with any number of ranks.

Little endian, no record marks: int32 nprocs, vprocs[3], natoms[nprocs], current_step; float64 a b c α β γ; then for
each rank ix + vx (iy + vy iz) and each of its atoms ten float64: position (fractional in the whole cell, minus the
origin of the rank), velocity (Å per time unit of RXMD), q, atype, qsfp, qsfv; atype = type + 1e-13 gid, both counted
from 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block, exscan, replacing, write_blocks
from rxmdnn.io.structure import Start
from rxmdnn.parallel import on_root, send_rows, together
from rxmdnn.units import RXMD_TIME

ROW = 10


def write_rxff(comm: MPI.Comm, path: str | Path, atoms: Atoms, cell: Cell, step: int,
               grid: tuple[int, int, int] = (1, 1, 1)) -> None:
    """Write the owned atoms of every rank, distributed to the ranks of RXMD on `grid`; type = species + 1, gid + 1.

    The file holds lengths and angles of the cell; velocities are rotated to its standard orientation. Along an axis
    that does not repeat, atoms may lie outside the cell.
    """
    n, parts = atoms.n_owned, np.array(grid)
    standard = Cell.from_parameters(*cell.parameters)
    s = cell.fractional(atoms.x[:n])
    repeats = cell.pbc
    s[:, repeats] -= np.floor(s[:, repeats])
    s[:, repeats] = np.where(s[:, repeats] < 1.0, s[:, repeats], 0.0)
    subcell = np.clip(np.floor(s * parts).astype(np.int64), 0, parts - 1)
    rows = np.zeros((n, ROW))
    rows[:, 0:3] = s - subcell / parts
    rows[:, 3:6] = cell.fractional(atoms.v[:n]) @ standard.h * RXMD_TIME
    rows[:, 7] = atoms.species[:n] + 1 + (atoms.gid[:n] + 1) * 1e-13
    owner = subcell[:, 0] + grid[0] * (subcell[:, 1] + grid[1] * subcell[:, 2])
    # Each rank writes whole ranks of the file, in order, so that its rows are contiguous.
    n_file = int(parts.prod())
    owner, gid, rows = send_rows(comm, owner * comm.size // n_file, [owner, atoms.gid[:n], rows])
    rows = rows[np.lexsort((gid, owner))]
    counts = comm.allreduce(np.bincount(owner, minlength=n_file))
    with together(comm):
        if counts.max(initial=0) >= 2**31 or step >= 2**31:
            raise InputError(f"{path}: rxff.bin has 32-bit numbers of steps and atoms per rank; use the checkpoint")
    header = (np.array([n_file, *grid, *counts, step], "<i4").tobytes()
              + np.array(cell.parameters, "<f8").tobytes())
    offset = len(header) + 8 * ROW * exscan(comm, len(rows))
    head = np.frombuffer(header if comm.rank == 0 else b"", np.uint8)
    with replacing(comm, path) as part:
        write_blocks(comm, part, [(0, head), (offset, rows.astype("<f8"))])


def read_rxff(comm: MPI.Comm, path: str | Path, elements: tuple[str, ...]) -> Start:
    """The atoms of the file, a share on each rank. Raises InputError for a truncated or inconsistent file."""
    path = Path(path)

    def header() -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
        try:
            size = path.stat().st_size
            with open(path, "rb") as file:
                def take(kind: str, count: int) -> np.ndarray:
                    raw = file.read(np.dtype(kind).itemsize * count)
                    if len(raw) < np.dtype(kind).itemsize * count:
                        raise InputError(f"{path}: truncated inside the header; make it again")
                    return np.frombuffer(raw, kind)

                nprocs, *grid = (int(i) for i in take("<i4", 4))
                if nprocs < 1 or min(grid) < 1 or int(np.prod(grid)) != nprocs or 4 * nprocs > size:
                    raise InputError(f"{path}: not an rxff.bin: {nprocs} ranks on a grid of {grid}")
                counts, step = take("<i4", nprocs).astype(np.int64), int(take("<i4", 1)[0])
                parameters = take("<f8", 6)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        if counts.min() < 0 or not np.isfinite(parameters).all():
            raise InputError(f"{path}: not an rxff.bin: invalid header")
        wanted = 4 * (5 + nprocs) + 48 + 8 * ROW * int(counts.sum())
        if size != wanted:
            raise InputError(f"{path}: expected {wanted} bytes, found {size}: "
                             + ("truncated" if size < wanted else "too long") + "; make it again")
        return np.array(grid), counts, step, parameters

    grid, counts, step, parameters = on_root(comm, header)
    with together(comm):
        cell = Cell.from_parameters(*(float(p) for p in parameters))
    n = int(counts.sum())
    start, stop = block(n, comm.size, comm.rank)
    with together(comm):
        offset = 4 * (5 + len(counts)) + 48 + 8 * ROW * start
        try:
            rows = np.fromfile(path, "<f8", ROW * (stop - start), offset=offset).reshape(-1, ROW)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        kind = np.rint(rows[:, 7])
        wrong = np.flatnonzero(~np.isfinite(rows[:, :8]).all(axis=1) | (kind < 1) | (kind > len(elements)))
        if len(wrong):
            i = int(wrong[0])
            raise InputError(f"{path}: atom {start + i + 1}: " + (
                f"type {kind[i]:.0f}, but the model deck has {len(elements)} elements" if np.isfinite(rows[i, :8]).all()
                else "NaN or infinite coordinate or velocity"))
    owner = np.searchsorted(np.cumsum(counts), np.arange(start, stop), side="right")
    subcell = np.stack([owner % grid[0], owner // grid[0] % grid[1], owner // (grid[0] * grid[1])], axis=1)
    gid = np.rint((rows[:, 7] - kind) * 1e13).astype(np.int64) - 1
    if not _numbered(comm, gid, n):
        gid = np.arange(start, stop, dtype=np.int64)
    return Start(gid, (kind - 1).astype(np.int32), cell.cartesian(rows[:, :3] + subcell / grid), cell, n, elements,
                 v=rows[:, 3:6] / RXMD_TIME, step=step, source=str(path))


def _numbered(comm: MPI.Comm, gid: np.ndarray, n: int) -> bool:
    """True if the gids of all ranks are 0 .. n - 1, each once."""
    if comm.allreduce(bool(((gid < 0) | (gid >= n)).any()), MPI.LOR):
        return False
    (mine,) = send_rows(comm, ((gid + 1) * comm.size - 1) // max(n, 1), [gid])
    return not comm.allreduce(not np.array_equal(np.sort(mine), np.arange(*block(n, comm.size, comm.rank))), MPI.LOR)
