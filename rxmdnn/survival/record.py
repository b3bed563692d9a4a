"""The record of one run of a study: when each criterion was first met, the frames that are kept, and its table row."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from rxmdnn.deck.tfail import WATCHED
from rxmdnn.io.frame import model_frame
from rxmdnn.survival.plan import StudyPlan, StudyRun


class RunRecord:
    """What is recorded of a run while it is propagated.

    Attributes
    ----------
    first : {criterion: (step, atom, value, threshold)} of the first check at which it was met; atom -1 for the system
    frames : list of str, extended XYZ
    failure : str, criterion that ended the run; "" while there is none
    """

    def __init__(self, plan: StudyPlan, run: StudyRun) -> None:
        self.plan, self.run = plan, run
        self.first: dict[str, tuple[int, int, float, float]] = {}
        self.frames: list[str] = []
        self.failure = ""
        self._recent: deque[tuple[int, np.ndarray, np.ndarray]] = deque(maxlen=plan.deck["frames"].count)

    def note(self, kind: str, step: int, atom: int, value: float, threshold: float) -> None:
        """Record that a criterion was met, if it is the first time."""
        self.first.setdefault(kind, (step, atom, value, threshold))

    def keep_recent(self, step: int, x: np.ndarray, f: np.ndarray) -> None:
        """Remember a frame that is written if the run fails soon. x : (n, 3) Å; f : (n, 3) eV/Å."""
        self._recent.append((step, x.copy(), f.copy()))

    def sample(self, step: int, x: np.ndarray, f: np.ndarray) -> None:
        """Keep a frame whatever happens to the run. x : (n, 3) Å; f : (n, 3) eV/Å."""
        self.frames.append(self._frame(step, x, f, "sample"))

    def settle_failure(self, step: int, x: np.ndarray | None = None, f: np.ndarray | None = None) -> None:
        """Set ``failure`` if a criterion of the deck was met; keep the frames before it, and this one if finite."""
        kinds = self.plan.criteria
        met = [kind for kind in kinds if kind in self.first]
        if self.failure or not met:
            return
        self.failure = min(met, key=lambda kind: (self.first[kind][0], kinds.index(kind)))
        self.frames += [self._frame(s, x_s, f_s, "before") for s, x_s, f_s in self._recent if s < step]
        if x is not None and f is not None and np.isfinite(x).all() and np.isfinite(f).all():
            self.frames.append(self._frame(step, x, f, "failure"))

    def is_complete(self, step: int) -> bool:
        """Did the run fail, and continue for the steps that the deck asks for after a failure?"""
        return bool(self.failure) and step - self.first[self.failure][0] >= self.plan.deck["after"].steps

    def row(self, step: int) -> list[Any]:
        """The row of results.csv of a run that ended at this step."""
        run, plan, kind = self.run, self.plan, self.failure
        at, gid, value, threshold = self.first[kind] if kind else (-1, -1, float("nan"), float("nan"))
        end = max(step, at)
        return [run.name, run.model.name, run.model.arm, run.model.seed, run.n, float(run.temperature), run.replica,
                float(plan.dt), plan.check_steps, plan.cap_steps, end, float(end * plan.dt), int(bool(kind)), kind, at,
                gid, float(value), float(threshold), *(self.first.get(k, (-1,))[0] for k in WATCHED)]

    def _frame(self, step: int, x: np.ndarray, f: np.ndarray, kind: str) -> str:
        """A frame in extended XYZ with the forces of the model, under a name that no training takes for labels."""
        run, start = self.run, self.plan.starts[self.run.n]
        mass = dict(zip(self.plan.elements, self.plan.mass.tolist(), strict=True))
        info: dict[str, Any] = {"run": run.name, "kind": kind, "model": run.model.name, "arm": run.model.arm,
                      "training_seed": run.model.seed, "temperature": run.temperature, "replica": run.replica,
                      "step": step, "time_fs": float(step * self.plan.dt)}
        if kind != "sample":
            failed_at, gid, value, _ = self.first[self.failure]
            info |= {"criterion": self.failure, "failed_step": failed_at, "gid": gid, "value": float(value)}
        return model_frame(start.names, [mass[str(e)] for e in start.names], x, f, start.cell, info)
