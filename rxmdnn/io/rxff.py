"""The configuration file rxff.bin of RXMD, written and read with any number of ranks.

Little endian, no record marks: int32 nprocs, vprocs[3], natoms[nprocs], current_step; float64 a b c α β γ; then for
each rank ix + vx (iy + vy iz) and each of its atoms ten float64: position (fractional in the whole cell, minus the
origin of the rank), velocity (Å per time unit of RXMD), q, atype, qsfp, qsfv; atype = type + 1e-13 gid, both counted
from 1. What it cannot hold (names, masses, periodicity) is in a side file, <name>.json; without one, types are numbered
in the order of the model deck and the cell is periodic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.files import write_json
from rxmdnn.io.ordered import block, exscan, numbered, replacing, writable, write_blocks
from rxmdnn.io.start import Start
from rxmdnn.parallel import on_root, send_rows, together
from rxmdnn.schema import Checked, Item, read_json
from rxmdnn.units import RXMD_TIME

ROW = 10
RXFF_STEPS = 2**31  # the file counts steps in 32 bits
SHARED = "rxff.bin.json"  # of every file of a folder that has none of its own
SIDE = {"elements": Item("text", ("types",)), "masses": Item("float", ("types",), low=0), "pbc": Item("bool", (3,)),
        "atoms": Item("int", low=0)}
SIDE_ADVICE = "remove it to use the names of the model deck"


class Types(NamedTuple):
    """What a side file says: names and masses (amu) of the types, in order; periodic axes; number of atoms."""

    elements: tuple[str, ...]
    masses: tuple[float, ...]
    pbc: tuple[bool, ...]
    atoms: int


def write_types(comm: MPI.Comm, path: Path, types: Types) -> None:
    """Write a side file (collective)."""
    with writable(comm, path):
        if comm.rank == 0:
            write_json(path, types._asdict())


def read_types(path: str | Path, n: int) -> Types | None:
    """What the side file of an rxff.bin of n atoms says; None without one. Raises InputError for a damaged one."""
    path = Path(path)
    side = next((p for p in (path.with_name(path.name + ".json"), path.with_name(SHARED)) if p.is_file()), None)
    if side is None:
        return None
    read = Checked(side, SIDE_ADVICE).entries(read_json(side, "the side file of an rxff.bin", SIDE_ADVICE), SIDE)
    types = Types(read["elements"], tuple(read["masses"].tolist()), tuple(read["pbc"].tolist()), read["atoms"])
    return types if types.atoms == n else None  # of another system


def write_rxff(comm: MPI.Comm, path: str | Path, atoms: Atoms, cell: Cell, step: int,
               grid: tuple[int, int, int] = (1, 1, 1), elements: Sequence[str] = (),
               masses: Sequence[float] = ()) -> None:
    """Write the owned atoms of every rank, distributed to the ranks of RXMD on `grid`; type = species + 1, gid + 1.

    The file holds lengths and angles of the cell: velocities are rotated to its standard orientation, and a left-handed
    cell is replaced by a right-handed one of the same lattice. Along an axis that does not repeat, atoms may lie
    outside the cell.
    elements, masses : of the species, for the side file; none without them
    """
    path = Path(path)
    n, parts = atoms.n_owned, np.array(grid)
    standard = cell.standard()
    s = cell.fractional(atoms.x[:n])
    if standard.flipped is not None:
        s[:, standard.flipped] *= -1
    repeats = cell.pbc
    s[:, repeats] -= np.floor(s[:, repeats])
    s[:, repeats] = np.where(s[:, repeats] < 1.0, s[:, repeats], 0.0)
    subcell = np.clip(np.floor(s * parts).astype(np.int64), 0, parts - 1)
    rows = np.zeros((n, ROW))
    rows[:, 0:3] = s - subcell / parts
    rows[:, 3:6] = (atoms.v[:n] if standard.same else atoms.v[:n] @ standard.turn) * RXMD_TIME
    rows[:, 7] = atoms.species[:n] + 1 + (atoms.gid[:n] + 1) * 1e-13
    owner = subcell[:, 0] + grid[0] * (subcell[:, 1] + grid[1] * subcell[:, 2])
    # Each rank writes whole ranks of the file, in order, so that its rows are contiguous.
    n_file = int(parts.prod())
    owner, gid, rows = send_rows(comm, owner * comm.size // n_file, [owner, atoms.gid[:n], rows])
    rows = rows[np.lexsort((gid, owner))]
    counts = comm.allreduce(np.bincount(owner, minlength=n_file))
    with together(comm):
        if counts.max(initial=0) >= 2**31 or step >= RXFF_STEPS:
            raise InputError(f"{path}: rxff.bin has 32-bit numbers of steps and atoms per rank; use the checkpoint")
    header = (np.array([n_file, *grid, *counts, step], "<i4").tobytes()
              + np.array(standard.cell.parameters, "<f8").tobytes())
    offset = len(header) + 8 * ROW * exscan(comm, len(rows))
    head = np.frombuffer(header if comm.rank == 0 else b"", np.uint8)
    with replacing(comm, path) as part:
        write_blocks(comm, part, [(0, head), (offset, rows.astype("<f8"))])
    if elements:
        write_types(comm, path.with_name(path.name + ".json"),
                    Types(tuple(elements), tuple(masses), tuple(map(bool, cell.pbc)), int(counts.sum())))


def read_rxff(comm: MPI.Comm, path: str | Path, elements: tuple[str, ...] | None = None) -> Start:
    """The atoms of the file, a share on each rank; names and periodicity from its side file, where there is one.

    elements : of the model deck; species are numbered in its order. None: as the side file says

    Raises InputError for a truncated or inconsistent file, for elements that are not in the deck, and where nothing
    names the types.
    """
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
    types = on_root(comm, lambda: read_types(path, n))
    with together(comm):
        elements, number = _numbering(path, types, elements)
    if types is not None:
        cell = Cell(cell.h, np.array(types.pbc))
    start, stop = block(n, comm.size, comm.rank)
    with together(comm):
        offset = 4 * (5 + len(counts)) + 48 + 8 * ROW * start
        try:
            rows = np.fromfile(path, "<f8", ROW * (stop - start), offset=offset).reshape(-1, ROW)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        kind = np.rint(rows[:, 7])
        wrong = np.flatnonzero(~np.isfinite(rows[:, :8]).all(axis=1) | (kind < 1) | (kind > len(number)))
        if len(wrong):
            i = int(wrong[0])
            raise InputError(f"{path}: atom {start + i + 1}: " + (
                f"type {kind[i]:.0f}, but the {'side file' if types else 'model deck'} has {len(number)} elements"
                if np.isfinite(rows[i, :8]).all()
                else "NaN or infinite coordinate or velocity"))
    owner = np.searchsorted(np.cumsum(counts), np.arange(start, stop), side="right")
    subcell = np.stack([owner % grid[0], owner // grid[0] % grid[1], owner // (grid[0] * grid[1])], axis=1)
    gid = np.rint((rows[:, 7] - kind) * 1e13).astype(np.int64) - 1
    if not numbered(comm, gid, n):
        gid = np.arange(start, stop, dtype=np.int64)
    x = cell.cartesian(rows[:, :3] + subcell / grid)
    return Start(gid, number[kind.astype(np.int64) - 1], x, cell, n, elements,
                 v=rows[:, 3:6] / RXMD_TIME, step=step, source=str(path)).check(comm)


def _numbering(path: Path, types: Types | None, elements: tuple[str, ...] | None
               ) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the species, and (types,) int32 species of each type of the file."""
    own = types.elements if types is not None else elements
    if own is None:
        raise InputError(f"{path}: nothing names its types: it has no side file {path.name}.json; name a model deck")
    chosen = elements or own
    if missing := [e for e in own if e not in chosen]:
        raise InputError(f"{path}: its side file names {' '.join(missing)}, but the elements are {' '.join(chosen)}; "
                         "use the model deck of this system, or remove the side file")
    return chosen, np.array([chosen.index(e) for e in own], np.int32)
