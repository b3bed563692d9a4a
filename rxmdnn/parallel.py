"""Ranks: errors that end the whole job, and work that every rank must agree on."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mpi4py import MPI

from rxmdnn.errors import InputError

T = TypeVar("T")


class AgreedError(InputError):
    """An InputError that every rank raises together, so that every rank can leave by itself."""


@contextmanager
def together(comm: MPI.Comm) -> Iterator[None]:
    """A block without communication that every rank runs: an InputError on one is raised on all of them."""
    faults: tuple[str, ...] = ()
    try:
        yield
    except InputError as error:
        faults = error.faults
    everyone = comm.allgather(faults)
    if any(everyone):
        raise AgreedError(*dict.fromkeys(fault for rank in everyone for fault in rank))


def on_root(comm: MPI.Comm, function: Callable[[], T]) -> T:
    """Run on rank 0 and give its result, or its InputError, to every rank."""
    result: Any = None
    with together(comm):
        if comm.rank == 0:
            result = function()
    return comm.bcast(result)


def run_to_exit_code(comm: MPI.Comm, function: Callable[[], int | None]) -> int:
    """Call ``function``; 0 or its result, 2 after a user's mistake, and the end of the whole job on anything else.

    A mistake found on one rank alone, or an unforeseen error, ends all ranks by Abort with this rank's message:
    the others may be waiting for it.
    """
    try:
        return function() or 0
    except InputError as error:
        if comm.size == 1 or isinstance(error, AgreedError):
            if comm.rank == 0:
                print(f"rxmdnn: {error}", file=sys.stderr, flush=True)
            return 2
        print(f"rxmdnn: rank {comm.rank}: {error}", file=sys.stderr, flush=True)
        comm.Abort(2)
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("rxmdnn: interrupted", file=sys.stderr, flush=True)
        if comm.size > 1:
            comm.Abort(130)
        return 130
    except Exception:
        if comm.size == 1:
            raise
        print(f"rxmdnn: rank {comm.rank} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        comm.Abort(1)
    return 1
