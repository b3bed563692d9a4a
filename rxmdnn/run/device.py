"""The backend of a run: which kernels, on which GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.backend import Backend
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.parallel import on_each
from rxmdnn.run.potential import make_potential
from rxmdnn.run.trial import Case, choose


def make_backend(comm: MPI.Comm, run: RunDeck) -> Backend:
    """The backend of the deck."""
    deck = run.deck
    return backend_of(comm, deck["backend"].name, Case(np.array(run.masses), deck["precision"].network,
                                                       lambda there: make_potential(run, there)),
                      deck["mpi"].memory == "cuda-aware")


def backend_of(comm: MPI.Comm, name: str, case: Case, direct: bool = False) -> Backend:
    """The backend called ``name``; on a GPU, the ranks of a machine take its devices in turn.

    case : what "auto" tries on a GPU; direct : MPI takes the memory of a device itself
    """
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    local_rank, ranks = machine.rank, machine.size
    machine.Free()
    if name == "auto":
        return choose(comm, case, lambda: backends.make("cuda", local_rank, ranks))
    return on_each(comm, lambda: backends.make(name, local_rank, ranks, direct))


@contextmanager
def fits_on_device(simulation: Simulation) -> Iterator[None]:
    """A block in which a device that is too small for the run is an InputError."""
    try:
        yield
    except Exception as error:
        if simulation.backend.on_device:
            from rxmdnn.device import shortage

            if fault := shortage(simulation.backend, error, simulation.atoms.n_owned):
                raise fault from None
        raise
