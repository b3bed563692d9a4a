"""``rxmdnn run``: from decks and a start to a trajectory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from mpi4py import MPI
from tqdm import tqdm

from rxmdnn.deck.language import help_page
from rxmdnn.deck.run import RUN, read_run
from rxmdnn.fidelity.guard import EXIT_CODE
from rxmdnn.fidelity.setup import make_monitor
from rxmdnn.io.folder import locked
from rxmdnn.ring_polymer.groups import Groups
from rxmdnn.run.outputs import Outputs
from rxmdnn.run.setup import make_backend, make_potential, make_simulation, on_each, room_on_device, set_threads
from rxmdnn.run.start import read_start

USAGE = "usage: [mpirun -np N] rxmdnn run [--rxmdin rxmd.in] [--outDir DAT] [--json F] [flags over the deck]\n"


def main(argv: Sequence[str], comm: MPI.Comm) -> int:
    """Run a deck on all ranks of ``comm``; 0, or the exit code of a run that its guard has stopped."""
    if any(word in ("-h", "--help") for word in argv):
        if comm.rank == 0:
            print(USAGE + "\nEvery keyword of the deck is also a flag, --keyword values:\n\n" + help_page(RUN))
        return 0
    run = on_each(comm, lambda: read_run(argv, comm.size))
    backend = make_backend(comm, run)
    set_threads(comm, run.deck["threads"].n)
    potential = on_each(comm, lambda: make_potential(run, backend))
    groups = Groups(comm, run.deck["pimd_groups"].number)
    with groups.agreed():
        start = read_start(groups.inside, run)
        simulation = make_simulation(groups.inside, run, backend, potential, start, groups)
    monitor = make_monitor(comm, run, simulation) if run.deck["fidelity"].action != "off" else None
    with locked(groups.everyone, run.folder):
        outputs: Any = groups.first(lambda: Outputs(groups.inside, run, start, simulation, monitor))
        groups.lead(simulation)
        groups.first(lambda: outputs.begin(start))
        quiet = comm.rank > 0 or not sys.stderr.isatty()
        groups.first(lambda: outputs.start_clock())
        with tqdm(total=simulation.schedule.stop, initial=simulation.step, unit="step", disable=quiet) as bar, \
                room_on_device(simulation):
            for step in simulation.steps(restarted=start.f is not None):
                bar.update(step - bar.n)
                if step == start.step + 1 < simulation.schedule.stop:
                    groups.first(lambda: outputs.start_clock())  # the first step compiled kernels
        groups.first(lambda: outputs.end())
        return EXIT_CODE if simulation.guard is not None and outputs.guard.failed else 0
