"""``rxmdnn tfail report RESULTS``: tables, figures, JSON and CSV of a study of times to failure."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from rxmdnn.analysis.style import STYLE
from rxmdnn.deck.tfail import WATCHED
from rxmdnn.errors import InputError
from rxmdnn.survival import results
from rxmdnn.survival import statistics as survival
from rxmdnn.survival.figures import figures
from rxmdnn.survival.report import _plain, analyze, gather, text


def main(argv: Sequence[str]) -> None:
    """Print the tables; write report.json, the tables as CSV and the figures."""
    p = argparse.ArgumentParser("rxmdnn tfail report", description="What a study of times to failure says.",
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("results", metavar="RESULTS", type=Path, nargs="+", help="folder of a study, or its results.csv")
    p.add_argument("--by", default="failed", choices=("failed", *WATCHED),
                   help="criterion: the study's own, or one of those recorded beside it")
    p.add_argument("--out", metavar="DIR", type=Path, help="where files go (default: <RESULTS>/report, report_<by>)")
    p.add_argument("--resamples", type=int, default=survival.RESAMPLES, help="of the training seeds, for the intervals")
    p.add_argument("--seed", type=int, default=1, help="of the resamples")
    p.add_argument("--sharpness", metavar="F", type=Path, nargs="+", default=[], help="JSON files of rxmdnn sharpness")
    p.add_argument("--evaluate", metavar="F", type=Path, nargs="+", default=[],
                   help="JSON files of rxmdnn evaluate, or of rxmdnn train (its test part)")
    p.add_argument("--apart", metavar="ARM", nargs="+", default=[],
                   help="arms that are not compared: their models stand in the table of models and the correlations")
    p.add_argument("--properties", metavar="F", type=Path, help="CSV with a column model and further numbers")
    a = p.parse_args(argv)
    if a.resamples < 20:
        raise InputError("report: --resamples: must be at least 20")
    rows = [r for path in a.results for r in results.read(path)]
    lives = results.lives(rows, a.by)
    if not lives.failed.any():
        raise InputError(f"{a.results[0]}: none of {len(rows)} runs failed by '{a.by}': there is no life to fit; raise "
                         "the temperatures, the sizes or the cap of the study")
    unknown = sorted(set(a.apart) - set(lives.arm.tolist()))
    if unknown or set(a.apart) == set(lives.arm.tolist()):
        raise InputError(f"report: --apart: there {'is no arm' if unknown else 'is no other arm than'} "
                         f"{', '.join(unknown or a.apart)}; the arms are {', '.join(sorted(set(lives.arm.tolist())))}")
    properties = gather(a.sharpness, a.evaluate, a.properties)
    folder = a.out or (a.results[0] if a.results[0].is_dir() else a.results[0].parent) / (
        "report" if a.by == "failed" else f"report_{a.by}")
    report, fits = analyze(lives, a.by, rows, a.resamples, a.seed, properties, a.apart)
    print(text(report))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(_plain(report), indent=1) + "\n", encoding="utf-8")
        tables = {name: report[name] for name in ("cells", "models", "correlations")} | {
            "quantities": [{"of": name, "quantity": k, "estimate": v[0], "low": v[1], "high": v[2]}
                           for name, of in report["quantities"].items() for k, v in of.items()]}
        tables = {name: rows for name, rows in tables.items() if rows}
        for name, table in tables.items():
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as out:
                columns = list(dict.fromkeys(k for row in table for k in row))
                writer = csv.DictWriter(out, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows({k: f"{v:.8g}" if isinstance(v, float) else v for k, v in r.items()}
                                 for r in table)
        with plt.rc_context(STYLE):
            made = figures(lives[~np.isin(lives.arm, a.apart)], report, fits, folder)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    print(f"\nreport.json, {', '.join(f'{t}.csv' for t in tables)}, {', '.join(made)} are in {folder}")
