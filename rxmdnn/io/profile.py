"""Values on grids of cells in a series of steps: <outDir>/profile.h5. Rank 0 writes; all ranks call.

Datasets step (frames,), time (frames,) fs, cell (frames, 3, 3) Å, and one (frames, ...) for each quantity; the
attribute elements names the last axis of those by element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.io.ordered import writable

NAME = "profile.h5"


class ProfileSeries:
    """The file of a run.

    Parameters
    ----------
    comm, folder
    elements : names of the elements
    restart : step from which a run continues: later frames are dropped; None: a new file
    """

    def __init__(self, comm: MPI.Comm, folder: Path, elements: Sequence[str], restart: int | None) -> None:
        self.comm, self.path, self.elements = comm, folder / NAME, list(elements)
        if restart is None:
            with writable(comm, self.path):
                if comm.rank == 0:
                    self.path.unlink(missing_ok=True)
        else:
            self.rewind(restart)

    def write(self, step: int, time: float, cell: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Append a frame. A quantity of another shape than before, of another grid, begins the file anew."""
        frame = {"step": np.int64(step), "time": np.float64(time), "cell": cell, **values}
        with writable(self.comm, self.path):
            if self.comm.rank == 0:
                self._append({name: np.asarray(value) for name, value in frame.items()})

    def _append(self, frame: dict[str, np.ndarray]) -> None:
        with h5py.File(self.path, "a") as file:
            if set(file) != set(frame) or any(file[name].shape[1:] != value.shape for name, value in frame.items()):
                for name in list(file):
                    del file[name]
                for name, value in frame.items():
                    file.create_dataset(name, (0, *value.shape), value.dtype, maxshape=(None, *value.shape),
                                        chunks=(max(1, 65536 // max(value.nbytes, 1)), *value.shape))
                file.attrs["elements"] = self.elements
            for name, value in frame.items():
                file[name].resize(len(file[name]) + 1, axis=0)
                file[name][-1] = value

    def rewind(self, step: int) -> None:
        """Drop the frames after a step."""
        with writable(self.comm, self.path):
            if self.comm.rank == 0 and self.path.exists():
                with h5py.File(self.path, "a") as file:
                    kept = int((file["step"][:] <= step).sum()) if "step" in file else 0
                    for name in file:
                        file[name].resize(kept, axis=0)


def read_profile(folder: str | Path) -> dict[str, np.ndarray]:
    """{name: (frames, ...)} of <folder>/profile.h5, with "elements"; empty without the file. Raises InputError."""
    path = Path(folder) / NAME
    if not path.exists():
        return {}
    try:
        with h5py.File(path, "r", locking=False) as file:
            if "step" not in file or not len(file["step"]):
                return {}
            return {**{name: file[name][:] for name in file}, "elements": np.array(file.attrs["elements"], str)}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
