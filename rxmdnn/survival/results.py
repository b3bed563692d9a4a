"""Result files of a study of times to failure: results.csv, one row per run; results.h5; failures.xyz; study.json.

When a run ends, its frames and then its row are appended, each in one write that is flushed to disk. A killed study
therefore loses only the runs in flight; frames of runs without a row, and truncated rows, are dropped on resumption.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rxmdnn.deck.tfail import WATCHED
from rxmdnn.errors import InputError
from rxmdnn.files import atomic, write_json, write_text, writing
from rxmdnn.io.hdf5_file import changing
from rxmdnn.schema import Checked, Item, columns_of, read_csv, read_json, read_text
from rxmdnn.survival.statistics import FailureTimes

COLUMNS: dict[str, Any] = {  # name: type
    "run": str, "model": str, "arm": str, "training_seed": int, "n_atoms": int, "temperature_K": float, "replica": int,
    "dt_fs": float, "check_steps": int, "cap_steps": int, "steps": int, "time_fs": float, "failed": int,
    "criterion": str, "failed_step": int, "gid": int, "value": float, "threshold": float,
    **{f"{kind}_step": int for kind in WATCHED}}
KINDS = {str: "text", int: "int", float: "float"}
RULES = {name: Item(kind, low=low) for name, kind, low in (
    ("n_atoms", "int", 1), ("temperature_K", "float", 0), ("dt_fs", "float", 1e-9), ("check_steps", "int", 1),
    ("steps", "int", 0), ("time_fs", "float", 0))} | {
    name: Item("float", finite=False) for name in ("value", "threshold")}
CSV, H5, FRAMES, STUDY = "results.csv", "results.h5", "failures.xyz", "study.json"


def line(values: Sequence[Any]) -> str:
    """A row of a CSV table, with its line end."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([f"{v:.10g}" if isinstance(v, float) else v for v in values])
    return out.getvalue()


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of results.csv, or of the folder that holds it, without a truncated last row. Raises InputError."""
    path = path / CSV if path.is_dir() else path
    _, rows = read_csv(path, "results of `rxmdnn tfail`", list(COLUMNS))
    table = columns_of(path, rows, {name: RULES.get(name, Item(KINDS[kind])) for name, kind in COLUMNS.items()},
                       "remove the row and run the study again")
    values = [table[name] if kind is str else table[name].tolist() for name, kind in COLUMNS.items()]
    return [dict(zip(COLUMNS, row)) for row in zip(*values)]


def begin(folder: Path, study: dict[str, Any], free: Iterable[str]) -> set[str]:
    """Create or resume the folder of a study; the names of the runs with a result.

    Raises InputError if the folder holds another study.

    study : {"deck": {keyword: line}, "models": {name: digest}}; free : keywords that may differ from the stored study
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table, identity = folder / CSV, folder / STUDY
        if identity.exists() and table.exists():
            stored = read_study(identity)
            if faults := _differences(folder, stored, study, set(free)):
                raise InputError(*faults)
            study = {**study, "models": {**stored["models"], **study["models"]}}
        write_json(identity, study)
        rows = read(table) if table.exists() else []
        write_text(table, line(list(COLUMNS)) + "".join(line(list(r.values())) for r in rows))
        done = {r["run"] for r in rows}
        frames = complete_frames(folder / FRAMES)
        write_text(folder / FRAMES, "".join(text for run, text in frames if run in done))
    return done


def read_study(path: Path) -> dict[str, Any]:
    """study.json: {"deck": {keyword: line}, "models": {name: digest}}. Raises InputError."""
    what = "the description of a study of `rxmdnn tfail`"
    return Checked(path).entries(read_json(path, what), {"deck": Item("dict"), "models": Item("dict")})


def _differences(folder: Path, stored: dict[str, Any], study: dict[str, Any], free: set[str]) -> list[str]:
    """Messages for lines of the deck and models that differ from those of the stored study."""
    old, new = stored["deck"], study["deck"]
    return [f"{folder}: made by a deck that says '{old.get(k, f'no {k}')}', not '{new.get(k, f'no {k}')}'; restore the "
            "line or choose another output" for k in {**old, **new} if k not in free and old.get(k) != new.get(k)] + [
        f"{folder}: the file of model {m} has changed since its runs; choose another output"
        for m, digest in study["models"].items() if stored["models"].get(m, digest) != digest]


def complete_frames(path: Path) -> list[tuple[str, str]]:
    """(run, text) of every frame of an extended XYZ file up to the first truncated one."""
    lines = read_text(path, "frames of `rxmdnn tfail`").splitlines(keepends=True) if path.exists() else []
    out, at = [], 0
    while at + 1 < len(lines) and lines[at].strip().isdecimal():
        n = int(lines[at])
        block = lines[at : at + n + 2]
        named = re.search(r'run="([^"]*)"', block[1]) if len(block) > 1 else None
        if len(block) < n + 2 or not block[-1].endswith("\n") or not named:
            break
        out.append((named[1], "".join(block)))
        at += n + 2
    return out


def write_h5(folder: Path) -> Path:
    """Write results.h5, the columns of results.csv as arrays of one group, "runs"; its path."""
    rows = read(folder)
    with writing(folder), atomic(folder / H5) as new, changing(new, new=True) as file:
        group = file.create_group("runs")
        for name, kind in COLUMNS.items():
            values = [r[name] for r in rows]
            group.create_dataset(name, data=values if kind is not str else np.array(values, object),
                                 dtype=h5py.string_dtype() if kind is str else None)
    return folder / H5


def failure_times(rows: Sequence[dict[str, Any]], by: str = "failed") -> FailureTimes:
    """Times to failure by the criterion of the study ("failed"), or by another that was recorded."""
    if by != "failed" and by not in WATCHED:
        raise InputError(f"--by {by}: not recorded; choose failed or one of {', '.join(WATCHED)}")
    step = np.array([r[f"{by}_step"] for r in rows], float)
    dt, check, end = (np.array([r[k] for r in rows], float) for k in ("dt_fs", "check_steps", "steps"))
    failed = step >= 0
    last_normal = np.maximum(0.0, np.ceil(step / check) * check - check)  # the check before the failure
    arm, model, seed = (np.array([r[k] for r in rows]) for k in ("arm", "model", "training_seed"))
    n, temperature = (np.array([r[k] for r in rows], float) for k in ("n_atoms", "temperature_K"))
    return FailureTimes(arm, model, seed, n, temperature, np.where(failed, last_normal, end) * dt,
                        np.where(failed, step * dt, np.inf))
