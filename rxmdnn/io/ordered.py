"""Rows of atoms across ranks, and writing one file from all ranks, for all parallel formats.

No function here gathers all atoms on one rank; counts of rows and offsets in files are 64-bit. A file gets its name
only when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.files import flush_folder, reason_of, write_at
from rxmdnn.parallel import send_rows, together

WRITERS = 256  # ranks that write by themselves; of more ranks, as many or more write for their neighbors
TOGETHER = 64  # ranks for which one rank writes, at most
BLOCKS = 7  # tag of what they write


def block(n: int, size: int, rank: int) -> tuple[int, int]:
    """The rows [start, stop) of n that belong to a rank."""
    return n * rank // size, n * (rank + 1) // size


def exscan(comm: MPI.Comm, n: int) -> int:
    """The sum of n over lower ranks."""
    below = cast(MPI.Intracomm, comm).exscan(int(n))
    return below if comm.rank else 0


def in_gid_order(comm: MPI.Comm, n_global: int, gid: np.ndarray, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Rows of the block of this rank of 0 .. n_global - 1, in order of gid.

    Parameters
    ----------
    gid    (n,) int64: those of all ranks together are 0 .. n_global - 1
    arrays (n, ...) each

    Returns
    -------
    Of each array the rows with gids `block(n_global, comm.size, comm.rank)`.
    """
    # Inverse of block(): gid belongs to the last rank whose start is not above it.
    to = ((gid + 1) * comm.size - 1) // n_global
    gid, *rows = send_rows(comm, to, [gid, *arrays])
    order = np.argsort(gid)
    return [a[order] for a in rows]


def numbered(comm: MPI.Comm, gid: np.ndarray, n: int) -> bool:
    """True if the gids of all ranks are 0 .. n - 1, each once."""
    if comm.allreduce(bool(((gid < 0) | (gid >= n)).any()), MPI.LOR):
        return False
    (mine,) = send_rows(comm, ((gid + 1) * comm.size - 1) // max(n, 1), [gid])
    return not comm.allreduce(not np.array_equal(np.sort(mine), np.arange(*block(n, comm.size, comm.rank))), MPI.LOR)


@contextmanager
def writable(comm: MPI.Comm, path: str | Path) -> Iterator[None]:
    """A block that writes; a failure of the file system on any rank is one InputError on all, naming the file."""
    with together(comm):
        try:
            yield
        except OSError as error:
            reason = reason_of(error) if error.strerror else str(error).strip().split("\n")[0]
        except RuntimeError as error:  # of HDF5, which reads a damaged file
            reason = str(error).strip().split("\n")[0]
        else:
            return
        raise InputError(f"{str(path).removesuffix('.part')}: cannot be written: {reason}")


@contextmanager
def replacing(comm: MPI.Comm, path: str | Path, keep: str | Path | None = None) -> Iterator[Path]:
    """A block that writes a file under a temporary name; it gets its name only when every rank has succeeded.

    keep : the name under which the previous file is kept
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")

    def create() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # of a killed run, or a link to another file
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))

    def finish() -> None:
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if keep and path.exists():
            # A second name first, so that a file of this name exists at every moment.
            link = Path(keep).with_name(Path(keep).name + ".part")
            link.unlink(missing_ok=True)
            try:
                os.link(path, link)
                os.replace(link, keep)
            except OSError:  # a file system without hard links
                os.replace(path, keep)
        os.replace(part, path)
        flush_folder(path.parent)

    try:
        for step in (create, None, finish):
            if step is None:
                yield part
            else:
                with writable(comm, path):
                    if comm.rank == 0:
                        step()
    except InputError:
        if comm.rank == 0:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise


def write_blocks(comm: MPI.Comm, path: str | Path, blocks: Sequence[tuple[int, np.ndarray]]) -> None:
    """Write arrays at byte offsets of an existing file, each rank its own blocks.

    By system calls, not by MPI-IO: Open MPI 4.1 and 5.0 lose data on a full disk without an error (seen with 1 and 3
    ranks). Of many ranks some write for their neighbors too, one rank's blocks after the other's, because a file system
    opens a file only some ten thousand times per second. Raises InputError on all ranks if one fails.
    """
    mine = [(offset, np.ascontiguousarray(array).reshape(-1).view(np.uint8)) for offset, array in blocks]
    together_written = min(TOGETHER, -(-comm.size // WRITERS))
    writer = comm.rank - comm.rank % together_written
    with writable(comm, path):
        if comm.rank != writer:
            comm.send(mine, writer, BLOCKS)
        else:
            _write_for(comm, path, mine, range(writer + 1, min(writer + together_written, comm.size)))


def _write_for(comm: MPI.Comm, path: str | Path, mine: list[tuple[int, np.ndarray]], others: range) -> None:
    """Write the blocks of this rank, then those of others; what they send is received even after a failure."""
    failure: OSError | None = None
    file = -1
    for source in (comm.rank, *others):
        blocks = mine if source == comm.rank else comm.recv(source=source, tag=BLOCKS)
        if failure is not None:
            continue
        try:
            if file < 0:
                file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
            for offset, array in blocks:
                write_at(file, offset, array.data)
        except OSError as error:
            failure = error
    if file >= 0:
        try:
            os.close(file)
        except OSError as error:
            failure = failure or error
    if failure is not None:
        raise failure
