"""``rxmdnn evaluate MODEL DATA``: a model's errors on labelled frames, and how far their tail reaches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.atoms import Edges
from rxmdnn.deck.words import PARTS
from rxmdnn.errors import InputError
from rxmdnn.models.interface import Potential
from rxmdnn.models.model_file import read_metadata
from rxmdnn.train import dataset, metrics
from rxmdnn.train.dataset import Dataset, Frame

MULTIPLES = (3, 5, 10)  # of the RMSE: how many errors are larger
QUANTILES = (0.5, 0.9, 0.99, 0.999)
WORST = 5  # frames that are named


def chosen_frames(model: Path, paths: Sequence[Path], elements: Sequence[str], part: str) -> list[Frame]:
    """The frames of the files, or the part of them that the model's training deck made of these very files."""
    try:
        provenance = json.loads(read_metadata(model)["provenance"])
        lines = {words[0]: words[1:] for line in provenance.get("deck", "").splitlines() if (words := line.split())}
        group, kind = lines.get("groups", ("group", "kind"))[:2]
    except (KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{model}: its provenance is damaged: {error}") from None
    missing = [f"{p}: no such file" for p in paths if not p.is_file()]
    if missing:
        raise InputError(*missing)
    frames = dataset.read(paths, elements, group, kind)
    if part == "all":
        return frames
    sums = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    if "split" not in lines or provenance.get("data_sha256", "").split()[:len(sums)] != sums:
        raise InputError(f"--part {part}: {model} was not trained on {', '.join(map(str, paths))} as they are; "
                         "leave --part out")
    split = dataset.split(frames, float(lines["split"][0]), float(lines["split"][1]), int(lines["seed"][0]))
    which = split[PARTS.index(part)]
    if not which:
        raise InputError(f"--part {part}: the training deck gave it no frames")
    return [frames[k] for k in which]


def answer(potential: Potential, data: Dataset, k: int) -> metrics.Predicted:
    """Energy, forces and stress of frame ``k`` by a potential of the engine."""
    f, (i, j, r) = data.frames[k], data.edges[k]
    near = (r * r).sum(1) < potential.cutoff[f.species[i], f.species[j]] ** 2
    i, j, r = i[near], j[near], np.ascontiguousarray(r[near])
    n = len(f.x)
    first = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=n))]).astype(np.int64)
    e_i, g = potential.compute(Edges(i.astype(np.int32), j.astype(np.int32), r, first), f.species.astype(np.int32))
    forces = np.stack([np.bincount(i, g[:, c], n) - np.bincount(j, g[:, c], n) for c in range(3)], axis=1)
    volume = abs(np.linalg.det(f.cell)) if f.pbc.all() else np.nan
    return float(e_i.sum()), forces, r.T @ g / volume


def _force_errors(frames: Sequence[Frame], found: dict[int, metrics.Predicted], elements: Sequence[str]
                  ) -> dict[str, np.ndarray]:
    """Errors of force components, eV/Å: of all atoms and of each species."""
    error = np.concatenate([found[k][1] - frames[k].forces for k in found])
    species = np.concatenate([frames[k].species for k in found])
    return {"all": error.ravel()} | {e: error[species == s].ravel() for s, e in enumerate(elements) if s in species}


def tail(frames: Sequence[Frame], found: dict[int, metrics.Predicted], elements: Sequence[str]
         ) -> dict[str, dict[str, float]]:
    """How errors of force components are spread.

    Returns
    -------
    {"all" or species: {"rmse", "above_3", "above_5", "above_10": shares beyond so many RMSE, "q50" ...: quantiles of
    |error|, "max"}}, eV/Å
    """
    out = {}
    for name, error in _force_errors(frames, found, elements).items():
        size, rmse = abs(error), float(np.sqrt((error**2).mean()))
        out[name] = {"rmse": rmse, **{f"above_{m}": float((size > m * rmse).mean()) for m in MULTIPLES},
                     **{f"q{100 * q:g}": float(np.quantile(size, q)) for q in QUANTILES}, "max": float(size.max())}
    return out


def worst(frames: Sequence[Frame], found: dict[int, metrics.Predicted]) -> list[dict[str, Any]]:
    """The frames of the largest errors of a force component."""
    largest = {k: float(abs(found[k][1] - frames[k].forces).max()) for k in found}
    return [{"where": frames[k].where, "kind": frames[k].kind, "force_max": largest[k]}
            for k in sorted(largest, key=lambda k: -largest[k])[:WORST]]


