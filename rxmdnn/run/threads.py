"""The number of threads of the ranks of a run, which the kernels of Numba use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numba
from mpi4py import MPI

from rxmdnn import threads


@contextmanager
def keeping_threads() -> Iterator[None]:
    """A block that may change the number of threads; afterwards it is what the caller had."""
    before = numba.get_num_threads()
    try:
        yield
    finally:
        numba.set_num_threads(before)


def set_threads(comm: MPI.Comm, wanted: int) -> None:
    """Use the threads of ``thread_count`` from now on."""
    numba.set_num_threads(thread_count(comm, wanted))


def thread_count(comm: MPI.Comm, wanted: int) -> int:
    """Threads of this rank: those wanted, or (0) OMP_NUM_THREADS or the cores of the machine among its ranks.

    Never more than NUMBA_NUM_THREADS.
    """
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A launcher that pins ranks has shared the cores out already.
    shared = max(machine.allgather(cores)) < (os.cpu_count() or 1) or machine.size == 1
    n = wanted or threads.asked_for() or max(1, cores if shared else cores // machine.size)
    machine.Free()
    return min(n, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def fewer_threads(comm: MPI.Comm, wanted: int, n_global: int) -> str:
    """With ``wanted`` 0, use fewer threads from now on where the atoms of a rank are few; a note for the log if so."""
    before, atoms = numba.get_num_threads(), n_global / comm.size
    n = before if wanted else threads.that_pay(before, atoms)
    numba.set_num_threads(n)
    return "" if n == before else (f"{n} of {before} threads per rank: more do not pay for {atoms:.0f} atoms per rank; "
                                   "a line 'threads N' sets another number")
