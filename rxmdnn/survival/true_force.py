"""``rxmdnn tfail relabel FRAMES``: true force errors of a model on frames of its runs, from a reference engine.

P(abs(dF) > x) over atoms is the tail on which the published argument rests: a run of N atoms and time t draws N t/tau
times from it, so the largest error in the run grows with N t. ``samples`` in tfail.in keeps frames at regular times,
independent of failures.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ase
import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.io.frame import MODEL_FORCES
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.schema import Item, columns_of, read_csv
from rxmdnn.units import FS_PER_PS

ERRORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # eV/Å: thresholds above which atoms are counted
COLUMNS = ("run", "arm", "model", "kind", "atoms", "temperature_K", "step", "time_fs", "atom_ps", "rms_eV_A",
           "max_eV_A", "atom_of_max", *(f"above_{x:g}" for x in ERRORS))
KEPT = ("run", "kind", "model", "arm", "training_seed", "temperature", "replica", "step", "time_fs")
CSV, FRAMES, FIGURE = "true_forces.csv", "relabelled.xyz", "true_forces.png"
SAMPLE = "sample"
BINS = 6


def compare(frame: ase.Atoms, engine: str) -> tuple[list[Any], str] | str:
    """A row of the table and the frame with the forces of the engine; or a message if the engine failed."""
    from rxmdnn.labelling.engines import engine_of
    from rxmdnn.labelling.file_tasks import unlabelled
    from rxmdnn.labelling.frame_text import text

    model, known = model_forces(frame), engine_of(engine)
    true = unlabelled(frame)
    if fault := known.boundary_fault(true.pbc):
        return f"{frame.info['run']}, step {frame.info['step']}: {fault}"
    calculator = known.calculator()
    try:
        true.calc = calculator
        forces, energy = true.get_forces(apply_constraint=False), float(true.get_potential_energy())
        if not np.isfinite(forces).all():
            raise ValueError("NaN or infinite forces")
    except InputError:
        raise
    except Exception as error:  # engines raise errors of any kind on unphysical frames, which are expected here
        return f"{frame.info['run']}, step {frame.info['step']}: {(str(error) or repr(error)).splitlines()[0]}"
    deviation = np.linalg.norm(model - forces, axis=1)
    info = frame.info
    row = [info["run"], info["arm"], info["model"], info["kind"], len(frame), float(info["temperature"]), info["step"],
           float(info["time_fs"]), float(len(frame) * info["time_fs"] / FS_PER_PS),
           float(np.sqrt((deviation**2).mean())), float(deviation.max()), int(deviation.argmax()),
           *(int((deviation > x).sum()) for x in ERRORS)]
    true.calc = None
    true.arrays["forces"] = forces
    true.info = {k: info[k] for k in KEPT} | {
        "group": str(info["run"]).replace("/", "_"), "energy": energy, "engine": known.name,
        "version": known.version(calculator), "settings": known.settings}
    return row, text(true)


def model_forces(frame: ase.Atoms) -> Any:
    """(n, 3) forces of the model, eV/Å; studies of earlier versions wrote them as ASE's forces. None without any."""
    if MODEL_FORCES in frame.arrays:
        return frame.arrays[MODEL_FORCES]
    return None if frame.calc is None else frame.get_forces(apply_constraint=False)


def chosen(paths: Sequence[Path], most: int | None, n: int | None = None, kind: str | None = None) -> list[ase.Atoms]:
    """Frames of the files, of n atoms and of a kind where given; at most ``most`` of each kind, evenly spaced."""
    frames: list[ase.Atoms] = []
    for path in paths:
        found = read_atoms(path, format="extxyz")
        if not found or any(k not in f.info for f in found for k in KEPT) or any(
                model_forces(f) is None for f in found):
            raise InputError(f"{path}: not frames of `rxmdnn tfail`, which name their run and hold the forces of the "
                             "model")
        frames += found
    sizes = sorted({len(f) for f in frames})
    frames = [f for f in frames if n in (None, len(f))]
    if not frames:
        raise InputError(f"relabel: --atoms {n}: no frame has this size; they have {', '.join(map(str, sizes))}")
    frames = [f for f in frames if kind in (None, f.info["kind"])]
    if not frames:
        raise InputError(f"relabel: --kind {kind}: no such frame; a line 'samples' in tfail.in keeps samples")
    if most is None:
        return frames
    keep: list[int] = []
    for kind in sorted({f.info["kind"] for f in frames}):
        rows = [k for k, f in enumerate(frames) if f.info["kind"] == kind]
        keep += [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
    return [frames[k] for k in sorted(keep)]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of true_forces.csv without a truncated last row; none if there is no file."""
    if not path.exists():
        return []
    words, advice = {"run", "arm", "model", "kind"}, "choose another --out"
    _, rows = read_csv(path, "a table of `rxmdnn tfail relabel`", COLUMNS, advice)
    columns_of(path, rows, {name: Item("text" if name in words else "float") for name in COLUMNS}, advice)
    return [dict(zip(COLUMNS, row)) for row in rows]


def compare_all(frames: list[ase.Atoms], engine: str, workers: int) -> Iterator[tuple[list[Any], str] | str]:
    """``compare`` of each frame, in order, by so many processes of one thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if workers == 1 or len(frames) < 2:
        yield from (compare(f, engine) for f in frames)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(partial(compare, engine=engine), frames)


def shares(rows: Sequence[dict[str, str]]) -> np.ndarray:
    """(x,) P(abs(dF) > x) for x of ERRORS over all atoms of the frames."""
    above = np.array([[float(r[f"above_{x:g}"]) for x in ERRORS] for r in rows])
    return above.sum(axis=0) / sum(int(r["atoms"]) for r in rows)


def table(rows: Sequence[dict[str, str]]) -> str:
    """The table of P by arm and kind of frame, as text."""
    out = [f"{'arm':<14s}{'frames':>8s}{'kind':>9s}{'rms':>8s}{'largest':>9s}   P(|dF| > x), x in eV/Å: "
           + "  ".join(f"{x:g}" for x in ERRORS)]
    for arm, kind in sorted({(r["arm"], r["kind"]) for r in rows}):
        of = [r for r in rows if (r["arm"], r["kind"]) == (arm, kind)]
        rms = np.sqrt(np.mean([float(r["rms_eV_A"]) ** 2 for r in of]))
        out.append(f"{arm:<14s}{len(of):>8d}{kind:>9s}{rms:>8.3f}{max(float(r['max_eV_A']) for r in of):>9.2f}   "
                   + "  ".join(f"{p:.2g}" for p in shares(of)))
    return "\n".join(out)


def binned(rows: Sequence[dict[str, str]], bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N t (bins,) in atom ps (geometric means), P (bins, x), and its standard error over runs (bins, x)."""
    exposure = np.array([float(r["atom_ps"]) for r in rows])
    edges = np.quantile(exposure, np.linspace(0, 1, bins + 1))
    at, p, error = [], [], []
    for k in range(bins):
        inside = (exposure >= edges[k]) & ((exposure < edges[k + 1]) | ((k == bins - 1) & (exposure <= edges[-1])))
        of = [r for r, yes in zip(rows, inside) if yes]
        if not of:
            continue
        by_run = np.array([shares([r for r in of if r["run"] == run]) for run in sorted({r["run"] for r in of})])
        at.append(np.exp(np.log(exposure[inside]).mean()))
        p.append(shares(of))
        error.append(by_run.std(axis=0, ddof=1) / np.sqrt(len(by_run)) if len(by_run) > 1 else np.zeros(len(ERRORS)))
    return np.array(at), np.array(p), np.array(error)
