"""The ledger of a loop, ``ledger.jsonl``: one JSON object per finished step, flushed to disk before the next begins.

What is in the ledger is done and its files are complete; what is not is done again. A line that a kill cut off is
dropped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rxmdnn.files import append, plain, write_text, writing
from rxmdnn.schema import Item, read_json_lines

NAME = "ledger.jsonl"
CLOCKS = ("seconds", "cpu_s", "time")  # differ between a killed loop and an undisturbed one
HEAD = {"round": Item("int", low=0, high=9999), "step": Item("text"), "seconds": Item("float", low=0)}
STEPS = ("start", "runs", "choose", "label", "train", "stop")


class Ledger:
    """The steps that are done.

    Parameters
    ----------
    folder : Path, of the loop; it exists
    others : seconds of processors that other processes took for the loop so far, if any

    Attributes
    ----------
    lines : list of dict, in the order in which they were done

    Raises InputError for a file that is not a ledger.

    Example
    -------
    >>> Ledger(Path("learning")).step(0, "runs", lambda: {"runs": 8, "failures": 1})["failures"]  # doctest: +SKIP
    1
    """

    def __init__(self, folder: Path, others: Callable[[], float] = lambda: 0.0) -> None:
        self.path, self._others = folder / NAME, others
        self.lines = read(self.path) if self.path.exists() else []
        if self.path.exists():
            with writing(self.path):
                write_text(self.path, "".join(map(_line, self.lines)))  # without a line that was cut off

    def find(self, number: int, step: str) -> dict[str, Any] | None:
        """The line of a step of a round, or None."""
        return next((row for row in self.lines if (row["round"], row["step"]) == (number, step)), None)

    def step(self, number: int, step: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The line of a step, which is done now unless it is there."""
        if found := self.find(number, step):
            return found
        wall, cpu = time.time(), time.process_time() + self._others()
        row = {"round": number, "step": step, **do()}
        row |= {"seconds": round(time.time() - wall, 3), "cpu_s": round(time.process_time() + self._others() - cpu, 3),
                "time": time.strftime("%Y-%m-%dT%H:%M:%S")}
        self.lines.append(plain(row))
        with writing(self.path):
            append(self.path, _line(self.lines[-1]))
        return self.lines[-1]

    def of(self, step: str) -> list[dict[str, Any]]:
        """The lines of a step, of all rounds."""
        return [row for row in self.lines if row["step"] == step]

    def before(self, number: int) -> list[dict[str, Any]]:
        """The lines that were there when the runs of a round had ended: the same whenever a loop is repeated."""
        return [row for row in self.lines
                if row["round"] < number or (row["round"] == number and row["step"] in ("start", "runs"))]


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a ledger, without one that was cut off. Raises InputError."""
    rows = []
    for line, row in read_json_lines(path, "a line of a ledger of rxmdnn learn",
                                     "restore the file, or name another output"):
        if line.entries(row, HEAD)["step"] not in STEPS:
            raise line.fault("step", f"'{row['step']}' is no step of a loop")
        rows.append(row)
    return rows


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"
