"""The stages of a run, in <outDir>/stages.jsonl: one line per change of what a run does (model, ensemble, time step).

Within a stage the conserved quantity is one curve; from one stage to the next it may jump.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rxmdnn.files import write_text
from rxmdnn.schema import Item, read_json_lines

NAME = "stages.jsonl"


def read_stages(folder: str | Path) -> list[dict[str, Any]]:
    """The stages of a folder, each with its first ``step``, in order; empty without the file. Raises InputError."""
    path = Path(folder) / NAME
    if not path.is_file():
        return []
    rows = read_json_lines(path, "a list of stages of a run", "move it away", grows=False)
    stages = [{**line.entries(stage, {"step": Item("int", low=0)}), **stage} for line, stage in rows]
    return sorted(stages, key=lambda stage: stage["step"])


def stage_at(stages: list[dict[str, Any]], step: int) -> dict[str, Any] | None:
    """The stage of the row, or frame, of a step."""
    return next((stage for stage in reversed(stages) if stage["step"] <= step), None)


def begin_stage(folder: str | Path, last: int | None, what: dict[str, Any], new: bool) -> None:
    """Write what a run does from now on.

    last : the step after which earlier output was dropped; None: a new run
    what : JSON values that describe it; new : whether it differs from the run that wrote the earlier output
    """
    earlier = [] if last is None else [stage for stage in read_stages(folder) if stage["step"] <= last]
    if new or not earlier:
        earlier.append({"step": 0 if last is None or not new else last + 1, **what})
    write_text(Path(folder) / NAME, "".join(json.dumps(stage) + "\n" for stage in earlier))
