"""Errors of a model on labelled frames, and their tail. The command is ``rxmdnn evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from tqdm import tqdm

from rxmdnn.atoms import Edges
from rxmdnn.deck.language import words_of
from rxmdnn.deck.words import PARTS
from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of
from rxmdnn.io.labels import KEYS, NO_KEYS, LabelKeys
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.interface import Potential
from rxmdnn.models.model_file import load_model, provenance
from rxmdnn.training import dataset, metrics
from rxmdnn.training.dataset import Dataset
from rxmdnn.training.doubts import doubts
from rxmdnn.training.labelled_frames import LabelledFrame, labelled, read

MULTIPLES = (3, 5, 10)  # of the RMSE: the tail is the share of errors beyond them
QUANTILES = (0.5, 0.9, 0.99, 0.999)
WORST = 5  # frames that are listed


@dataclass(frozen=True)
class Evaluation:
    """A model compared with labelled frames.

    Attributes
    ----------
    frames : list of LabelledFrame
    predicted : {index of a frame: (energy, eV; forces (n, 3) float64, eV/Å; stress (3, 3) float64, eV/Å³)}
    elements : species of the model, in its order
    shift : (T,) float64, eV, energy per atom of each species that the model adds
    report : the values that ``rxmdnn evaluate --json`` writes: "model", "data", "part", "labels", "errors" as from
        metrics.errors, "tail" as from `tail`, "worst" as from `worst`, "notes" on implausible labels
    """

    frames: list[LabelledFrame]
    predicted: dict[int, metrics.Predicted]
    elements: tuple[str, ...]
    shift: np.ndarray
    report: dict[str, Any]


def evaluate(model: Path, data: Sequence[Path] | Sequence[ase.Atoms], part: str = "all", precision: str = "float32",
             progress: bool = False, keys: LabelKeys = NO_KEYS) -> Evaluation:
    """Evaluate a model file on the frames of the data files, or on ASE atoms with energy and forces.

    Parameters
    ----------
    part : "all", or "training", "validation" or "test" as the training deck of the model split these files
    precision : of the network, "float32" or "float64"
    progress : show progress bars
    keys : names of the labels in the frames

    Raises
    ------
    InputError
        For a damaged model file, missing or faulty data, and a part that these files do not have.

    Example
    -------
    >>> evaluate(Path("model.safetensors"), [Path("set.xyz")]).report["errors"]["all"]["force_rmse"]  # doctest: +SKIP
    """
    elements = load_model(model).config.elements
    paths = [item for item in data if isinstance(item, Path)]
    if len(paths) == len(data):
        frames = chosen_frames(model, paths, elements, part, keys)
    else:
        atoms = [item for item in data if isinstance(item, ase.Atoms)]
        if len(atoms) < len(data):
            raise InputError("evaluate: give paths of files or ASE atoms, not both")
        if part != "all":
            raise InputError(f"evaluate: part {part}: only files have parts, as a training deck split them")
        frames = labelled([("frames", atoms)], elements, keys=keys)
    predicted = predict(model, frames, precision, progress)
    report = {"model": str(model), "data": [str(f) for f in paths], "part": part, "labels": frames[0].engine,
              "errors": metrics.errors(frames, predicted, elements), "tail": tail(frames, predicted, elements),
              "worst": worst(frames, predicted), "notes": doubts(frames)}
    return Evaluation(frames, predicted, elements, load_model(model).shift.numpy(), report)


def predict(model: Path, frames: list[LabelledFrame], precision: str = "float32", progress: bool = False
            ) -> dict[int, metrics.Predicted]:
    """What a model file gives for each frame, by its index. Raises InputError; see ``evaluate``."""
    potential = Allegro.load(model, load_model(model).config.elements, precision)
    with_edges = dataset.with_neighbors(frames, float(potential.cutoff.max()), progress=progress)
    return {k: predict_frame(potential, with_edges, k)
            for k in tqdm(range(len(frames)), desc="frames", leave=False, disable=not progress)}


def chosen_frames(model: Path, paths: Sequence[Path], elements: Sequence[str], part: str,
                  keys: LabelKeys = NO_KEYS) -> list[LabelledFrame]:
    """The frames of the files, or a part of them as the training deck of the model split these same files.

    Labels have the names ``keys``, otherwise those of the training deck or ASE's.
    """
    lines = training_lines(model)
    group, kind = (*lines.get("groups", ()), "group", "kind")[:2]
    missing = [f"{p}: no such file" for p in paths if not p.is_file()]
    if missing:
        raise InputError(*missing)
    trained = LabelKeys(*(lines.get(name, [None])[0] for name in KEYS.values()))
    frames = _read(paths, elements, group, kind, keys, trained)
    if part == "all":
        return frames
    if "split" not in lines or not trained_with(model, paths):
        raise InputError(f"--part {part}: {model} was not trained on these versions of {', '.join(map(str, paths))}; "
                         "omit --part")
    split = dataset.split(frames, float(lines["split"][0]), float(lines["split"][1]), int(lines["seed"][0]))
    which = split[PARTS.index(part)]
    if not which:
        raise InputError(f"--part {part}: has no frames in the training deck")
    return [frames[k] for k in which]


def training_lines(model: Path) -> dict[str, list[str]]:
    """The deck that a model was trained by: the values of each keyword; empty if the file does not tell."""
    return {words[0]: words[1:] for line in str(provenance(model).get("deck", "")).splitlines()
            if (words := words_of(line))}


def trained_with(model: Path, paths: Sequence[Path]) -> bool:
    """Whether the data of a model's training began with these very files."""
    sums = [sha256_of(p) for p in paths]
    return str(provenance(model).get("data_sha256", "")).split()[:len(sums)] == sums


