"""The step loop: what is done to the atoms, what is due when, and how long it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.drive import Drive, StepTime
from rxmdnn.dynamics.ensembles import Ensemble, Motion, StepTargets
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.dynamics.minimize import LEFT_BY_MINIMIZERS, ConjugateGradient, Fire
from rxmdnn.dynamics.thermostat import MDMODE_FUNCTIONS, VelocityControl
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.parallel import FailedRunError, failing
from rxmdnn.signals import remembered
from rxmdnn.units import GPA_PER_EV_A3

WORK_OF_ENSEMBLE = "work_ensemble_eV"  # column: heat of the thermostat and work of the cell
LOOK_EVERY = 10  # steps between looks for a signal, at most


@dataclass
class Thermo:
    """Thermodynamic quantities of a step: energies in eV, temperature in K, stress (3, 3) in GPa, tension positive."""

    step: int
    time: float  # fs
    potential: float
    kinetic: float
    temperature: float
    stress: np.ndarray
    spread: tuple[float, float] | None  # standard deviation over a mixture: energy (eV), forces (eV/Å)
    seconds: float  # wall time since the last print
    volume: float  # Å^3
    conserved: float  # eV: constant but for the error of the time step; the total energy of a run without ensemble
    driven: dict[str, float] = field(default_factory=dict)  # columns of what acts from outside: works, eV, and others

    @property
    def total(self) -> float:
        return self.potential + self.kinetic

    @property
    def pressure(self) -> float:
        """GPa."""
        return -float(np.trace(self.stress)) / 3.0


@dataclass
class Schedule:
    """When things happen, in steps; 0 is never.

    ramp, pressures : targets at the first and last step, K and eV/Å^3.
    """

    dt: float  # fs
    stop: int  # the step at which the run ends
    mdmode: int
    ramp: tuple[float, float]
    vsfact: float
    sstep: int
    pstep: int
    seed: int
    start: int = 0  # where the ramp began
    minimizer: str = "cg"  # of mdmode 10
    tolerance: float = 1e-6  # eV per atom, when cg has converged
    fmax: float = 1e-3  # eV/Å, when fire has
    cell_shape: str | None = None  # what of the cell fire minimizes too
    pressures: tuple[float, float] = (0.0, 0.0)

    def target(self, step: int) -> float:
        """K, along the ramp."""
        return self._along(self.ramp, step)

    def now(self, step: int) -> StepTargets:
        """What an ensemble aims at in the step that begins at ``step``."""
        return StepTargets(step, self.target(step), self._along(self.pressures, step))

    def _along(self, ends: tuple[float, float], step: int) -> float:
        return ends[0] + (ends[1] - ends[0]) * ((step - self.start) / max(self.stop - self.start, 1))


class StepGuard(Protocol):
    """What watches a run, and may undo steps (see rxmdnn.fidelity.guard)."""

    def begin(self) -> None:
        """Before the first step."""

    def advance(self) -> bool:
        """Take a step; False if the run is then elsewhere, or stops."""


@dataclass
class Simulation:
    """A run: its parts, its step, and what is called when something is due.

    on_print : called with a Thermo every ``pstep`` steps and at the end, on all ranks
    writers  : (every, call) pairs, called with the Thermo of a step, on all ranks
    """

    comm: MPI.Comm
    backend: Backend
    domain: Domain
    forces: Forces
    atoms: Atoms
    mass: np.ndarray
    schedule: Schedule
    n_global: int
    step: int = 0
    time_0: float = 0.0  # fs, at step 0
    on_print: Callable[[Thermo], None] = lambda thermo: None
    writers: list[tuple[int, Callable[[Thermo], None]]] = field(default_factory=list)
    stopping: bool = False  # the loop ends after this step
    signalled: int = 0  # ... because of a signal: its number
    converged: bool = False  # ... because the minimization has converged
    forces_known: bool = True  # of a restart: whether the forces of the start are those of this potential
    guard: StepGuard | None = None  # takes the steps, where there is one
    parts: int = 1  # shorter steps that make up one
    everyone: MPI.Comm | None = None  # where ranks of other groups take the same steps (rxmdnn.ring_polymer.groups)
    minimizer: ConjugateGradient | Fire | None = None  # while it minimizes
    minimizer_state: dict[str, Any] | None = None  # of the checkpoint, from which the minimizer goes on
    drives: list[Drive] = field(default_factory=list)  # what acts from outside

    def __post_init__(self) -> None:
        self.kinetics = Kinetics(self.comm, self.backend, self.mass, self.n_global)
        self.ensemble = Ensemble(self.motion(), 0.0)
        self._printed = perf_counter()

    def motion(self) -> Motion:
        """The moves that an ensemble is made of."""
        return Motion(self.forces, self.kinetics, self.schedule.dt, self.schedule.seed)

    @property
    def cell(self) -> Cell:
        return self.domain.cell

    @property
    def time(self) -> float:
        """fs."""
        return self.time_0 + self.step * self.schedule.dt

    # ------------------------------------------------------------------ observables
    def thermo(self) -> Thermo:
        """Energies and stress now. Stress σ = -(Σ m v⊗v + W)/V, so that tr σ = -3 p."""
        motion = self.kinetics.tensors(self.atoms).sum(axis=0)
        potential, kinetic = self.forces.energy(), 0.5 * float(np.trace(motion))
        stress = -(motion + self.forces.virial()) / self.cell.volume * GPA_PER_EV_A3
        now = perf_counter()
        seconds, self._printed = now - self._printed, now
        return Thermo(self.step, self.time, potential, kinetic, self.kinetics.temperature_of(kinetic), stress,
                      self.forces.spread(self.atoms), seconds, self.cell.volume, self.conserved(potential + kinetic),
                      self._driven(potential + kinetic))

    def conserved(self, total: float) -> float:
        """The conserved quantity, eV: without heat and work of all that acts on the atoms. All ranks call it.

        total : potential plus kinetic energy, eV
        """
        work = sum(drive.total_work(self.comm) for drive in self.drives)
        return self.ensemble.conserved(total, self.schedule.now(self.step)) - work

    @property
    def driven_columns(self) -> list[str]:
        """Names of the columns of a driven run: all works that the conserved quantity is without, and others."""
        return [name for drive in self.drives for name in (f"work_{drive.name}_eV", *drive.column_names)] + (
            [WORK_OF_ENSEMBLE] if self.drives else [])

    @property
    def shown_columns(self) -> list[str]:
        """Those of the driven columns that the log shows."""
        works = [name for name in self.driven_columns if name.startswith("work_")]
        return works + [name for drive in self.drives for name in drive.shown]

    def _driven(self, total: float) -> dict[str, float]:
        """Their values. total : potential plus kinetic energy, eV"""
        columns: dict[str, float] = {}
        for drive in self.drives:
            columns |= {f"work_{drive.name}_eV": drive.total_work(self.comm), **drive.columns()}
        if columns:
            columns[WORK_OF_ENSEMBLE] = total - self.ensemble.conserved(total, self.schedule.now(self.step))
        return columns

    def _check(self, thermo: Thermo) -> None:
        """Raise AgreedError where energies are not finite or atoms were lost."""
        alive = self.comm.allreduce(self.atoms.n_owned)
        if not np.isfinite(thermo.total):
            raise FailedRunError(
                f"step {thermo.step}: the energy is not finite: atoms came too close, the model was used far from its "
                f"data, or dt is too long; restart from the last checkpoint with a smaller 'time' dt"
            )
        if alive != self.n_global:
            raise FailedRunError(f"step {thermo.step}: {self.n_global - alive} atoms were lost; use a smaller dt")

    # ------------------------------------------------------------------ the loop
    def steps(self, restarted: bool) -> Iterable[int]:
        """Run to ``schedule.stop``; yields the number of every finished step.

        A restarted run goes on with the forces of its checkpoint, so that it repeats the bits of the run it
        continues; a new one computes them first and prints its start. A restart with other forces computes them.
        """
        with remembered() as asked:
            for drive in self.drives:
                drive.begin(self)
            if self.schedule.mdmode == MINIMIZATION:
                yield from self._minimize(asked)
                return
            if not (restarted and self.forces_known):
                self.forces.compute(self.atoms)
            self.ensemble.begin(self.atoms)
            if self.step < self.schedule.stop:
                self._agree_on_signal(asked)
            if self.guard is not None:  # before the first checkpoint, which holds what it refers to
                self.guard.begin()
            if not restarted:
                self._due(first=True)
            plan = self.schedule
            while self.step < plan.stop and not self.stopping:
                if self.guard is None:
                    self.advance()
                elif not self.guard.advance():
                    continue
                self._look_for_signal(asked)
                self._due()
                yield self.step

    def _look_for_signal(self, asked: list[int]) -> None:
        """Every so many steps, have the ranks agree on whether one of them was asked to stop."""
        if self.step % min(self.schedule.pstep or LOOK_EVERY, LOOK_EVERY) == 0 and self.step < self.schedule.stop:
            self._agree_on_signal(asked)

    def _agree_on_signal(self, asked: list[int]) -> None:
        self.signalled = (self.everyone or self.comm).allreduce(max(asked, default=0), MPI.MAX)
        self.stopping = self.stopping or bool(self.signalled)

    def advance(self) -> None:
        """Take one step, made of ``parts`` shorter ones with different noise."""
        plan, motion = self.schedule, self.ensemble.motion
        if plan.sstep and self.step % plan.sstep == 0:
            control = VelocityControl(self.kinetics, plan.target(self.step), plan.vsfact, plan.seed, self.step)
            MDMODE_FUNCTIONS[plan.mdmode](self.atoms, control)
        for part in range(self.parts):
            motion.dt, motion.seed = plan.dt / self.parts, plan.seed + (part << 32)
            with failing():
                self._step(StepTime(self.step, self.time + part * motion.dt, motion.dt, part, motion.seed))
        self.step += 1

    def _step(self, now: StepTime) -> None:
        for drive in self.drives:
            drive.before(self.atoms, now)
        self.ensemble.step(self.atoms, self.schedule.now(self.step))
        for drive in self.drives:
            drive.after(self.atoms, now)

    def rebuild(self, thermo: Thermo) -> None:
        """Have the next step make a new list, as a run that starts from here does."""
        self.forces.stale = True

    def owes(self, step: int) -> bool:
        """Whether something will be printed or written at this step."""
        every = [self.schedule.pstep, *(n for n, _ in self.writers)]
        return step == self.schedule.stop or any(n and step % n == 0 for n in every)

    def _minimize(self, asked: list[int]) -> Iterable[int]:
        plan = self.schedule
        parts = self.domain, self.forces, self.atoms
        self.minimizer = (ConjugateGradient(*parts, plan.tolerance) if plan.minimizer == "cg" else
                          Fire(*parts, plan.fmax, plan.cell_shape, plan.pressures[0]))
        first, taken = self.step, 0
        if self.minimizer_state is not None:
            self.minimizer.resume(self.minimizer_state)
            taken, self.stopping = 1, self.step >= plan.stop
            if not self.stopping:  # its checkpoint is there: nothing is lost
                self._agree_on_signal(asked)
        every = iter(self.minimizer)
        while not self.stopping:
            with failing():
                self.converged = next(every)
            self.step = first + taken
            self.stopping = self.converged or self.step >= plan.stop
            if not self.stopping:
                self._look_for_signal(asked)
            self._due(first=True)
            yield self.step
            taken += 1
        for name in LEFT_BY_MINIMIZERS:
            self.atoms.extra.pop(name, None)

    def _due(self, first: bool = False) -> None:
        """Print and write what this step owes; at the last step everything."""
        step, last = self.step, self.step == self.schedule.stop or self.stopping
        prints = first or last or (self.schedule.pstep and step % self.schedule.pstep == 0)
        calls = [call for every, call in self.writers if every and (last or step % every == 0)]
        if not (prints or calls):
            return
        with self.forces.timers("output"):
            thermo = self.thermo()
            self._check(thermo)
            if prints:
                self.on_print(thermo)
            for call in calls:
                call(thermo)
