"""On-the-fly averages of a run, for which velocities need not be stored: deck lines ``observe ...``.

They are kept in <outDir>/observe.h5, which is written with every checkpoint and read again on a restart;
`rxmdnn spectra` takes the file in the place of a trajectory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.observables import FILE, KINDS, Observer, read_vdos
from rxmdnn.analysis.tables import write_csv
from rxmdnn.deck.language import Entry
from rxmdnn.deck.motion import motion_of
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.simulation import Simulation, Thermo
from rxmdnn.errors import InputError
from rxmdnn.hdf5 import is_kind, opened
from rxmdnn.io.checkpoint import allocate
from rxmdnn.io.hdf5_file import changing
from rxmdnn.io.ordered import replacing, writable, write_blocks
from rxmdnn.io.trajectory import has_trajectory
from rxmdnn.parallel import on_root, together
from rxmdnn.schema import Item, parse_json

PREVIOUS = "observe.prev.h5"
ANEW = "move it away to start again"


class Observers:
    """The observe lines of a run, and their file.

    Parameters
    ----------
    continued : the step of the checkpoint from which the run continues, or None

    Raises AgreedError where the file belongs to another step or another line.
    """

    def __init__(self, comm: MPI.Comm, run: RunDeck, simulation: Simulation, continued: int | None) -> None:
        self.comm, self.folder, self.motion = comm, run.folder, motion_of(run.deck)
        lines: list[Entry] = run.deck["observe"]
        self.members = {e.quantity: KINDS[e.quantity](simulation, run, e.nstep, e.detail) for e in lines}
        self.writers = [(e.nstep, self._caller(self.members[e.quantity], e.nstep)) for e in lines]
        self.resumed_at: int | None = None  # the step whose sample is in the file from which the sums go on
        self.kept: dict[int, dict[str, tuple[Any, ...]]] = {}  # {step: the members' sums} of states to go back to
        if continued is not None:
            self._resume(continued)

    def remember(self, steps: list[int]) -> None:
        """Keep the sums of the present step, the last of ``steps``, and drop those of steps that are not listed."""
        self.kept = {step: kept for step, kept in self.kept.items() if step in steps}
        self.kept[steps[-1]] = {name: m.keep() for name, m in self.members.items()}

    def rewind(self, step: int) -> None:
        """Restore the sums of a remembered step; nothing is done for other steps."""
        for name, kept in self.kept.get(step, {}).items():
            self.members[name].go_back(kept)

    def _caller(self, member: Observer, nstep: int) -> Callable[[Thermo], None]:
        def call(thermo: Thermo) -> None:
            # The last step of a run calls all its writers, and so does the first of some that go on.
            if thermo.step % nstep == 0 and thermo.step != self.resumed_at:
                member.sample()
        return call

    def save(self, step: int) -> None:
        """Write the file (collective); the previous one is kept as observe.prev.h5."""
        path = self.folder / FILE
        arrays = {name: m.arrays() for name, m in self.members.items()}
        rows = {name: m.rows() for name, m in self.members.items()}
        with replacing(self.comm, path, path.with_name(PREVIOUS)) as part:
            offsets: dict[str, int] = {}
            with writable(self.comm, path):
                if self.comm.rank == 0:
                    offsets = self._create(part, step, arrays, rows)
            offsets = self.comm.bcast(offsets)
            write_blocks(self.comm, part, [(offsets[name] + r[1] * r[2][:1].nbytes if len(r[2]) else 0, r[2])
                                              for name, r in rows.items() if r is not None])
        if "gr" in arrays:
            with writable(self.comm, self.folder / "gr_observed.csv"):
                if self.comm.rank == 0:
                    self._table(arrays["gr"])

    def _create(self, path: Path, step: int, arrays: dict[str, dict[str, np.ndarray]],
                rows: dict[str, tuple[int, int, np.ndarray] | None]) -> dict[str, int]:
        offsets = {}
        with changing(path, new=True) as file:
            file.attrs["observe"] = json.dumps({"step": step, "lines": list(arrays), "motion": self.motion})
            for name, members in arrays.items():
                group = file.create_group(name)
                for key, array in members.items():
                    group[key] = array
                r = rows[name]
                if r is not None:
                    offsets[name] = allocate(group, "buffer", r[2].dtype, (r[0], *r[2].shape[1:]))
        return offsets

    def _table(self, gr: dict[str, np.ndarray]) -> None:
        g = gr["sums"] / max(int(gr["frames"]), 1)
        write_csv(self.folder / "gr_observed.csv",
                  {"r_A": gr["r"], **{f"g_{name.decode()}": row for name, row in zip(gr["pairs"].tolist(), g)}})

    def _resume(self, step: int) -> None:
        """Continue from the file of that step, if there is a file."""
        def find() -> Path | None:
            found = [p for p in (self.folder / FILE, self.folder / PREVIOUS) if p.is_file()]
            right = [p for p in found if head(p)["step"] == step and set(self.members) <= set(head(p)["lines"])]
            if found and not right:
                raise InputError(f"{found[0]}: does not belong to step {step} and the observe lines of the deck; "
                                 "move it away to start again")
            if right and right[0].name == PREVIOUS:  # the other is of an attempt that is abandoned, and keeps no place
                os.replace(right[0], self.folder / FILE)
                return self.folder / FILE
            return right[0] if right else None

        path = on_root(self.comm, find)
        if path is None:
            return
        self.resumed_at = step
        with together(self.comm), opened(path, "a file of observables", ANEW) as file:
            for name, member in self.members.items():
                member.resume(file.group(name))


def head(path: Path) -> dict[str, Any]:
    """The step, the observe lines and the words of rxmdnn.io.motion of a file. Raises InputError."""
    with opened(path, "a file of observables", ANEW) as file:
        values = parse_json(file.attribute("observe", Item("text")), path, "a file of observables", ANEW)
        rules = {"step": Item("int", low=0), "lines": Item("text", (None,)), "motion": Item("dict", optional=True)}
        return file.checked.entries(values, rules, "observe")


def find_spectrum(path: str | Path) -> Path | None:
    """The path of an observe.h5: itself, or that of a folder without a trajectory; None for a trajectory."""
    path = Path(path)
    if path.is_dir() and not has_trajectory(path):
        path = path / FILE
    return path if path.is_file() and is_kind(path, "observe") else None


def read_spectrum(path: Path) -> tuple[sp.Spectrum, float]:
    """The spectrum that a run accumulated, and its time step, fs. Raises InputError."""
    with opened(path, "a file of observables") as file:
        if "vdos" not in file:
            raise InputError(f"{path}: it has no spectrum; write 'observe vdos 2' in the deck of the run")
        d = read_vdos(file.group("vdos"))
    if not len(d["power"]):
        need = d["length"] * d["dt"] / 1000
        raise InputError(f"{path}: no segment is complete: one takes {need:.3g} ps, and there are {d['filled']} of "
                         f"{d['length']} frames; run longer, or use a coarser resolution in 'observe vdos'")
    return sp.Spectrum(d["kinds"], d["count"], d["mass"], d["dt"], d["length"], d["power"], d["correlation"],
                       d["fixed"]), d["step_fs"]
