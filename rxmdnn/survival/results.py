"""What a study of times to failure leaves: results.csv, one row a run; results.h5; failures.xyz; study.json.

A run's row is appended in one write and flushed to disk when the run ends, after its frames. A killed study therefore
loses the runs in flight; frames of runs without a row, and rows cut short, are dropped when it goes on.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rxmdnn.deck.tfail import WATCHED
from rxmdnn.deck.words import CRITERIA
from rxmdnn.errors import InputError
from rxmdnn.survival.statistics import Lives

COLUMNS: dict[str, Any] = {  # name: type
    "run": str, "model": str, "arm": str, "training_seed": int, "n_atoms": int, "temperature_K": float, "replica": int,
    "dt_fs": float, "check_steps": int, "cap_steps": int, "steps": int, "time_fs": float, "failed": int,
    "criterion": str, "failed_step": int, "gid": int, "value": float, "threshold": float,
    **{f"{kind}_step": int for kind in WATCHED}}
CSV, H5, FRAMES, STUDY = "results.csv", "results.h5", "failures.xyz", "study.json"


def line(values: Sequence[Any]) -> str:
    """A row of the table."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([f"{v:.10g}" if isinstance(v, float) else v for v in values])
    return out.getvalue()


def append(path: Path, text: str) -> None:
    """Add text to a file in one write, and have it on the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if os.write(handle, text.encode()) != len(text.encode()):
            raise InputError(f"{path}: could not be written whole; is the disk full? Run again to go on")
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, text: str) -> None:
    """Write a file anew; a reader sees the old or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(path)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of results.csv (or of the folder that holds it); a last row cut short is left out. Raises InputError."""
    path = path / CSV if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no results of `rxmdnn tfail`: {getattr(error, 'strerror', error)}") from None
    rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    if not rows or rows[0] != list(COLUMNS):
        raise InputError(f"{path}: not a table of `rxmdnn tfail`: its columns differ")
    out = []
    for number, row in enumerate(rows[1:], 2):
        try:
            out.append({name: kind(word) for (name, kind), word in zip(COLUMNS.items(), row, strict=True)})
        except ValueError as error:
            raise InputError(f"{path}:{number}: a damaged row: {error}; remove it, and run the study again") from None
    return out


def begin(folder: Path, study: dict[str, Any], free: Iterable[str]) -> set[str]:
    """Open the folder of a study, or go on with it; the runs that are done. Raises InputError if it is another study.

    study : {"deck": {keyword: line}, "models": {file: digest}}; free : keywords that may change
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table, old = folder / CSV, folder / STUDY
        if old.exists() and table.exists():
            was = json.loads(old.read_text(encoding="utf-8"))
            deck, models, free = study["deck"], study["models"], set(free)
            faults = [f"{folder}: made by a deck that says '{was['deck'].get(k, f'no {k}')}', not "
                      f"'{deck.get(k, f'no {k}')}'; restore the line or name another output"
                      for k in {**was["deck"], **deck} if k not in free and was["deck"].get(k) != deck.get(k)]
            faults += [f"{folder}: {m} is no longer the model that was run; name another output"
                       for m, digest in models.items() if was["models"].get(m, digest) != digest]
            if faults:
                raise InputError(*faults)
            study = {**study, "models": {**was["models"], **models}}
        replace(old, json.dumps(study, indent=1) + "\n")
        rows = read(table) if table.exists() else []
        replace(table, line(list(COLUMNS)) + "".join(line(list(r.values())) for r in rows))
        done = {r["run"] for r in rows}
        frames = whole_frames(folder / FRAMES)
        replace(folder / FRAMES, "".join(text for run, text in frames if run in done))
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    return done


def whole_frames(path: Path) -> list[tuple[str, str]]:
    """(run, text) of every frame that is complete."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    out, at = [], 0
    while at + 1 < len(lines) and lines[at].strip().isdigit():
        n = int(lines[at])
        block = lines[at : at + n + 2]
        named = re.search(r'run="([^"]*)"', block[1]) if len(block) > 1 else None
        if len(block) < n + 2 or not block[-1].endswith("\n") or not named:
            break
        out.append((named[1], "".join(block)))
        at += n + 2
    return out


def write_h5(folder: Path) -> Path:
    """results.h5: the columns of results.csv as arrays of one group, "runs"."""
    rows = read(folder)
    new = folder / (H5 + ".new")
    with h5py.File(new, "w", locking=False) as file:
        group = file.create_group("runs")
        for name, kind in COLUMNS.items():
            values = [r[name] for r in rows]
            group.create_dataset(name, data=values if kind is not str else np.array(values, object),
                                 dtype=h5py.string_dtype() if kind is str else None)
    new.replace(folder / H5)
    return folder / H5


def lives(rows: Sequence[dict[str, Any]], by: str = "failed") -> Lives:
    """Lives by the study's own criterion ("failed"), or by another that was watched."""
    if by != "failed" and by not in WATCHED:
        raise InputError(f"--by {by}: is not recorded; choose failed or one of {', '.join(WATCHED)} ("
                         f"{CRITERIA['bond'][0]}, ...)")
    step = np.array([r[f"{by}_step"] for r in rows], float)
    dt, check, end = (np.array([r[k] for r in rows], float) for k in ("dt_fs", "check_steps", "steps"))
    failed = step >= 0
    # the last check before it that found nothing
    clean = np.maximum(0.0, np.ceil(step / check) * check - check)
    arm, model, seed = (np.array([r[k] for r in rows]) for k in ("arm", "model", "training_seed"))
    n, temperature = (np.array([r[k] for r in rows], float) for k in ("n_atoms", "temperature_K"))
    return Lives(arm, model, seed, n, temperature, np.where(failed, clean, end) * dt,
                 np.where(failed, step * dt, np.inf))
