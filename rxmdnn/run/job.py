"""A run from its deck to its end: the order in which the parts are made, and the loop over its steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

from mpi4py import MPI
from tqdm import tqdm

from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.simulation import Simulation, Thermo
from rxmdnn.fidelity.setup import make_monitor
from rxmdnn.io.folder import locked
from rxmdnn.io.start import Start
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import on_each
from rxmdnn.ring_polymer.groups import Groups
from rxmdnn.run.continuation import compared
from rxmdnn.run.device import fits_on_device, make_backend
from rxmdnn.run.ending import Ending
from rxmdnn.run.models import with_native_copies
from rxmdnn.run.outputs import Outputs
from rxmdnn.run.potential import make_observers, make_potential, notes_of
from rxmdnn.run.setup import make_simulation
from rxmdnn.run.start import read_start
from rxmdnn.run.threads import fewer_threads, set_threads
from rxmdnn.signals import remembered
from rxmdnn.traffic import counted


@dataclass(frozen=True)
class Finished:
    """A simulation after its last step, and how it ended.

    signalled : number of the signal that stopped it, or that came too late to stop it; 0 without one
    """

    simulation: Simulation
    ending: Ending
    signalled: int = 0


def run_job(comm: MPI.Comm, run: RunDeck, *, start: Callable[[MPI.Comm], Start] | None = None,
            potential: Potential | None = None, watch: Callable[[Thermo], None] | None = None,
            write: bool = True) -> Finished:
    """Do what a run's deck says. All ranks of ``comm`` call it.

    Parameters
    ----------
    run : what is to be done (rxmdnn.deck.run)
    start : gives each rank its share of the atoms; default: what the deck names
    potential : instead of the deck's models, over their elements, on the backend of the deck
    watch : called with every Thermo that is printed, on all ranks
    write : to the deck's outDir; otherwise nothing is written anywhere
    """
    comm = counted(comm)
    with remembered() as asked, locked(comm, run.folder) if write else nullcontext():
        done = _run(comm, run, start, potential, watch, write)
        late = done.simulation.signalled or comm.allreduce(max(asked, default=0), MPI.MAX)
    return replace(done, signalled=late)


def _run(comm: MPI.Comm, run: RunDeck, start: Callable[[MPI.Comm], Start] | None, potential: Potential | None,
         watch: Callable[[Thermo], None] | None, write: bool) -> Finished:
    """As ``run_job``, in a folder that no other run writes to."""
    if write and potential is None:
        run = with_native_copies(comm, run)
    backend = make_backend(comm, run)
    set_threads(comm, run.deck["threads"].n)
    if potential is None:
        potential = on_each(comm, lambda: make_potential(run, backend))
    groups = Groups(comm, run.deck["pimd_groups"].number)
    with groups.agreed():
        begun = (start or (lambda inside: read_start(inside, run)))(groups.inside)
        how = compared(groups.inside, run, begun)
        simulation = make_simulation(groups.inside, run, backend, potential, begun, groups, how)
    if not backend.on_device and (note := fewer_threads(groups.inside, run.deck["threads"].n, simulation.n_global)):
        begun.notes.append(note)
    begun.notes += notes_of(potential)
    observers = on_each(comm, lambda: make_observers(run, backend, potential)) if run.observers else []
    monitor = make_monitor(comm, run, simulation, observers) if run.deck["fidelity"].action != "off" else None
    outputs = groups.first(lambda: Outputs(groups.inside, run, begun, how, simulation, monitor)) if write else None
    if not write:  # the bits of a run with checkpoints, each of which has the next list rebuilt
        simulation.writers = [(run.deck["checkpoint"].nstep or simulation.schedule.stop, simulation.rebuild)]
    if watch is not None:
        simulation.on_print = both(simulation.on_print, watch)
    groups.lead(simulation)

    def tell(what: Callable[[Outputs], None]) -> None:
        """The outputs, which the first group has, do something; its InputError is everyone's."""
        if write:
            groups.first(lambda: what(outputs) if outputs is not None else None)

    tell(lambda out: out.begin(begun))
    move(simulation, begun, lambda: tell(lambda out: out.performance.start()), comm.rank > 0 or not write)
    guard = outputs.guard if outputs is not None else None
    ending = Ending.of(simulation, guard is not None and guard.failed)
    tell(lambda out: out.end(ending))
    return Finished(simulation, ending)


def move(simulation: Simulation, start: Start, start_clock: Callable[[], None], quiet: bool) -> None:
    """All steps, with a progress bar on a terminal; the clock starts after the first step, which compiles kernels."""
    stop = simulation.schedule.stop
    start_clock()
    with tqdm(total=stop, initial=simulation.step, unit="step", disable=quiet or not sys.stderr.isatty()) as bar, \
            fits_on_device(simulation):
        for step in simulation.steps(restarted=start.f is not None):
            bar.update(step - bar.n)
            if step == start.step + 1 < stop:
                start_clock()


def both(first: Callable[[Thermo], None], second: Callable[[Thermo], None]) -> Callable[[Thermo], None]:
    """A function that calls one after the other."""
    def call(thermo: Thermo) -> None:
        first(thermo)
        second(thermo)

    return call
