"""``rxmdnn run``: from decks and a start to a trajectory."""

from __future__ import annotations

from collections.abc import Sequence

from mpi4py import MPI

from rxmdnn.deck.help import help_page
from rxmdnn.deck.run import read_run
from rxmdnn.deck.run_table import RUN
from rxmdnn.errors import EXIT_CODES
from rxmdnn.parallel import on_each
from rxmdnn.run.job import run_job
from rxmdnn.signals import remembered

USAGE = "usage: [mpirun -np N] rxmdnn run [--rxmdin rxmd.in] [--outDir DAT] [--json F] [flags over the deck]\n"

EXITS = "Exit codes:\n" + "".join(f"  {code:<4d}{text}\n" for code, text in EXIT_CODES.items()) + """
In a batch job, which is stopped by a signal before its time is up and submitted again:
  rxmdnn run --until 100000; if [ $? -eq 5 ]; then sbatch job.sh; fi
"""


def main(argv: Sequence[str], comm: MPI.Comm) -> int:
    """Run a deck on all ranks of ``comm``; the exit code of its ending, one of ``errors.EXIT_CODES``."""
    if any(word in ("-h", "--help") for word in argv):
        if comm.rank == 0:
            print(USAGE + "\n" + EXITS + "\nEvery keyword of the deck is also a flag, --keyword values:\n\n"
                  + help_page(RUN))
        return 0
    with remembered():
        run = on_each(comm, lambda: read_run(argv, comm.size))
        return run_job(comm, run).ending.exit_code
