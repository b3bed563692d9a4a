"""``rxmdnn run``: from decks and a start to a trajectory. Reads as the story of a run; the parts are elsewhere."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numba
import numpy as np
from mpi4py import MPI
from tqdm import tqdm

import rxmdnn
from rxmdnn import backend as backends
from rxmdnn.backend import Backend
from rxmdnn.deck import Deck, help_page
from rxmdnn.domain import Domain
from rxmdnn.ensembles import Barostat, CellChange, Ensemble, StrainSchedule
from rxmdnn.ensembles import make as make_ensemble
from rxmdnn.errors import InputError
from rxmdnn.fidelity.guard import EXIT_CODE, Guard
from rxmdnn.fidelity.monitor import Monitor
from rxmdnn.fidelity.setup import care, make_monitor, repelled
from rxmdnn.io.checkpoint import write_checkpoint
from rxmdnn.io.folder import locked, set_aside
from rxmdnn.io.frame import FRAME_WRITERS, Frame, write_xyz
from rxmdnn.io.h5md import H5MD
from rxmdnn.io.log import Log
from rxmdnn.io.ordered import writable
from rxmdnn.io.rxff import write_rxff
from rxmdnn.io.start import Start, read_start
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture
from rxmdnn.models.pair import LennardJones, Null
from rxmdnn.models.repulsion import Repulsion
from rxmdnn.neighbors import NeighborList
from rxmdnn.parallel import AgreedError, on_root, together
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.groups import Groups
from rxmdnn.ring_polymer.output import BeadTrajectories, RingLog
from rxmdnn.ring_polymer.setup import choose_ring, make_forces
from rxmdnn.ring_polymer.setup import notes as ring_notes
from rxmdnn.run_deck import RUN, ModelLine, Run, barostat_fault, cell_is_driven, read_run
from rxmdnn.simulation import Schedule, Simulation, Thermo
from rxmdnn.thermostat import MINIMIZE
from rxmdnn.timers import Timers
from rxmdnn.trial import choose
from rxmdnn.units import EV_PER_KCAL_MOL, FS_PER_PS, GPA_PER_EV_A3

ABSURD = 2e4  # K: molecules are long gone
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


def on_each(comm: MPI.Comm, make: Any) -> Any:
    """What every rank makes for itself; one rank's failure is everyone's."""
    with together(comm):
        made = make()
    return made


def make_backend(comm: MPI.Comm, run: Run) -> Backend:
    """The deck's; on a GPU, the ranks of a machine take its devices in turn."""
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    place, ranks = machine.rank, machine.size
    machine.Free()
    name, direct = run.deck["backend"].name, run.deck["mpi"].memory == "cuda-aware"
    if name == "auto":
        return choose(comm, run, lambda: backends.make("cuda", place, ranks), lambda there: make_potential(run, there))
    return on_each(comm, lambda: backends.make(name, place, ranks, direct))


@contextmanager
def room_on_device(simulation: Simulation) -> Iterator[None]:
    """A device that is too small for a run is a user's mistake."""
    try:
        yield
    except Exception as error:
        if simulation.backend.on_device:
            from rxmdnn.device import shortage

            if fault := shortage(simulation.backend, error, simulation.atoms.n_owned):
                raise fault from None
        raise


