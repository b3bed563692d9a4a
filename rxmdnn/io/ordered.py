"""Rows of atoms across ranks, and writing one file from all ranks, for all parallel formats.

No function here gathers all atoms on one rank; counts of rows and offsets in files are 64-bit. A file gets its name
only when it is complete.
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

NEARLY_FULL = 1 << 20  # free bytes of a disk below which a failure of HDF5 is taken as a full disk


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


class Hdf5Failure:
    """After a failed write HDF5 reports an error for each object of the file, and crashes when the process ends.

    The reports are suppressed, as the user has one message; ``leave`` ends the process before the crash.
    """

    happened = False

    @classmethod
    def watch(cls) -> None:
        """Suppress the reports, from now on."""
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
        """Return the exit code; or end the process with it, where HDF5 would crash."""
        if cls.happened:
            sys.stdout.flush()
            sys.stderr.flush()
            MPI.Finalize()
            os._exit(code)
        return code


@contextmanager
def writable(comm: MPI.Comm, path: str | Path) -> Iterator[None]:
    """A block that writes; a failure of the file system on any rank is one InputError on all, naming the file."""
    Hdf5Failure.watch()
    with together(comm):
        try:
            yield
        except (OSError, RuntimeError) as error:  # those of HDF5 are RuntimeErrors
            folder = Path(path).parent
            reason = getattr(error, "strerror", None)
            if reason is None:  # an error of HDF5, which does not always give the reason: look at the disk
                Hdf5Failure.happened = True
                full = folder.is_dir() and shutil.disk_usage(folder).free < NEARLY_FULL
                reason = "no space left on device" if full else str(error).strip().split("\n")[0]
            raise InputError(f"{str(path).removesuffix('.part')}: cannot be written: {reason}") from None


@contextmanager
def replacing(comm: MPI.Comm, path: str | Path, keep: str | Path | None = None) -> Iterator[Path]:
    """A block that writes a file under a temporary name; it gets its name only when every rank has succeeded.

    keep : the name under which the previous file is kept
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")

    def create() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"")

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
    ranks). Raises InputError on all ranks if one fails.
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
