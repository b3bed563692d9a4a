"""Figure of a harmonic crystal: bands and density of states."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from rxmdnn.analysis.figures import color
from rxmdnn.analysis.phonon_tables import PhononTables
from rxmdnn.analysis.phonons import IMAGINARY, HarmonicCrystal
from rxmdnn.analysis.style import BLUE, GRAY, ORANGE, STYLE, save_figure


def phonons(folder: Path, results: PhononTables, crystal: HarmonicCrystal) -> Path:
    """phonons.png: bands along the path, imaginary ones in orange below zero, beside the density of states; its path.

    A gap above 1.6 times the modes below it splits the figure in two.
    """
    cuts = gaps(results)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(cuts), 2, figsize=(8.5, 3.0 + 1.8 * len(cuts)), squeeze=False, sharex="col",
                                    layout="constrained", width_ratios=(3, 1.2))
        for (left, right), (lo, hi) in zip(axes[::-1], cuts):
            for x, y in results.bands.segments:
                left.plot(x, y, color=BLUE, lw=0.8)
                for branch in y.T[y.min(axis=0) < -IMAGINARY]:
                    left.plot(x[branch < 0], branch[branch < 0], color=ORANGE, lw=1.2)
            for at, _ in results.bands.ticks:
                left.axvline(at, color=GRAY, lw=0.6)
            d = results.dos
            right.fill_betweenx(d["wavenumber_cm"], d["total_modes_per_cm"], color=GRAY, alpha=0.2, lw=0)
            for k, name in enumerate(dict.fromkeys(crystal.names.tolist())):
                right.plot(d[f"{name}_modes_per_cm"], d["wavenumber_cm"], color=color(name, k), lw=0.9, label=name)
            left.set(ylim=(lo, hi), ylabel="wavenumber (cm$^{-1}$)")
            right.set(ylim=(lo, hi))
            right.set_yticklabels([])
        for axis in axes[:, 1]:
            axis.set_xlim(0, None)
        bottom = axes[-1]
        bottom[0].set_xticks([at for at, _ in results.bands.ticks],
                             [label.replace("G", "Γ") for _, label in results.bands.ticks])
        bottom[0].set_xlim(0, results.bands.ticks[-1][0])
        bottom[1].set_xlabel("modes per cm$^{-1}$")
        axes[0, 1].legend(loc="upper right")
        bad = results.numbers["imaginary_modes"]
        figure.suptitle(f"{len(crystal.mass)} atoms in the primitive cell, path {results.bands.path}"
                        + (f"; {bad} imaginary modes on the mesh" if bad else ""), fontsize=10)
        return save_figure(figure, folder / "phonons.png")


def gaps(results: PhononTables) -> list[tuple[float, float]]:
    """[(from, to)], 1/cm: ranges of the axes, without the widest gap between modes where it is wide."""
    values = sorted(w for _, y in results.bands.segments for w in y.ravel().tolist())
    low, high = min(values[0], 0.0) - 5.0, values[-1] * 1.03
    widest = max(range(len(values) - 1), key=lambda k: values[k + 1] - values[k])
    a, b = values[widest], values[widest + 1]
    if b < 1.6 * max(a, 1.0) or b - a < 200:
        return [(low, high)]
    return [(low, a * 1.05), (b * 0.985, high * 0.985)]
