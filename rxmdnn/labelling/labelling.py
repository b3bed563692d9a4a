"""Labels by an engine: a resumable job over tasks, and a check that forces are gradients.

The set is an extended-XYZ file. A task is appended as one block and flushed to disk, so that a killed job loses at most
the tasks in progress; the same command resumes it. When all tasks are done, the file is put in the order of the tasks
and is the same for any number of workers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator
from tqdm import tqdm

from rxmdnn.errors import InputError
from rxmdnn.files import Lines, atomic, writing
from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling.engines import Engine, engine_of
from rxmdnn.labelling.executor import Executor
from rxmdnn.labelling.frame_text import text
from rxmdnn.labelling.task import Task
from rxmdnn.locks import held, lock_of
from rxmdnn.schema import read_text

MAX_FORCE = 50.0  # eV/Å: beyond, the short-range repulsion (ZBL) describes the energy
ATTEMPTS = 8
RECORDED = ("temperature", "density", "a", "pair", "distance", "path", "spread")  # parameters that frames record


def label(task: Task, engine: str) -> list[ase.Atoms]:
    """The labelled frames of a task; those of a recipe are drawn again after a failure or too large forces.

    Raises RuntimeError with the reason if no attempt succeeds.
    """
    known, reason = engine_of(engine), ""
    calculator: Calculator | None = None  # of each task its own: what a program keeps of a frame shows in the bits
    for attempt in range(ATTEMPTS if task.atoms is None else 1):
        try:
            calculator = calculator or known.calculator()
            labelled = (_of_recipe(task, known, calculator, attempt) if task.atoms is None else
                        _of_file(task, known, calculator))
        except InputError:
            raise
        except ImportError as fault:
            raise InputError(f"--engine {engine}: a package is missing: {fault}") from None
        except Exception as fault:  # calculators raise exceptions of any kind
            calculator = None
            reason = _in_a_line(fault)
            continue
        reason = _unphysical(labelled)
        if not reason:
            for k, a in enumerate(labelled):
                a.info |= {"engine": known.name, "version": known.version(calculator), "settings": known.settings,
                           "kind": task.kind, "group": task.group, "number": k, "of": len(labelled)}
                a.info |= {k: v for k, v in task.parameters.items() if k in RECORDED} | getattr(calculator, "notes", {})
            return labelled
    raise RuntimeError(reason + (f" ({ATTEMPTS} attempts)" if task.atoms is None else ""))


def _in_a_line(fault: Exception) -> str:
    """The message of any exception as one line."""
    text = " ".join(str(fault).split())[:300]
    plain = isinstance(fault, (RuntimeError, CalculationFailed)) and text
    return text if plain else f"{type(fault).__name__}: {text}"


def _of_file(task: Task, known: Engine, calculator: Calculator) -> list[ase.Atoms]:
    """The frame of the task with its labels, and with what it states besides."""
    assert task.atoms is not None
    atoms = task.atoms.copy()
    if fault := known.boundary_fault(atoms.pbc):
        raise RuntimeError(fault)
    atoms.calc = calculator
    if known.stress and atoms.pbc.all() and "stress" in getattr(calculator, "implemented_properties", ()):
        with suppress(NotImplementedError):  # of this cell
            atoms.get_stress(apply_constraint=False)
    made = frames.freeze(atoms)
    for name in ("id", "masses"):
        if name in task.atoms.arrays:
            made.set_array(name, task.atoms.arrays[name])
    made.info = {**made.info, **{k: v for k, v in task.atoms.info.items() if k not in made.info}}
    return [made]


def _of_recipe(task: Task, known: Engine, calculator: Calculator, attempt: int) -> list[ase.Atoms]:
    """The frames of the task, drawn by its seed and labelled."""
    parameters, rng = task.parameters, task.rng(attempt)
    atoms = frames.to_ase(*known.kinds[task.kind](dict(parameters), rng))
    if "steps" in parameters:
        steps = int(parameters["steps"])
        keep = list(range(int(parameters["from"]), steps + 1, int(parameters["every"])))
        return frames.langevin(atoms, calculator, float(parameters["temperature"]), steps, keep, rng)
    atoms.calc = calculator
    if "stress" in parameters:
        atoms.get_stress()
    return [frames.freeze(atoms)]


def _unphysical(labelled: list[ase.Atoms]) -> str:
    """Why these labels cannot be used, or an empty text."""
    for a in labelled:
        if not np.isfinite(a.arrays["forces"]).all() or not np.isfinite(a.info["energy"]):
            return "the energy or a force is NaN or infinite"
        largest = abs(a.arrays["forces"]).max(initial=0.0)
        if largest >= MAX_FORCE:
            return f"a force of {largest:.3g} eV/Å, above {MAX_FORCE:g}; the frame is unphysical, or the engine failed"
    return ""


class DoneTask(NamedTuple):
    """A finished task in the file: its group, the atoms of its first frame as they are written, and its text."""

    group: str
    atoms: str
    text: str


def finished(path: Path) -> list[DoneTask]:
    """The complete tasks of a file; incomplete ones of a killed job are dropped."""
    what, advice = "the output of a labelling job", "name another output"
    lines = read_text(path, what, advice).splitlines(keepends=True) if path.exists() else []
    blocks: list[DoneTask] = []
    open_task: list[str] = []
    at = 0
    while at + 1 < len(lines):
        n = int(lines[at]) if lines[at].strip().isdecimal() else -1
        block = lines[at:at + n + 2]
        if n >= 0 and (len(block) < n + 2 or not block[-1].endswith("\n")):
            break
        named = re.search(r' group="?([^" ]+)"? number=(\d+) of=(\d+)', lines[at + 1])
        if n < 0 or not named:
            raise InputError(f"{path}:{at + 1 if n < 0 else at + 2}: not a frame of a labelling job (no group); name "
                             "another output")
        open_task = [*open_task, "".join(block)] if int(named[2]) == len(open_task) else []
        if open_task and len(open_task) == int(named[3]):
            blocks.append(DoneTask(named[1], _atoms_of(open_task[0]), "".join(open_task)))
            open_task = []
        at += n + 2
    return blocks


def _atoms_of(frame: str) -> str:
    """Cell, periodicity, names and positions of a frame, as they are written."""
    _, head, *rows = frame.splitlines()
    where = re.findall(r'(?:Lattice|pbc)="[^"]*"', head)
    return "\n".join([*where, *(" ".join(row.split()[:4]) for row in rows)])


def _key(task: Task) -> str:
    """What tells whether a task is done: the group of a recipe's frames, the atoms of a frame of a file."""
    if task.atoms is None:
        return task.group
    atoms = task.atoms.copy()
    atoms.arrays["forces"] = np.zeros((len(atoms), 3))
    return _atoms_of(text(atoms))


