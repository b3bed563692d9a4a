"""Labels by a quantum engine: a resumable job over the tasks of a plan, and a check that forces are gradients.

The set is an extended-XYZ file. A task is appended as one block and flushed to disk, so that a killed job loses at most
the tasks in progress; the same command resumes it. When all tasks are done, the file is put in the order of the plan
and is the same for any number of workers.
"""

from __future__ import annotations

import csv
import importlib.metadata
import multiprocessing
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator
from tqdm import tqdm

from rxmdnn.errors import InputError
from rxmdnn.files import atomic, writing
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling import ammonia_quantum_frames as quantum_frames
from rxmdnn.labelling import cp2k_engine, gpaw_engine

MAX_FORCE = 50.0  # eV/Å: beyond, the short-range repulsion (ZBL) describes the energy
ATTEMPTS = 8
RECORDED = ("temperature", "density", "a", "pair", "distance", "path", "spread", "origin",
            "spread_eV_per_A", "latent_distance")  # parameters of a task that frames record


@dataclass(frozen=True)
class Engine:
    """A program that labels: its name and settings, its ASE calculator, and its plan of frames.

    A calculator may have ``version`` (str), used instead of that of the package, and ``notes`` (dict), which the last
    frame records.
    """

    name: str
    package: str
    settings: str
    calculator: Callable[[], Calculator]
    kinds: dict[str, frames.Source] = field(default_factory=lambda: frames.KINDS)
    plan: Callable[[float], list[frames.Task]] = frames.plan

    def version(self, calculator: Calculator) -> str:
        """Name and version of the program, which frames record."""
        return getattr(calculator, "version", None) or f"{self.package} {importlib.metadata.version(self.package)}"


def _gfn1() -> Calculator:
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", accuracy=0.1, electronic_temperature=300.0, max_iterations=300, verbosity=0)


ENGINES = {
    "gfn1": Engine("GFN1-xTB", "tblite", "accuracy 0.1, electronic temperature 300 K, Gamma point", _gfn1),
    "gpaw-revpbe-d3bj": Engine("revPBE-D3(BJ)", "gpaw", gpaw_engine.SETTINGS, gpaw_engine.gpaw, quantum_frames.KINDS,
                               quantum_frames.plan),
    "cp2k-optpbe-vdw": Engine("optPBE-vdW", "cp2k", cp2k_engine.SETTINGS, cp2k_engine.cp2k, quantum_frames.KINDS,
                              quantum_frames.plan),
}


def label(task: frames.Task, engine: str) -> list[ase.Atoms]:
    """The labelled frames of a task; after a failure of the engine or too large forces they are drawn again.

    Raises RuntimeError if no attempt succeeds.
    """
    calculator = ENGINES[engine].calculator()
    parameters = task.parameters
    for attempt in range(ATTEMPTS if task.atoms is None else 1):
        rng = task.rng(attempt)
        atoms = task.atoms.copy() if task.atoms is not None else \
            frames.to_ase(*ENGINES[engine].kinds[task.kind](dict(parameters), rng))
        try:
            if "steps" in parameters:
                steps = int(parameters["steps"])
                keep = list(range(int(parameters["from"]), steps + 1, int(parameters["every"])))
                labelled = frames.langevin(atoms, calculator, float(parameters["temperature"]), steps, keep, rng)
            else:
                atoms.calc = calculator
                if "stress" in parameters:
                    atoms.get_stress()
                labelled = [frames.freeze(atoms)]
        except CalculationFailed:
            calculator = ENGINES[engine].calculator()
            continue
        if all(np.isfinite(a.arrays["forces"]).all() and abs(a.arrays["forces"]).max() < MAX_FORCE for a in labelled):
            for k, a in enumerate(labelled):
                a.info |= {"engine": ENGINES[engine].name, "version": ENGINES[engine].version(calculator),
                           "settings": ENGINES[engine].settings, "kind": task.kind, "group": task.group,
                           "number": k, "of": len(labelled)}
                a.info |= {k: v for k, v in parameters.items() if k in RECORDED} | getattr(calculator, "notes", {})
            return labelled
    raise RuntimeError(f"attempts that failed: {attempt + 1}")


def tasks_of_file(path: Path) -> list[frames.Task]:
    """One task for each frame of a file; ``kind`` is that of the frame, or the name of the file."""
    tasks = []
    for number, atoms in enumerate(read_atoms(path)):
        unlabelled = ase.Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        parameters = {k: v for k, v in atoms.info.items() if k in RECORDED}
        tasks.append(frames.Task(re.sub(r"\W", "_", str(atoms.info.get("kind", path.stem))), number, parameters,
                                 unlabelled))
    return tasks


