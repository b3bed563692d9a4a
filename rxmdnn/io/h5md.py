"""H5MD 1.1 trajectories, written by all ranks into one file; MDAnalysis reads them by their suffix.

Rank 0 has HDF5 allocate a frame in memory (chunks allocated early, never filled) and makes room for it at the end of
the file; then every rank writes its rows itself at the byte offsets of the chunks; then rank 0 writes the changes of
HDF5's structure, the number of steps last (rxmdnn.io.hdf5_file). A run killed at any of these points leaves a file that
opens and holds complete frames only. Unfinished frames of earlier versions have step -1.

Readers keep only lengths and angles of the box: box and rows are in the standard orientation (Cell.standard), and
particles/all/box/run_edges has the vectors of the run. Energies are in kJ/mol and forces in kJ/(mol Å), the units that
MDAnalysis knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

import rxmdnn
from rxmdnn.files import writing
from rxmdnn.hdf5 import Group, opened
from rxmdnn.io.checkpoint import allocate
from rxmdnn.io.frame import SHOWN, Frame, Rows
from rxmdnn.io.hdf5_file import Change, changing
from rxmdnn.io.ordered import exscan, replacing, writable, write_blocks
from rxmdnn.parallel import on_root
from rxmdnn.schema import Checked, Item, parse_json, reading

TRAJECTORY, OLD_SUFFIX = "trajectory.h5md", ".h5"
STAGES = "parameters/stages"  # (k,) str, JSON: the step from which the words of rxmdnn.io.motion hold, and those words
CHUNK = 1 << 22  # atoms: HDF5 chunks are below 4 GiB, MPI counts below 2^31
RUN_EDGES = "box/run_edges"  # of particles/all: (frames, 3, 3) Å, in the orientation of the run
HEALED = "parameters/healed_steps"  # (k, 2) int64
CONTINUED, ADVICE = "an H5MD trajectory that can be continued", "move it away"
KJ_MOL = 96.4853321233  # kJ/mol of one eV
# Elements of particles/all: field of Rows, type in the file, unit, factor.
ELEMENTS = {
    "position": ("x", "<f8", "Angstrom", 1.0),
    "image": ("image", "<i4", None, 1),
    "velocity": ("v", "<f4", "Angstrom fs-1", 1.0),
    "force": ("f", "<f4", "kJ mol-1 Angstrom-1", KJ_MOL),
}
ENERGY, OLD_ENERGY = "kJ mol-1", "eV"
OBSERVABLES = {  # unit, value; energies in eV here
    "potential_energy": (ENERGY, lambda frame: frame.potential),
    "kinetic_energy": (ENERGY, lambda frame: frame.kinetic),
    "total_energy": (ENERGY, lambda frame: frame.potential + frame.kinetic),
    "temperature": ("K", lambda frame: frame.temperature),
    "pressure": ("GPa", lambda frame: -float(np.trace(frame.stress)) / 3.0),
}


def trajectory_in(folder: str | Path, name: str = TRAJECTORY) -> Path | None:
    """The H5MD file of a run's folder, also under the name of earlier versions, *.h5; None without one."""
    path = Path(folder) / name
    return next((p for p in (path, path.with_suffix(OLD_SUFFIX)) if p.is_file()), None)


def standard_rows(frame: Frame) -> Rows:
    """The rows of a frame in the standard orientation of its cell."""
    standard, rows = frame.cell.standard(), frame.rows
    if standard.same:
        return rows
    return rows._replace(
        x=rows.x @ standard.turn + standard.shift, v=rows.v @ standard.turn, f=rows.f @ standard.turn,
        image=standard.images(rows.image))


