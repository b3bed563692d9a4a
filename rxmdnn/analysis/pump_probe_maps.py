"""Maps of a pump-probe experiment: delay and Q, delay and r, lines and planes of reciprocal space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from rxmdnn.analysis.pump_probe_points import label
from rxmdnn.analysis.style import BLUE, GRAY, save_figure

DIVERGING = "RdBu_r"
Map = dict[str, np.ndarray]


def _ps(delay: np.ndarray) -> tuple[np.ndarray, str]:
    return (delay / 1000, "ps") if np.abs(delay).max() >= 2000 else (delay, "fs")


def _limit(values: np.ndarray, part: float = 0.995) -> float:
    """A symmetric limit of colors, beyond which few values are."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.quantile(finite, part)) if finite.any() else 1.0


def _framed(axis: Axes) -> None:
    axis.grid(False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(True)


def _under_curve(path: Path, x: np.ndarray, curve: np.ndarray, delay: np.ndarray, values: np.ndarray, labels: Any,
                 limit: float) -> Path:
    """A curve before time zero above a map of its change, with the axis of delays upwards."""
    t, unit = _ps(delay)
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7.4, 5.6), sharex=True, layout="constrained",
                                          height_ratios=(1, 2.4))
    upper.plot(x, curve, color=BLUE, lw=1.1)
    upper.fill_between(x, curve, color=BLUE, alpha=0.12, lw=0)
    upper.set(ylabel=labels["curve"], xlim=(x[0], x[-1]))
    mesh = lower.pcolormesh(x, t, np.ma.masked_invalid(values), cmap=DIVERGING, vmin=-limit, vmax=limit,
                            rasterized=True, shading="nearest")
    lower.set_facecolor("#e6e6e6")
    lower.axhline(0.0, color="k", lw=0.8, ls=(0, (4, 3)))
    lower.set(xlabel=labels["x"], ylabel=f"delay ({unit})")
    _framed(lower)
    figure.colorbar(mesh, ax=lower, label=labels["map"], extend="both", pad=0.01)
    return save_figure(figure, path)


def powder(path: Path, d: Map, probe: str) -> Path:
    """S(Q) before time zero above the map of ΔI/I0; gray where next to nothing scatters before."""
    labels = {"curve": f"S(Q, t < 0), {probe}", "x": "Q (Å$^{-1}$)", "map": "ΔI / I$_0$"}
    return _under_curve(path, d["q"], d["S_before"], d["delay"], d["relative"], labels, _limit(d["relative"], 0.98))


def pair(path: Path, d: Map) -> Path:
    """G(r) before time zero above the map of its change."""
    labels = {"curve": "G(r, t < 0) (Å$^{-2}$)", "x": "r (Å)", "map": "ΔG (Å$^{-2}$)"}
    far = d["r"] > 1.0  # below, only ripples of the finite range of Q
    r, change = d["r"][far], d["delta_G"][:, far]
    return _under_curve(path, r, d["G_before"][far], d["delay"], change, labels, _limit(change))


def line(path: Path, d: Map) -> Path:
    """The intensity along a line before time zero, above its ratio to that at every delay."""
    t, unit = _ps(d["delay"])
    axis_of = int(np.argmax(np.abs(d["ends"][1] - d["ends"][0])))
    x = d["hkl"][:, axis_of]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7.4, 5.6), sharex=True, layout="constrained",
                                          height_ratios=(1, 1.9))
    upper.semilogy(x, np.maximum(d["S_before"], 1e-12), color=GRAY, lw=1.1, label="t < 0")
    upper.semilogy(x, np.maximum(d["S"][-1], 1e-12), color="#b2182b", lw=1.1, label=f"{t[-1]:.3g} {unit}")
    upper.set(ylabel="S = ⟨|F|²⟩ / ΣNf²", xlim=(min(x[0], x[-1]), max(x[0], x[-1])))
    upper.legend()
    ratio = np.log10(np.maximum(d["S"], 1e-300) / np.maximum(d["S_before"], 1e-300))
    limit = _limit(ratio, 0.98)
    mesh = lower.pcolormesh(x, t, ratio, cmap=DIVERGING, vmin=-limit, vmax=limit, rasterized=True, shading="nearest")
    lower.axhline(0.0, color="k", lw=0.8, ls=(0, (4, 3)))
    first, last = (label(hkl).replace("_", " ") for hkl in d["ends"])
    lower.set(xlabel=f"{'hkl'[axis_of]}, from {first} to {last}", ylabel=f"delay ({unit})")
    _framed(lower)
    figure.colorbar(mesh, ax=lower, label="log$_{10}$ (I / I$_0$)", extend="both", pad=0.01)
    return save_figure(figure, path)


def plane(path: Path, d: Map) -> Path:
    """Intensity before time zero, its change at the middle and at the last delay, on a plane of reciprocal space."""
    t, unit = _ps(d["delay"])
    after = np.flatnonzero(d["delay"] > 0)
    late = list(dict.fromkeys([after[len(after) // 2], after[-1]])) if len(after) else [len(t) - 1]
    hkl = d["hkl"]
    a, b = hkl[0, -1] - hkl[0, 0], hkl[-1, 0] - hkl[0, 0]
    x, y = (int(np.argmax(np.abs(v))) for v in (a, b))
    if x == y:
        y = next(k for k in np.argsort(-np.abs(b)) if k != x)
    right, up = hkl[0, :, x], hkl[:, 0, y]
    figure, axes = plt.subplots(1, 1 + len(late), figsize=(4.3 + 4.0 * len(late), 3.9), layout="constrained",
                                sharey=True)
    s = np.ma.masked_invalid(d["S_before"])
    low = float(np.quantile(s.compressed(), 0.05))
    mesh = axes[0].pcolormesh(right, up, s, norm=LogNorm(max(low, 1e-6), float(s.max())), cmap="magma",
                              rasterized=True, shading="nearest")
    figure.colorbar(mesh, ax=axes[0], label="S before time zero")
    ratio = [np.log10(np.maximum(d["S"][k], 1e-300) / np.maximum(d["S_before"], 1e-300)) for k in late]
    limit = max(_limit(c, 0.98) for c in ratio)
    for axis, row, c in zip(axes[1:], late, ratio):
        mesh = axis.pcolormesh(right, up, np.ma.masked_invalid(c), cmap=DIVERGING, vmin=-limit, vmax=limit,
                               rasterized=True, shading="nearest")
        axis.set_title(f"{t[row]:.3g} {unit}", fontsize=9.5)
    figure.colorbar(mesh, ax=axes[-1], label="log$_{10}$ (I / I$_0$)", extend="both")
    for axis in axes:
        axis.set_xlabel("hkl"[x])
        axis.set_aspect("auto" if abs(np.ptp(right)) < 1e-9 else "equal")
        _framed(axis)
    axes[0].set_ylabel("hkl"[y])
    return save_figure(figure, path)
