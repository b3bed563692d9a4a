"""Values on grids of cells in a series of steps: <outDir>/profile.h5. Rank 0 writes; all ranks call.

Datasets step (frames,), time (frames,) fs, cell (frames, 3, 3) Å, and one (frames, ...) for each quantity; the
attribute elements names the last axis of those by element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

from rxmdnn.files import atomic
from rxmdnn.hdf5 import opened
from rxmdnn.io.folder import move_away
from rxmdnn.io.hdf5_file import changing
from rxmdnn.io.ordered import writable
from rxmdnn.schema import Item

NAME = "profile.h5"


class ProfileSeries:
    """The file of a run.

    Parameters
    ----------
    comm, folder
    elements : names of the elements
    restart : step from which a run continues: later frames are dropped; None: a new file
    tell : takes a line for the log; all ranks call it
    """

    def __init__(self, comm: MPI.Comm, folder: Path, elements: Sequence[str], restart: int | None,
                 tell: Callable[[str], None]) -> None:
        self.comm, self.path, self.elements, self.tell = comm, folder / NAME, list(elements), tell
        if restart is None:
            with writable(comm, self.path):
                if comm.rank == 0:
                    self.path.unlink(missing_ok=True)
        else:
            self.rewind(restart)

    def write(self, step: int, time: float, cell: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Append a frame. One of other quantities or of another grid begins a new file; the old one is moved away."""
        frame = {name: np.asarray(value) for name, value in
                 {"step": np.int64(step), "time": np.float64(time), "cell": cell, **values}.items()}
        kept = ""
        with writable(self.comm, self.path):
            if self.comm.rank == 0:
                kept = self._move_unlike(frame)
                self._append(frame)
        if kept := self.comm.bcast(kept):
            self.tell(f"profile: another grid, or other quantities, than before: the earlier frames are in {kept}")

    def _move_unlike(self, frame: dict[str, np.ndarray]) -> str:
        """Move a file of other frames away; returns where it is then, or an empty string."""
        if not self.path.exists():
            return ""
        with h5py.File(self.path, "r", locking=False) as file:
            same = set(file) == set(frame) and all(file[name].shape[1:] == value.shape for name, value in frame.items())
        return "" if same else str(move_away(self.path.parent, [self.path]) / NAME)

    def _append(self, frame: dict[str, np.ndarray]) -> None:
        if not self.path.exists():
            with atomic(self.path) as new, changing(new, new=True) as file:
                file.attrs["elements"] = self.elements
        with changing(self.path, last="step") as file:
            if not len(file):
                for name, value in frame.items():
                    file.create_dataset(name, (0, *value.shape), value.dtype, maxshape=(None, *value.shape),
                                        chunks=(max(1, 65536 // max(value.nbytes, 1)), *value.shape))
            for name, value in frame.items():
                file[name].resize(len(file[name]) + 1, axis=0)
                file[name][-1] = value

    def rewind(self, step: int) -> None:
        """Drop the frames after a step."""
        with writable(self.comm, self.path):
            if self.comm.rank == 0 and self.path.exists():
                with changing(self.path, last="step") as file:
                    kept = int((file["step"][:] <= step).sum()) if "step" in file else 0
                    for name in file:
                        file[name].resize(kept, axis=0)


def read_profile(folder: str | Path) -> dict[str, np.ndarray]:
    """{name: (frames, ...)} of <folder>/profile.h5, with "elements"; empty without the file. Raises InputError."""
    path = Path(folder) / NAME
    if not path.exists():
        return {}
    with opened(path, "profiles of a run") as file:
        if "step" not in file or not len(file.dataset("step")):
            return {}
        step = file.array("step", Item("int", ("frames",)))
        rules = {"time": Item("float", (None,)), "cell": Item("float", (None, 3, 3))}
        values = {"step": step}
        for name in (name for name in file if name != "step"):
            n = file.dataset(name, rows=len(step)).ndim
            item = rules.get(name, Item("float", (None,) * n, finite=False))
            data = file.dataset(name, item, len(step))
            if len(data) < len(step):  # it may have a frame more, where a run was killed while it wrote
                raise file.checked.fault(name, f"has {len(data)} frames of {len(step)}")
            values[name] = file.rows(name, data, slice(len(step)), item)
        return {**values, "elements": np.array(file.attribute("elements", Item("text", (None,))), str)}