class H5MD:
    """A trajectory that grows by one frame per call of ``write``.

    Parameters
    ----------
    comm : MPI communicator
    path : Path
    restart : int, optional
        The step from which a restarted run continues: frames after it are dropped. Without it a new file is made. A
        file of an earlier version, *.h5, is continued in its own units and orientation.
    """

    def __init__(self, comm: MPI.Comm, path: str | Path, restart: int | None = None) -> None:
        self.comm, self.path = comm, Path(path)
        self.started = False
        self.motion: dict[str, str] | None = None  # as the last stage says
        if restart is not None:
            self.path = on_root(comm, lambda: trajectory_in(self.path.parent, self.path.name) or self.path)
            self.started = on_root(comm, lambda: self._truncate(restart))

    def write(self, frame: Frame) -> None:
        """Append a frame (collective). Raises InputError if it cannot be written."""
        if not self.started:
            self._create(frame)
            self.started = True
        n = frame.n_global
        rows = standard_rows(frame)
        offsets, change = None, None
        with writable(self.comm, self.path):
            if self.comm.rank == 0:
                with _continuing(self.path):
                    offsets, change = self._grow(frame)
        offsets = self.comm.bcast(offsets)
        if offsets.pop("old", None):
            rows = frame.rows
        size = min(CHUNK, n)
        blocks = []
        written = {name: (getattr(rows, source) * factor).astype(kind)
                   for name, (source, kind, _, factor) in ELEMENTS.items()}
        for name in (name for name in SHOWN if name in offsets):  # zero where the run has none any more
            written[name] = rows.shown.get(name, np.zeros(len(rows.x))).astype("<f4")
        for name, values in written.items():
            for k, offset in enumerate(offsets[name]):
                lo, hi = np.clip([k * size - rows.start, (k + 1) * size - rows.start], 0, len(values))
                at = offset + (rows.start + lo - k * size) * values.itemsize * int(np.prod(values.shape[1:], dtype=int))
                blocks.append((int(at) if hi > lo else 0, values[lo:hi]))
        write_blocks(self.comm, self.path, blocks)
        with writable(self.comm, self.path):
            if change is not None:
                change.commit()

    def rewind(self, step: int, healed: list[list[int]]) -> None:
        """Drop frames after a step, and record the [first, last] steps of what was healed (collective)."""
        def act() -> None:
            self._truncate(step)
            rows = np.array(healed, "<i8").reshape(-1, 2)
            with _continuing(self.path), changing(self.path, last=HEALED) as file:
                if HEALED in file and file[HEALED].maxshape != (None, 2):  # of an earlier version
                    del file[HEALED]
                data = file[HEALED] if HEALED in file else file.create_dataset(
                    HEALED, (0, 2), "<i8", maxshape=(None, 2), chunks=(64, 2))
                data.resize(len(rows), axis=0)
                data[:] = rows

        if self.started:
            on_root(self.comm, act)

    def _create(self, frame: Frame) -> None:
        comm, n = self.comm, frame.n_global
        own = {"species": frame.rows.species.astype("<i4"),
               "mass": np.array(frame.masses, "<f8")[frame.rows.species],
               "id": np.arange(frame.rows.start, frame.rows.start + len(frame.rows.species), dtype="<i8")}
        offsets = None
        with replacing(comm, self.path) as part:
            with writable(comm, self.path):
                if comm.rank == 0:
                    with changing(part, new=True) as file:
                        _skeleton(file, frame)
                        offsets = {k: allocate(file["particles/all"], k, a.dtype, (n,)) for k, a in own.items()}
                        file["particles/all/mass"].attrs["unit"] = "u"
            offsets = comm.bcast(offsets)
            start = exscan(comm, len(frame.rows.species))
            write_blocks(comm, part, [(offsets[k] + start * a.itemsize, a) for k, a in own.items()])

    def _grow(self, frame: Frame) -> tuple[dict[str, list[int]], Change]:
        """Make room for one more frame; the byte offsets of its chunks, and "old" in a file of an earlier version; and
        what is left to be written when its rows are."""
        change = Change(self.path)
        try:
            offsets = self._add(change.file, frame)
            change.name_last(change.file[STAGES], change.file["particles/all/position/step"])
            change.hold()
        except BaseException:
            change.abandon()
            raise
        change.extend()
        return offsets, change

    def _add(self, file: h5py.File, frame: Frame) -> dict[str, list[int]]:
        """Add a frame without the rows of its atoms; their byte offsets, as of ``_grow``."""
        everything = file["particles/all"]
        k = len(everything["position/step"])
        resize_trajectory(file, k + 1)
        everything["position/step"][k], everything["position/time"][k] = frame.step, frame.time
        old = RUN_EDGES not in everything
        everything["box/edges/value"][k] = frame.cell.h if old else frame.cell.standard().cell.h
        if not old:
            everything[RUN_EDGES][k] = frame.cell.h
        for name, (unit, value) in OBSERVABLES.items():
            data = file["observables"][name]["value"]
            data[k] = value(frame) * (KJ_MOL if unit == ENERGY and not old else 1.0)  # those of before: eV
        self._say_motion(file, frame)
        n, size = frame.n_global, everything["position/value"].chunks[1]
        own = [*ELEMENTS, *(name for name in SHOWN if name in everything)]
        offsets = {name: [everything[name]["value"].id.get_chunk_info_by_coord((k, i, 0)[: data.ndim]).byte_offset
                          for i in range(0, n, size)] for name in own for data in [everything[name]["value"]]}
        return offsets | ({"old": [1]} if old else {})

    def _say_motion(self, file: h5py.File, frame: Frame) -> None:
        """Add a stage where the motion is not that of the last frame."""
        if frame.motion != self.motion:
            earlier = [s for s in read_motions(Group(file, Checked(self.path))) if s[0] < frame.step]
            _write_stages(file, [*earlier, (frame.step, frame.motion)])
            self.motion = frame.motion

    def _truncate(self, restart: int) -> bool:
        """Drop unfinished frames and those after `restart`; True if there is a file to append to."""
        if not self.path.exists():
            return False
        with opened(self.path, CONTINUED, ADVICE) as every:
            step, stages = every.array("particles/all/position/step", Item("int", ("frames",))), read_motions(every)
            growing(every.raw)  # all are there
        dropped = np.flatnonzero((step < 0) | (step > restart))
        kept = [s for s in stages if s[0] <= restart]
        with _continuing(self.path):
            if len(dropped):
                with changing(self.path, last="particles/all/position/step") as file:
                    resize_trajectory(file, int(dropped[0]))
            if kept != stages:
                with changing(self.path, last=STAGES) as file:
                    _write_stages(file, kept)
        self.motion = kept[-1][1] if kept else None
        return True


