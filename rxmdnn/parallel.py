"""Ranks: errors that end the whole job, work on which all ranks must agree, rows sent from any rank to any rank."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI

from rxmdnn.errors import FAILED, InputError

T = TypeVar("T")


class AgreedError(InputError):
    """An InputError that all ranks raise together, so that each rank can end by itself."""


class FailedRunError(AgreedError):
    """A run that cannot go on: its energy or positions are not finite, atoms are lost, the cell collapses."""

    exit_code = FAILED


@contextmanager
def failing() -> Iterator[None]:
    """A block of dynamics: an AgreedError in it is a FailedRunError, since the input was checked before."""
    try:
        yield
    except AgreedError as error:
        raise FailedRunError(*error.faults) from None


@contextmanager
def together(comm: MPI.Comm) -> Iterator[None]:
    """A block without communication that every rank runs: an InputError on one rank is raised on all ranks."""
    faults: tuple[str, ...] = ()
    try:
        yield
    except InputError as error:
        faults = error.faults
    if comm.allreduce(bool(faults), MPI.LOR):  # a sum over ranks: lists of all ranks grow with their number
        everyone = comm.allgather(faults)
        raise AgreedError(*dict.fromkeys(fault for rank in everyone for fault in rank))


def on_root(comm: MPI.Comm, function: Callable[[], T]) -> T:
    """The result of ``function`` on rank 0, or its InputError, on every rank."""
    result: Any = None
    with together(comm):
        if comm.rank == 0:
            result = function()
    return comm.bcast(result)


def on_each(comm: MPI.Comm, make: Callable[[], T]) -> T:
    """What every rank makes for itself; the InputError of one rank is raised on all."""
    with together(comm):
        made = make()
    return made


def send_rows(comm: MPI.Comm, to: np.ndarray, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The rows that this rank receives, ordered by source rank, then by source row.

    Parameters
    ----------
    to : (n,) rank to which row i of every array is sent
    arrays : (n, ...) each, with the same row types on all ranks
    """
    kind = np.dtype([(f"c{k}", a.dtype, a.shape[1:]) for k, a in enumerate(arrays)])
    order = np.argsort(to, kind="stable")
    out = np.empty(len(to), kind)
    for k, a in enumerate(arrays):
        out[f"c{k}"] = a[order]
    counts = np.bincount(to, minlength=comm.size).astype(np.int64)
    received = np.empty_like(counts)
    comm.Alltoall(counts, received)
    into = np.empty(int(received.sum()), kind)
    row = MPI.BYTE.Create_contiguous(kind.itemsize).Commit()
    comm.Alltoallv([out, counts, row], [into, received, row])
    row.Free()
    return [np.ascontiguousarray(into[f"c{k}"]) for k in range(len(arrays))]


def rows_of_all(comm: MPI.Comm, n_global: int, gid: np.ndarray, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The rows of all ranks in the order of gid, on every rank: small systems only.

    gid : (n,) int64, of the rows of this rank; arrays : (n, ...) float64 each
    """
    out = []
    for rows in arrays:
        whole = np.zeros((n_global, *rows.shape[1:]))
        whole[gid] = rows
        if comm.size > 1:
            comm.Allreduce(MPI.IN_PLACE, whole)  # a row of one rank plus zeros: exact
        out.append(whole)
    return out


def _out_of_memory(error: Exception) -> str:
    """The message for an error of NumPy, CuPy or torch that means that there is no memory; or nothing."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return (f"out of memory{f': {text}' if text else ''}; use more ranks on more nodes, a smaller system, or fewer "
                "beads, models or frames at a time")
    return ""


def run_to_exit_code(comm: MPI.Comm, function: Callable[[], int | None]) -> int:
    """The exit code of ``function``: its result or 0; that of an InputError; 1 or 130 after other errors.

    An InputError on one rank only, no memory, or an unexpected error, ends all ranks by Abort with the message of this
    rank, since the other ranks may be waiting for it.
    """
    try:
        return function() or 0
    except InputError as error:
        if comm.size == 1 or isinstance(error, AgreedError):
            if comm.rank == 0:
                print(f"rxmdnn: {error}", file=sys.stderr, flush=True)
            return error.exit_code
        print(f"rxmdnn: rank {comm.rank}: {error}", file=sys.stderr, flush=True)
        comm.Abort(error.exit_code)
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("rxmdnn: interrupted", file=sys.stderr, flush=True)
        if comm.size > 1:
            comm.Abort(130)
        return 130
    except Exception as error:
        if message := _out_of_memory(error):
            print(f"rxmdnn: {f'rank {comm.rank}: ' if comm.size > 1 else ''}{message}", file=sys.stderr, flush=True)
            if comm.size > 1:
                comm.Abort(InputError.exit_code)
            return InputError.exit_code
        if comm.size == 1:
            raise
        print(f"rxmdnn: rank {comm.rank} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        comm.Abort(1)
    return 1
