"""Choice of frames: those on which models disagree, or those farthest from the training set of one model.

The command is ``rxmdnn label OUT --select MODEL ... --from FRAMES``. Query by committee: the spread of an atom is the
standard deviation of its force over the models, s_i = sqrt(mean_k |f_ik - mean_k f_ik|^2), and that of a frame is the
largest of its atoms (Zhang et al., Phys. Rev. Materials 3, 023804 (2019); ``band`` are its two thresholds).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import ase
import ase.io
import numpy as np
from tqdm import tqdm

from rxmdnn.errors import InputError
from rxmdnn.fidelity.reference import read as read_reference
from rxmdnn.files import atomic, writing
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.labelling.file_tasks import unlabelled
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.model_file import load_model
from rxmdnn.training.dataset import Dataset
from rxmdnn.training.evaluate import predict_frame
from rxmdnn.training.labelled_frames import bare_frame

KEPT_WORDS = ("temperature", "group", "run", "time", "time_fs", "time_unit", "step")  # tell neighbors in time


def candidates(paths: Sequence[Path]) -> list[ase.Atoms]:
    """All frames of the files (as ``read_atoms`` reads them), each with ``origin``: file and frame number, from 1."""
    found: list[ase.Atoms] = []
    for path in paths:
        for number, atoms in enumerate(read_atoms(path), 1):
            atoms.info["origin"] = f"{path.name}:{number}"
            found.append(atoms)
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no frames")
    return found


def as_data(found: Sequence[ase.Atoms], potentials: Sequence[Allegro]) -> Dataset:
    """The frames with their neighbors. Raises InputError for an element that the models do not have."""
    elements = potentials[0].elements
    unknown = sorted({s for a in found for s in a.symbols} - set(elements))
    if unknown:
        raise InputError(f"--select: the model has no element {', '.join(unknown)}; it has {', '.join(elements)}")
    return Dataset([bare_frame(a, elements, a.info["origin"]) for a in found],
                   max(float(p.cutoff.max()) for p in potentials))


def _frames(data: Dataset, what: str) -> Iterable[int]:
    return tqdm(range(len(data.frames)), desc=what, leave=False, disable=not sys.stderr.isatty())


def force_spread(models: Sequence[Path], found: Sequence[ase.Atoms]) -> list[np.ndarray]:
    """Spread of the forces over the models on every atom of every frame: a list of (n,) float64, eV/Å."""
    elements = load_model(models[0]).config.elements
    potentials = [Allegro.load(m, elements) for m in models]
    data, spread = as_data(found, potentials), []
    for k in _frames(data, "committee"):
        forces = np.array([predict_frame(p, data, k)[1] for p in potentials])
        spread.append(np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0)))
    return spread


def latent_distance(model: Path, found: Sequence[ase.Atoms]) -> list[np.ndarray]:
    """Mahalanobis distance of the features of every atom from those of the training set; about 1 is usual.

    A list of (n,) float64. Raises InputError if the model file has no statistics of its training set.
    """
    reference = read_reference(model)
    if reference is None:
        raise InputError(f"{model}: has no statistics of its training set; add them with 'rxmdnn fidelity fit', or "
                         "name two or more independently trained models, to select by their spread")
    potential = Allegro.load(model, load_model(model).config.elements)
    potential.watched = True
    data, distances, known = as_data(found, [potential]), [], reference.of(potential.elements)
    for k in _frames(data, "features"):
        predict_frame(potential, data, k)
        distances.append(known.distance(potential.features(), data.frames[k].species))
    return distances


def choose(score: Sequence[float], groups: Sequence[str], count: int, at_least: float, at_most: float,
           per_group: int | None) -> list[int]:
    """The ``count`` frames of the largest scores inside [at_least, at_most], at most ``per_group`` per group."""
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
           band: tuple[float, float] | None = None, per_group: int | None = None) -> str:
    """Write the chosen frames, unlabelled, to ``output`` (extended XYZ); a summary, as a line to print.

    The score is the ``force_spread`` of several models, or the ``latent_distance`` of one.

    ``band`` : smallest and largest score; default: 0 to 5 eV/Å for a spread (larger ones are of unphysical frames) and
    any distance.

    Raises
    ------
    InputError
        If a single model has no statistics of its training set, no frame can be chosen, or ``output`` exists.
    """
    name, unit = ("spread", " eV/Å") if len(models) > 1 else ("latent_distance", "")
    key = name + ("_eV_per_A" if unit else "")
    low, high = band or (0.0, 5.0 if unit else np.inf)
    if output.exists():
        raise InputError(f"{output}: exists already; name another file")
    found = candidates(paths)
    spread = force_spread(models, found) if unit else latent_distance(models[0], found)
    score = [float(s.max()) for s in spread]
    chosen = choose(score, [str(a.info.get("group", a.info["origin"].rpartition(":")[0])) for a in found], count,
                    low, high, per_group)
    if not chosen:
        raise InputError(f"--select: no frame has a {name} in [{low:g}, {high:g}]{unit}; they range from "
                         f"{min(score):.3g} to {max(score):.3g}")
    frames = []
    for k in chosen:
        atoms = unlabelled(found[k])
        atoms.info = {"kind": "selected", "origin": found[k].info["origin"], key: round(score[k], 4),
                      **{w: found[k].info[w] for w in KEPT_WORDS if w in found[k].info}}
        atoms.arrays[name] = spread[k]
        frames.append(atoms)
    with writing(output), atomic(output) as new:
        ase.io.write(new, frames, format="extxyz", parallel=False)
    return (f"{len(chosen)} of {len(found)} frames in {output}: {name} {score[chosen[-1]]:.3g} to "
            f"{score[chosen[0]]:.3g}{unit} (median of all {float(np.median(score)):.3g})")
