"""Labels of the chosen frames, and the quarantine of those that the engine cannot label or labels inconsistently."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import ase
import ase.io

from rxmdnn.files import atomic, sha256_of, write_text, writing
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.labelling import labelling
from rxmdnn.labelling.executor import Executor, LostError
from rxmdnn.labelling.file_tasks import tasks_of_file

CHECKED = 0.01  # share of the labels of a round whose forces are compared with their energies; one frame at least
CONSISTENT = 0.05  # eV/Å: largest error of checked forces along a random direction, divided by the root of the atoms


def write_frames(path: Path, frames: list[ase.Atoms]) -> None:
    """Write the chosen frames."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as new:
            ase.io.write(new, frames, format="extxyz", parallel=False)


def label(folder: Path, engine: str, executor: Executor) -> dict[str, Any]:
    """Label ``chosen.xyz`` of a round into ``labels.xyz``, the others into ``quarantine.xyz``; a line of the ledger."""
    chosen, path = folder / "chosen.xyz", folder / "labels.xyz"
    failures = labelling.run(path, tasks_of_file(chosen), engine, executor)
    frames, reasons = read_atoms(chosen), dict(failures)
    good = [k for k in range(len(frames)) if k not in reasons]
    for k in _inconsistent(read_atoms(path), engine, executor) if good else []:
        reasons[good[k]] = f"its forces are not the gradient of its energy, by more than {CONSISTENT} eV/Å"
    if len(reasons) > len(failures):
        with writing(path):
            write_text(path, "".join(b.text for k, b in zip(good, labelling.finished(path)) if k not in reasons))
            if len(reasons) == len(frames):
                path.unlink()
    quarantined = [{"frame": str(frames[k].info.get("origin", k + 1)), "reason": reasons[k]} for k in sorted(reasons)]
    if quarantined:
        for k in reasons:
            frames[k].info["reason"] = reasons[k]
        with writing(folder), atomic(folder / "quarantine.xyz") as new:
            ase.io.write(new, [frames[k] for k in sorted(reasons)], format="extxyz", parallel=False)
    return {"labelled": len(frames) - len(reasons), "quarantined": quarantined,
            "labels": sha256_of(path) if path.exists() else None}


def _inconsistent(labelled: list[ase.Atoms], engine: str, executor: Executor) -> list[int]:
    """Labels whose forces contradict their energies: of a sample, and of all if one of the sample does."""
    sample = list(range(0, len(labelled), round(1 / CHECKED)))
    bad = _bad(labelled, sample, engine, executor)
    return [*bad, *(_bad(labelled, [k for k in range(len(labelled)) if k not in sample], engine, executor) if bad else
                    [])]


def _bad(labelled: list[ase.Atoms], which: list[int], engine: str, executor: Executor) -> list[int]:
    """Those of these labels that do not pass the check (a NaN does not), or could not be checked."""
    found = executor.unordered(partial(_error, engine=engine), [labelled[k] for k in which])
    return sorted(which[k] for k, error in found if isinstance(error, LostError) or not error <= CONSISTENT)


def _error(labelled: ase.Atoms, engine: str) -> float:
    return labelling.check_forces([labelled], engine, None)
