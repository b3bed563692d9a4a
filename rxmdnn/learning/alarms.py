"""Alarms and the frames before them: of a study of times to failure, or of a monitored production run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ase
import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.io.folder import numbered_frames
from rxmdnn.io.frame import MODEL_FORCES
from rxmdnn.io.frame_source import open_frames
from rxmdnn.io.h5md import trajectory_in
from rxmdnn.io.own_formats import H5Frames
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.io.xyz_trajectory import STEP, XYZ_TRAJECTORY, frames_of
from rxmdnn.labelling.file_tasks import CORRELATED
from rxmdnn.schema import Item, read_json_lines
from rxmdnn.survival import results

INCIDENTS, INCIDENT_FRAMES = "incidents.jsonl", "incidents.xyz"
EARLIER = 4  # frames of a trajectory before an incident
INCIDENT = {"incident": Item("int", low=0), "step": Item("int", low=0), "to_step": Item("int", low=0, optional=True),
            "events": Item("list"), "time_fs": Item("any")}
EVENT = {"kind": Item("text"), "gid": Item("int", low=-1), "value": Item("any"), "threshold": Item("any")}
AT_ALARM = "at_alarm"  # word of a frame: whether it is that of the alarm itself


@dataclass(frozen=True)
class Alarm:
    """One failure that a criterion found.

    Attributes
    ----------
    source : str, unique among the alarms of a folder: the name of the run of a study, or folder and incident
    criterion : str, one of ``words.CRITERIA``; time_fs : float, of the alarm
    frames : those before the alarm in the order of time, then that of the alarm itself where it was kept. Their words
        have ``origin`` (source:step), ``step`` and ``at_alarm``. Empty where none was kept or tells the worst atom
    worst : int, the row of the atom that met the criterion. Where that is one of the whole system: of the atom with the
        largest force of the model in the last frame that has forces; -1 without such a frame
    group : str, the same for alarms of one run less than 500 fs apart, as the retries of one failure
    """

    source: str
    criterion: str
    time_fs: float
    frames: list[ase.Atoms] = field(repr=False)
    worst: int
    group: str


def alarms_of(folder: Path) -> list[Alarm]:
    """The alarms of a folder of ``rxmdnn tfail``, or of a monitored run of ``rxmdnn run``. Raises InputError."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name one that 'rxmdnn run' or 'rxmdnn tfail' wrote")
    return alarms_of_study(folder) if (folder / results.CSV).is_file() else alarms_of_run(folder)


def alarms_of_study(folder: Path) -> list[Alarm]:
    """The failures of a study, in the order of the names of its runs: the same for any number of ranks.

    The frames before a failure are those of the line ``frames`` of the deck. Raises InputError for files that cannot be
    read.
    """
    rows = {row["run"]: row for row in results.read(folder) if row["failed"]}
    frames: dict[str, list[ase.Atoms]] = {name: [] for name in rows}
    path = folder / results.FRAMES
    if path.is_file() and path.stat().st_size:
        for atoms in read_atoms(path, format="extxyz"):
            name = str(atoms.info.get("run"))
            if name in frames and atoms.info.get("kind") in ("before", "failure"):
                frames[name].append(_named(atoms, name, int(atoms.info["step"]), atoms.info["kind"] == "failure"))
    return [_alarm(name, row["criterion"], row["failed_step"] * row["dt_fs"], frames[name], row["gid"], name)
            for name, row in sorted(rows.items())]


def alarms_of_run(folder: Path) -> list[Alarm]:
    """The incidents of a run that was monitored (``fidelity flag``, ``stop`` or ``heal``), in their order.

    The frames are up to four of its trajectory (``h5md``, ``xyz``, or numbered .xyz files) from the 500 fs before the
    incident, and that of the incident. Where the run was healed, later incidents of the same failure are retries, and
    the trajectory holds what replaced the failed attempts: only frames up to the state that this and all later
    incidents went back to led to it. The frames of a ring polymer are those of its centroids.

    Raises InputError for a run without incidents, and for files that cannot be read.
    """
    rows, known = _incidents(folder / INCIDENTS), _trajectory(folder)
    shown = {}
    if (folder / INCIDENT_FRAMES).is_file():
        shown = {a.info.get("incident"): a for a in read_atoms(folder / INCIDENT_FRAMES, format="extxyz")}
    alarms, last, groups = [], np.inf, _groups([row["time_fs"] for row in rows])
    for row, group in zip(reversed(rows), reversed(groups)):
        step, source = row["step"], f"{folder.name}/incident_{row['incident']}"
        last = min(last, row.get("to_step", np.inf))
        before = sorted(k for k in known if k < step and k <= last)[-EARLIER:]
        frames = [_named(known[k](), source, k, False) for k in before]
        time = row["time_fs"]
        frames = [a for a in frames if not time - float(a.info.get("time", time)) > CORRELATED]
        if row["incident"] in shown:
            frames.append(_named(shown[row["incident"]], source, step, True))
        event = _event(row["events"])
        alarms.append(_alarm(source, event["kind"], time, frames, event["gid"], f"{folder.name}/t{group}"))
    return alarms[::-1]


