"""``rxmdnn evaluate MODEL DATA``: a model's errors on labelled frames, and how far their tail reaches."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from math import erfc, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rxmdnn.atoms import Edges
from rxmdnn.errors import InputError
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.interface import Potential
from rxmdnn.models.model_file import load_model, read_metadata
from rxmdnn.train import dataset, metrics
from rxmdnn.train.dataset import Dataset, Frame

PARTS = ("training", "validation", "test")
MULTIPLES = (3, 5, 10)  # of the RMSE: how many errors are larger
QUANTILES = (0.5, 0.9, 0.99, 0.999)
WORST = 5  # frames that are named


def main(argv: Sequence[str]) -> None:
    """Print the tables; write parity.png and tail.png, and the figures as JSON where asked."""
    p = argparse.ArgumentParser("rxmdnn evaluate", description="Errors of a model on labelled frames, and their tail.")
    frames_arguments(p)
    p.add_argument("--precision", choices=("float32", "float64"), default="float32", help="of the network")
    p.add_argument("--out", metavar="DIR", type=Path, default=Path("evaluation"), help="where pictures go")
    p.add_argument("--json", metavar="F", type=Path, help="also write the figures to this file")
    a = p.parse_args(argv)
    network = load_model(a.model)
    elements = network.config.elements
    potential = Allegro.load(a.model, elements, a.precision)
    frames = chosen_frames(a.model, a.data, elements, a.part)
    data = Dataset(frames, float(potential.cutoff.max()), progress=sys.stderr.isatty())
    found = {k: answer(potential, data, k) for k in tqdm(range(len(frames)), desc="frames", leave=False,
                                                         disable=not sys.stderr.isatty())}
    report: dict[str, Any] = {"model": str(a.model), "data": [str(f) for f in a.data], "part": a.part,
                              "labels": frames[0].engine, "errors": metrics.errors(frames, found, elements),
                              "tail": tail(frames, found, elements), "worst": worst(frames, found)}
    print(f"{a.model} on {len(frames)} frames ({a.part}), labels: {frames[0].engine or 'of an unnamed engine'}\n")
    print(metrics.table_text(report["errors"]) + "\n\n" + tail_text(report["tail"]))
    print("\nframes of the largest force errors, eV/Å")
    for row in report["worst"]:
        print(f"  {row['force_max']:9.4f}  {row['where']} ({row['kind']})")
    try:
        a.out.mkdir(parents=True, exist_ok=True)
        metrics.plot_parity(a.out / "parity.png", frames, found, elements, network.shift.numpy())
        plot_tail(a.out / "tail.png", frames, found, elements)
        if a.json:
            a.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{error.filename or a.out}: cannot be written: {error.strerror}") from None
    print(f"\nparity.png and tail.png are in {a.out}")


def frames_arguments(p: argparse.ArgumentParser) -> None:
    """MODEL DATA ... and which part of the data."""
    p.add_argument("model", metavar="MODEL", type=Path, help="a native model file")
    p.add_argument("data", metavar="DATA", type=Path, nargs="+", help="labelled frames: extended XYZ or HDF5")
    p.add_argument("--part", choices=("all", *PARTS), default="all",
                   help="of the data the model was trained on: as its training deck split them (default: all frames)")


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


def tail_text(table: dict[str, dict[str, float]]) -> str:
    """The table of ``tail``: meV/Å, and parts in a million beyond multiples of the RMSE."""
    quantiles = [f"q{100 * q:g}" for q in QUANTILES]
    lines = [f"{'force errors':<14s}{'RMSE':>9s}" + "".join(f"{f'{q[1:]} %':>9s}" for q in quantiles) + f"{'max':>9s}"
             + "".join(f"{f'> {m} RMSE':>11s}" for m in MULTIPLES) + "   meV/Å, parts per million"]
    for name, row in table.items():
        lines.append(f"{name:<14s}" + "".join(f"{1000 * row[q]:9.2f}" for q in ("rmse", *quantiles, "max"))
                     + "".join(f"{1e6 * row[f'above_{m}']:11.1f}" for m in MULTIPLES))
    lines.append(f"{'(normal)':<14s}" + " " * 9 * (len(quantiles) + 2)
                 + "".join(f"{1e6 * erfc(m / sqrt(2)):11.1f}" for m in MULTIPLES))
    return "\n".join(lines)


def worst(frames: Sequence[Frame], found: dict[int, metrics.Predicted]) -> list[dict[str, Any]]:
    """The frames of the largest errors of a force component."""
    largest = {k: float(abs(found[k][1] - frames[k].forces).max()) for k in found}
    return [{"where": frames[k].where, "kind": frames[k].kind, "force_max": largest[k]}
            for k in sorted(largest, key=lambda k: -largest[k])[:WORST]]


def plot_tail(path: Path, frames: Sequence[Frame], found: dict[int, metrics.Predicted], elements: Sequence[str]
              ) -> None:
    """Share of force components whose error is larger than x RMSE, against a normal distribution's."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.6, 4.2))
    for name, error in _force_errors(frames, found, elements).items():
        size = np.sort(abs(error)) / np.sqrt((error**2).mean())
        axes.loglog(size, 1 - np.arange(len(size)) / len(size), label=name, lw=1.2)
    low = axes.get_ylim()[0]
    x = np.geomspace(0.05, 8, 200)
    axes.loglog(x, [erfc(v / sqrt(2)) for v in x], "k:", lw=1, label="normal")
    for m in MULTIPLES:
        axes.axvline(m, color="0.8", lw=0.7, zorder=0)
    axes.set(xlabel="|error of a force component| / RMSE", ylabel="share of larger ones", ylim=(low, 1.5),
             xlim=(0.05, None))
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
