"""The writers of a run: log, frames, trajectory, checkpoints."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from mpi4py import MPI
from tqdm import tqdm

import rxmdnn
from rxmdnn.deck.electrons import profile_shape
from rxmdnn.deck.motion import beads_every, ensemble_settings, has_extended_energy, motion_of
from rxmdnn.deck.run import RunDeck
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.simulation import Simulation, Thermo
from rxmdnn.excitation.profile import Profile
from rxmdnn.fidelity.guard import Guard
from rxmdnn.fidelity.monitor import Monitor
from rxmdnn.fidelity.setup import guard_settings, with_repulsion
from rxmdnn.files import Lines, write_json
from rxmdnn.io.checkpoint import write_checkpoint
from rxmdnn.io.folder import set_aside, set_aside_after
from rxmdnn.io.frame import FRAME_WRITERS, Frame, write_xyz
from rxmdnn.io.h5md import H5MD, TRAJECTORY
from rxmdnn.io.log import Log
from rxmdnn.io.ordered import writable
from rxmdnn.io.profile import ProfileSeries
from rxmdnn.io.rxff import RXFF_STEPS, write_rxff
from rxmdnn.io.stages import begin_stage
from rxmdnn.io.start import Start
from rxmdnn.io.xyz_trajectory import XYZ_TRAJECTORY, XYZTrajectory
from rxmdnn.parallel import on_root, together
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.estimates import RingEstimates
from rxmdnn.ring_polymer.output import BeadTrajectories, RingLog
from rxmdnn.ring_polymer.setup import notes as ring_notes
from rxmdnn.run.centroid_pairs import CentroidPairs
from rxmdnn.run.continuation import Continuation
from rxmdnn.run.ending import Ending, temperature_of
from rxmdnn.run.performance import Performance, performance_line

Write = Callable[[Thermo], None]
FRAME_KINDS = {"xyz": "isXYZ", "pdb": "isPDB", "bin": "isBinary"}


class AboveBar(io.TextIOBase):
    """Standard output whose lines stay above the progress bar of a terminal."""

    def write(self, text: str) -> int:
        tqdm.write(text, end="")
        return len(text)


class Outputs:
    """The writers of a run, opened in order here and closed in ``end``. All ranks of the group call everything.

    Parameters
    ----------
    comm : MPI communicator, of the ranks that hold the atoms
    run : the run's deck
    start : Start, what the run begins from; how : Continuation, how it does
    simulation : Simulation, whose ``writers``, ``on_print`` and ``guard`` are set
    monitor : Monitor, where the deck asks for one
    """

    def __init__(self, comm: MPI.Comm, run: RunDeck, start: Start, how: Continuation, simulation: Simulation,
                 monitor: Monitor | None = None) -> None:
        self.comm, self.run, self.simulation, self.monitor, self.facts = comm, run, simulation, monitor, how.facts
        self.again = how.again
        deck, folder = run.deck, run.folder
        # A run that prints its start again, from rxff.bin or for a minimization, replaces what was written of it.
        again = start.f is None or (deck["mdmode"].mode == MINIMIZATION and not how.minimizes_on)
        goes_on_from = start.step - again if start.continued else None
        self.aside = on_root(comm, lambda: self._set_aside(start))
        self.log = Log(comm, folder, deck["units"].energy, goes_on_from, AboveBar() if sys.stderr.isatty() else None,
                       has_extended_energy(deck), simulation.driven_columns, simulation.shown_columns)
        self.motion = motion_of(deck)
        self.trajectory = H5MD(comm, folder / TRAJECTORY, goes_on_from)
        self.xyz = XYZTrajectory(comm, folder / XYZ_TRAJECTORY, goes_on_from)
        shape = profile_shape(deck)
        self.profile = Profile(simulation, shape) if shape is not None else None
        self.profiles = (ProfileSeries(comm, folder, run.elements, goes_on_from, self.log.write)
                         if shape is not None else None)
        self.observers = self._make_observers(start.step if start.continued else None)
        ring = simulation.ensemble if isinstance(simulation.ensemble, RingPolymer) else None
        self.ring = None if ring is None else RingLog(comm, folder, ring, run.elements, self.log.write, goes_on_from)
        self.estimates = (RingEstimates(comm, folder, ring, deck["pimd_estimate"], run.elements, self.log.write,
                                        goes_on_from) if ring is not None and deck["pimd_estimate"] else None)
        self.beads = (BeadTrajectories(comm, folder, ring, goes_on_from)
                      if ring is not None and beads_every(deck) else None)
        self.pairs = (CentroidPairs(comm, folder, simulation, self.frame, goes_on_from)
                      if deck["pimd_pairs"].nstep else None)
        self.guard = None if monitor is None else self._make_guard(monitor, start, how.same_stage)
        self.performance = Performance(simulation, comm.size * deck["pimd_groups"].number)
        simulation.on_print, simulation.writers, simulation.guard = self.log.thermo, self._writers(), self.guard
        what = {"atoms": simulation.n_global, "pbc": simulation.cell.pbc.tolist(), **how.facts}
        with writable(comm, folder / "stages.jsonl"):
            if comm.rank == 0:
                begin_stage(folder, goes_on_from, what, new=not how.same_stage)

    def _set_aside(self, start: Start) -> str:
        """Move away what earlier runs have left and this one does not continue; a note for the log."""
        deck, folder, stop = self.run.deck, self.run.folder, self.simulation.schedule.stop
        if not start.continued:
            return set_aside(folder, start.source)
        every, kinds = deck["io_step"].fstep, deck["io_type"]
        return set_aside_after(folder, start.step, lambda step, suffix: bool(every) and step % every == 0
                               and step <= stop and getattr(kinds, FRAME_KINDS[suffix]))

    def _make_observers(self, goes_on_from: int | None) -> Any:
        if not self.run.deck["observe"]:
            return None
        from rxmdnn.analysis.observe import Observers  # SciPy, only where it is used

        return Observers(self.comm, self.run, self.simulation, goes_on_from)

    def _make_guard(self, monitor: Monitor, start: Start, same_stage: bool) -> Guard:
        deck, simulation, saved = self.run.deck, self.simulation, start.state.get("fidelity")
        guard = Guard(simulation, monitor, guard_settings(deck), self.run.folder, self.incident, self.log.write,
                      self.rewind, with_repulsion(self.run, simulation))
        if self.observers is not None:
            guard.remember = self.observers.remember
        if saved is not None:
            with together(self.comm):
                guard.resume(saved if same_stage else {**saved, "energy_0": None}, start.source)
        return guard

    def _writers(self) -> list[tuple[int, Write]]:
        """(every so many steps, what is called), in the order of the calls."""
        deck, stop = self.run.deck, self.simulation.schedule.stop
        kinds = [write for name, write in FRAME_WRITERS.items() if getattr(deck["io_type"], name)]
        out: list[tuple[int, Write]] = []
        if self.beads is not None:
            beads = self.beads
            out.append(only_every(beads_every(deck), lambda thermo: beads.write(self.frame(thermo))))
        if self.pairs is not None:
            out.append(only_every(deck["pimd_pairs"].nstep, self.pairs.write))
        if self.ring is not None:
            out.append((deck["io_step"].pstep, self.ring.write))
        if self.estimates is not None:
            out += self.estimates.writers
        out += [(deck["io_step"].fstep, lambda thermo: self._frames_due(thermo, kinds)),
                only_every(deck["h5md"].nstep, lambda thermo: self.trajectory.write(self.frame(thermo))),
                only_every(deck["xyz"].nstep, lambda thermo: self.xyz.write(self.frame(thermo)))]
        if self.profile is not None:
            out.append(only_every(deck["profile"].nstep, self._write_profile))
        if self.observers is not None:
            out += self.observers.writers
        return [*out, (deck["checkpoint"].nstep or stop, self.checkpoint)]

    # ------------------------------------------------------------------ what is written
    def rewind(self, step: int) -> None:
        """Drop what was written after a step: it belongs to a failed attempt."""
        self.log.rewind(step)
        self.trajectory.rewind(step, self.guard.healed if self.guard is not None else [])
        self.xyz.rewind(step)
        if self.pairs is not None:
            self.pairs.rewind(step)
        if self.profiles is not None:
            self.profiles.rewind(step)
        if self.observers is not None:
            self.observers.rewind(step)

    def incident(self, name: str, note: str, scores: np.ndarray) -> None:
        """Append the present frame, with its scores, to incidents.xyz."""
        folder = self.run.folder
        path = write_xyz(self.frame(self.simulation.thermo()), folder, name, note, scores)

        def append() -> None:
            every = Lines(folder / "incidents.xyz")
            try:
                every.add(path.read_text(encoding="utf-8"))
            finally:
                every.close()
            path.unlink()

        with writable(self.comm, folder / "incidents.xyz"):
            if self.comm.rank == 0:
                append()

    def frame(self, thermo: Thermo) -> Frame:
        """The present frame, whose arrays are on the host."""
        s = self.simulation
        gx, gy, gz = map(int, s.domain.grid)
        atoms = s.atoms.on(s.backend.to_host)
        return Frame(self.comm, atoms, s.cell, s.n_global, self.run.elements, self.run.masses, thermo.step, thermo.time,
                     thermo.potential, thermo.kinetic, thermo.temperature, thermo.stress, (gx, gy, gz),
                     self.guard is not None and self.guard.healing, s.forces.virial(), self.motion)

    def frames(self, thermo: Thermo, kinds: list[Callable[[Frame, Path], Path]]) -> None:
        """Write the present frame in several formats."""
        frame = self.frame(thermo)
        for write in kinds:
            write(frame, self.run.folder)

    def _frames_due(self, thermo: Thermo, kinds: list[Callable[[Frame, Path], Path]]) -> None:
        """Write frames, but none where a signal interrupts the run, between two that are equally spaced."""
        if not self.simulation.signalled or thermo.step % self.run.deck["io_step"].fstep == 0:
            self.frames(thermo, kinds)

    def _write_profile(self, thermo: Thermo) -> None:
        assert self.profile is not None and self.profiles is not None
        self.profiles.write(thermo.step, thermo.time, self.simulation.cell.h, self.profile.values())

    def checkpoint(self, thermo: Thermo) -> None:
        """Write it, and rebuild the list next: the restarted run will, and both must go on with the same bits.

        rxff.bin comes last: without a checkpoint a run would go on from it, without the state of its ensemble.
        """
        s, frame = self.simulation, self.frame(thermo)
        state: dict[str, Any] = {"begin": s.schedule.start, "stop": s.schedule.stop, "grid": s.domain.grid.tolist(),
                                 "run": self.facts}
        if has_extended_energy(self.run.deck):
            state["ensemble"] = {"words": ensemble_settings(self.run.deck), **s.ensemble.state()}
        if s.minimizer is not None and not s.converged:
            state["minimizer"] = s.minimizer.state()
        if s.drives:
            state["drives"] = {drive.name: drive.saved(self.comm) for drive in s.drives}
        if self.guard is not None:
            state["fidelity"] = self.guard.state()
        if self.observers is not None:
            self.observers.save(thermo.step)
        write_checkpoint(frame, self.run.folder, state, self.run.deck.echo())
        self._write_rxff()
        s.rebuild(thermo)

    def _write_rxff(self) -> None:
        s = self.simulation
        if s.step >= RXFF_STEPS:
            return  # the checkpoint alone has it
        gx, gy, gz = map(int, s.domain.grid)
        write_rxff(self.comm, self.run.folder / "rxff.bin", s.atoms.on(s.backend.to_host), s.cell, s.step, (gx, gy, gz),
                   self.run.elements, self.run.masses)

    # ------------------------------------------------------------------ the log's head and foot
    def begin(self, start: Start) -> None:
        """The header of the log: what will be done, by what, with which settings."""
        s, run = self.simulation, self.run
        if start.f is not None and s.step >= s.schedule.stop:  # a run killed after its last checkpoint
            self._write_rxff()
        species = s.backend.to_host(s.atoms.species[: s.atoms.n_owned])
        counts = self.comm.allreduce(np.bincount(species, minlength=len(run.elements)))
        names = [os.path.relpath(m.parameters["file"]) if "file" in m.parameters else m.kind for m in run.models]
        names += [*(["zbl"] if run.repulsion else []), *(table.kind for table in run.pair_terms)]
        a, b, c, *angles = s.cell.parameters
        notes = (*filter(None, [self.aside]), *run.notes, *s.backend.notes, *start.notes,
                 *ring_notes(run.deck, run.elements, run.masses, start.extra, run.may_bond))
        self.log.write(
            *filter(None, [self.again]),
            f"rxmdnn {rxmdnn.__version__}: {self.comm.size} rank(s) on a grid of {' x '.join(map(str, s.domain.grid))}",
            f"kernels      : {s.backend.name}, {numba.get_num_threads()} thread(s) per rank",
            f"start        : {start.source}, step {s.step}" + (", continued" if start.continued else ""),
            f"atoms        : {s.n_global}: " + " ".join(f"{n} {e}" for n, e in zip(counts, run.elements, strict=True)),
            f"cell         : {a:.5f} {b:.5f} {c:.5f} A  " + " ".join(f"{t:.3f}" for t in angles) + " degrees, "
            + (f"periodic along {s.cell.axes}" if s.cell.pbc.any() else "non-periodic"),
            f"model        : {', '.join(names)}  cutoff {s.forces.potential.cutoff.max():.3f} A, "
            f"skin {s.forces.neighbors.skin:.2f} A, {run.deck['precision'].network}",
            f"degrees of freedom: {s.kinetics.degrees_of_freedom}; steps {s.step} to {max(s.step, s.schedule.stop)}",
            *(self.monitor.describe() if self.monitor is not None else ()),
            *self.forecast(),
            *(f"note         : {note}" for note in notes),
            "deck         :", *("    " + line for line in run.deck.echo().splitlines()),
        )

    def forecast(self) -> list[str]:
        """The probability of completing, where a single model carries a fit of times to failure or a certificate."""
        files = [m.parameters["file"] for m in self.run.models if "file" in m.parameters]
        s = self.simulation
        if len(files) != 1 or len(self.run.models) != 1 or self.comm.rank or s.step >= s.schedule.stop:
            return []
        from rxmdnn.survival import certificate, forecast

        ramp = s.schedule.ramp or (0.0, 0.0)
        time = (s.schedule.stop - s.step) * s.schedule.dt
        changed = "the study has classical runs" if isinstance(s.ensemble, RingPolymer) else \
            "the study has runs on which nothing acts from outside" if s.drives else ""
        return [*forecast.lines(files[0], s.n_global, time, max(ramp)),
                *certificate.lines(files[0], s.n_global, time, (min(ramp), max(ramp)), s.schedule.dt, changed)]

    def end(self, ending: Ending) -> None:
        """Averages, the PERFORMANCE line and how the run ended; closes the log."""
        s, path = self.simulation, self.run.deck["json"].file
        if self.ring is not None:
            self.ring.averages(s.schedule.start)
        if self.estimates is not None:
            self.estimates.averages(s.schedule.start)
        figures = self.performance.figures()
        if self.guard is not None:
            self.log.write(self.guard.summary())
            self.trajectory.rewind(s.step, self.guard.healed)
        temperature = temperature_of(s)
        self.log.write(
            performance_line(figures),
            *([f"FAILED: the run ended at {temperature:.3g} K: it has become unstable; start again from an earlier "
               "frame with a smaller 'time' dt, and see rxmdnn help fidelity"] if ending is Ending.UNSTABLE else []),
            f"timed: {figures['steps']} steps in {figures['seconds']:.2f} s, {s.forces.builds} neighbor lists; "
            + ending.text(s.step))
        self.log.close()
        if path:
            with writable(self.comm, path):
                if self.comm.rank == 0:
                    write_json(path, figures)


def only_every(n: int, write: Write) -> tuple[int, Write]:
    """A writer of every n-th step and no other: a run's last step, which calls all writers, may lie between two."""
    return n, lambda thermo: write(thermo) if thermo.step % n == 0 else None
