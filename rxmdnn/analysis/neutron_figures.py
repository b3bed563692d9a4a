"""Figure of a neutron spectrum as an instrument sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from rxmdnn.analysis.comparison import Comparison
from rxmdnn.analysis.figures import TINTS, color
from rxmdnn.analysis.neutron import NeutronSpectrum
from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.analysis.style import BLUE, GRAY, ORANGE, STYLE, save_figure


def neutron(folder: Path, spectrum: NeutronSpectrum, bands: Mapping[str, Any], temperature: float,
            measured_bands: bool = False, compared: Comparison | None = None, name: str = "neutron.png") -> Path:
    """Draw S(Q, E) with the paths of the detectors through it, the spectrum by orders and by elements; its path.

    Parameters
    ----------
    bands : {name: (from, to, measured positions)}, 1/cm; measured_bands : mark these positions
    compared : a measured spectrum, drawn beside the computed one
    """
    c = spectrum.columns
    x = c["wavenumber_cm"]
    with plt.rc_context(STYLE):
        figure, (upper, middle, lower) = plt.subplots(3, 1, figsize=(9, 9), sharex=True, layout="constrained",
                                                      height_ratios=(2.2, 3, 3))
        _map(figure, upper, spectrum)
        scale = 1.0 / compared.scale if compared is not None and compared.scale > 0 else None
        if compared is not None and scale is not None:
            middle.plot(compared.energy / MEV_PER_CM, compared.measured * scale, ".", color=GRAY, ms=3,
                        label=f"measured, × {scale:.4g}")
        middle.plot(x, c["all"], color="k", lw=1.1, label="all orders")
        middle.plot(x, c["one_phonon"], color=BLUE, lw=0.9, label="one phonon")
        middle.plot(x, c["two_phonons"], color=ORANGE, lw=0.9, label="two phonons")
        kinds = [k for k in c if k.startswith("all_") and not k.endswith("deg")]
        for k, key in enumerate(kinds):
            shade = color(key[4:], k)
            lower.fill_between(x, 0, c[key], color=shade, alpha=0.25, lw=0)
            lower.plot(x, c[key], color=shade, lw=0.9, label=key[4:])
        lower.plot(x, c["coherent"], color="k", ls="--", lw=0.9, label="coherent share")
        if "coherent_one_phonon" in c:
            lower.plot(x, c["coherent_one_phonon"], color="#762a83", lw=0.9,
                       label="coherent, one phonon, with interference")
        for axis in (middle, lower):
            _shade(axis, bands, measured_bands, axis is middle)
            axis.set_ylabel("σS(Q, E) (barn/meV per atom)")
            axis.legend(loc="upper right", ncols=2, bbox_to_anchor=(1.0, 0.93))
            axis.set_ylim(0, 1.2 * max(float(c["all"][(x > 40) | (x == x[-1])].max()), 1e-12))
        lower.set_xlim(x[0], x[-1])
        lower.set_xlabel("energy transfer (cm$^{-1}$)")
        top = upper.secondary_xaxis("top", functions=(lambda w: w * MEV_PER_CM, lambda e: e / MEV_PER_CM))
        top.set_xlabel("energy transfer (meV)")
        figure.suptitle(f"{spectrum.instrument.title}; {temperature:.0f} K", fontsize=10)
        return save_figure(figure, folder / name)


def _map(figure: Any, axis: Axes, spectrum: NeutronSpectrum) -> None:
    """S(Q, E) in color, and Q(E) of the detectors."""
    q, e, s, instrument = spectrum.q, spectrum.energy, spectrum.s, spectrum.instrument
    high = float(np.nanmax(s[:, e > min(5.0, e[-1] / 2)]))
    image = axis.pcolormesh(e / MEV_PER_CM, q, np.maximum(s, 1e-300), norm=LogNorm(high * 1e-4, high), cmap="magma",
                            rasterized=True, shading="nearest")
    angles = instrument.angles if len(instrument.angles) <= 4 else (instrument.angles[0], instrument.angles[-1])
    at = len(e) // 3
    for angle in angles:
        path = np.sqrt(instrument.q_squared(e, angle))
        axis.plot(e / MEV_PER_CM, path, color="w", lw=1.2)
        axis.annotate(f"{angle:.3g}°", (e[at] / MEV_PER_CM, path[at]), (0, 5), textcoords="offset points", color="w",
                      fontsize=9, ha="center")
    axis.grid(False)
    axis.set(ylabel="Q (Å$^{-1}$)", ylim=(0, q[-1]))
    figure.colorbar(image, ax=axis, label="σS(Q, E)", pad=0.01)


def _shade(axis: Axes, bands: Mapping[str, Any], measured: bool, labels: bool) -> None:
    lo, hi = axis.get_xlim()
    for tint, (name, (a, b, ticks)) in zip(TINTS * len(bands), bands.items()):
        axis.axvspan(a, b, color=tint, lw=0, zorder=0)
        if labels and (b - a) > 0.04 * (hi - lo):
            axis.text((a + b) / 2, 0.98, name, transform=axis.get_xaxis_transform(), ha="center", va="top",
                      fontsize=8.5, color=GRAY, clip_on=True)
        for tick in ticks if measured else ():
            axis.plot([tick, tick], [0, 0.05], color="k", lw=1.1, transform=axis.get_xaxis_transform())