def _groups(times: Sequence[float]) -> list[int]:
    """Of each incident a number, the same for those of times (fs) less than 500 fs from the one before or after."""
    order = np.argsort(times, kind="stable")
    out = np.zeros(len(times), int)
    out[order] = np.cumsum(np.diff(np.array(times)[order], prepend=times[order[0]] if len(times) else 0) > CORRELATED)
    return out.tolist()


def _alarm(source: str, criterion: str, time: float, frames: Sequence[ase.Atoms], gid: int, group: str) -> Alarm:
    ordered = sorted(frames, key=lambda a: (a.info["step"], a.info[AT_ALARM]))
    worst = gid if gid >= 0 else next((strongest(a) for a in reversed(ordered) if MODEL_FORCES in a.arrays), -1)
    if any(worst >= len(a) for a in ordered):
        raise InputError(f"{source}: the alarm is of atom {worst}, but a frame has fewer atoms: these are not the "
                         "frames of that run")
    return Alarm(source, criterion, float(time), ordered if worst >= 0 else [], int(worst), group)


def strongest(atoms: ase.Atoms) -> int:
    """The atom with the largest force of the model, the first of equal ones."""
    return int(np.argmax(np.linalg.norm(atoms.arrays[MODEL_FORCES], axis=1)))


def _named(atoms: ase.Atoms, source: str, step: int, at_alarm: bool) -> ase.Atoms:
    """The frame with the words of an alarm."""
    atoms.info |= {"origin": f"{source}:{step}", "step": step, AT_ALARM: at_alarm}
    return atoms


def _event(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the events of an incident that of an atom farthest beyond its limit, relative to it; otherwise the first."""
    def beyond(event: dict[str, Any]) -> float:
        value, limit = event["value"], event["threshold"]
        if value is None or limit is None:  # NaN or infinite
            return np.inf
        return abs(value - limit) / max(abs(limit), 1e-12)

    of_atoms = [e for e in events if e["gid"] >= 0]
    return max(of_atoms, key=lambda e: (beyond(e), -e["gid"])) if of_atoms else events[0]


def _incidents(path: Path) -> list[dict[str, Any]]:
    """The rows of incidents.jsonl; a row that a killed run has not finished is dropped."""
    if not path.is_file():
        raise InputError(f"{path}: no such file: no criterion was met in this run, or it was not monitored; write for "
                         "example 'fidelity heal 10' in its deck")
    rows = []
    for line, row in read_json_lines(path, "an incident of a run"):
        row = {**row, **line.entries(row, INCIDENT)}
        if not row["events"]:
            raise line.fault("events", "there is none")
        for event in row["events"]:
            line.entries(event, EVENT, "events")
        numbers = [row["time_fs"], *(event[name] for event in row["events"] for name in ("value", "threshold"))]
        for number in (n for n in numbers if n is not None):  # null: NaN or infinite
            line.value("time_fs, value or threshold", number, Item("float"))
        rows.append({**row, "time_fs": np.nan if row["time_fs"] is None else float(row["time_fs"])})
    return rows


def _trajectory(folder: Path) -> dict[int, Callable[[], ase.Atoms]]:
    """Of every step of a frame that the run wrote, the way to read it; H5MD first. Raises InputError."""
    found: dict[int, Callable[[], ase.Atoms]] = {
        int(f.stem): partial(lambda f: read_atoms(f, "-1", "extxyz")[0], f) for f in numbered_frames(folder)}
    path = folder / XYZ_TRAJECTORY
    if path.is_file():
        source = open_frames(path)
        stated = [STEP.search(at.header) for at in frames_of(path)]
        found |= {int(step[1]): partial(source.read, k) for k, step in enumerate(stated) if step}
    series = trajectory_in(folder)
    if series is not None and series.is_file():
        frames = H5Frames(series)
        found |= {int(step): partial(frames.__getitem__, k) for k, step in enumerate(frames.series.step)}
    return found
