"""Labels by a real engine: a resumable job over the tasks of a plan, and the check that its forces are gradients.

The set is an extended-XYZ file. A task is written whole (one append, flushed to disk) or not at all, so that a
killed job loses at most the tasks in hand; the same command goes on. When all tasks are done the file is put in
the order of the plan, which makes it the same for any number of workers.
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
from ase.io import read
from tqdm import tqdm

from rxmdnn.errors import InputError
from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling import cp2k_engine as cp2k
from rxmdnn.labelling import gpaw_engine as functional

MAX_FORCE = 50.0  # eV/Å: harder frames teach the wall that the short-range repulsion already knows
ATTEMPTS = 8
RECORDED = ("temperature", "density", "a", "pair", "distance", "path", "spread", "origin",
            "spread_eV_per_A", "latent_distance")  # words of a task that frames keep


@dataclass(frozen=True)
class Engine:
    """A program that labels: how to make its ASE calculator, what every frame says of it, the frames worth its time.

    A calculator may carry ``version`` (str), which stands for that of the package, and ``notes`` (dict) on its last
    frame.
    """

    name: str
    package: str
    settings: str
    calculator: Callable[[], Calculator]
    kinds: dict[str, frames.Source] = field(default_factory=lambda: frames.KINDS)
    plan: Callable[[float], list[frames.Task]] = frames.plan

    def version(self, calculator: Calculator) -> str:
        return getattr(calculator, "version", None) or f"{self.package} {importlib.metadata.version(self.package)}"


def _gfn1() -> Calculator:
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", accuracy=0.1, electronic_temperature=300.0, max_iterations=300, verbosity=0)


ENGINES = {
    "gfn1": Engine("GFN1-xTB", "tblite", "accuracy 0.1, electronic temperature 300 K, Gamma point", _gfn1),
    "gpaw-revpbe-d3bj": Engine("revPBE-D3(BJ)", "gpaw", functional.SETTINGS, functional.gpaw, functional.KINDS,
                               functional.plan),
    "cp2k-optpbe-vdw": Engine("optPBE-vdW", "cp2k", cp2k.SETTINGS, cp2k.cp2k, functional.KINDS, functional.plan),
}


def label(task: frames.Task, engine: str) -> list[ase.Atoms]:
    """Make the frames of a task and label them: the engine's failures and hopeless forces are drawn again."""
    calculator = ENGINES[engine].calculator()
    given = task.given
    for attempt in range(ATTEMPTS if task.atoms is None else 1):
        rng = task.rng(attempt)
        atoms = task.atoms.copy() if task.atoms is not None else \
            frames.to_ase(*ENGINES[engine].kinds[task.kind](dict(given), rng))
        try:
            if "steps" in given:
                keep = list(range(int(given["from"]), int(given["steps"]) + 1, int(given["every"])))
                made = frames.langevin(atoms, calculator, float(given["temperature"]), int(given["steps"]), keep, rng)
            else:
                atoms.calc = calculator
                if "stress" in given:
                    atoms.get_stress()
                made = [frames.freeze(atoms)]
        except CalculationFailed:
            calculator = ENGINES[engine].calculator()
            continue
        if all(np.isfinite(a.arrays["forces"]).all() and abs(a.arrays["forces"]).max() < MAX_FORCE for a in made):
            for k, a in enumerate(made):
                a.info |= {"engine": ENGINES[engine].name, "version": ENGINES[engine].version(calculator),
                           "settings": ENGINES[engine].settings, "kind": task.kind, "group": task.group,
                           "number": k, "of": len(made)}
                a.info |= {k: v for k, v in given.items() if k in RECORDED} | getattr(calculator, "notes", {})
            return made
    raise RuntimeError(f"{task.group}: no frame of {attempt + 1} attempts could be labelled")


def given(path: Path) -> list[frames.Task]:
    """Tasks of the frames of a file, each a group of its own: ``kind`` is its word, or the file's name."""
    try:
        every = read(path, ":")
    except Exception as error:
        raise InputError(f"{path}: cannot be read as frames: {error}") from None
    tasks = []
    for number, atoms in enumerate(every):
        plain = ase.Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        words = {k: v for k, v in atoms.info.items() if k in RECORDED}
        tasks.append(frames.Task(re.sub(r"\W", "_", str(atoms.info.get("kind", path.stem))), number, words, plain))
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
    """Groups that a file holds whole, as text of their frames; what a killed job left half-written is dropped."""
    groups: dict[str, list[str]] = {}
    whole: dict[str, int] = {}
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    at = 0
    while at + 1 < len(lines):
        n = int(lines[at])
        block = lines[at:at + n + 2]
        if len(block) < n + 2 or not block[-1].endswith("\n"):
            break
        named = re.search(r'group="?([^" ]+)"?.* of=(\d+)', block[1])
        if not named:
            raise InputError(f"{path}:{at + 2}: group: not made by the labelling job; name another output")
        groups.setdefault(named[1], []).append("".join(block))
        whole[named[1]] = int(named[2])
        at += n + 2
    return {g: f for g, f in groups.items() if len(f) == whole[g]}


def run(path: Path, tasks: list[frames.Task], engine: str, workers: int) -> int:
    """Label what is not yet in the file; return the number of frames in it at the end."""
    done = finished(path)
    rest = [t for t in tasks if t.group not in done]
    try:
        _replace(path, (f for g in done.values() for f in g))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=40) as pool, path.open("a") as out:
        bar = tqdm(pool.imap_unordered(partial(_named, engine=engine), rest), total=len(tasks), initial=len(done),
                   unit="task", desc=ENGINES[engine].name)
        for group, made in bar:
            if isinstance(made, str):
                bar.write(made)
                continue
            out.write("".join(made))
            out.flush()
            os.fsync(out.fileno())
            done[group] = made
    planned = [t.group for t in tasks]
    order = planned + sorted(done.keys() - set(planned))  # what another job put there stays
    _replace(path, (f for group in order for f in done.get(group, [])))
    return sum(map(len, done.values()))


def _named(task: frames.Task, engine: str) -> tuple[str, list[str] | str]:
    try:
        return task.group, [text(a) for a in label(task, engine)]
    except RuntimeError as fault:
        return task.group, f"{task.group}: not labelled: {fault}"


def _replace(path: Path, parts: Iterable[str]) -> None:
    new = path.with_suffix(".new")
    with new.open("w") as out:
        out.writelines(parts)
        out.flush()
        os.fsync(out.fileno())
    new.replace(path)


def check_forces(frames_in: list[ase.Atoms], engine: str, csv_path: Path | None, seed: int = 1,
                 step: float = 2e-3) -> float:
    """Label forces against energies: central differences along one random direction of all atoms per frame.

    Parameters
    ----------
    step : float, Å
        Length per atom (root mean square) of the displacement; the five-point formula is used.

    Returns
    -------
    float, eV/Å: the largest |F·d + ΔE/Δs| over the frames, per unit of the direction's norm √n.
    """
    rng = np.random.default_rng(seed)
    calculator = ENGINES[engine].calculator()
    rows = []
    for number, frame in enumerate(frames_in):
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
        with csv_path.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["frame", "group", "atoms", "dE_ds_difference_eV_per_A", "dE_ds_forces_eV_per_A",
                             "error_eV_per_A_per_sqrt_atoms"])
            writer.writerows([*r[:3], *(f"{v:.6g}" for v in r[3:])] for r in rows)
    return float(max(r[5] for r in rows))