def _read(paths: Sequence[Path], elements: Sequence[str], group: str, kind: str, keys: LabelKeys,
          trained: LabelKeys) -> list[LabelledFrame]:
    """The frames, whose labels may have the names that the training data had."""
    if any(keys) or not any(trained):
        return read(paths, elements, group, kind, keys)
    try:
        return read(paths, elements, group, kind, trained)
    except InputError as error:
        try:
            return read(paths, elements, group, kind)
        except InputError:
            raise error from None


def predict_frame(potential: Potential, data: Dataset, k: int) -> metrics.Predicted:
    """Energy (eV), forces (n, 3), eV/Å, and stress (3, 3), eV/Å³ (NaN if not periodic), of frame ``k``."""
    f, (i, j, r) = data.frames[k], data.edges[k]
    near = (r * r).sum(1) < potential.cutoff[f.species[i], f.species[j]] ** 2
    i, j, r = i[near], j[near], np.ascontiguousarray(r[near])
    n = len(f.x)
    first = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=n))]).astype(np.int64)
    e_i, g = potential.compute(Edges(i.astype(np.int32), j.astype(np.int32), r, first), f.species.astype(np.int32))
    forces = np.stack([np.bincount(i, g[:, c], n) - np.bincount(j, g[:, c], n) for c in range(3)], axis=1)
    volume = abs(np.linalg.det(f.cell)) if f.pbc.all() else np.nan
    return float(e_i.sum()), forces, r.T @ g / volume


def force_errors(frames: Sequence[LabelledFrame], predicted: dict[int, metrics.Predicted], elements: Sequence[str]
                  ) -> dict[str, np.ndarray]:
    """Errors of force components, eV/Å: {"all" or species: (n,) float64}."""
    error = np.concatenate([predicted[k][1] - frames[k].forces for k in predicted])
    species = np.concatenate([frames[k].species for k in predicted])
    return {"all": error.ravel()} | {e: error[species == s].ravel() for s, e in enumerate(elements) if s in species}


def tail(frames: Sequence[LabelledFrame], predicted: dict[int, metrics.Predicted], elements: Sequence[str]
         ) -> dict[str, dict[str, float]]:
    """Distribution of the errors of force components.

    Returns
    -------
    {"all" or species: {"rmse", "above_3", "above_5", "above_10": shares beyond these multiples of the RMSE,
    "q50" ...: quantiles of |error|, "max"}}, eV/Å
    """
    out = {}
    for name, error in force_errors(frames, predicted, elements).items():
        size, rmse = abs(error), float(np.sqrt((error**2).mean()))
        out[name] = {"rmse": rmse, **{f"above_{m}": float((size > m * rmse).mean()) for m in MULTIPLES},
                     **{f"q{100 * q:g}": float(np.quantile(size, q)) for q in QUANTILES}, "max": float(size.max())}
    return out


def worst(frames: Sequence[LabelledFrame], predicted: dict[int, metrics.Predicted]) -> list[dict[str, Any]]:
    """The frames with the largest errors of a force component: "where", "kind", "force_max" (eV/Å)."""
    largest = {k: float(abs(predicted[k][1] - frames[k].forces).max()) for k in predicted}
    return [{"where": frames[k].where, "kind": frames[k].kind, "force_max": largest[k]}
            for k in sorted(largest, key=lambda k: -largest[k])[:WORST]]
