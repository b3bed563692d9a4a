"""``rxmdnn tfail tfail.in``: a study of times to failure."""

from __future__ import annotations

from collections.abc import Sequence

import numba
from mpi4py import MPI

from rxmdnn.deck import language as decks
from rxmdnn.deck.help import help_page
from rxmdnn.deck.tfail import TABLE
from rxmdnn.parallel import together
from rxmdnn.run.threads import keeping_threads
from rxmdnn.survival.study import Study

USAGE = ("usage: [mpirun -np N] rxmdnn tfail DECK [--keyword values ...]\n"
         "       rxmdnn tfail report RESULTS | forecast FIT | certify DIR | relabel FRAMES\n"
         "       (see --help of each)\n\n")


def main(argv: Sequence[str], comm: MPI.Intracomm = MPI.COMM_SELF) -> int:
    """Run the study of a deck; the exit code. argv : ``DECK [--keyword values ...]``. Raises InputError."""
    if not argv or argv[0] in ("-h", "--help"):
        if comm.rank == 0:
            print(USAGE + help_page(TABLE))
        return 0 if argv else 2
    with together(comm):
        deck = decks.read(argv[0], TABLE, argv[1:])
    with keeping_threads():
        numba.set_num_threads(1)  # systems are small: use ranks instead of threads
        Study(deck, comm).run()
    return 0
