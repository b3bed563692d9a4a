"""Rows of atoms across ranks, and writing one file from all ranks: what every parallel format is made of.

Nothing here gathers all atoms on one rank; counts of rows and offsets in files are 64-bit. A file appears under its
name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.parallel import send_rows, together

PIECE = 1 << 28  # bytes of one MPI-IO call: MPI counts are 32-bit


def block(n: int, size: int, rank: int) -> tuple[int, int]:
    """The rows [start, stop) of n that are dealt to a rank."""
    return n * rank // size, n * (rank + 1) // size


def exscan(comm: MPI.Comm, n: int) -> int:
    """The sum of n over lower ranks."""
    below = cast(MPI.Intracomm, comm).exscan(int(n))
    return below if comm.rank else 0


def in_gid_order(comm: MPI.Comm, n_global: int, gid: np.ndarray, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Rows of this rank's block of 0 .. n_global - 1, in order of gid.

    Parameters
    ----------
    gid    (n,) int64: all ranks' together are 0 .. n_global - 1
    arrays (n, ...) each

    Returns
    -------
    The arrays' rows for gids `block(n_global, comm.size, comm.rank)`.
    """
    # Inverse of block(): gid belongs to the last rank whose start is not above it.
    to = ((gid + 1) * comm.size - 1) // n_global
    gid, *rows = send_rows(comm, to, [gid, *arrays])
    order = np.argsort(gid)
    return [a[order] for a in rows]


@contextmanager
def writable(comm: MPI.Comm, path: str | Path) -> Iterator[None]:
    """A block that writes: a failure of the file system on any rank is one InputError on all, naming the file."""
    with together(comm):
        try:
            yield
        except (OSError, RuntimeError) as error:  # MPI.Exception is a RuntimeError, as are HDF5's
            folder = Path(path).parent
            # MPI-IO knows no reason but "other": ask the disk.
            full = isinstance(error, RuntimeError) and folder.is_dir() and shutil.disk_usage(folder).free < PIECE >> 8
            reason = "no space left on device" if full else getattr(error, "strerror", None) or str(error)
            raise InputError(f"{str(path).removesuffix('.part')}: cannot be written: {reason}") from None


@contextmanager
def replacing(comm: MPI.Comm, path: str | Path, keep: str | Path | None = None) -> Iterator[Path]:
    """A block that writes a file under a passing name; it takes its own name only when every rank has succeeded.

    keep : the name under which the file that was there before stays.
    """
    path = Path(path)
    passing = path.with_name(path.name + ".part")

    def create() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        passing.write_bytes(b"")

    def finish() -> None:
        with open(passing, "rb+") as file:
            os.fsync(file.fileno())
        if keep and path.exists():
            # A second name first: at no moment is there no file of this name.
            beside = Path(keep).with_name(Path(keep).name + ".part")
            beside.unlink(missing_ok=True)
            try:
                os.link(path, beside)
                os.replace(beside, keep)
            except OSError:  # a file system without hard links
                os.replace(path, keep)
        os.replace(passing, path)

    try:
        for step in (create, None, finish):
            if step is None:
                yield passing
            else:
                with writable(comm, path):
                    if comm.rank == 0:
                        step()
    except InputError:
        if comm.rank == 0:
            with suppress(OSError):
                passing.unlink(missing_ok=True)
        raise


def write_blocks(comm: MPI.Comm, path: str | Path, blocks: Sequence[tuple[int, np.ndarray]]) -> None:
    """Write arrays at byte offsets of an existing file, which all ranks open together.

    The writes themselves are independent: every rank has one contiguous piece of a block, and the collective writes
    of Open MPI 5 lose data without an error on a full disk (seen with 3 ranks). Raises InputError if one rank fails.
    """
    with writable(comm, path):
        file = MPI.File.Open(cast(MPI.Intracomm, comm), str(path), MPI.MODE_WRONLY)
        try:
            for offset, array in blocks:
                raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                for k in range(0, raw.nbytes, PIECE):
                    file.Write_at(offset + k, raw[k:k + PIECE])
        finally:
            file.Close()
