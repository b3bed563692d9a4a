"""``rxmdnn evaluate MODEL DATA``: errors of a model on labelled frames, and their tail."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from math import erfc, sqrt
from pathlib import Path

import numpy as np

from rxmdnn.commands.arguments import frames_arguments, label_keys
from rxmdnn.files import check_outputs, write_figure, write_json, writing
from rxmdnn.training import metrics
from rxmdnn.training.evaluate import MULTIPLES, QUANTILES, Evaluation, evaluate, force_errors


def main(argv: Sequence[str]) -> None:
    """Print the tables; write parity.png and tail.png, and the numbers as JSON with ``--json``."""
    p = argparse.ArgumentParser("rxmdnn evaluate", description="Errors of a model on labelled frames, and their tail.")
    frames_arguments(p)
    p.add_argument("--precision", choices=("float32", "float64"), default="float32", help="of the network")
    p.add_argument("--out", metavar="DIR", type=Path, default=Path("evaluation"), help="folder of the figures")
    p.add_argument("--json", metavar="F", type=Path, help="also write the numbers to this file")
    a = p.parse_args(argv)
    check_outputs(a.json, folders=[a.out])
    found = evaluate(a.model, a.data, a.part, a.precision, progress=sys.stderr.isatty(), keys=label_keys(a))
    print(report_text(found))
    with writing(a.out):
        a.out.mkdir(parents=True, exist_ok=True)
        metrics.plot_parity(a.out / "parity.png", found.frames, found.predicted, found.elements, found.shift)
        plot_tail(a.out / "tail.png", found)
        if a.json:
            write_json(a.json, found.report)
    print(f"\nparity.png and tail.png are in {a.out}")


def report_text(found: Evaluation) -> str:
    """The tables of errors and of their tail, and the worst frames."""
    r = found.report
    labels = r["labels"] or "engine not named"
    lines = [f"{r['model']} on {len(found.frames)} frames ({r['part']}), labels: {labels}", "",
             metrics.table_text(r["errors"]), "", tail_text(r["tail"]), "",
             "frames with the largest force errors, eV/Å"]
    lines += [f"  {metrics.cell(w['force_max'], 9, 4)}  {w['where']} ({w['kind']})" for w in r["worst"]]
    return "\n".join([*lines, "", *(f"note: {note}" for note in r["notes"])] if r["notes"] else lines)


def tail_text(table: dict[str, dict[str, float]]) -> str:
    """The table of ``tail``: meV/Å, and parts per million beyond multiples of the RMSE."""
    quantiles = [f"q{100 * q:g}" for q in QUANTILES]
    lines = [f"{'force errors':<14s}{'RMSE':>9s}" + "".join(f"{f'{q[1:]} %':>9s}" for q in quantiles) + f"{'max':>9s}"
             + "".join(f"{f'> {m} RMSE':>11s}" for m in MULTIPLES) + "   meV/Å, parts per million"]
    for name, row in table.items():
        lines.append(f"{name:<14s}" + "".join(metrics.cell(1000 * row[q]) for q in ("rmse", *quantiles, "max"))
                     + "".join(f"{1e6 * row[f'above_{m}']:11.1f}" for m in MULTIPLES))
    lines.append(f"{'(normal)':<14s}" + " " * 9 * (len(quantiles) + 2)
                 + "".join(f"{1e6 * erfc(m / sqrt(2)):11.1f}" for m in MULTIPLES))
    return "\n".join(lines)


def plot_tail(path: Path, found: Evaluation) -> None:
    """Draw the share of force components whose error is larger than x RMSE, with that of a normal distribution."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.6, 4.2))
    for name, error in force_errors(found.frames, found.predicted, found.elements).items():
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
    write_figure(figure, path, dpi=120)
    plt.close(figure)
