"""Some frames that a run wrote, from whichever trajectory its folder has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.io.folder import numbered_frames
from rxmdnn.io.h5md import trajectory_in
from rxmdnn.io.series import open_series
from rxmdnn.io.xyz_trajectory import XYZ_TRAJECTORY


class Snapshot(NamedTuple):
    """One frame of a file: step; names (n,) of str; x (n, 3) Å; cell."""

    step: int
    names: np.ndarray
    x: np.ndarray
    cell: Cell


def read_frames(folder: str | Path, most: int = 50) -> Iterator[Snapshot]:
    """At most `most` frames of a run, evenly spaced; none where its folder has no trajectory. Raises InputError."""
    folder = Path(folder)
    if not has_trajectory(folder):
        return
    series = open_series(folder)
    for k in _spread(np.arange(len(series.time)), most):
        x = series.read("x", [int(k)])[0].astype(float)
        yield Snapshot(int(series.step[k]), series.names, x, series.cell(int(k)))


def has_trajectory(folder: Path) -> bool:
    """Whether a run wrote frames there that can be read as a trajectory."""
    return trajectory_in(folder) is not None or (folder / XYZ_TRAJECTORY).is_file() or bool(
        numbered_frames(folder))


def _spread(items: Sequence[Any] | np.ndarray, most: int) -> list[Any]:
    """At most `most` of the items, evenly spaced, the last one among them."""
    if len(items) <= most:
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, most).round().astype(int)]
