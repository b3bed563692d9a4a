"""Figures of a study of times to failure and of true force errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator

from rxmdnn.analysis.style import BLUE, GRAY, GREEN, ORANGE, STYLE, save_figure
from rxmdnn.survival import statistics
from rxmdnn.survival.statistics import ArmFit, FailureTimes
from rxmdnn.survival.true_force import ERRORS, SAMPLE, binned, shares
from rxmdnn.units import FS_PER_PS

COLORS = (BLUE, ORANGE, GREEN, "#762a83", "#b8860b", GRAY)


def report_figures(times: FailureTimes, report: dict[str, Any], fits: dict[str, ArmFit], folder: Path) -> list[str]:
    """Draw km, scaling, exponents, goodness and (where properties are given) correlation.png; their names."""
    arms = sorted(set(times.arm.tolist()))
    color = dict(zip([*arms, *sorted({m["arm"] for m in report["models"]} - set(arms))], COLORS * 9))
    with plt.rc_context(STYLE):
        made = [_km(times, fits, color, folder), _scaling(report, fits, color, folder),
                _exponents(report, color, folder), _goodness(times, fits, color, folder)]
        if report["correlations"]:
            made.append(_correlation(report, color, folder))
    return [path.name for path in made]


def _km(times: FailureTimes, fits: dict[str, ArmFit], color: dict[str, str], folder: Path) -> Path:
    sizes, ladder = np.unique(times.n), np.unique(times.temperature)
    figure, axes = plt.subplots(len(ladder), len(sizes), figsize=(1.2 + 2.1 * len(sizes), 0.9 + 1.9 * len(ladder)),
                                squeeze=False, sharey=True, sharex="row", layout="constrained")
    for axis, t in zip(axes, ladder):
        for panel, n in zip(axis, sizes):
            for arm in color:
                of = times[(times.arm == arm) & (times.n == n) & (times.temperature == t)]
                if not len(of):
                    continue
                time, s, low, high = statistics.kaplan_meier(of)
                time = time / FS_PER_PS
                panel.step(time, s, where="post", color=color[arm], label=arm)
                panel.fill_between(time, low, high, step="post", color=color[arm], alpha=0.12, lw=0)
                capped = of.time[~of.failed] / FS_PER_PS
                if len(capped):
                    panel.plot(capped, np.interp(capped, time, s), "|", color=color[arm], ms=7)
                if arm in fits:
                    at = np.linspace(0, time.max(), 200)[1:]
                    scale = np.exp(fits[arm].log_time(np.array([n]), np.array([t]))) / FS_PER_PS
                    panel.plot(at, np.exp(-((at / scale) ** (1 / fits[arm].fit.s))), "--", color=color[arm], lw=0.8)
            panel.set_title(f"{n:g} atoms, {t:g} K", fontsize=8.5)
            panel.set(ylim=(-0.02, 1.02), xlim=(0, None))
    for panel in axes[-1]:
        panel.set_xlabel("time (ps)")
    for panel in axes[:, 0]:
        panel.set_ylabel("surviving fraction")
    axes[0, 0].legend(fontsize=7.5)
    figure.suptitle("Kaplan-Meier estimate with 95 % band; dashed: fit; ticks: censored runs", fontsize=8.5, color=GRAY)
    return save_figure(figure, folder / "km.png")


def _scaling(report: dict[str, Any], fits: dict[str, ArmFit], color: dict[str, str], folder: Path) -> Path:
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
            t_fail, low, high = (np.array([c[f"life{w}_fs"] for c in of]) / FS_PER_PS for w in ("", "_low", "_high"))
            panel.errorbar([c["n_atoms"] * 1.04**k for c in of], t_fail, [t_fail - low, high - t_fail], fmt="o", ms=4,
                           lw=0.9, capsize=2, color=color[arm])
        panel.set(xscale="log", yscale="log", xlabel="atoms", title=f"{t:g} K")
        panel.set_xticks(sizes, [str(n) for n in sizes])
        panel.minorticks_off()
    axes[0, 0].set_ylabel("time to failure (ps)")
    axes[0, 0].legend(fontsize=7.5, loc="lower left")
    return save_figure(figure, folder / "scaling.png")


def _exponents(report: dict[str, Any], color: dict[str, str], folder: Path) -> Path:
    arms = list(report["arms"])
    figure, panel = plt.subplots(figsize=(6.4, 1.2 + 0.75 * len(arms)), layout="constrained")
    for row, arm in enumerate(arms):
        b, of = report["quantities"][arm]["b"], report["arms"][arm]
        if not np.isfinite(b[0]):
            continue
        error = 1.96 * of["curvature_errors"]["b"]
        first = row == 0
        panel.errorbar(b[0], row, xerr=[[b[0] - b[1]], [b[2] - b[0]]], fmt="o", color=color[arm], capsize=3,
                       label="fit; interval from seeds" if first else None)
        panel.errorbar(b[0], row + 0.12, xerr=error, fmt="none", color=color[arm], lw=0.8, alpha=0.6,
                       label="interval from curvature" if first else None)
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
    return save_figure(figure, folder / "exponents.png")


def _goodness(times: FailureTimes, fits: dict[str, ArmFit], color: dict[str, str], folder: Path) -> Path:
    """Cox-Snell residuals: if the fit is right, they are a censored sample of a unit exponential."""
    figure, panel = plt.subplots(figsize=(4.6, 3.8), layout="constrained")
    top = 1.0
    for arm, fit in fits.items():
        of = times[times.arm == arm]
        r = statistics.hazard(of, fit)
        residuals = replace(of, lower=r, upper=np.where(of.failed, r, np.inf))
        x, s, low, high = statistics.kaplan_meier(residuals)
        good = (s > 0) & (x > 0)
        panel.step(x[good], -np.log(s[good]), where="post", color=color[arm], label=arm)
        panel.fill_between(x[good], -np.log(np.maximum(high[good], 1e-9)), -np.log(np.maximum(low[good], 1e-2)),
                           step="post", color=color[arm], alpha=0.12, lw=0)
        top = max(top, float(x[good].max(initial=0)))
    panel.plot([0, top], [0, top], color=GRAY, ls="--", lw=0.8, label="expected")
    panel.set(xlabel="cumulative hazard (Cox-Snell residual)", ylabel="-ln(survival) of the residual",
              ylim=(0, 1.4 * top))
    panel.legend(fontsize=8)
    return save_figure(figure, folder / "goodness.png")


def _correlation(report: dict[str, Any], color: dict[str, str], folder: Path) -> Path:
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
    return save_figure(figure, folder / "correlation.png")


def true_force_figure(rows: Sequence[dict[str, str]], path: Path) -> Path:
    """Draw the tails P(abs(dF) > x) of samples and frames around failures, and P of the samples against N t; its path.

    rows : of true_forces.csv
    """
    with plt.rc_context(STYLE):
        return save_figure(_tails_and_growth(rows), path)


def _tails_and_growth(rows: Sequence[dict[str, str]]) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for arm, color in zip(sorted({r["arm"] for r in rows}), COLORS * 9):
        for kind, style in ((SAMPLE, "o-"), ("before", "^--"), ("failure", "s:")):
            of = [r for r in rows if r["arm"] == arm and r["kind"] == kind]
            if of and shares(of).any():
                left.plot(ERRORS, np.where(shares(of) > 0, shares(of), np.nan), style, ms=4, color=color,
                          label=f"{arm}, {kind}")
        of = [r for r in rows if r["arm"] == arm and r["kind"] == SAMPLE]
        of = of or [r for r in rows if r["arm"] == arm]
        at, p, error = binned(of)
        for k, style in ((2, "o-"), (3, "s--"), (4, "^:")):
            if p[:, k].any():
                right.errorbar(at, p[:, k], error[:, k], fmt=style, ms=4, lw=0.9, capsize=2, color=color,
                               label=f"{arm}, x = {ERRORS[k]:g}")
    left.set(xscale="log", yscale="log", xlabel="x (eV/Å)", ylabel="P(|ΔF| > x), per atom")
    right.set(xscale="log", xlabel="N t (atom ps)", ylabel="P(|ΔF| > x)")
    right.set_ylim(bottom=0)
    sampled = any(r["kind"] == SAMPLE for r in rows)
    right.set_title("regular samples" if sampled else "only frames around failures: not representative", fontsize=8.5,
                    color=GRAY)
    for panel in (left, right):
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=7.5)
    return figure