def set_threads(comm: MPI.Comm, wanted: int) -> int:
    """Threads of this rank: as the deck says, or the machine's cores shared out among its ranks."""
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A launcher that pins ranks has shared the cores out already.
    shared = max(machine.allgather(cores)) < (os.cpu_count() or 1) or machine.size == 1
    n = wanted or max(1, cores if shared else cores // machine.size)
    machine.Free()
    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    return n


def make_potential(run: Run, backend: Backend) -> Potential:
    """The models of rxmdnn.in over the run's elements; every line that fails is reported."""
    members, faults = [], []
    for line in (*run.models, *([run.repulsion] if run.repulsion else [])):
        try:
            members.append(_member(line, run, backend))
        except InputError as error:
            faults += [line.fault(text) for text in error.faults]
    if faults:
        raise InputError(*faults)
    added = members.pop() if run.repulsion else None
    alone = len(members) == 1 and run.weights == (1.0,) and added is None
    return members[0] if alone else Mixture(members, run.weights, added)


def _member(line: ModelLine, run: Run, backend: Backend) -> Potential:
    if line.kind == "lj":
        return LennardJones(backend, run.elements, **line.parameters)
    if line.kind == "zbl":
        return Repulsion(run.elements, **line.parameters, backend=backend)
    if line.kind == "null":
        return Null(run.elements, **line.parameters)
    from rxmdnn.models.allegro import Allegro  # torch, only where a network runs

    return Allegro.load(line.parameters["file"], run.elements, run.deck["precision"].network, backend)


def make_simulation(comm: MPI.Comm, run: Run, backend: Backend, potential: Potential, start: Start,
                    groups: Groups | None = None) -> Simulation:
    """Decompose the start over the ranks and give it velocities where it has none."""
    deck, mass = run.deck, np.array(run.masses)
    neighbors = NeighborList(backend, potential.cutoff, deck["skin"].skin)
    with together(comm):
        if fault := barostat_fault(deck, start.cell.pbc):
            raise InputError(fault)
        domain = Domain(comm, backend, start.cell, tuple(deck["processors"]), neighbors.reach)
    atoms = start.atoms().on(backend.from_host)
    same = start.exact and start.state.get("grid") == domain.grid.tolist()
    if not same:
        domain.distribute(atoms)
    n_steps, dt, treq = deck["time"].ntime_step, deck["time"].dt, deck["temperature"].treq
    begin = start.state.get("begin", start.step)
    if begin + n_steps <= start.step:  # that run was finished: go on from it
        begin = start.step
    ramp = tuple(deck["tramp"]) if deck["tramp"].t0 is not None else (treq, treq)
    schedule = Schedule(dt, begin + n_steps, deck["mdmode"].mode, ramp, deck["temperature"].vsfact,
                        deck["temperature"].sstep, deck["io_step"].pstep, deck["seed"].number, start=begin,
                        minimizer=deck["minimizer"].method, fmax=deck["minimizer"].fmax,
                        tolerance=deck["CG_tol"].ftol * EV_PER_KCAL_MOL, pressures=target_pressures(deck),
                        cell_shape=None if deck["minimizer"].cell == "fixed" else deck["minimizer"].cell)
    timers = Timers(backend.settle) if deck["verbose"].on else Timers()
    forces = make_forces(deck, run.masses, domain, neighbors, potential, timers, groups)
    if deck["graphs"].on:
        forces.use_graphs(lambda why: print(f"graphs: the run goes on without: {why}", flush=True)
                          if comm.rank == 0 else None)
    simulation = Simulation(comm, backend, domain, forces, atoms, mass, schedule, start.n_global, step=start.step,
                            time_0=start.time - start.step * dt)
    choose_ensemble(deck, simulation, start)
    if start.f is None and (note := without_drift(simulation)):
        start.notes.append(note)
    at_rest = start.step == 0 and not comm.allreduce(bool(atoms.v.any()), MPI.LOR)
    if start.f is None and (at_rest or deck["random_velocity"].draw):
        simulation.kinetics.draw(atoms, ramp[0], schedule.seed, start.step)
    return simulation


def without_drift(simulation: Simulation) -> str:
    """Take the motion of the whole off a start's velocities, which would count as heat; says so where there was one."""
    atoms, kinetics = simulation.atoms, simulation.kinetics
    if simulation.n_global < 2:
        return ""
    v, energy = kinetics.drift(atoms)
    if not energy > 1e-6 * kinetics.energy(atoms):
        return ""
    kinetics.zero_momentum(atoms)
    return f"the start moved as a whole at {np.linalg.norm(v):.3g} A/fs ({energy:.3g} eV), which was taken off"


def periodic_along(pbc: Iterable[bool]) -> str:
    axes = " ".join(name for name, repeats in zip("abc", pbc) if repeats)
    return f"repeats along {axes}" if axes else "repeats nowhere"


def target_pressures(deck: Deck) -> tuple[float, float]:
    """eV/Å^3, at the first and last step."""
    steady = deck["minimizer"].pressure if deck["mdmode"].mode == MINIMIZE else deck["barostat"].pressure or 0.0
    ends = tuple(deck["pramp"]) if deck["pramp"].p0 is not None else (steady, steady)
    return ends[0] / GPA_PER_EV_A3, ends[1] / GPA_PER_EV_A3


def ensemble_words(deck: Deck) -> list[str]:
    """What must be the same for an ensemble to go on from a checkpoint's state."""
    line, cell_line = deck["ensemble"], deck["barostat"]
    ring = [deck["pimd"].beads, deck["pimd"].method] if has_ring(deck) else []
    driven = [*deck["strain_ramp"], *deck["shear_ramp"]] if cell_is_driven(deck) else []
    return [line.kind] + ([cell_line.kind, cell_line.shape] if cell_line.kind else []) + ring + driven


def keeps_books(deck: Deck) -> bool:
    """Is the conserved quantity not simply the total energy?"""
    return deck["ensemble"].kind is not None or has_ring(deck) or cell_is_driven(deck)


def has_ring(deck: Deck) -> bool:
    return deck["pimd"].beads is not None


def choose_ensemble(deck: Deck, simulation: Simulation, start: Start) -> None:
    """As the ensemble and barostat lines say; the same ensemble goes on from its state in the checkpoint."""
    line, cell_line = deck["ensemble"], deck["barostat"]
    barostat: Barostat | CellChange | None = None
    if cell_is_driven(deck):
        plan = simulation.schedule
        stretch, shear = (np.array([*deck[name]]) for name in ("strain_ramp", "shear_ramp"))
        barostat = StrainSchedule(simulation.motion(), stretch, shear, plan.start, plan.stop)
        simulation.ensemble = Ensemble(simulation.motion(), 0.0, barostat)
    if cell_line.kind is not None:
        barostat = Barostat(cell_line.kind, cell_line.tau_p * FS_PER_PS, cell_line.shape,
                            cell_line.compressibility * GPA_PER_EV_A3)
    if line.kind is not None:
        simulation.ensemble = make_ensemble(simulation.motion(), line.kind, (line.tau or 0.0) * FS_PER_PS, barostat)
    simulation.ensemble = choose_ring(deck, simulation.ensemble, simulation.atoms)
    saved = start.state.get("ensemble")
    if saved and saved["words"] == ensemble_words(deck):
        try:
            simulation.ensemble.resume(saved)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise AgreedError(f"{start.source}: what it holds of '{line.kind}' was written by another version of "
                              "rxmdnn, or is damaged; begin the ensemble anew with '--start rxff'") from None


class AboveBar(io.TextIOBase):
    """Standard output whose lines stay above the progress bar of a terminal."""

    def write(self, text: str) -> int:
        tqdm.write(text, end="")
        return len(text)


@dataclass
class Outputs:
    """What a run writes, and when: log, frames, trajectory, checkpoints."""

    comm: MPI.Comm
    run: Run
    start: Start
    simulation: Simulation
    monitor: Monitor | None = None
    guard: Guard | None = None
    aside: str = ""  # what became of a former run's files

    def __post_init__(self) -> None:
        deck, simulation, folder = self.run.deck, self.simulation, self.run.folder
        continued = self.start.step if self.start.continued else None
        if continued is None:
            self.aside = on_root(self.comm, lambda: set_aside(folder, self.start.source))
        self.log = Log(self.comm, folder, deck["units"].energy, continued, AboveBar() if sys.stderr.isatty() else None,
                       ensemble=keeps_books(deck))
        simulation.on_print = self.log.thermo
        kinds = [write for name, write in FRAME_WRITERS.items() if getattr(deck["io_type"], name)]
        trajectory = H5MD(self.comm, folder / "trajectory.h5", continued)
        self.observers: Any = None
        if deck["observe"]:
            from rxmdnn.analysis.observe import Observers  # SciPy, only where it is used

            self.observers = Observers(self.comm, self.run, simulation, continued)
        simulation.writers = [
            (deck["io_step"].fstep, lambda thermo: self.frames(thermo, kinds)),
            even(deck["h5md"].nstep, lambda thermo: trajectory.write(self.frame(thermo))),
            *(self.observers.writers if self.observers else []),
            (deck["checkpoint"].nstep or simulation.schedule.stop, self.checkpoint),
        ]
        self.ring: RingLog | None = None
        if isinstance(simulation.ensemble, RingPolymer):
            self.ring = RingLog(self.comm, folder, simulation.ensemble, self.run.elements, self.log.write, continued)
            simulation.writers[:0] = [(deck["io_step"].pstep, self.ring.write)]
            if deck["pimd_dump"].nstep:
                beads = BeadTrajectories(self.comm, folder, simulation.ensemble, continued)
                simulation.writers[:0] = [even(deck["pimd_dump"].nstep, lambda thermo: beads.write(self.frame(thermo)))]
        if self.monitor is not None:
            self.guard = simulation.guard = Guard(
                simulation, self.monitor, care(deck), folder, self.incident, self.log.write,
                lambda step: self.rewind(step, trajectory), repelled(self.run, simulation))
            if self.observers:
                self.guard.remember = self.observers.remember
            if "fidelity" in self.start.state:
                self.guard.resume(self.start.state["fidelity"])
            guard = self.guard
            self.on_end = lambda: trajectory.rewind(simulation.step, guard.healed)

    def rewind(self, step: int, trajectory: H5MD) -> None:
        """What was written after a step belongs to a failed attempt."""
        self.log.rewind(step)
        trajectory.rewind(step, self.guard.healed if self.guard else [])
        if self.observers:
            self.observers.rewind(step)

    def incident(self, name: str, note: str, scores: np.ndarray) -> None:
        """Append the present frame, with its scores, to incidents.xyz."""
        path, folder = write_xyz(self.frame(self.simulation.thermo()), self.run.folder, name, note, scores), \
            self.run.folder

        def append() -> None:
            with open(path, "rb") as new, open(folder / "incidents.xyz", "ab") as every:
                shutil.copyfileobj(new, every)
            path.unlink()

        with writable(self.comm, folder / "incidents.xyz"):
            if self.comm.rank == 0:
                append()

    def frame(self, thermo: Thermo) -> Frame:
        s = self.simulation
        gx, gy, gz = map(int, s.domain.grid)
        atoms = s.atoms.on(s.backend.to_host)
        return Frame(self.comm, atoms, s.cell, s.n_global, self.run.elements, self.run.masses, thermo.step, thermo.time,
                     thermo.potential, thermo.kinetic, thermo.temperature, thermo.stress, (gx, gy, gz),
                     self.guard is not None and self.guard.healing)

    def frames(self, thermo: Thermo, kinds: list[Callable[[Frame, Path], Path]]) -> None:
        frame = self.frame(thermo)
        for write in kinds:
            write(frame, self.run.folder)

    def checkpoint(self, thermo: Thermo) -> None:
        """Write it, and rebuild the list next: the restarted run will, and both must go on with the same bits."""
        s, frame = self.simulation, self.frame(thermo)
        state: dict[str, Any] = {"begin": s.schedule.start, "grid": s.domain.grid.tolist()}
        if keeps_books(self.run.deck):
            state["ensemble"] = {"words": ensemble_words(self.run.deck), **s.ensemble.state()}
        if self.guard is not None:
            state["fidelity"] = self.guard.state()
        if self.observers:
            self.observers.save(thermo.step)
        write_rxff(self.comm, self.run.folder / "rxff.bin", frame.atoms, s.cell, thermo.step, frame.grid)
        write_checkpoint(frame, self.run.folder, state, self.run.deck.echo())
        s.forces.stale = True

    def begin(self, start: Start) -> None:
        """The header of the log: what will be done, by what, with which settings."""
        s, run = self.simulation, self.run
        species = s.backend.to_host(s.atoms.species[: s.atoms.n_owned])
        counts = self.comm.allreduce(np.bincount(species, minlength=len(run.elements)))
        names = [os.path.relpath(m.parameters["file"]) if "file" in m.parameters else m.kind for m in run.models]
        names += ["zbl"] if run.repulsion else []
        a, b, c, *angles = s.cell.parameters
        self.log.write(
            f"rxmdnn {rxmdnn.__version__}: {self.comm.size} rank(s) on a grid of {' x '.join(map(str, s.domain.grid))}",
            f"kernels      : {s.backend.name}, {numba.get_num_threads()} thread(s) a rank",
            f"start        : {start.source}, step {s.step}" + (", continued" if start.continued else ""),
            f"atoms        : {s.n_global}: " + " ".join(f"{n} {e}" for n, e in zip(counts, run.elements, strict=True)),
            f"cell         : {a:.5f} {b:.5f} {c:.5f} A  " + " ".join(f"{t:.3f}" for t in angles) + " degrees, "
            + periodic_along(s.cell.pbc),
            f"model        : {', '.join(names)}  cutoff {s.forces.potential.cutoff.max():.3f} A, "
            f"skin {s.forces.neighbors.skin:.2f} A, {run.deck['precision'].network}",
            f"degrees of freedom: {s.kinetics.freedoms}; steps {s.step} to {s.schedule.stop}",
            *(self.monitor.describe() if self.monitor is not None else ()),
            *self.forecast(),
            *(f"note         : {note}" for note in (
                *filter(None, [self.aside]), *run.notes, *s.backend.notes, *start.notes,
                *ring_notes(run.deck, run.elements, run.masses, start.extra))),
            "deck         :", *("    " + line for line in run.deck.echo().splitlines()),
        )

    def forecast(self) -> list[str]:
        """The chance to finish, where a single model carries a fit of its times to failure."""
        files = [m.parameters["file"] for m in self.run.models if "file" in m.parameters]
        if len(files) != 1 or len(self.run.models) != 1 or self.comm.rank:
            return []
        from rxmdnn.fidelity.forecast import lines

        s = self.simulation
        time = (s.schedule.stop - s.step) * s.schedule.dt
        return lines(files[0], s.n_global, time, max(s.schedule.ramp) if s.schedule.ramp else 0.0)

    def start_clock(self) -> None:
        """Measure from now on."""
        self.simulation.forces.timers.seconds.clear()
        self._timed_from = self.simulation.step, perf_counter()

    def end(self) -> None:
        """The PERFORMANCE line: rates, and where the time went (mean over ranks; least and most)."""
        s = self.simulation
        if self.ring:
            self.ring.averages(s.schedule.start)
        n_steps, seconds = s.step - self._timed_from[0], perf_counter() - self._timed_from[1]
        parts = ("network", "neighbors", "halo", "assembly", "integrate", *(["ring"] if self.ring else []), "output")
        mine = np.array([s.forces.timers.seconds[part] for part in parts])
        shares = np.array(self.comm.allgather(100.0 * mine / max(seconds, 1e-9)))
        rate = n_steps / max(seconds, 1e-9)
        figures = {
            "steps": n_steps, "seconds": seconds, "steps_per_s": rate, "atom_steps_per_s": rate * s.n_global,
            "ns_per_day": rate * s.schedule.dt * 86400e-6,
            "ranks": self.comm.size * self.run.deck["pimd_groups"].number, "list_builds": s.forces.builds,
            "share_percent": {part: {"mean": float(m), "min": float(lo), "max": float(hi)} for part, m, lo, hi in zip(
                parts, shares.mean(axis=0), shares.min(axis=0), shares.max(axis=0), strict=True)},
        }
        if self.guard is not None:
            self.log.write(self.guard.summary())
            self.on_end()
        self.log.write(
            f"PERFORMANCE {rate:.3f} steps/s  {rate * s.n_global:.0f} atom-steps/s  "
            f"{figures['ns_per_day']:.4f} ns/day  "
            + "  ".join(f"{part} {p['mean']:.1f}% ({p['min']:.1f}-{p['max']:.1f})"
                        for part, p in figures["share_percent"].items()),  # type: ignore[attr-defined]
            *([f"note: the run ended at {hot:.3g} K: it has most likely blown up; see rxmdnn help fidelity"]
              if (hot := s.kinetics.temperature(s.atoms)) > ABSURD else []),
            f"timed: {n_steps} steps in {seconds:.2f} s, {s.forces.builds} neighbor lists; "
            + ("stopped by its guard" if self.guard is not None and self.guard.failed else
               "stopped on a signal; run again to go on" if s.step < s.schedule.stop and s.schedule.mdmode != 10
               else f"finished at step {s.step}" if s.schedule.mdmode != 10
               else f"{'converged' if s.step < s.schedule.stop else 'NOT converged: out of steps'} at step {s.step}"),
        )
        self.log.close()
        path = self.run.deck["json"].file
        if path and self.comm.rank == 0:
            Path(path).write_text(json.dumps(figures, indent=1) + "\n")


def even(n: int, write: Callable[[Thermo], None]) -> tuple[int, Callable[[Thermo], None]]:
    """A writer of every n-th step and no other: a run's last step, which calls all writers, may lie between two."""
    return n, lambda thermo: write(thermo) if thermo.step % n == 0 else None
