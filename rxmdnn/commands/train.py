"""``rxmdnn train train.in``: from labelled frames to a model file."""

from __future__ import annotations

from collections.abc import Sequence

from mpi4py import MPI

from rxmdnn.deck import language as decks
from rxmdnn.deck.help import help_page
from rxmdnn.deck.train import TABLE
from rxmdnn.errors import InputError
from rxmdnn.parallel import together
from rxmdnn.training.training import train


def main(argv: Sequence[str], comm: MPI.Intracomm = MPI.COMM_SELF) -> int:
    """``DECK [--keyword values ...]``; the exit code. Raises InputError."""
    if not argv or argv[0] in ("-h", "--help"):
        if comm.rank == 0:
            print("usage: [mpirun -np N] rxmdnn train DECK [--keyword values ...]\n\n" + help_page(TABLE))
        return 0 if argv else 2
    try:
        with together(comm):
            deck = decks.read(argv[0], TABLE, argv[1:])
        train(deck, comm)
    except OSError as error:
        raise InputError(f"{error.filename or argv[0]}: {error.strerror or error}; saved files are kept") from error
    return 0
