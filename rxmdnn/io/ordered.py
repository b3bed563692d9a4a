"""Rows of atoms across ranks, and writing one file from all ranks: what every parallel format is made of.

Nothing here gathers all atoms on one rank; counts of rows and offsets in files are 64-bit. A file appears under its
name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MethodType
from typing import Any, cast

import numpy as np
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.parallel import send_rows, together

NEARLY_FULL = 1 << 20  # bytes left on a disk that HDF5 may have failed on


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


class Hdf5Failure:
    """HDF5 keeps what it could not write, says so for each object of the file, and dies of it when the process ends.

    The first is kept from the user, who is told once; ``leave`` ends the process before the second.
    """

    happened = False

    @classmethod
    def watch(cls) -> None:
        before = sys.unraisablehook
        if getattr(before, "__self__", None) is cls:
            return

        def hook(self: type[Hdf5Failure], unraisable: Any) -> None:
            if "decrement id ref count" in str(unraisable.exc_value):
                self.happened = True
            else:
                before(unraisable)
        sys.unraisablehook = MethodType(hook, cls)

    @classmethod
    def leave(cls, code: int) -> int:
        """The exit code, unless HDF5 would spoil it."""
        if cls.happened:
            sys.stdout.flush()
            sys.stderr.flush()
            MPI.Finalize()
            os._exit(code)
        return code


@contextmanager
def writable(comm: MPI.Comm, path: str | Path) -> Iterator[None]:
    """A block that writes: a failure of the file system on any rank is one InputError on all, naming the file."""
    Hdf5Failure.watch()
    with together(comm):
        try:
            yield
        except (OSError, RuntimeError) as error:  # HDF5's are RuntimeErrors
            folder = Path(path).parent
            reason = getattr(error, "strerror", None)
            if reason is None:  # HDF5's own, which does not always say why: ask the disk
                Hdf5Failure.happened = True
                full = folder.is_dir() and shutil.disk_usage(folder).free < NEARLY_FULL
                reason = "no space left on device" if full else str(error).strip().split("\n")[0]
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
    """Write arrays at byte offsets of an existing file, each rank its own pieces.

    The operating system's own calls, not MPI-IO: every rank has one contiguous piece of a block, and Open MPI 4.1 and
    5.0 lose data on a full disk without an error (seen with 1 and 3 ranks). Raises InputError if one rank fails.
    """
    with writable(comm, path):
        file = os.open(path, os.O_WRONLY)
        try:
            for offset, array in blocks:
                raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                while raw:
                    done = os.pwrite(file, raw, offset)
                    raw, offset = raw[done:], offset + done
        finally:
            os.close(file)
