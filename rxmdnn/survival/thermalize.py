"""Positions from which the runs of a study start: the frames of its start files, thermalized where the deck asks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.files import atomic, writing
from rxmdnn.models.interface import Potential
from rxmdnn.npz import read_npz
from rxmdnn.parallel import together
from rxmdnn.schema import Checked, Item
from rxmdnn.survival.plan import StudyPlan, StudyRun
from rxmdnn.survival.replicas import ReplicaLangevin
from rxmdnn.units import FS_PER_PS

TAU = 100.0  # fs, of the Langevin thermostat
REMOVE = "remove it, and it is made again"
KEY_OFFSET = 1 << 33  # separates the random numbers of thermalization from those of the runs


class StartPositions:
    """Start positions of the runs of a plan; thermalized ones are kept in files below the folder of the study."""

    def __init__(self, plan: StudyPlan, comm: MPI.Intracomm) -> None:
        self.plan, self.comm = plan, comm
        self._thermalize = plan.deck["thermalize"]

    def prepare(self, runs: Sequence[StudyRun]) -> None:
        """Thermalize the starts of the runs that have no file yet; each rank takes its share. All ranks call this."""
        groups = sorted({(r.n, r.temperature) for r in runs}, reverse=True)
        line = self._thermalize
        if line.file is None or not groups:
            return
        with together(self.comm):
            potential = self.plan.potential(line.file)
        settings = f"{line.time} {line.dt} {self.plan.deck['seed'].number}"
        digest = zlib.crc32(line.file.read_bytes() + settings.encode())
        for n, t in groups[self.comm.rank :: self.comm.size]:
            count = 1 + max(r.start for r in self.plan.runs() if (r.n, r.temperature) == (n, t))
            path = self._file(n, t)
            if not _holds(path, count, digest):
                x = self._thermalized(potential, n, t, count)
                with writing(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic(path) as new, new.open("wb") as out:
                        np.savez(out, x=x, digest=digest)
        self.comm.Barrier()

    def of(self, runs: Sequence[StudyRun]) -> np.ndarray:
        """(K, n, 3) Å, of K runs of one size."""
        if self._thermalize.file is None:
            frames = self.plan.starts[runs[0].n].x
            return np.array([frames[r.start % len(frames)] for r in runs])
        out = []
        for run in runs:
            out.append(_stored(self._file(run.n, run.temperature))["x"][run.start])
        return np.array(out)

    def _file(self, n: int, t: float) -> Path:
        return self.plan.folder / "starts" / f"{n}_{t:g}.npz"

    def _thermalized(self, potential: Potential, n: int, t: float, count: int) -> np.ndarray:
        """(count, n, 3) Å after a Langevin run of the reference model at t K."""
        line, frames = self._thermalize, self.plan.starts[n].x
        keys = np.array([StudyRun(self.plan.models[0], n, t, k).key for k in range(count)])
        r = self.plan.replicas(potential, n, frames[np.arange(count) % len(frames)], np.full(count, t),
                               keys + KEY_OFFSET)
        r.draw_velocities()
        r.compute()
        thermostat = ReplicaLangevin(r, line.dt, TAU)
        for step in range(1, round(line.time * FS_PER_PS / line.dt) + 1):
            thermostat.before_forces(step)
            if r.diverged(line.dt).any():
                raise InputError(f"thermalize: {line.file}: {n} atoms at {t:g} K became unstable at step {step}; use a "
                                 "shorter dt or another model")
            r.compute()
            thermostat.after_forces(step)
        return r.x


def _holds(path: Path, count: int, digest: int) -> bool:
    """Does the file hold so many starts of this model and these settings?"""
    if not path.exists():
        return False
    stored = _stored(path)
    return len(stored["x"]) >= count and stored["digest"] == digest


def _stored(path: Path) -> dict[str, Any]:
    """x (starts, n, 3) Å and the digest of a file of start positions. Raises InputError."""
    arrays = read_npz(path, "start positions of a study", REMOVE)
    return Checked(path, REMOVE).entries(arrays, {"x": Item("float", (None, None, 3)), "digest": Item("int")})
