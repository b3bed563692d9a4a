"""Values on grids of cells in a series of steps: <outDir>/profile.h5. Rank 0 writes; all ranks call.

Datasets step (frames,), time (frames,) fs, cell (frames, 3, 3) Å, and one (frames, ...) for each quantity; the
attribute elements names the last axis of those by element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI

from rxmdnn.files import atomic
from rxmdnn.hdf5 import opened
from rxmdnn.io.folder import move_away
from rxmdnn.io.hdf5_file import changing
from rxmdnn.io.ordered import writable
from rxmdnn.schema import Item

NAME = "profile.h5"
WHAT, ADVICE = "profiles of a run", "move it away"


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
        """Move a file of other frames away; returns where it is then, or an empty string. One without any is removed.
        """
        if not self.path.exists():
            return ""
        with opened(self.path, WHAT, ADVICE) as file:
            empty = "step" not in file or not len(file.dataset("step"))
            same = not empty and set(file) == set(frame) and all(
                file.dataset(name).shape[1:] == value.shape for name, value in frame.items())
        if empty:
            self.path.unlink()
        return "" if same or empty else str(move_away(self.path.parent, [self.path]) / NAME)

    def _append(self, frame: dict[str, np.ndarray]) -> None:
        if not self.path.exists():
            with atomic(self.path) as new, changing(new, new=True) as file:
                file.attrs["elements"] = self.elements
                for name, value in frame.items():
                    file.create_dataset(name, data=value[None], maxshape=(None, *value.shape),
                                        chunks=(max(1, 65536 // max(value.nbytes, 1)), *value.shape))
            return
        with changing(self.path, last="step") as file:
            k = len(file["step"])  # the others may have a frame more, where a run was killed while it wrote
            for name, value in frame.items():
                file[name].resize(k + 1, axis=0)
                file[name][k] = value

    def rewind(self, step: int) -> None:
        """Drop the frames after a step."""
        with writable(self.comm, self.path):
            if self.comm.rank == 0 and self.path.exists():
                with opened(self.path, WHAT, ADVICE) as found:
                    steps = found.array("step", Item("int", ("frames",))) if "step" in found else np.empty(0, int)
                    fixed = [name for name in found if found.dataset(name).maxshape[:1] != (None,)]
                    if fixed:
                        raise found.checked.fault(fixed[0], "has a fixed number of frames")
                with changing(self.path, last="step") as file:
                    for name in file:
                        file[name].resize(int((steps <= step).sum()), axis=0)


def read_profile(folder: str | Path) -> dict[str, np.ndarray]:
    """{name: (frames, ...)} of <folder>/profile.h5, with "elements"; empty without the file. Raises InputError."""
    path = Path(folder) / NAME
    if not path.exists():
        return {}
    with opened(path, WHAT) as file:
        if "step" not in file or not len(file.dataset("step")):
            return {}
        step = file.array("step", Item("int", ("frames",)))
        rules = {"time": Item("float", (None,)), "cell": Item("float", (None, 3, 3))}
        values = {"step": step}
        for name in (name for name in file if name != "step"):
            n = file.dataset(name, rows=len(step)).ndim
            item = rules.get(name, Item("float", (None,) * n, finite=False))
            values[name] = file.of_frames(name, item, len(step))
        return {**values, "elements": np.array(file.attribute("elements", Item("text", (None,))), str)}
