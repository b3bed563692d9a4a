"""Analysis of a study of times to failure: fits by arm, tables, correlations with properties of the models.

Beside the fit with censoring and training seeds, the report gives two common biased ones: the mean time of a cell with
capped runs taken as failures, and the same Weibull fit with the same mistake.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from rxmdnn.errors import InputError
from rxmdnn.schema import read_json, read_text, reading
from rxmdnn.survival import statistics
from rxmdnn.survival.statistics import ArmFit, FailureTimes, ReferencePoint
from rxmdnn.units import FS_PER_PS

ERROR = "force_mae"  # held fixed in partial correlations
MIN_FAILURES = 6  # of a model whose own exponent is fitted, with four parameters
MUCH_CENSORED = 0.4  # censored share of a cell that is noted
QUANTITIES = {"b": "exponent b = d ln t / d ln N", "c": "c = d ln t / d(1/T), K", "k": "Weibull shape k",
              "link": "b + 1/k (0: weakest link)"}


def gather(sharpness: Sequence[Path], evaluations: Sequence[Path], table: Path | None) -> dict[str, dict[str, float]]:
    """{file stem of a model: {property: number}} from files of other commands and a CSV table. Raises InputError."""
    out: dict[str, dict[str, float]] = {}
    what = "a file of rxmdnn sharpness, evaluate or train, nor a table with a column model"
    for paths, reader in ((sharpness, _sharpness), (evaluations, _evaluation), ([table] if table else [], _table)):
        for path in paths:
            with reading(path, what):
                for model, values in reader(path, what):
                    out.setdefault(Path(model).stem, {}).update(values)
    return out


def _sharpness(path: Path, what: str) -> list[tuple[str, dict[str, float]]]:
    """Model and properties from the JSON of rxmdnn sharpness."""
    r = read_json(path, what)
    values = {"parameters": float(r["parameters"])}
    if "hessian" in r:
        values["lambda_max"] = float(r["hessian"]["largest"][0]["value"])
        values["lambda_max_norm_sq"] = values["lambda_max"] * float(r["norm"]) ** 2
        values["trace"] = float(r["hessian"]["trace"]["mean"])
    if "noise" in r:
        values["noise_rise"] = float(r["noise"]["mean"])
    if "climb" in r:
        values["climb_rise"] = float(r["climb"]["max"])
    return [(r["model"], values)]


def _evaluation(path: Path, what: str) -> list[tuple[str, dict[str, float]]]:
    """Model and properties from the JSON of rxmdnn evaluate, or of rxmdnn train."""
    r = read_json(path, what)
    errors = r["errors"]["all"] if "errors" in r else r["test"]["all"]
    values = {k: float(errors[k]) for k in ("force_mae", "force_rmse") if k in errors}
    if "weights" in r:
        values["parameters"] = float(r["weights"])
    return [(r["model"], values)]


def _table(path: Path, what: str) -> list[tuple[str, dict[str, float]]]:
    """Models and properties from a CSV table with a column model."""
    return [(row["model"], {k: float(v) for k, v in row.items() if k != "model" and v})
            for row in csv.DictReader(read_text(path, what).splitlines())]


# ------------------------------------------------------------------------------------------------ analysis
def analyze(times: FailureTimes, by: str, rows: Sequence[dict[str, Any]], resamples: int, seed: int,
            properties: dict[str, dict[str, float]], apart: Sequence[str] = ()
            ) -> tuple[dict[str, Any], dict[str, ArmFit]]:
    """The report and the fits of the arms that have one; arms apart are in the tables of models only."""
    compared = times[~np.isin(times.arm, apart)]
    reference = ReferencePoint.of(compared)
    fits, notes = _fits(compared, reference)
    used = compared[np.isin(compared.arm, list(fits))]
    found, covariance, fitted = statistics.intervals(used, reference, resamples, seed)
    if fitted < resamples:
        notes.append(f"{resamples - fitted} of {resamples} resamples had too few failures for a fit")
    seeds = {a: len(np.unique(used.seed[used.arm == a])) for a in fits}
    if min(seeds.values()) < 2:
        notes.append("an arm has one training seed: intervals hold for these models only, not for the training method")
    report: dict[str, Any] = {
        "by": by, "runs": len(compared), "failures": int(compared.failed.sum()),
        "reference": {"n": reference.n, "inverse_temperature": reference.inverse_temperature},
        "quantities": {name: {k: list(v) for k, v in q.items()} for name, q in found.items()},
        "cells": cell_rows(compared, fits), "fits": {}, "arms": {}, "notes": notes}
    common = {"reference": report["reference"], "range": _ranges(compared), "by": by, "dt_fs": float(rows[0]["dt_fs"])}
    for arm, fit in fits.items():
        of = compared[compared.arm == arm]
        report["arms"][arm] = {"seeds": seeds[arm], **_arm_summary(of, fit)}
        report["fits"][arm] = stored_fit(of, fit, covariance.get(arm, np.zeros((4, 4))), common)
    if len({r["dt_fs"] for r in rows}) > 1:
        notes.append("the runs have several time steps; the fit does not distinguish them")
    censored = [c for c in report["cells"] if c["censored_share"] > MUCH_CENSORED]
    if censored:
        notes.append(f"{len(censored)} of {len(report['cells'])} cells have more than {100 * MUCH_CENSORED:.0f} % of "
                     "their runs censored; use a longer cap or higher temperatures")
    report["models"] = model_rows(times, reference, properties, notes)
    report["correlations"] = correlations(report["models"], properties, notes)
    return report, fits


def _fits(times: FailureTimes, reference: ReferencePoint) -> tuple[dict[str, ArmFit], list[str]]:
    """The fit of every arm that has one, and notes on the others. Raises InputError if no arm has one."""
    fits: dict[str, ArmFit] = {}
    notes = []
    for arm in sorted(set(times.arm.tolist())):
        try:
            fits[arm] = statistics.fit_arm(times[times.arm == arm], reference)
        except InputError as error:
            notes.append(f"arm {arm}: {error}")
    if not fits:
        raise InputError(*notes)
    return fits, notes


def _ranges(times: FailureTimes) -> dict[str, list[float]]:
    """Smallest and largest number of atoms and temperature (K)."""
    return {"n": [float(times.n.min()), float(times.n.max())],
            "temperature": [float(times.temperature.min()), float(times.temperature.max())]}


def _arm_summary(times: FailureTimes, fit: ArmFit) -> dict[str, Any]:
    """Counts of the runs of an arm, biased exponents for comparison, and how well the fit describes them."""
    try:
        capped = statistics.fit_arm(statistics.capped_as_failed(times), fit.reference).values["b"]
    except InputError:
        capped = float("nan")
    return {"models_apart": fit.models != ("all",), "runs": len(times), "failures": int(times.failed.sum()),
            "curvature_errors": fit.errors, "naive_b": statistics.naive(times, fit.reference)["b"],
            "capped_as_failed_b": capped, "goodness": statistics.goodness(times, fit),
            "akaike": statistics.families(times, fit)}


def stored_fit(times: FailureTimes, fit: ArmFit, covariance: np.ndarray, common: dict[str, Any]) -> dict[str, Any]:
    """The fit of an arm as ``rxmdnn tfail forecast`` reads it. covariance : (4, 4), of ln_life, b, c, ln k"""
    values = fit.values
    return {**{k: values[k] if np.isfinite(values[k]) else None for k in ("ln_life", "b", "c", "k")},
            "covariance": np.asarray(covariance).tolist(), "reference": common["reference"], "range": common["range"],
            "by": common["by"], "runs": len(times), "failures": int(times.failed.sum()), "dt_fs": common["dt_fs"]}


def cell_rows(times: FailureTimes, fits: dict[str, ArmFit]) -> list[dict[str, Any]]:
    """A row per arm, size and temperature; time to failure by maximum likelihood at the k of its arm."""
    out = []
    for arm, n, t, rows in statistics.cells(times):
        of, d = times[rows], int(times.failed[rows].sum())
        row: dict[str, Any] = {"arm": arm, "n_atoms": int(n), "temperature_K": t, "runs": len(rows), "failures": d,
                               "censored": len(rows) - d, "censored_share": 1 - d / len(rows),
                               "first_fs": float(of.time.min()), "last_fs": float(of.time.max())}
        t_fail, survival, _, _ = statistics.kaplan_meier(of)
        row["median_fs"] = float(t_fail[np.argmax(survival <= 0.5)]) if (survival <= 0.5).any() else None
        if arm in fits and d:
            k = 1 / fits[arm].fit.s
            middle = np.where(of.failed, 0.5 * (of.lower + of.time), of.time)
            total = float((middle**k).sum())
            row |= {"life_fs": (total / d) ** (1 / k),
                    "life_low_fs": (2 * total / stats.chi2.ppf(0.975, 2 * d)) ** (1 / k),
                    "life_high_fs": (2 * total / stats.chi2.ppf(0.025, 2 * d)) ** (1 / k)}
        out.append(row)
    return out


def model_rows(times: FailureTimes, reference: ReferencePoint, properties: dict[str, dict[str, float]],
               notes: list[str]) -> list[dict[str, Any]]:
    """A row per model: ln(time to failure / fs) at the reference (common b and c), its own b and k, its properties."""
    names = np.unique(times.model).tolist()
    able = [m for m in names if times.failed[times.model == m].any()]
    for m in sorted(set(names) - set(able)):
        notes.append(f"model {m}: none of its runs failed; it is not in the correlations")
    of = times[np.isin(times.model, able)]
    x, _, terms = statistics.design(of, reference, True)
    scale = np.array([1.0] * len(able) + [1e-3 if t == "1/T" else 1.0 for t in terms])
    fit = statistics.weibull(x / scale, of.lower, of.upper)
    errors = np.sqrt(np.diag(fit.covariance))
    out = []
    for k, m in enumerate(able):
        rows = of.model == m
        row: dict[str, Any] = {"model": m, "arm": str(of.arm[rows][0]), "training_seed": int(of.seed[rows][0]),
                               "runs": int(rows.sum()), "failures": int(of.failed[rows].sum()),
                               "ln_life": float(fit.beta[k]), "ln_life_error": float(errors[k])}
        if row["failures"] >= MIN_FAILURES:
            with suppress(InputError):
                own = statistics.fit_arm(of[rows], reference)
                row |= {"b": own.values["b"], "b_low": own.values["b"] - 1.96 * own.errors["b"],
                        "b_high": own.values["b"] + 1.96 * own.errors["b"], "k": own.values["k"]}
        out.append(row | properties.get(m, {}))
    return out


def correlations(models: Sequence[dict[str, Any]], properties: dict[str, dict[str, float]], notes: list[str]
                 ) -> list[dict[str, Any]]:
    """A row per property: correlation of ln(time to failure) with it, or with its logarithm, over models."""
    out = []
    for name in dict.fromkeys(k for p in properties.values() for k in p):
        known = [r for r in models if name in r and np.isfinite(r[name])]
        pair = np.array([(r[name], r["ln_life"]) for r in known])
        if len(pair) < 4 or np.ptp(pair[:, 0]) == 0:
            notes.append(f"{name}: no correlation, because too few models have it or all values are equal "
                         f"({len(pair)} models)")
            continue
        value = np.log(pair[:, 0]) if (pair[:, 0] > 0).all() else pair[:, 0]
        pearson = stats.pearsonr(value, pair[:, 1])
        spearman = stats.spearmanr(value, pair[:, 1])
        band = pearson.confidence_interval(0.95)
        row = {"property": name, "models": len(pair), "logarithm": bool((pair[:, 0] > 0).all()),
               "pearson": float(pearson.statistic), "pearson_low": float(band.low),
               "pearson_high": float(band.high), "pearson_p": float(pearson.pvalue),
               "spearman": float(spearman.statistic), "spearman_p": float(spearman.pvalue)}
        error = np.array([r.get(ERROR, 0.0) for r in known])
        if not name.startswith("force_") and len(pair) > 5 and (error > 0).all() and np.ptp(error) > 0:
            row |= dict(zip(("partial", "partial_low", "partial_high"),
                            partial_correlation(value, pair[:, 1], np.log(error))))
        out.append(row)
    return out


def partial_correlation(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> tuple[float, float, float]:
    """Correlation of x and y at fixed ``given``; (n,) each. 95 % interval: R. A. Fisher, Metron 3, 329 (1924)."""
    line = np.column_stack([np.ones(len(given)), given])
    r = stats.pearsonr(*(a - line @ np.linalg.lstsq(line, a, rcond=None)[0] for a in (x, y))).statistic
    width = 1.96 / np.sqrt(len(x) - 4)
    return float(r), float(np.tanh(np.arctanh(r) - width)), float(np.tanh(np.arctanh(r) + width))


# ------------------------------------------------------------------------------------------------ tables
def tables(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables that are not empty, by name: cells, models, correlations, quantities."""
    out = {name: report[name] for name in ("cells", "models", "correlations")} | {
        "quantities": [{"of": name, "quantity": k, "estimate": v[0], "low": v[1], "high": v[2]}
                       for name, of in report["quantities"].items() for k, v in of.items()]}
    return {name: rows for name, rows in out.items() if rows}


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """A table as CSV, with a column for every key."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.8g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)
    return out.getvalue()


def _interval(v: Sequence[float], digits: int = 3) -> str:
    return "not fitted" if not np.isfinite(v[0]) else f"{v[0]:.{digits}f} [{v[1]:.{digits}f}, {v[2]:.{digits}f}]"


def text(r: dict[str, Any]) -> str:
    """The report as printed."""
    out = [f"{r['failures']} of {r['runs']} runs failed, by '{r['by']}'; the others are censored at their caps", "",
           *_cell_lines(r["cells"])]
    for arm in r["arms"]:
        out += ["", *_arm_lines(r, arm)]
    for name, q in r["quantities"].items():
        if name not in r["arms"]:
            ratio = _interval(np.exp(q["ln_life"]))
            out += ["", f"{name}: ratio of times to failure {ratio}; difference of b {_interval(q['b'])}"]
    if r["correlations"]:
        out += ["", *_correlation_lines(r["correlations"])]
    return "\n".join(out + [f"note: {n}" for n in r["notes"]])


def _cell_lines(cells: Sequence[dict[str, Any]]) -> list[str]:
    out = [f"{'arm':<14s}{'atoms':>7s}{'T, K':>8s}{'runs':>6s}{'failed':>8s}{'censored':>10s}{'median, ps':>12s}"
           f"{'t_fail, ps (95 %)':>26s}"]
    for c in cells:
        median = f"{c['median_fs'] / FS_PER_PS:.3f}" if c["median_fs"] is not None else "> cap"
        t_fail = (f"{c['life_fs'] / FS_PER_PS:.3f} [{c['life_low_fs'] / FS_PER_PS:.3f}, "
                  f"{c['life_high_fs'] / FS_PER_PS:.3f}]") if "life_fs" in c else ""
        out.append(f"{c['arm']:<14s}{c['n_atoms']:>7d}{c['temperature_K']:>8g}{c['runs']:>6d}{c['failures']:>8d}"
                   f"{c['censored']:>10d}{median:>12s}{t_fail:>26s}")
    return out


def _arm_lines(r: dict[str, Any], arm: str) -> list[str]:
    of, q = r["arms"][arm], r["quantities"][arm]
    good, errors = of["goodness"], of["curvature_errors"]
    t_fail = np.exp(q["ln_life"]) / FS_PER_PS
    own = "; each model has its own time to failure" * of["models_apart"]
    out = [f"{arm}: {of['runs']} runs, {of['failures']} failures, {of['seeds']} training seed"
           f"{'s' if of['seeds'] > 1 else ''}{own}",
           f"  time to failure at {r['reference']['n']:.0f} atoms, {1 / r['reference']['inverse_temperature']:.0f} K, "
           f"ps: {_interval(t_fail)}"]
    for key, name in QUANTITIES.items():
        alone = f"   (curvature alone: ± {1.96 * errors[key]:.3f})" if np.isfinite(errors[key]) else ""
        out.append(f"  {name}: {_interval(q[key])}{alone}")
    p = f", p = {good['p']:.2g}" if good["p"] is not None else ""
    return [*out, f"  naive exponents, for comparison with b: {of['naive_b']:.3f} (ln mean, capped runs as failures), "
            f"{of['capped_as_failed_b']:.3f} (Weibull, capped runs as failures)",
            f"  goodness of fit: chi^2 {good['chi_sq']:.1f} for {good['freedoms']} degrees of freedom{p}; Akaike: "
            + ", ".join(f"{k} {v:.1f}" for k, v in of["akaike"].items())]


def _correlation_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    out = [f"correlation of ln(time to failure) over models, with the logarithm of{'':<4s}"
           f"Pearson (95 %)                  Spearman        Pearson at equal {ERROR}"]
    for c in rows:
        pearson, partial = (_interval([c[kind + end] for end in ("", "_low", "_high")], 2) if kind in c else ""
                            for kind in ("pearson", "partial"))
        out.append(f"  {c['property']:<22s}{c['models']:>4d} models   {pearson}, p = {c['pearson_p']:.2g}   "
                   f"{c['spearman']:.2f}, p = {c['spearman_p']:.2g}   {partial}")
    return out