def text(atoms: ase.Atoms) -> str:
    """One frame in extended XYZ: positions to 1e-6 Å, forces to 1e-5 eV/Å."""

    def value(v: str | float | np.ndarray) -> str:
        if isinstance(v, np.ndarray):
            return '"' + " ".join(f"{t:.8g}" for t in v.reshape(-1)) + '"'
        if isinstance(v, str):
            return f'"{v}"'
        return f"{v:.7f}" if abs(v) > 1000 else f"{v:.10g}"

    info = {"Lattice": np.asarray(atoms.cell), "Properties": "species:S:1:pos:R:3:forces:R:3",
            "pbc": "T T T", **atoms.info}
    rows = [f"{s} {x[0]:.6f} {x[1]:.6f} {x[2]:.6f} {f[0]:.5f} {f[1]:.5f} {f[2]:.5f}"
            for s, x, f in zip(atoms.symbols, atoms.positions, atoms.arrays["forces"])]
    head = " ".join(f"{k}={v if k == 'Properties' else value(v)}" for k, v in info.items())
    return f"{len(atoms)}\n{head}\n" + "\n".join(rows) + "\n"


def finished(path: Path) -> dict[str, list[str]]:
    """The complete groups of a file, as the text of their frames; incomplete ones of a killed job are dropped."""
    groups: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    at = 0
    while at + 1 < len(lines):
        n = int(lines[at])
        block = lines[at:at + n + 2]
        if len(block) < n + 2 or not block[-1].endswith("\n"):
            break
        named = re.search(r'group="?([^" ]+)"?.* of=(\d+)', block[1])
        if not named:
            raise InputError(f"{path}:{at + 2}: not a frame of a labelling job (no group); name another output")
        groups.setdefault(named[1], []).append("".join(block))
        sizes[named[1]] = int(named[2])
        at += n + 2
    return {g: f for g, f in groups.items() if len(f) == sizes[g]}


def run(path: Path, tasks: list[frames.Task], engine: str, workers: int) -> int:
    """Label the tasks that are not yet in the file; the number of frames in it at the end."""
    done = finished(path)
    rest = [t for t in tasks if t.group not in done]
    _replace(path, (f for g in done.values() for f in g))
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=40) as pool, path.open("a") as out:
        bar = tqdm(pool.imap_unordered(partial(_labelled, engine=engine), rest), total=len(tasks), initial=len(done),
                   unit="task", desc=ENGINES[engine].name)
        for group, result in bar:
            if isinstance(result, str):
                bar.write(result)
                continue
            with writing(path):
                out.write("".join(result))
                out.flush()
                os.fsync(out.fileno())
            done[group] = result
    planned = [t.group for t in tasks]
    order = planned + sorted(done.keys() - set(planned))  # groups of other jobs stay
    _replace(path, (f for group in order for f in done.get(group, [])))
    return sum(map(len, done.values()))


def _labelled(task: frames.Task, engine: str) -> tuple[str, list[str] | str]:
    """The group of a task and the text of its frames, or the message of its failure."""
    try:
        return task.group, [text(a) for a in label(task, engine)]
    except RuntimeError as fault:
        return task.group, f"{task.group}: not labelled: {fault}"


def _replace(path: Path, parts: Iterable[str]) -> None:
    with writing(path), atomic(path) as new, new.open("w") as out:
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
    calculator = ENGINES[engine].calculator()
    rows = []
    for number, frame in enumerate(labelled):
        direction = rng.normal(size=(len(frame), 3))
        direction /= np.sqrt((direction**2).sum(1).mean())
        energy = {}
        for k in (-2, -1, 1, 2):
            moved = frame.copy()
            moved.positions += k * step * direction
            moved.calc = calculator
            energy[k] = moved.get_potential_energy()
        slope = (8 * (energy[1] - energy[-1]) - (energy[2] - energy[-2])) / (12 * step)
        analytic = -float((frame.get_forces() * direction).sum())
        rows.append([number, frame.info.get("group", ""), len(frame), slope, analytic,
                     abs(slope - analytic) / np.sqrt(len(frame))])
    if csv_path:
        with writing(csv_path), atomic(csv_path) as new, new.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["frame", "group", "atoms", "dE_ds_difference_eV_per_A", "dE_ds_forces_eV_per_A",
                             "error_eV_per_A_per_sqrt_atoms"])
            writer.writerows([*r[:3], *(f"{v:.6g}" for v in r[3:])] for r in rows)
    return float(max(r[5] for r in rows))
