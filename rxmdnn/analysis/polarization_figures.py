"""Figures of the polarization: maps of layers, its course in time, the loop P(E)."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection

from rxmdnn.analysis.polarization_series import LocalPolarization, Loop, in_layers
from rxmdnn.analysis.style import BLUE, GRAY, GREEN, ORANGE, STYLE, save_figure

AXES = "xyz"
MV_CM_PER_V_A = 100.0  # MV/cm of one V/Å
MOST_LAYERS = 4


def draw(folder: Path, local: LocalPolarization | None, loop: Loop | None) -> list[Path]:
    """Draw polarization.png, polarization_map.png and hysteresis.png, as far as there is data; their paths."""
    made = []
    with plt.rc_context(STYLE):
        if local is not None:
            made.append(_course(local, loop, folder / "polarization.png"))
            if local.layers is not None:
                made.append(_map(local, folder / "polarization_map.png"))
        if loop is not None:
            made.append(_loop(loop, folder / "hysteresis.png"))
    return made


def _course(local: LocalPolarization, loop: Loop | None, path: Path) -> Path:
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for k, color in enumerate((BLUE, GREEN, ORANGE)):
        axis.plot(local.time, local.cell[:, k], color=color, label=f"$P_{AXES[k]}$")
    axis.set(xlabel="time (ps)", ylabel="polarization (C/m$^2$)")
    axis.legend(loc="best", ncols=3)
    if loop is not None:
        other = axis.twinx()
        other.plot(loop.time, MV_CM_PER_V_A * loop.field, color=GRAY, lw=0.8, ls="--")
        other.set_ylabel(f"field $E_{AXES[loop.axis]}$ (MV/cm), dashed")
        other.grid(False)
        other.spines["right"].set_visible(True)
    return save_figure(figure, path)


def _map(local: LocalPolarization, path: Path) -> Path:
    """Layers at the first, middle and last frame: arrows for the components in the layer, colors for the one across."""
    assert local.layers is not None
    frames = sorted({0, len(local.time) // 2, len(local.time) - 1})
    stack = in_layers(local.layers.on_grid(local.p), local.normal)
    shown = np.unique(np.linspace(0, stack.shape[1] - 1, min(MOST_LAYERS, stack.shape[1])).astype(int))
    across, (one, two) = local.normal, ((local.normal + 1) % 3, (local.normal + 2) % 3)
    largest = max(float(np.abs(stack[..., across]).max()), 1e-12)
    longest = max(float(np.linalg.norm(stack[..., [one, two]], axis=-1).max()), 1e-12)
    figure, axes = plt.subplots(len(shown), len(frames), figsize=(2.6 * len(frames) + 1, 2.5 * len(shown) + 0.4),
                                squeeze=False, layout="constrained")
    for row, layer in zip(axes, shown):
        for axis, frame in zip(row, frames):
            p = stack[frame, layer]
            image = axis.imshow(p[..., across].T, origin="lower", cmap="RdBu_r", vmin=-largest, vmax=largest)
            i, j = np.meshgrid(range(p.shape[0]), range(p.shape[1]), indexing="ij")
            axis.quiver(i, j, p[..., one], p[..., two], pivot="mid", angles="xy", scale_units="xy",
                        scale=longest / 0.8, width=0.012)
            axis.set_title(f"layer {layer}, {local.time[frame]:.3g} ps", fontsize=8.5)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
    axes[-1, 0].set(xlabel=f"along {'abc'[one]}", ylabel=f"along {'abc'[two]}")
    figure.colorbar(image, ax=axes, shrink=0.8, label=f"$p_{AXES[across]}$ (C/m$^2$); longest arrow {longest:.2g}")
    return save_figure(figure, path)


def _loop(loop: Loop, path: Path) -> Path:
    figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
    x, y = MV_CM_PER_V_A * loop.field, loop.polarization
    points = np.stack([x, y], axis=1)
    segments = list(np.stack([points[:-1], points[1:]], axis=1))
    lines = LineCollection(segments, cmap="viridis", array=loop.time[1:], lw=1.1)
    axis.add_collection(lines)
    axis.autoscale_view()
    axis.axhline(0.0, color=GRAY, lw=0.6)
    axis.axvline(0.0, color=GRAY, lw=0.6)
    what = f"$P_{AXES[loop.axis]}$" if loop.absolute else f"$P_{AXES[loop.axis]} - P_{AXES[loop.axis]}(0)$"
    axis.set(xlabel=f"field $E_{AXES[loop.axis]}$ (MV/cm)", ylabel=f"{what} (C/m$^2$)")
    figure.colorbar(lines, ax=axis, label="time (ps)")
    return save_figure(figure, path)
