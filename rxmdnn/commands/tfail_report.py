"""``rxmdnn tfail report RESULTS``: tables, figures, JSON and CSV of a study of times to failure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rxmdnn.deck.tfail import WATCHED
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_json, write_text, writing
from rxmdnn.survival import results
from rxmdnn.survival.figures import report_figures
from rxmdnn.survival.report import analyze, gather, table_text, tables, text
from rxmdnn.survival.statistics import RESAMPLES, FailureTimes


def main(argv: Sequence[str]) -> None:
    """Print the tables; write report.json, the tables as CSV and the figures."""
    a = _arguments(argv)
    if a.resamples < 20:
        raise InputError("report: --resamples: must be at least 20")
    rows = [r for path in a.results for r in results.read(path)]
    times = results.failure_times(rows, a.by)
    if not times.failed.any():
        raise InputError(f"{a.results[0]}: none of {len(rows)} runs failed by '{a.by}': no failure times to fit; use "
                         "higher temperatures, larger systems or a longer cap in the study")
    _check_apart(times, a.apart)
    folder = a.out or (a.results[0] if a.results[0].is_dir() else a.results[0].parent) / (
        "report" if a.by == "failed" else f"report_{a.by}")
    check_outputs(folders=[folder])
    properties = gather(a.sharpness, a.evaluate, a.properties)
    report, fits = analyze(times, a.by, rows, a.resamples, a.seed, properties, a.apart)
    print(text(report))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        made = [write_json(folder / "report.json", report).name]
        made += [write_text(folder / f"{name}.csv", table_text(table)).name for name, table in tables(report).items()]
        made += report_figures(times[~np.isin(times.arm, a.apart)], report, fits, folder)
    print(f"\n{', '.join(made)} are in {folder}")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser("rxmdnn tfail report", description="Analysis of a study of times to failure.",
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("results", metavar="RESULTS", type=Path, nargs="+", help="folder of a study, or its results.csv")
    p.add_argument("--by", default="failed", choices=("failed", *WATCHED),
                   help="failure criterion: that of the study, or another that was recorded")
    p.add_argument("--out", metavar="DIR", type=Path, help="output folder (default: <RESULTS>/report, report_<by>)")
    p.add_argument("--resamples", type=int, default=RESAMPLES, help="resamples of training seeds, for the intervals")
    p.add_argument("--seed", type=int, default=1, help="random seed of the resamples")
    p.add_argument("--sharpness", metavar="F", type=Path, nargs="+", default=[], help="JSON files of rxmdnn sharpness")
    p.add_argument("--evaluate", metavar="F", type=Path, nargs="+", default=[],
                   help="JSON files of rxmdnn evaluate, or of rxmdnn train (test errors)")
    p.add_argument("--apart", metavar="ARM", nargs="+", default=[],
                   help="arms that are in the table of models and the correlations, but are not compared")
    p.add_argument("--properties", metavar="F", type=Path, help="CSV with a column model and columns of numbers")
    return p.parse_args(argv)


def _check_apart(times: FailureTimes, apart: Sequence[str]) -> None:
    """Raises InputError if an arm does not exist, or if no arm is left."""
    arms = set(times.arm.tolist())
    unknown = sorted(set(apart) - arms)
    if unknown or set(apart) == arms:
        raise InputError(f"report: --apart: there {'is no arm' if unknown else 'is no other arm than'} "
                         f"{', '.join(unknown or apart)}; the arms are {', '.join(sorted(arms))}")
