"""``rxmdnn tfail report RESULTS``: what the runs of a study say, as tables, figures, JSON and CSV.

Beside the right fit (censoring, seeds) stand the two usual wrong ones, so that their bias is seen: the mean life of a
cell with capped runs taken as failures, and the right law with the same mistake.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from rxmdnn.errors import InputError
from rxmdnn.survival import statistics as survival
from rxmdnn.survival.statistics import ArmFit, Lives, Reference
from rxmdnn.units import FS_PER_PS

ERROR = "force_mae"  # at which other properties are compared too
FEWEST = 6  # failures of a model that has an exponent of its own: a fit has four numbers
MUCH = 0.4  # censored share of a cell that is pointed out
UNITS = {"ln_life": "ln fs", "b": "", "c": "K", "k": "", "link": ""}
WORDS = {"b": "exponent b = d ln t / d ln N", "c": "c = d ln t / d(1/T), K", "k": "Weibull shape k",
         "link": "b + 1/k (0: weakest link)"}


def _plain(x: Any) -> Any:
    """NaN and infinity have no place in JSON."""
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(v) for v in x]
    return None if isinstance(x, float) and not np.isfinite(x) else x


def gather(sharpness: Sequence[Path], evaluations: Sequence[Path], table: Path | None) -> dict[str, dict[str, float]]:
    """{model's file stem: {property: number}} from what other commands wrote. Raises InputError."""
    out: dict[str, dict[str, float]] = {}
    path = table
    try:
        for path in sharpness:
            r = json.loads(path.read_text(encoding="utf-8"))
            of = out.setdefault(Path(r["model"]).stem, {})
            of["parameters"] = float(r["parameters"])
            if "hessian" in r:
                of["lambda_max"] = float(r["hessian"]["largest"][0]["value"])
                of["lambda_max_norm_sq"] = of["lambda_max"] * float(r["norm"]) ** 2
                of["trace"] = float(r["hessian"]["trace"]["mean"])
            if "noise" in r:
                of["noise_rise"] = float(r["noise"]["mean"])
            if "climb" in r:
                of["climb_rise"] = float(r["climb"]["max"])
        for path in evaluations:
            r = json.loads(path.read_text(encoding="utf-8"))
            of = out.setdefault(Path(r["model"]).stem, {})
            errors = r["errors"]["all"] if "errors" in r else r["test"]["all"]
            of |= {k: float(errors[k]) for k in ("force_mae", "force_rmse") if k in errors}
            if "weights" in r:
                of["parameters"] = float(r["weights"])
        if table:
            path = table
            for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
                out.setdefault(Path(row["model"]).stem, {}).update(
                    {k: float(v) for k, v in row.items() if k != "model" and v})
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not what rxmdnn sharpness, evaluate or train writes, nor a table with a column "
                         f"model: {error!r}") from None
    return out


# ------------------------------------------------------------------------------------------------ the numbers
def analyze(lives: Lives, by: str, rows: Sequence[dict[str, Any]], resamples: int, seed: int,
            properties: dict[str, dict[str, float]], apart: Sequence[str] = ()
            ) -> tuple[dict[str, Any], dict[str, ArmFit]]:
    """The report and the fits of the arms that could be fitted; arms apart have a place among the models alone."""
    everything, notes = lives, []
    lives = lives[~np.isin(lives.arm, apart)]
    reference = Reference.of(lives)
    fits: dict[str, ArmFit] = {}
    for arm in sorted(set(lives.arm.tolist())):
        try:
            fits[arm] = survival.fit_arm(lives[lives.arm == arm], reference)
        except InputError as error:
            notes.append(f"arm {arm}: {error}")
    if not fits:
        raise InputError(*notes)
    used = lives[np.isin(lives.arm, list(fits))]
    found, covariance, fitted = survival.intervals(used, reference, resamples, seed)
    if fitted < resamples:
        notes.append(f"{resamples - fitted} of {resamples} resamples had too few failures for a fit")
    seeds = {a: len(np.unique(used.seed[used.arm == a])) for a in fits}
    if min(seeds.values()) < 2:
        notes.append("an arm has one training seed: intervals hold for these very models, not for the way of training")
    report: dict[str, Any] = {
        "by": by, "runs": len(lives), "failures": int(lives.failed.sum()),
        "reference": {"n": reference.n, "inverse_temperature": reference.inverse_temperature},
        "quantities": {name: {k: list(v) for k, v in q.items()} for name, q in found.items()},
        "cells": cell_rows(lives, fits), "fits": {}, "arms": {}, "notes": notes}
    spans = {"n": [float(lives.n.min()), float(lives.n.max())],
             "temperature": [float(lives.temperature.min()), float(lives.temperature.max())]}
    for arm, fit in fits.items():
        of = lives[lives.arm == arm]
        values, right = fit.values, survival.naive(of, reference)
        try:
            wrong = survival.fit_arm(survival.capped_as_failed(of), reference).values["b"]
        except InputError:
            wrong = float("nan")
        report["arms"][arm] = {
            "seeds": seeds[arm], "models_apart": fit.models != ("all",), "runs": len(of),
            "failures": int(of.failed.sum()), "curvature_errors": fit.errors,
            "naive_b": right["b"], "capped_as_failed_b": wrong, "goodness": survival.goodness(of, fit),
            "akaike": survival.families(of, fit)}
        report["fits"][arm] = {
            **{k: values[k] if np.isfinite(values[k]) else None for k in ("ln_life", "b", "c", "k")},
            "covariance": np.asarray(covariance.get(arm, np.zeros((4, 4)))).tolist(),
            "reference": report["reference"], "range": spans, "by": by, "runs": len(of),
            "failures": int(of.failed.sum()), "dt_fs": float(rows[0]["dt_fs"])}
    if len({r["dt_fs"] for r in rows}) > 1:
        notes.append("the runs have several time steps; the fit does not tell them apart")
    much = [c for c in report["cells"] if c["censored_share"] > MUCH]
    if much:
        notes.append(f"{len(much)} of {len(report['cells'])} cells have more than {100 * MUCH:.0f} % of their runs "
                     "censored; a longer cap or hotter runs would say more")
    report["models"], report["correlations"] = models(everything, reference, properties, notes)
    return report, fits


