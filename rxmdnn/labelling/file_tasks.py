"""Tasks from a file: each frame unlabelled, with the words that stay, neighbors in time in one group."""

from __future__ import annotations

import re
from pathlib import Path

import ase
import numpy as np

from rxmdnn.io.frame import MODEL
from rxmdnn.io.labels import is_label
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.labelling.task import Task

CORRELATED = 500.0  # fs: frames of one series that are nearer are one group; vibrations and contacts decorrelate slower
NOT_KEPT = {"engine", "version", "settings", "number", "of", "group", "kinetic_energy", "units", "healed", "model",
            "kpoints", "iterations"}
KEPT_COLUMNS = ("numbers", "positions", "masses", "id", "tags", "initial_magmoms", "initial_charges")


def tasks_of_file(path: Path) -> list[Task]:
    """One task for each frame; ``kind`` is that of the frame, or the name of the file.

    Frames keep what they state besides labels: periodicity, cell, isotopes, ids, magnetic moments, words. Raises
    InputError for a file that cannot be read.
    """
    frames = read_atoms(path)
    groups = groups_of(frames, path.stem)
    tasks = []
    for number, (atoms, group) in enumerate(zip(frames, groups)):
        kind = re.sub(r"\W", "_", str(atoms.info.get("kind", path.stem)))
        tasks.append(Task(kind, number, {}, unlabelled(atoms), group, f"{path}: frame {number + 1}"))
    return tasks


def unlabelled(atoms: ase.Atoms) -> ase.Atoms:
    """A copy without labels, results of a model, velocities and constraints."""
    copy = ase.Atoms(cell=atoms.cell, pbc=atoms.pbc, positions=atoms.positions, numbers=atoms.numbers)
    for name in KEPT_COLUMNS:
        if name in atoms.arrays:
            copy.set_array(name, atoms.arrays[name])
    copy.info = {k: v for k, v in atoms.info.items()
                 if k not in NOT_KEPT and not isinstance(v, dict) and not str(k).startswith(MODEL)
                 and not is_label(str(k))}
    return copy


def groups_of(frames: list[ase.Atoms], stem: str) -> list[str]:
    """The group of each frame in the split, "" for a frame that stands alone.

    That is its word ``group``, or its ``run``. Frames of one series (with a time, or chosen from one trajectory, which
    ``origin`` names) are one group where they are neighbors in time, less than CORRELATED apart, or neighbors in their
    file, where there is no time.
    """
    groups = [str(a.info.get("group", a.info.get("run", ""))).replace("/", "_").replace(" ", "_") for a in frames]
    series: dict[str, list[int]] = {}
    for k, atoms in enumerate(frames):
        if not groups[k] and (name := _series(atoms, stem)):
            series.setdefault(name, []).append(k)
    for name, members in series.items():
        clock = _clock(frames, members)
        order = sorted(members, key=lambda k: clock[k])
        part = 0
        for before, k in zip([order[0], *order], order):
            part += clock[k] - clock[before] > 1
            groups[k] = f"{name}-t{part}"
    return groups


def _series(atoms: ase.Atoms, stem: str) -> str:
    """The name of the trajectory of a frame, or "" where it does not seem to come from one."""
    if "origin" in atoms.info:
        return re.sub(r"\W", "_", str(atoms.info["origin"]).rpartition(":")[0] or str(atoms.info["origin"]))
    in_time = any(word in atoms.info for word in ("time", "time_fs", "step", "incident"))
    return re.sub(r"\W", "_", stem) if in_time else ""


def _clock(frames: list[ase.Atoms], members: list[int]) -> dict[int, float]:
    """Of each frame, its time in units of CORRELATED; where not all have one in fs, its number in its file."""
    times = []
    for k in members:
        info = frames[k].info
        time = info.get("time_fs", info.get("time") if info.get("time_unit", "fs") == "fs" else None)
        if isinstance(time, (int, float, np.integer, np.floating)):
            times.append(float(time) / CORRELATED)
    if len(times) == len(members):
        return dict(zip(members, times))
    numbers = [str(frames[k].info.get("origin", "")).rpartition(":")[2] for k in members]
    return {k: float(n) if n.isdigit() else float(k) for k, n in zip(members, numbers)}
