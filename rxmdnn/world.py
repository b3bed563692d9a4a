"""The communicator of all ranks, for the entry points alone: the command line, the Python API, the ASE calculator.

Everything below is given a communicator.
"""

from __future__ import annotations

from mpi4py import MPI


def all_ranks() -> MPI.Intracomm:
    """The communicator of all ranks that ``mpirun`` has started."""
    return MPI.COMM_WORLD
