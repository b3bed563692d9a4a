"""``rxmdnn tfail report RESULTS``: what the runs of a study say, as tables, figures, JSON and CSV.

Beside the right fit (censoring, seeds) stand the two usual wrong ones, so that their bias is seen: the mean life of a
cell with capped runs taken as failures, and the right law with the same mistake.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator
from scipy import stats

from rxmdnn.errors import InputError
from rxmdnn.fidelity import results, survival
from rxmdnn.fidelity.survival import ArmFit, Lives, Reference
from rxmdnn.fidelity.table import WATCHED
from rxmdnn.plot import BLUE, GRAY, GREEN, ORANGE, STYLE
from rxmdnn.units import FS_PER_PS

COLORS = (BLUE, ORANGE, GREEN, "#762a83", "#b8860b", GRAY)
ERROR = "force_mae"  # at which other properties are compared too
FEWEST = 6  # failures of a model that has an exponent of its own: a fit has four numbers
MUCH = 0.4  # censored share of a cell that is pointed out
UNITS = {"ln_life": "ln fs", "b": "", "c": "K", "k": "", "link": ""}
WORDS = {"b": "exponent b = d ln t / d ln N", "c": "c = d ln t / d(1/T), K", "k": "Weibull shape k",
         "link": "b + 1/k (0: weakest link)"}


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


# ------------------------------------------------------------------------------------------------ pictures
def figures(lives: Lives, report: dict[str, Any], fits: dict[str, ArmFit], folder: Path) -> list[str]:
    """km.png, scaling.png, exponents.png, goodness.png, correlation.png (where there are properties); their names."""
    arms = sorted(set(lives.arm.tolist()))
    color = dict(zip([*arms, *sorted({m["arm"] for m in report["models"]} - set(arms))], COLORS * 9))
    made = [_km(lives, fits, color, folder), _scaling(report, fits, color, folder),
            _exponents(report, color, folder), _goodness(lives, fits, color, folder)]
    return made + ([_correlation(report, color, folder)] if report["correlations"] else [])


def _save(figure: Any, folder: Path, name: str) -> str:
    figure.savefig(folder / name)
    plt.close(figure)
    return name


def _km(lives: Lives, fits: dict[str, ArmFit], color: dict[str, str], folder: Path) -> str:
    sizes, ladder = np.unique(lives.n), np.unique(lives.temperature)
    figure, axes = plt.subplots(len(ladder), len(sizes), figsize=(1.2 + 2.1 * len(sizes), 0.9 + 1.9 * len(ladder)),
                                squeeze=False, sharey=True, sharex="row", layout="constrained")
    for axis, t in zip(axes, ladder):
        for panel, n in zip(axis, sizes):
            for arm in color:
                of = lives[(lives.arm == arm) & (lives.n == n) & (lives.temperature == t)]
                if not len(of):
                    continue
                time, s, low, high = survival.kaplan_meier(of)
                time = time / FS_PER_PS
                panel.step(time, s, where="post", color=color[arm], label=arm)
                panel.fill_between(time, low, high, step="post", color=color[arm], alpha=0.12, lw=0)
                capped = of.time[~of.failed] / FS_PER_PS
                if len(capped):
                    panel.plot(capped, np.interp(capped, time, s), "|", color=color[arm], ms=7)
                if arm in fits:
                    at = np.linspace(0, time.max(), 200)[1:]
                    life = np.exp(fits[arm].log_life(np.array([n]), np.array([t]))) / FS_PER_PS
                    panel.plot(at, np.exp(-((at / life) ** (1 / fits[arm].fit.s))), "--", color=color[arm], lw=0.8)
            panel.set_title(f"{n:g} atoms, {t:g} K", fontsize=8.5)
            panel.set(ylim=(-0.02, 1.02), xlim=(0, None))
    for panel in axes[-1]:
        panel.set_xlabel("time (ps)")
    for panel in axes[:, 0]:
        panel.set_ylabel("not failed")
    axes[0, 0].legend(fontsize=7.5)
    figure.suptitle("Kaplan-Meier with its 95 % band; dashed: the fit; ticks: censored", fontsize=8.5, color=GRAY)
    return _save(figure, folder, "km.png")


def _scaling(report: dict[str, Any], fits: dict[str, ArmFit], color: dict[str, str], folder: Path) -> str:
    ladder = sorted({c["temperature_K"] for c in report["cells"]})
    sizes = sorted({c["n_atoms"] for c in report["cells"]})
    figure, axes = plt.subplots(1, len(ladder), figsize=(1.4 + 2.8 * len(ladder), 3.4), squeeze=False, sharey=True,
                                layout="constrained")
    at = np.geomspace(sizes[0] / 1.15, sizes[-1] * 1.15, 50)
    rng = np.random.default_rng(1)
    for panel, t in zip(axes[0], ladder):
        for k, (arm, fit) in enumerate(fits.items()):
            stored = report["fits"][arm]
            mean = np.array([stored["ln_life"], stored["b"] or 0.0, stored["c"] or 0.0])
            draws = rng.multivariate_normal(mean, np.array(stored["covariance"])[:3, :3], 500, method="eigh")
            x = np.stack([np.ones(len(at)), np.log(at / fit.reference.n),
                          np.full(len(at), 1 / t - fit.reference.inverse_temperature)])
            low, high = np.percentile(draws @ x, [2.5, 97.5], axis=0)
            q = report["quantities"][arm]["b"]
            label = f"{arm}: b = {q[0]:.2f} [{q[1]:.2f}, {q[2]:.2f}]" if np.isfinite(q[0]) else arm
            panel.plot(at, np.exp(mean @ x) / FS_PER_PS, color=color[arm], label=label)
            panel.fill_between(at, np.exp(low) / FS_PER_PS, np.exp(high) / FS_PER_PS, color=color[arm], alpha=0.12,
                               lw=0)
            of = [c for c in report["cells"] if c["arm"] == arm and c["temperature_K"] == t and "life_fs" in c]
            life, low, high = (np.array([c[f"life{w}_fs"] for c in of]) / FS_PER_PS for w in ("", "_low", "_high"))
            panel.errorbar([c["n_atoms"] * 1.04**k for c in of], life, [life - low, high - life], fmt="o", ms=4, lw=0.9,
                           capsize=2, color=color[arm])
        panel.set(xscale="log", yscale="log", xlabel="atoms", title=f"{t:g} K")
        panel.set_xticks(sizes, [str(n) for n in sizes])
        panel.minorticks_off()
    axes[0, 0].set_ylabel("time to failure (ps)")
    axes[0, 0].legend(fontsize=7.5, loc="lower left")
    return _save(figure, folder, "scaling.png")


def _exponents(report: dict[str, Any], color: dict[str, str], folder: Path) -> str:
    arms = list(report["arms"])
    figure, panel = plt.subplots(figsize=(6.4, 1.2 + 0.75 * len(arms)), layout="constrained")
    for row, arm in enumerate(arms):
        b, of = report["quantities"][arm]["b"], report["arms"][arm]
        if not np.isfinite(b[0]):
            continue
        error = 1.96 * of["curvature_errors"]["b"]
        first = row == 0
        panel.errorbar(b[0], row, xerr=[[b[0] - b[1]], [b[2] - b[0]]], fmt="o", color=color[arm], capsize=3,
                       label="fit with censoring; seeds" if first else None)
        panel.errorbar(b[0], row + 0.12, xerr=error, fmt="none", color=color[arm], lw=0.8, alpha=0.6,
                       label="curvature alone" if first else None)
        panel.plot(of["naive_b"], row - 0.22, "x", color=GRAY,
                   label="naive: ln mean, capped as failed" if first else None)
        panel.plot(of["capped_as_failed_b"], row - 0.22, "+", ms=9, color=GRAY,
                   label="naive: Weibull, capped as failed" if first else None)
        k = report["quantities"][arm]["k"][0]
        panel.plot(-1 / k, row + 0.25, "v", ms=5, mfc="w", color="0.2", label="weakest link, -1/k" if first else None)
    panel.axvline(0, color=GRAY, lw=0.7, ls=":")
    panel.set_yticks(range(len(arms)), arms)
    panel.set(xlabel="exponent b = d ln t / d ln N", ylim=(len(arms) - 0.4, -0.6))
    figure.legend(fontsize=7.5, ncols=3, loc="outside upper center")
    return _save(figure, folder, "exponents.png")


def _goodness(lives: Lives, fits: dict[str, ArmFit], color: dict[str, str], folder: Path) -> str:
    """Cox-Snell: if the law is right, the hazards lived through are a censored sample of a unit exponential."""
    figure, panel = plt.subplots(figsize=(4.6, 3.8), layout="constrained")
    top = 1.0
    for arm, fit in fits.items():
        of = lives[lives.arm == arm]
        r = survival.hazard(of, fit)
        lived = Lives(of.arm, of.model, of.seed, of.n, of.temperature, r, np.where(of.failed, r, np.inf))
        x, s, low, high = survival.kaplan_meier(lived)
        good = (s > 0) & (x > 0)
        panel.step(x[good], -np.log(s[good]), where="post", color=color[arm], label=arm)
        panel.fill_between(x[good], -np.log(np.maximum(high[good], 1e-9)), -np.log(np.maximum(low[good], 1e-2)),
                           step="post", color=color[arm], alpha=0.12, lw=0)
        top = max(top, float(x[good].max(initial=0)))
    panel.plot([0, top], [0, top], color=GRAY, ls="--", lw=0.8, label="the law")
    panel.set(xlabel="hazard lived through, by the fit", ylabel="-ln(survival) of it, seen", ylim=(0, 1.4 * top))
    panel.legend(fontsize=8)
    return _save(figure, folder, "goodness.png")


def _correlation(report: dict[str, Any], color: dict[str, str], folder: Path) -> str:
    shown = report["correlations"][:8]
    columns = min(4, len(shown))
    figure, axes = plt.subplots(-(-len(shown) // columns), columns, squeeze=False, sharey=True, layout="constrained",
                                figsize=(1 + 2.4 * columns, 0.6 + 2.4 * -(-len(shown) // columns)))
    for panel in axes.ravel()[len(shown):]:
        panel.axis("off")
    for panel, c in zip(axes.ravel(), shown):
        for arm in color:
            of = [m for m in report["models"] if m["arm"] == arm and c["property"] in m]
            if of:
                panel.errorbar([m[c["property"]] for m in of], [m["ln_life"] - np.log(FS_PER_PS) for m in of],
                               [1.96 * m["ln_life_error"] for m in of], fmt="o", ms=4, lw=0.7, color=color[arm],
                               label=arm)
        panel.set_title(f"r = {c['pearson']:.2f} [{c['pearson_low']:.2f}, {c['pearson_high']:.2f}]", fontsize=8)
        panel.set_xlabel(c["property"])
        if c["logarithm"]:
            panel.set_xscale("log")
            low, high = panel.get_xlim()
            subs = (1.0, 2.0, 5.0) if high > 10 * low else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
            panel.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter("")
            panel.tick_params(axis="x", labelsize=7)
    for panel in axes[:, 0]:
        panel.set_ylabel("ln(time to failure / ps)")
    axes[0, 0].legend(fontsize=7.5)
    return _save(figure, folder, "correlation.png")
