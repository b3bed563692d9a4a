"""``rxmdnn label OUT --select MODEL MODEL ... --from FRAMES``: frames that the models disagree on.

Query by committee: an atom's spread is the standard deviation of its force over the models,
s_i = sqrt(mean_k |f_ik - mean_k f_ik|^2), and a frame's is that of its worst atom (Zhang et al., Phys. Rev. Materials
3, 023804 (2019), whose band between two thresholds is ``at_least`` and ``at_most``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import ase
import ase.io
import numpy as np
from tqdm import tqdm

from rxmdnn.errors import InputError
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.model_file import load_model
from rxmdnn.train.dataset import Dataset, Frame
from rxmdnn.train.evaluate import answer


def candidates(paths: Sequence[Path]) -> list[ase.Atoms]:
    """All frames of the files (any format that ASE reads), each with ``origin``: file and frame number, from 1."""
    found: list[ase.Atoms] = []
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            frames = ase.io.read(path, ":")
        except Exception as error:
            raise InputError(f"{path}: cannot be read as frames: {error}") from None
        for number, atoms in enumerate(frames, 1):
            atoms.info["origin"] = f"{path.name}:{number}"
            found.append(atoms)
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no frames")
    return found


def force_spread(models: Sequence[Path], found: Sequence[ase.Atoms]) -> list[np.ndarray]:
    """Spread of the models' forces on every atom of every frame, a list of (n,) float64, eV/Å."""
    elements = load_model(models[0]).config.elements
    potentials = [Allegro.load(m, elements) for m in models]
    unknown = sorted({s for a in found for s in a.symbols} - set(elements))
    if unknown:
        raise InputError(f"{models[0]}: does not know {', '.join(unknown)}; it knows {', '.join(elements)}")
    frames = [Frame(np.array([elements.index(s) for s in a.symbols], np.int64), a.positions.copy(), np.array(a.cell),
                    a.pbc.copy(), np.nan, np.zeros((len(a), 3)), "", "", np.nan, "", a.info["origin"]) for a in found]
    data = Dataset(frames, max(float(p.cutoff.max()) for p in potentials))
    spread = []
    for k in tqdm(range(len(frames)), desc="committee", leave=False, disable=not sys.stderr.isatty()):
        forces = np.array([answer(p, data, k)[1] for p in potentials])
        spread.append(np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0)))
    return spread


def choose(score: Sequence[float], groups: Sequence[str], count: int, at_least: float, at_most: float,
           per_group: int | None) -> list[int]:
    """The ``count`` frames of the largest scores inside [at_least, at_most], at most ``per_group`` of a group."""
    taken: dict[str, int] = {}
    chosen: list[int] = []
    for k in np.argsort(-np.asarray(score), kind="stable"):
        if len(chosen) == count:
            break
        if at_least <= score[k] <= at_most and taken.get(groups[k], 0) < (per_group or count):
            taken[groups[k]] = taken.get(groups[k], 0) + 1
            chosen.append(int(k))
    return chosen


def select(models: Sequence[Path], paths: Sequence[Path], count: int, output: Path,
           band: tuple[float, float] = (0.0, 5.0), per_group: int | None = None) -> str:
    """Write the chosen frames, unlabelled, to ``output`` (extended XYZ); what was found, as a line to print.

    ``band``, eV/Å: least and largest spread; what the models disagree on more is a wreck that no good run meets.

    Raises
    ------
    InputError
        If there are fewer than two models, nothing to choose from, or ``output`` exists.
    """
    if len(models) < 2:
        raise InputError("--select: needs two models or more, trained apart (other seeds), whose spread is the score")
    if output.exists():
        raise InputError(f"{output}: is there already; name another file")
    found = candidates(paths)
    spread = force_spread(models, found)
    score = [float(s.max()) for s in spread]
    chosen = choose(score, [str(a.info.get("group", a.info["origin"].rpartition(":")[0])) for a in found], count,
                    *band, per_group)
    if not chosen:
        raise InputError(f"--select: no frame has a spread in [{band[0]:g}, {band[1]:g}] eV/Å; they range from "
                         f"{min(score):.3g} to {max(score):.3g}")
    frames = []
    for k in chosen:
        atoms = ase.Atoms(found[k].symbols, positions=found[k].positions, cell=found[k].cell, pbc=found[k].pbc)
        atoms.info = {"kind": "selected", "origin": found[k].info["origin"], "spread_eV_per_A": round(score[k], 4),
                      **{w: found[k].info[w] for w in ("temperature",) if w in found[k].info}}
        atoms.arrays["spread"] = spread[k]
        frames.append(atoms)
    ase.io.write(output, frames, format="extxyz")
    return (f"{len(chosen)} of {len(found)} frames in {output}: spread {score[chosen[-1]]:.3g} to "
            f"{score[chosen[0]]:.3g} eV/Å (median of all {float(np.median(score)):.3g})")
