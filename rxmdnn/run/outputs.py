"""What a run writes, and when: log, frames, trajectory, checkpoints."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numba
import numpy as np
from mpi4py import MPI
from tqdm import tqdm

import rxmdnn
from rxmdnn.deck.run import RunDeck, ensemble_settings, has_extended_energy
from rxmdnn.dynamics.simulation import Simulation, Thermo
from rxmdnn.fidelity.guard import Guard
from rxmdnn.fidelity.monitor import Monitor
from rxmdnn.fidelity.setup import guard_settings, with_repulsion
from rxmdnn.io.checkpoint import write_checkpoint
from rxmdnn.io.folder import set_aside
from rxmdnn.io.frame import FRAME_WRITERS, Frame, write_xyz
from rxmdnn.io.h5md import H5MD
from rxmdnn.io.log import Log
from rxmdnn.io.ordered import writable
from rxmdnn.io.rxff import write_rxff
from rxmdnn.parallel import on_root
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.output import BeadTrajectories, RingLog
from rxmdnn.ring_polymer.setup import notes as ring_notes
from rxmdnn.run.start import Start

ABSURD = 2e4  # K: molecules are long gone


def periodic_along(pbc: Iterable[bool]) -> str:
    axes = " ".join(name for name, repeats in zip("abc", pbc) if repeats)
    return f"repeats along {axes}" if axes else "repeats nowhere"


class AboveBar(io.TextIOBase):
    """Standard output whose lines stay above the progress bar of a terminal."""

    def write(self, text: str) -> int:
        tqdm.write(text, end="")
        return len(text)


@dataclass
class Outputs:
    """What a run writes, and when: log, frames, trajectory, checkpoints."""

    comm: MPI.Comm
    run: RunDeck
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
                       ensemble=has_extended_energy(deck))
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
                simulation, self.monitor, guard_settings(deck), folder, self.incident, self.log.write,
                lambda step: self.rewind(step, trajectory), with_repulsion(self.run, simulation))
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
        if has_extended_energy(self.run.deck):
            state["ensemble"] = {"words": ensemble_settings(self.run.deck), **s.ensemble.state()}
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
            f"degrees of freedom: {s.kinetics.degrees_of_freedom}; steps {s.step} to {s.schedule.stop}",
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
        from rxmdnn.survival.forecast import lines

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