def cell_rows(lives: Lives, fits: dict[str, ArmFit]) -> list[dict[str, Any]]:
    """A row for every arm, size and temperature; life by maximum likelihood at the arm's k, with its exact interval."""
    out = []
    for arm, n, t, rows in survival.cells(lives):
        of, d = lives[rows], int(lives.failed[rows].sum())
        row: dict[str, Any] = {"arm": arm, "n_atoms": int(n), "temperature_K": t, "runs": len(rows), "failures": d,
                               "censored": len(rows) - d, "censored_share": 1 - d / len(rows),
                               "first_fs": float(of.time.min()), "last_fs": float(of.time.max())}
        times, s, _, _ = survival.kaplan_meier(of)
        row["median_fs"] = float(times[np.argmax(s <= 0.5)]) if (s <= 0.5).any() else None
        if arm in fits and d:
            k = 1 / fits[arm].fit.s
            middle = np.where(of.failed, 0.5 * (of.lower + of.time), of.time)
            total = float((middle**k).sum())
            row |= {"life_fs": (total / d) ** (1 / k),
                    "life_low_fs": (2 * total / stats.chi2.ppf(0.975, 2 * d)) ** (1 / k),
                    "life_high_fs": (2 * total / stats.chi2.ppf(0.025, 2 * d)) ** (1 / k)}
        out.append(row)
    return out


