"""Figures of driven runs: temperatures of electrons and atoms in time, and their profiles along an axis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rxmdnn.analysis.style import BLUE, GRAY, GREEN, ORANGE, save_figure

AXES = "abc"


def draw_electrons(e: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw above T_e (mean, and its range over the cells) and T_a, below the energies absorbed and given to the atoms.

    e : columns of energies.csv of a run with electrons
    """
    time = e["time_fs"] / 1000
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 5.0), sharex=True, layout="constrained")
    upper.fill_between(time, e["Te_min_K"], e["Te_max_K"], color=ORANGE, alpha=0.25, lw=0,
                       label="$T_e$, range of cells")
    upper.plot(time, e["Te_K"], color=ORANGE, label="$T_e$, mean")
    upper.plot(time, e["Ta_K"], color=BLUE, label="$T_a$, of the atoms")
    upper.set(ylabel="temperature (K)")
    upper.set_ylim(bottom=0.0)
    upper.legend(loc="best")
    lower.plot(time, e["work_electrons_eV"], color=BLUE, label="given to the atoms")
    if np.nanmax(np.abs(e["absorbed_electrons_eV"])) > 0:
        lower.plot(time, e["absorbed_electrons_eV"], color=GREEN, label="absorbed")
    lower.set(xlabel="time (ps)", ylabel="energy of electrons (eV)")
    lower.legend(loc="best")
    return save_figure(figure, path)


def draw_profile(p: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw maps of temperature against time and position along the axis that has most cells.

    One of the electrons, where there are some, and one of each element; the other axes are averaged over.

    p : as of rxmdnn.io.profile.read_profile
    """
    axis = int(np.argmax(p["T"].shape[1:4]))
    across = tuple(k for k in (1, 2, 3) if k != axis + 1)
    maps: list[tuple[str, int, np.ndarray]] = []
    if "T_e" in p:
        own = int(np.argmax(p["T_e"].shape[1:4]))
        maps.append(("$T_e$", own, _mean(p["T_e"], tuple(k for k in (1, 2, 3) if k != own + 1))))
    weight = p["count"].sum(axis=across)
    energy = np.nansum(p["T"] * p["count"], axis=across)
    with np.errstate(invalid="ignore", divide="ignore"):
        atoms = np.where(weight > 0, energy / weight, np.nan)
    maps += [(f"$T$ of {name}", axis, atoms[..., k]) for k, name in enumerate(p["elements"]) if weight[..., k].any()]
    figure, axes = plt.subplots(len(maps), 1, figsize=(7, 0.8 + 2.1 * len(maps)), sharex=True, squeeze=False,
                                layout="constrained")
    known = [values for name, _, values in maps if name != "$T_e$"]
    ends = (min(map(np.nanmin, known)), max(map(np.nanmax, known))) if known else (None, None)
    for ax, (name, along, values) in zip(axes[:, 0], maps):
        scale = (None, None) if name == "$T_e$" else ends  # one scale for all elements
        _draw_map(figure, ax, p["time"] / 1000, _height(p, along), values, name, scale)
        ax.set_ylabel(f"position along {AXES[along]} (Å)")
    axes[-1, 0].set_xlabel("time (ps)")
    return save_figure(figure, path)


def _mean(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The mean without NaN; NaN where all are."""
    known = np.isfinite(values)
    n = known.sum(axis=axes)
    return np.where(n > 0, np.where(known, values, 0.0).sum(axis=axes) / np.maximum(n, 1), np.nan)


def _height(p: Mapping[str, np.ndarray], axis: int) -> float:
    """The distance of the faces across an axis, Å, mean over the frames."""
    return float(np.mean(1.0 / np.linalg.norm(np.linalg.inv(p["cell"]), axis=1)[:, axis]))


def _draw_map(figure: Any, ax: Any, time: np.ndarray, height: float, values: np.ndarray, name: str,
              scale: tuple[float | None, float | None]) -> None:
    """One map. values : (frames, cells), K; scale : its ends, K"""
    half = np.diff(time) / 2 if len(time) > 1 else np.array([0.5])
    edges = np.concatenate([[time[0] - half[0]], time[:-1] + half[: len(time) - 1], [time[-1] + half[-1]]])
    ax.set_facecolor("#f0f0f0")
    faces = np.linspace(0.0, height, values.shape[1] + 1)
    image = ax.pcolormesh(edges, faces, values.T, cmap="inferno", rasterized=True, vmin=scale[0],
                          vmax=scale[1])
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_color(GRAY)
    figure.colorbar(image, ax=ax, label=f"{name} (K)")