def run(path: Path, tasks: list[Task], engine: str, executor: Executor) -> dict[int, str]:
    """Label the tasks that are not yet in the file; of those that could not be labelled, by number, why."""
    name = engine_of(engine).name  # its mistakes, before anything is written
    with held(lock_of(path), f"{path}: another labelling writes to this file; wait for its end, or name another file"):
        return _run(path, tasks, engine, name, executor)


def _run(path: Path, tasks: list[Task], engine: str, name: str, executor: Executor) -> dict[int, str]:
    """As ``run``, on a file that no other labelling writes to."""
    keys, found, done = [_key(task) for task in tasks], finished(path), {}
    wanted, others = set(keys), []
    for block in found:
        key = next((k for k in (block.atoms, block.group) if k in wanted), None)
        if key is None:
            others.append(block.text)  # of another job: it stays
        else:
            done[key] = block.text
    first: dict[str, int] = {}  # a configuration that a file holds twice is labelled once
    for k, key in enumerate(keys):
        first.setdefault(key, k)
    rest = [k for key, k in first.items() if key not in done]
    _replace(path, (b.text for b in found))
    failures: dict[int, str] = {}
    with closing(Lines(path)) as out:
        results = executor.unordered(partial(_labelled, engine=engine), [tasks[k] for k in rest])
        bar = tqdm(results, total=len(tasks), initial=len(tasks) - len(rest), unit="task", desc=name[:30])
        for number, made in bar:
            k = rest[number]
            if isinstance(made, Exception):
                failures[k] = str(made)
                bar.write(f"{tasks[k].name}: not labelled: {made}")
                continue
            with writing(path):
                out.add(made)
                out.flush()
            done[keys[k]] = made
    ordered = list(dict.fromkeys(key for key in keys if key in done))
    _replace(path, [*(done[key] for key in ordered), *others])
    if not ordered and not others:
        path.unlink()  # nothing could be labelled
    return dict(sorted(failures.items()))


def _labelled(task: Task, engine: str) -> str | RuntimeError:
    """The text of the frames of a task, or the reason of its failure."""
    try:
        return "".join(text(a) for a in label(task, engine))
    except RuntimeError as fault:
        return RuntimeError(str(fault) or "no reason is given")


def _replace(path: Path, parts: Iterable[str]) -> None:
    with writing(path), atomic(path) as new, new.open("w", encoding="utf-8") as out:
        out.writelines(parts)


def check_forces(labelled: list[ase.Atoms], engine: str, csv_path: Path | None, seed: int = 1,
                 step: float = 2e-3) -> float:
    """The largest error of labelled forces against energies: central differences along a random direction of all atoms.

    Parameters
    ----------
    step : float, Å
        Displacement per atom (root mean square); the five-point formula is used.

    Returns
    -------
    float, eV/Å: the largest |F·d + ΔE/Δs| over the frames, divided by √n, the norm of the direction
    """
    rng = np.random.default_rng(seed)
    calculator = engine_of(engine).calculator()
    rows = []
    for number, frame in enumerate(labelled):
        direction = rng.normal(size=(len(frame), 3))
        direction /= np.sqrt((direction**2).sum(1).mean())
        energy = {}
        for k in (-2, -1, 1, 2):
            moved = frame.copy()
            moved.set_constraint()
            moved.positions += k * step * direction
            moved.calc = calculator
            usual = moved.get_potential_energy()
            energy[k] = calculator.results.get("free_energy", usual)
        slope = (8 * (energy[1] - energy[-1]) - (energy[2] - energy[-2])) / (12 * step)
        analytic = -float((frame.get_forces(apply_constraint=False) * direction).sum())
        rows.append([number, frame.info.get("group", ""), len(frame), slope, analytic,
                     abs(slope - analytic) / np.sqrt(len(frame))])
    if csv_path:
        with writing(csv_path), atomic(csv_path) as new, new.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["frame", "group", "atoms", "dE_ds_difference_eV_per_A", "dE_ds_forces_eV_per_A",
                             "error_eV_per_A_per_sqrt_atoms"])
            writer.writerows([*r[:3], *(f"{v:.6g}" for v in r[3:])] for r in rows)
    return float(max(r[5] for r in rows))
