"""Figures of a pump-probe experiment: peaks, Debye-Waller factors and temperatures against delay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rxmdnn.analysis import pump_probe_maps as maps
from rxmdnn.analysis.figures import color
from rxmdnn.analysis.pump_probe_experiment import Experiment
from rxmdnn.analysis.pump_probe_tables import PumpProbeTables
from rxmdnn.analysis.style import BLUE, GRAY, ORANGE, STYLE, save_figure

MOST_CURVES = 7  # reflections in one panel
SHADES = plt.get_cmap("viridis")
PROBE = {"xray": "x-rays", "electron": "electrons", "neutron": "neutrons"}


def draw(folder: Path, e: Experiment, results: PumpProbeTables) -> list[Path]:
    """Draw delays_*.png of what was measured; their paths."""
    with plt.rc_context(STYLE):
        made = []
        if e.peaks is not None:
            made.append(_peaks(folder / "delays_peaks.png", results))
        made.append(_debye_waller(folder / "delays_debye_waller.png", results))
        if "temperature" in results.tables:
            made.append(_regions(folder / "delays_temperature.png", results, "temperature", "T", "_K",
                                 "temperature (K)", "inferno", e.options.where))
        if "excitation" in results.tables:
            made.append(_regions(folder / "delays_excitation.png", results, "excitation", "w", "", "excitation",
                                 "viridis"))
        if "powder" in results.maps:
            powder = results.maps["powder"]
            made += [maps.powder(folder / "delays_powder.png", powder, PROBE[results.probe]),
                     maps.pair(folder / "delays_pair.png", powder)]
        for name, table in results.maps.items():
            if name.startswith("line_"):
                made.append(maps.line(folder / f"delays_{name}.png", table))
            if name.startswith("plane_"):
                made.append(maps.plane(folder / f"delays_{name}.png", table))
    return made


def time_unit(delay: np.ndarray) -> tuple[float, str]:
    """What to divide delays in fs by for an axis, and its unit."""
    return (1000.0, "ps") if np.abs(delay).max() >= 2000 else (1.0, "fs")


def zero_line(axis: Axes, vertical: bool = True) -> None:
    """Mark time zero."""
    (axis.axvline if vertical else axis.axhline)(0.0, color=GRAY, lw=0.8, ls=(0, (4, 3)), zorder=1)


def _curve(axis: Axes, t: np.ndarray, y: np.ndarray, error: np.ndarray, shade: Any, label: str) -> None:
    """Draw points with error bars, or a line with a band where points are many."""
    if len(t) > 60:
        axis.plot(t, y, color=shade, label=label, lw=1.2)
        axis.fill_between(t, y - error, y + error, color=shade, alpha=0.22, lw=0)
        return
    axis.errorbar(t, y, None if np.isnan(error).all() else error, color=shade, label=label, marker="o", ms=3.2,
                  lw=1.0, elinewidth=0.9, capsize=1.5)


def _chosen(names: Sequence[str], q: np.ndarray, start: np.ndarray) -> list[int]:
    """Rows to draw: of each |Q| the strongest reflection, at most MOST_CURVES spread over Q, by ascending Q."""
    rows = sorted(range(len(names)), key=lambda k: (round(float(q[k]), 4), -start[k]))
    first = [k for n, k in enumerate(rows) if n == 0 or q[k] - q[rows[n - 1]] > 1e-3]
    if len(first) <= MOST_CURVES:
        return first
    return [first[k] for k in np.unique(np.linspace(0, len(first) - 1, MOST_CURVES).round().astype(int))]


def _peaks(path: Path, results: PumpProbeTables) -> Path:
    """I/I0 of reflections in time; and -ln(I/I0) against Q², a line through zero for one Debye-Waller factor."""
    t, reflections = results.tables["intensity"], results.tables["reflections"]
    names = [k.removeprefix("I_") for k in t if k.startswith("I_") and not k.endswith("_error")]
    scale, unit = time_unit(t["delay_fs"])
    delay, q = t["delay_fs"] / scale, reflections["q_1_A"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.5), layout="constrained", width_ratios=(3, 2))
    chosen = _chosen(names, q, reflections["I0"])
    left.axhline(1.0, color=GRAY, lw=0.8, zorder=1)
    zero_line(left)
    for n, k in enumerate(chosen):
        shade = SHADES(0.9 * n / max(len(chosen) - 1, 1))
        name = names[k].replace("_", " ")
        _curve(left, delay, t[f"I_{names[k]}"], t[f"I_{names[k]}_error"], shade, f"{name}  ({q[k]:.2f})")
    left.set(xlabel=f"delay ({unit})", ylabel="I(hkl, t) / I(hkl, t < 0)", xlim=(delay[0], delay[-1]))
    left.legend(title=f"hkl (Q, Å$^{{-1}}$); {PROBE[results.probe]}", fontsize=8.5, title_fontsize=8.5,
                loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    after = np.flatnonzero(t["delay_fs"] > 0)
    late = after[np.unique(np.linspace(0, len(after) - 1, 4).round().astype(int))] if len(after) else []
    for n, row in enumerate(late):
        shade = plt.get_cmap("plasma")(0.85 - 0.28 * n)
        y = np.array([-np.log(max(t[f"I_{name}"][row], 1e-12)) for name in names])
        error = np.array([t[f"I_{name}_error"][row] / max(t[f"I_{name}"][row], 1e-12) for name in names])
        right.errorbar(q**2, y, None if np.isnan(error).all() else error, color=shade, marker="o", ms=3.2, ls="none",
                       elinewidth=0.9, capsize=1.5, label=f"{delay[row]:.3g} {unit}")
        x = np.array([0.0, 1.04 * (q**2).max()])
        right.plot(x, x * (q**2 @ y) / (q**2 @ q**2), color=shade, lw=0.9, alpha=0.8)
    right.axhline(0.0, color=GRAY, lw=0.8, zorder=1)
    right.set(xlabel="Q² (Å$^{-2}$)", ylabel="-ln(I/I$_0$)", xlim=(0, None))
    if len(late):
        right.legend(title="delay; lines: Q² ΔU", fontsize=8.5, title_fontsize=8.5)
    return save_figure(figure, path)


def _debye_waller(path: Path, results: PumpProbeTables) -> Path:
    """B of each kind, on the atoms, and B before time zero plus the change that is fitted to Bragg intensities."""
    t = results.tables["debye_waller"]
    scale, unit = time_unit(t["delay_fs"])
    delay = t["delay_fs"] / scale
    figure, axis = plt.subplots(figsize=(6.6, 4.0), layout="constrained")
    zero_line(axis)
    for k, kind in enumerate(results.kinds):
        shade = color(kind, k)
        where = "" if np.isfinite(t[f"B_{kind}_A2"]).any() else "start_"
        b, error = t[f"B_{where}{kind}_A2"], t[f"B_{where}{kind}_error_A2"]
        _curve(axis, delay, b, error, shade, f"{kind}: 8π²⟨u²⟩" + (" about t < 0" if where else ""))
        if f"dB_fit_{kind}_A2" in t and not where:
            b0 = float(np.mean(b - t[f"dB_{kind}_A2"]))
            axis.plot(delay, b0 + t[f"dB_fit_{kind}_A2"], color="k", ls="none", marker="x", ms=4, mew=0.9, zorder=3,
                      label=f"{kind}: from ln(I/I$_0$) = -Q·ΔU·Q")
    axis.set(xlabel=f"delay ({unit})", ylabel="B (Å$^2$)", xlim=(delay[0], delay[-1]), ylim=(0, None))
    axis.legend()
    return save_figure(figure, path)


def _regions(path: Path, results: PumpProbeTables, name: str, symbol: str, unit: str, quantity: str, cmap: str,
             where: str = "") -> Path:
    """A quantity of all atoms, of each kind and of atoms that meet a condition; below it a map of the slabs."""
    t, slabs = results.tables[name], results.maps.get(f"{name}_slabs")
    scale, of_time = time_unit(t["delay_fs"])
    delay = t["delay_fs"] / scale
    figure, axes = plt.subplots(2 if slabs else 1, 1, figsize=(6.8, 6.4 if slabs else 3.9), sharex=True,
                                layout="constrained", squeeze=False)
    axis = axes[0, 0]
    zero_line(axis)
    curves = [(k, color(k, n), k) for n, k in enumerate(results.kinds if len(results.kinds) > 1 else ())]
    curves += [("all", "k", "all atoms"), ("others", BLUE, "other atoms"), ("where", ORANGE, where)]
    for key, shade, text in curves:
        if f"{symbol}_{key}{unit}" in t:
            _curve(axis, delay, t[f"{symbol}_{key}{unit}"], t[f"{symbol}_{key}_error{unit}"], shade, text)
    axis.set(ylabel=quantity, ylim=(0, None), xlim=(delay[0], delay[-1]))
    axis.legend()
    if slabs:
        below = axes[1, 0]
        mesh = below.pcolormesh(delay, slabs["z"], slabs[f"{symbol}_all"].T, cmap=cmap, rasterized=True,
                                shading="nearest")
        zero_line(below)
        below.grid(False)
        below.set(ylabel="position (Å)")
        figure.colorbar(mesh, ax=below, label=quantity)
    axes[-1, 0].set_xlabel(f"delay ({of_time})")
    return save_figure(figure, path)
