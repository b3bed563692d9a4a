"""Time series of a ring-polymer run as CSV: rows are added during the run, and averaged at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.files import Lines
from rxmdnn.io.ordered import writable
from rxmdnn.schema import Item, columns_of, read_csv

SETTLING = 0.2  # fraction of the rows, at the beginning, left out of the averages


class RingSeries:
    """A CSV file whose first columns are step and time_fs; rank 0 writes, every rank calls.

    Parameters
    ----------
    columns : names, with units, of all columns but the first two
    restart : step from which a run continues: later rows are dropped; None: a new file
    """

    def __init__(self, comm: MPI.Comm, path: Path, columns: Sequence[str], restart: int | None) -> None:
        self.comm, self.path, self.columns = comm, path, ("step", "time_fs", *columns)

        def begin() -> None:
            kept = []
            if restart is not None and self.path.exists():
                names, rows = read_csv(self.path, "a series of a ring polymer", advice="move it away")
                if tuple(names) == self.columns:
                    steps = columns_of(self.path, rows, dict.fromkeys(names, Item("float", finite=False)))["step"]
                    kept = [",".join(row) for row, step in zip(rows, steps) if step <= restart]
            self.file = Lines(self.path, "\n".join([",".join(self.columns), *kept]) + "\n")

        self.on_root(begin)

    def on_root(self, act: Callable[[], Any]) -> None:
        """Call ``act`` on rank 0; where the file cannot be written, all ranks raise InputError."""
        with writable(self.comm, self.path):
            if self.comm.rank == 0:
                act()

    def add(self, step: int, time: float, row: Sequence[float]) -> None:
        """Add a row. time : fs."""
        self.on_root(lambda: self.file.add(",".join([str(step), *(f"{x:.17g}" for x in (time, *row))]) + "\n"))

    def settled(self, first: int) -> dict[str, np.ndarray]:
        """As the function ``settled``, of this file; rank 0 alone calls it."""
        return settled(self.path, first)

    def summarized(self, first: int, summary: Callable[[dict[str, np.ndarray]], list[str]]) -> list[str]:
        """Lines of text, on every rank, from the columns of ``settled``; none where there are no rows."""
        lines: list[str] = []

        def act() -> None:
            if len((columns := self.settled(first))["step"]):
                lines.extend(summary(columns))

        self.on_root(act)
        out: list[str] = self.comm.bcast(lines)
        return out


def settled(path: Path, first: int = 0) -> dict[str, np.ndarray]:
    """{column: (n,) values} of a file of RingSeries, from step ``first`` on, without the first SETTLING of the rows."""
    names, rows = read_csv(path, "a series of a ring polymer")
    if "step" not in names:
        raise InputError(f"{path}: columns: step is missing")
    table = columns_of(path, rows, dict.fromkeys(names, Item("float", finite=False)))
    late = np.flatnonzero(table["step"] >= first)
    return {name: column[late[int(SETTLING * len(late)) :]] for name, column in table.items()}
