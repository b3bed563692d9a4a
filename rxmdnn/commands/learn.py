"""``rxmdnn learn learn.in``: run, catch failures, label, retrain, until survival is shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from mpi4py import MPI

from rxmdnn.deck import language as decks
from rxmdnn.deck.help import help_page
from rxmdnn.deck.learn import TABLE
from rxmdnn.errors import InputError
from rxmdnn.io.folder import locked
from rxmdnn.learning.loop import LearningLoop
from rxmdnn.parallel import on_root

USAGE = ("usage: [mpirun -np N] rxmdnn learn DECK [--from DAT] [--keyword values ...]\n\n"
         "  --from DAT                  the incidents of this production run are the first alarms\n")
END = 73  # message tag
PAUSE = 0.1  # s


def main(argv: Sequence[str], comm: MPI.Intracomm = MPI.COMM_SELF) -> int:
    """``DECK [--from DAT] [--keyword values ...]``; the exit code. Raises InputError.

    The first rank leads; the others only lend their cores to the processes that it starts.
    """
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        if comm.rank == 0:
            print(USAGE + help_page(TABLE))
        return 0 if words else 2
    first: Path | None = None
    if "--from" in words:
        at = words.index("--from")
        if at + 1 == len(words):
            raise InputError("learn: --from: give the folder of a run")
        first = Path(words[at + 1])
        del words[at:at + 2]
    if not words:
        raise InputError("learn: give a deck")

    def lead() -> None:
        try:
            deck = decks.read(words[0], TABLE, words[1:])
            folder = deck["output"].folder if deck["output"].given else deck.path(deck["output"].folder)
            with locked(MPI.COMM_SELF, folder, "loop", "output"):
                LearningLoop(deck, first, comm.size).run()
        finally:
            for rank in range(1, comm.size):
                comm.send(None, rank, END)

    while comm.rank and not comm.iprobe(0, END):
        time.sleep(PAUSE)  # a rank that waits in a collective call would take the core of a worker
    if comm.rank:
        comm.recv(source=0, tag=END)
    on_root(comm, lead)
    return 0
