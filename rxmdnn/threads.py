"""The number of threads of each rank, and the waiting of idle threads; ``prepare`` is called before libraries load."""

from __future__ import annotations

import os

# Fewer atoms per thread are slower than one thread: measured with 1 and 2 threads on 32 to 2,048 atoms, the gain begins
# at 130 to 430 atoms per thread (Lennard-Jones) and at 16 to 54 (Allegro).
ATOMS_PER_THREAD = 100
ASKED = os.environ.get("OMP_NUM_THREADS", "")  # by the user, before ``prepare``


def prepare() -> None:
    """Environment variables of the command line, where the user has not set them."""
    # One rank is one worker: threads of libraries are given out by the deck, not taken by each rank.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Idle threads of OpenMP sleep. Spinning ones take the core from whatever else runs there: on a busy machine with
    # two cores, 256 atoms with 2 threads ran 20 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Open MPI's ranks spin while they wait. Where something else wants the core, yielding it made a run 14 times
    # faster; where nothing does, it costs next to nothing.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")


def asked_for(text: str = ASKED) -> int | None:
    """The number of threads of OMP_NUM_THREADS, which may be a list by level ("4,2"); None where it is not set."""
    first = text.split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None


def that_pay(threads: int, atoms: float) -> int:
    """At most ``threads``, with ATOMS_PER_THREAD or more of the atoms of a rank for each."""
    return max(1, min(threads, int(atoms // ATOMS_PER_THREAD)))
