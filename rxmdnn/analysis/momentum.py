"""Momentum distribution n(p) and neutron Compton profile J(p) from the end-to-end distribution of open paths."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from rxmdnn.analysis.style import BLUE, GRAY, ORANGE, save_figure
from rxmdnn.analysis.tables import write_csv
from rxmdnn.ring_polymer.estimators import FEWEST
from rxmdnn.ring_polymer.momentum import initial_width
from rxmdnn.ring_polymer.series import settled

PREFIX = "ring_momentum_"
MOMENTA, WIDTHS = 200, 6.0  # points of the transform, and how far they go, in standard deviations


def transform(r: np.ndarray, n: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radial distribution 4 π p^2 n(p), Å, and Compton profile J(p), Å, of momenta p, 1/Å (in units of ħ).

    J(p) = (1/π) ∫_0^∞ ñ cos(p r) dr and 4 π p^2 n(p) = -2 p dJ/dp = (2 p/π) ∫_0^∞ r ñ sin(p r) dr, isotropic averages,
    by the trapezoidal rule, exact for smooth ñ. Beyond the last point ñ is the Gaussian through it.

    r (m,) equally spaced from r[0], Å; n (m,) ñ at r
    """
    step = r[0]
    tail = -2.0 * np.log(max(n[-1], 1e-12)) / r[-1] ** 2
    far = step * np.arange(len(r) + 1, 8 * len(r))
    distance = np.concatenate([[0.0], r, far])
    value = np.concatenate([[1.0], n, np.exp(-0.5 * tail * far**2)]) * step
    value[0] *= 0.5
    phase = p[:, None] * distance
    return 2.0 * p / np.pi * (np.sin(phase) @ (distance * value)), np.cos(phase) @ value / np.pi


def distribution(columns: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tables of ñ(r) and of n(p), with errors by the jackknife over blocks, from the columns of a series file.

    Errors are nan where there are fewer than 2 FEWEST rows.
    """
    names = [name for name in columns if name.startswith("r_")]
    r = np.array([float(name.split("_")[1]) for name in names])
    samples = np.array([columns[name] for name in names])  # (points, rows)
    mean = samples.mean(axis=1)
    p = np.linspace(0.0, WIDTHS, MOMENTA) * np.sqrt(max(initial_width(r, mean), 1e-6))
    radial, profile = transform(r, mean, p)
    errors = [np.full(len(x), np.nan) for x in (mean, radial, profile)]
    if samples.shape[1] >= 2 * FEWEST:
        ends = np.linspace(0, samples.shape[1], FEWEST + 1).astype(int)
        without = [np.delete(samples, slice(a, b), axis=1).mean(axis=1) for a, b in pairwise(ends)]
        several = [without, *zip(*(transform(r, n, p) for n in without), strict=True)]
        errors = [np.sqrt((FEWEST - 1) * np.var(x, axis=0)) for x in several]
    return ({"r_A": r, "end_to_end": mean, "end_to_end_error": errors[0]},
            {"p_per_A": p, "radial_A": radial, "radial_error_A": errors[1], "compton_profile_A": profile,
             "compton_profile_error_A": errors[2]})


def momentum_figures(folder: Path) -> list[Path]:
    """Write end_to_end_X.csv, momentum_X.csv and .png of each ring_momentum_X.csv of a folder; their paths."""
    made = []
    for path in sorted(folder.glob(f"{PREFIX}*.csv")):
        element, columns = path.stem.removeprefix(PREFIX), settled(path)
        if not len(columns["step"]):
            continue
        ends, momenta = distribution(columns)
        made += [write_csv(folder / f"end_to_end_{element}.csv", ends),
                 write_csv(folder / f"momentum_{element}.csv", momenta),
                 _draw(element, ends, momenta, folder / f"momentum_{element}.png")]
    return made


def _draw(element: str, ends: dict[str, np.ndarray], momenta: dict[str, np.ndarray], path: Path) -> Path:
    """Draw ñ(r), and n(p) beside the Gaussian of the same second moment."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    r, p = ends["r_A"], momenta["p_per_A"]
    width = initial_width(r, ends["end_to_end"])
    left.errorbar(r, ends["end_to_end"], np.nan_to_num(ends["end_to_end_error"]), fmt="o", ms=3, color=BLUE)
    left.plot(r, np.exp(-0.5 * width * r**2), "--", color=GRAY, label="Gaussian of <K>")
    left.set(xlabel="end-to-end distance (Å)", ylabel=f"end-to-end distribution of {element}", yscale="log")
    left.legend(loc="best")
    error = np.nan_to_num(momenta["radial_error_A"])
    right.plot(p, momenta["radial_A"], color=ORANGE, label="displaced paths")
    right.fill_between(p, momenta["radial_A"] - error, momenta["radial_A"] + error, color=ORANGE, alpha=0.25, lw=0)
    gaussian = 4.0 * np.pi * p**2 * (2.0 * np.pi * width) ** -1.5 * np.exp(-0.5 * p**2 / width)
    right.plot(p, gaussian, "--", color=GRAY, label="Gaussian of <K>")
    right.set(xlabel="p/ħ (1/Å)", ylabel=f"4 π p² n(p) of {element} (Å)")
    right.legend(loc="best")
    return save_figure(figure, path)
