"""``rxmdnn evaluate MODEL DATA``: errors of a model on labelled frames, and their tail."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from math import erfc, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rxmdnn.commands.arguments import frames_arguments
from rxmdnn.errors import InputError
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.model_file import load_model
from rxmdnn.train import metrics
from rxmdnn.train.dataset import Dataset, Frame
from rxmdnn.train.evaluate import MULTIPLES, QUANTILES, _force_errors, answer, chosen_frames, tail, worst


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