def models(lives: Lives, reference: Reference, properties: dict[str, dict[str, float]], notes: list[str]
           ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Life of every model at the reference (slopes common to all), its own exponent; correlations with properties."""
    names = np.unique(lives.model).tolist()
    able = [m for m in names if lives.failed[lives.model == m].any()]
    for m in sorted(set(names) - set(able)):
        notes.append(f"model {m}: none of its runs failed; it is left out of the correlations")
    of = lives[np.isin(lives.model, able)]
    x, _, terms = survival.design(of, reference, True)
    scale = np.array([1.0] * len(able) + [1e-3 if t == "1/T" else 1.0 for t in terms])
    fit = survival.weibull(x / scale, of.lower, of.upper)
    errors = np.sqrt(np.diag(fit.covariance))
    out = []
    for k, m in enumerate(able):
        rows = of.model == m
        row: dict[str, Any] = {"model": m, "arm": str(of.arm[rows][0]), "training_seed": int(of.seed[rows][0]),
                               "runs": int(rows.sum()), "failures": int(of.failed[rows].sum()),
                               "ln_life": float(fit.beta[k]), "ln_life_error": float(errors[k])}
        if row["failures"] >= FEWEST:
            with suppress(InputError):
                own = survival.fit_arm(of[rows], reference)
                row |= {"b": own.values["b"], "b_low": own.values["b"] - 1.96 * own.errors["b"],
                        "b_high": own.values["b"] + 1.96 * own.errors["b"], "k": own.values["k"]}
        out.append(row | properties.get(m, {}))
    correlations = []
    for name in dict.fromkeys(k for p in properties.values() for k in p):
        pair = np.array([(r[name], r["ln_life"]) for r in out if name in r and np.isfinite(r[name])])
        if len(pair) < 4 or np.ptp(pair[:, 0]) == 0:
            notes.append(f"{name}: {len(pair)} models that differ in it; no correlation is given")
            continue
        value = np.log(pair[:, 0]) if (pair[:, 0] > 0).all() else pair[:, 0]
        pearson = stats.pearsonr(value, pair[:, 1])
        spearman = stats.spearmanr(value, pair[:, 1])
        band = pearson.confidence_interval(0.95)
        row = {"property": name, "models": len(pair), "logarithm": bool((pair[:, 0] > 0).all()),
               "pearson": float(pearson.statistic), "pearson_low": float(band.low),
               "pearson_high": float(band.high), "pearson_p": float(pearson.pvalue),
               "spearman": float(spearman.statistic), "spearman_p": float(spearman.pvalue)}
        error = np.array([r.get(ERROR, 0.0) for r in out if name in r and np.isfinite(r[name])])
        if not name.startswith("force_") and len(pair) > 5 and (error > 0).all() and np.ptp(error) > 0:
            row |= dict(zip(("partial", "partial_low", "partial_high"),
                            partial_correlation(value, pair[:, 1], np.log(error))))
        correlations.append(row)
    return out, correlations


def partial_correlation(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> tuple[float, float, float]:
    """Of x and y where ``given`` is equal, with its 95 % interval (R. A. Fisher, Metron 3, 329 (1924)); (n,) each."""
    line = np.column_stack([np.ones(len(given)), given])
    r = stats.pearsonr(*(a - line @ np.linalg.lstsq(line, a, rcond=None)[0] for a in (x, y))).statistic
    width = 1.96 / np.sqrt(len(x) - 4)
    return float(r), float(np.tanh(np.arctanh(r) - width)), float(np.tanh(np.arctanh(r) + width))


# ------------------------------------------------------------------------------------------------ words
def _interval(v: Sequence[float], digits: int = 3) -> str:
    return "not fitted" if not np.isfinite(v[0]) else f"{v[0]:.{digits}f} [{v[1]:.{digits}f}, {v[2]:.{digits}f}]"


def text(r: dict[str, Any]) -> str:
    """The report in words."""
    t_0 = 1 / r["reference"]["inverse_temperature"]
    out = [f"{r['failures']} of {r['runs']} runs failed, by '{r['by']}'; the others are censored at their caps", "",
           f"{'arm':<14s}{'atoms':>7s}{'T, K':>8s}{'runs':>6s}{'failed':>8s}{'censored':>10s}{'median, ps':>12s}"
           f"{'life, ps (95 %)':>26s}"]
    for c in r["cells"]:
        median = f"{c['median_fs'] / FS_PER_PS:.3f}" if c["median_fs"] is not None else "beyond"
        life = (f"{c['life_fs'] / FS_PER_PS:.3f} [{c['life_low_fs'] / FS_PER_PS:.3f}, "
                f"{c['life_high_fs'] / FS_PER_PS:.3f}]") if "life_fs" in c else ""
        out.append(f"{c['arm']:<14s}{c['n_atoms']:>7d}{c['temperature_K']:>8g}{c['runs']:>6d}{c['failures']:>8d}"
                   f"{c['censored']:>10d}{median:>12s}{life:>26s}")
    for arm, of in r["arms"].items():
        q = r["quantities"][arm]
        life = np.exp(q["ln_life"]) / FS_PER_PS
        good, errors = of["goodness"], of["curvature_errors"]
        out += ["", f"{arm}: {of['runs']} runs, {of['failures']} failures, {of['seeds']} training seed"
                f"{'s' if of['seeds'] > 1 else ''}" + ("; each model has a life of its own" * of["models_apart"]),
                f"  life at {r['reference']['n']:.0f} atoms, {t_0:.0f} K, ps: {_interval(life)}"]
        out += [f"  {word}: {_interval(q[key])}" + (f"   (curvature alone: ± {1.96 * errors[key]:.3f})"
                if np.isfinite(errors[key]) else "") for key, word in WORDS.items()]
        out += [f"  naive exponents, beside b: {of['naive_b']:.3f} (ln mean, capped runs as failures), "
                f"{of['capped_as_failed_b']:.3f} (Weibull, capped runs as failures)",
                f"  goodness of fit: chi^2 {good['chi_sq']:.1f} for {good['freedoms']}"
                + (f", p = {good['p']:.2g}" if good["p"] is not None else "")
                + "; Akaike: " + ", ".join(f"{k} {v:.1f}" for k, v in of["akaike"].items())]
    for name, q in r["quantities"].items():
        if name not in r["arms"]:
            ratio = _interval(np.exp(q["ln_life"]))
            out += ["", f"{name}: ratio of lives {ratio}; difference of b {_interval(q['b'])}"]
    if r["correlations"]:
        out += ["", f"correlation of ln(time to failure) over models, with the logarithm of{'':<4s}"
                f"Pearson (95 %)                  Spearman        Pearson at equal {ERROR}"]
        for c in r["correlations"]:
            pearson, partial = (_interval([c[kind + end] for end in ("", "_low", "_high")], 2) if kind in c else ""
                                for kind in ("pearson", "partial"))
            out.append(f"  {c['property']:<22s}{c['models']:>4d} models   {pearson}, p = {c['pearson_p']:.2g}   "
                       f"{c['spearman']:.2f}, p = {c['spearman_p']:.2g}   {partial}")
    return "\n".join(out + [f"note: {n}" for n in r["notes"]])


