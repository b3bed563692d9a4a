"""A batch: replicas of one model and size, propagated together until the last of them has failed or reached the cap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rxmdnn.deck.tfail import WATCHED
from rxmdnn.survival import results
from rxmdnn.survival.dispatcher import Dispatcher
from rxmdnn.survival.plan import StudyPlan, StudyRun
from rxmdnn.survival.record import RunRecord
from rxmdnn.survival.replicas import THERMOSTATS, ReplicaNVE
from rxmdnn.survival.watch import BatchWatch


class ReplicaBatch:
    """The runs of a batch in flight; a run that ends is reported to the dispatcher and removed at once.

    Parameters
    ----------
    plan : StudyPlan
    runs : K StudyRun of one model and size
    x : (K, n, 3) float64, Å, start positions
    dispatcher : Dispatcher, which receives the runs that end
    """

    def __init__(self, plan: StudyPlan, runs: Sequence[StudyRun], x: np.ndarray, dispatcher: Dispatcher) -> None:
        self.plan, self.dispatcher = plan, dispatcher
        n = runs[0].n
        potential = plan.potential(runs[0].model.file)
        bonds = plan.bonds(potential, n)
        self.replicas = plan.replicas(potential, n, x, np.array([run.temperature for run in runs]),
                                      np.array([run.key for run in runs]))
        self.records = [RunRecord(plan, run) for run in runs]
        self.replicas.draw_velocities()
        self.replicas.compute()
        kind, tau = plan.deck["thermostat"].kind, plan.deck["thermostat"].tau
        self.thermostat: ReplicaNVE = THERMOSTATS[kind](self.replicas, plan.dt, tau)
        self.watch = BatchWatch(plan, self.thermostat, bonds)

    def run(self) -> None:
        """Propagate until every run has ended."""
        with np.errstate(over="ignore", invalid="ignore"):
            for step in range(1, self.plan.cap_steps + 1):
                self._step(step)
                if not self.records:
                    return
                self.dispatcher.poll()
        self._end(np.ones(len(self.replicas), bool), self.plan.cap_steps)

    def _step(self, step: int) -> None:
        """One time step, its frames, and the check where one is due."""
        self.thermostat.before_forces(step)
        self._end_diverged(step)
        if not self.records:
            return
        self.replicas.compute()
        self.thermostat.after_forces(step)
        self._keep_frames(step)
        if step % self.plan.check_steps == 0:
            self._check(step)

    def _end_diverged(self, step: int) -> None:
        """End the replicas whose forces cannot be computed; they meet every criterion."""
        diverged = self.replicas.diverged(self.plan.dt)
        for k in np.flatnonzero(diverged).tolist():
            atom = int(np.argmax(np.nan_to_num(np.abs(self.replicas.v[k]).max(axis=1), nan=np.inf)))
            for kind in WATCHED:
                self.records[k].note(kind, step, atom, float("inf"), 0.0)
        self._end(diverged, step)

    def _keep_frames(self, step: int) -> None:
        frames, samples = self.plan.deck["frames"], self.plan.deck["samples"].steps
        if frames.count and step % frames.spacing == 0:
            for record, x, f in zip(self.records, self.replicas.x, self.replicas.f, strict=True):
                record.keep_recent(step, x, f)
        if samples and step % samples == 0:
            for record, x, f in zip(self.records, self.replicas.x, self.replicas.f, strict=True):
                record.sample(step, x, f)

    def _check(self, step: int) -> None:
        """Evaluate the criteria; end the runs that are complete."""
        self.watch.check(step, self.records)
        for record, x, f in zip(self.records, self.replicas.x, self.replicas.f, strict=True):
            record.settle_failure(step, x, f)
        self._end(np.array([record.is_complete(step) for record in self.records]), step)

    def _end(self, ended: np.ndarray, step: int) -> None:
        """Report the runs that end at this step, and continue without them. ended : (K,) bool."""
        if not ended.any():
            return
        for k in np.flatnonzero(ended).tolist():
            record = self.records[k]
            record.settle_failure(step)
            self.dispatcher.report(results.line(record.row(step)), "".join(record.frames))
        self.records = [record for record, out in zip(self.records, ended) if not out]
        for part in (self.thermostat, self.watch, self.replicas):
            part.keep(~ended)