@contextmanager
def _continuing(path: Path) -> Iterator[None]:
    """A block that changes a trajectory: one that is damaged, or cannot be written, is one InputError."""
    with reading(path, CONTINUED, ADVICE), writing(path):
        yield


def read_motions(file: Group) -> list[tuple[int, dict[str, str]]]:
    """[(first step, words of rxmdnn.io.motion)]; empty in files of earlier versions. Raises InputError."""
    out = []
    for line in file.array(STAGES, Item("text", (None,))) if STAGES in file else ():
        words = parse_json(line, file.checked.source, "stages of a trajectory")
        step = file.checked.entries(words, {"step": Item("int", low=0)}, STAGES)["step"]
        out.append((step, {k: str(v) for k, v in words.items() if k != "step"}))
    return out


def _write_stages(file: h5py.File, stages: list[tuple[int, dict[str, str]]]) -> None:
    """Make the stages these. Those that stay are not written again: a run killed in between leaves them readable."""
    lines = [json.dumps({"step": step, **words}) for step, words in stages]
    if STAGES in file and file[STAGES].maxshape != (None,):  # of an earlier version
        del file[STAGES]
    data = file[STAGES] if STAGES in file else _empty_stages(file)
    same = 0
    for old, line in zip(data.asstr()[:], lines):
        if old != line:
            break
        same += 1
    data.resize(len(lines), axis=0)
    if lines[same:]:
        data[same:] = lines[same:]


def _empty_stages(file: h5py.File) -> h5py.Dataset:
    return file.create_dataset(STAGES, (0,), h5py.string_dtype(), maxshape=(None,), chunks=(64,))


def growing(file: h5py.File) -> list[h5py.Dataset]:
    """The datasets of a trajectory that have a row per frame. Raises KeyError where one is missing."""
    everything = file["particles/all"]
    of_atoms = [*ELEMENTS, *(name for name in SHOWN if name in everything)]
    values = [*(f"{name}/value" for name in of_atoms), "box/edges/value", "position/step", "position/time",
              *([RUN_EDGES] if RUN_EDGES in everything else [])]
    return [*(everything[v] for v in values), *(file[f"observables/{name}/value"] for name in OBSERVABLES)]


def resize_trajectory(file: h5py.File, frames: int) -> None:
    """Resize every dataset of a trajectory to a number of frames."""
    for data in growing(file):
        data.resize(frames, axis=0)


def _skeleton(file: h5py.File, frame: Frame) -> None:
    """Create groups and empty datasets; step and time are one dataset under many names."""
    n, size = frame.n_global, min(CHUNK, frame.n_global)
    file.create_group("h5md").attrs["version"] = np.array([1, 1], np.int32)
    for name, attributes in (("author", {"name": "rxmdnn"}),
                             ("creator", {"name": "rxmdnn", "version": rxmdnn.__version__})):
        file["h5md"].create_group(name).attrs.update(attributes)
    everything = file.create_group("particles/all")
    first = everything.create_group("position")
    first.create_dataset("step", (0,), "<i8", maxshape=(None,), chunks=(1024,))
    first.create_dataset("time", (0,), "<f8", maxshape=(None,), chunks=(1024,)).attrs["unit"] = "fs"

    def follow(group: h5py.Group, unit: str | None) -> None:
        if group != first:
            group["step"], group["time"] = first["step"], first["time"]
        if unit:
            group["value"].attrs["unit"] = unit

    of_atoms: list[tuple[str, str, str | None, tuple[int, ...]]] = [
        *((name, kind, unit, (3,)) for name, (_, kind, unit, _) in ELEMENTS.items()),
        *((name, "<f4", None, ()) for name in frame.rows.shown)]
    for name, kind, unit, row in of_atoms:
        group = everything.require_group(name)
        make = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        make.set_chunk((1, size, *row))
        make.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        make.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((0, n, *row), (h5py.h5s.UNLIMITED, n, *row))
        h5py.h5d.create(group.id, b"value", h5py.h5t.py_create(np.dtype(kind)), space, make)
        follow(group, unit)
    box = everything.create_group("box")
    box.attrs.update({"dimension": 3, "boundary": ["periodic" if p else "none" for p in frame.cell.pbc]})
    edges = box.create_group("edges")
    edges.create_dataset("value", (0, 3, 3), "<f8", maxshape=(None, 3, 3), chunks=(64, 3, 3))
    follow(edges, "Angstrom")
    of_run = box.create_dataset("run_edges", (0, 3, 3), "<f8", maxshape=(None, 3, 3), chunks=(64, 3, 3))
    of_run.attrs["unit"] = "Angstrom"
    for name, (unit, _) in OBSERVABLES.items():
        group = file.create_group(f"observables/{name}")
        group.create_dataset("value", (0,), "<f8", maxshape=(None,), chunks=(1024,))
        follow(group, unit)
    _empty_stages(file)
    file.create_dataset("parameters/elements", data=list(frame.elements))
    file.create_dataset("parameters/masses", data=np.array(frame.masses)).attrs["unit"] = "u"
