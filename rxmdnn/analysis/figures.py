"""Figures of the analysis commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from rxmdnn.analysis.comparison import Comparison
from rxmdnn.analysis.hydrogen import HydrogenSpectrum
from rxmdnn.analysis.inelastic import Instrument
from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.analysis.spectra_tables import SpectraTables
from rxmdnn.analysis.structure import Bonds
from rxmdnn.analysis.structure_averages import StructureAverages
from rxmdnn.analysis.structure_tables import StructureTables
from rxmdnn.analysis.style import BLUE, GRAY, GREEN, ORANGE, STYLE, save_figure

COLORS = {"H": BLUE, "D": BLUE, "N": ORANGE, "O": "#b2182b", "C": GRAY}
REST = (GREEN, "#762a83", "#8c510a", "#01665e")
TINTS = ("#e8eef6", "#eef4ea", "#f8eee4", "#f3ecf6", "#fbeaea")


def comparison(folder: Path, compared: Comparison) -> Path:
    """compare.png: a measured spectrum, the computed one at its fitted scale, and their difference; its path."""
    with plt.style.context(STYLE):
        figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained",
                                              height_ratios=(3, 1))
        upper.plot(compared.energy, compared.measured, color=GRAY, lw=0, marker=".", ms=3, label="measured")
        upper.plot(compared.energy, compared.computed, color=BLUE, label=f"{compared.what}, × {compared.scale:.4g}")
        upper.set(ylabel="intensity")
        upper.legend()
        lower.axhline(0.0, color=GRAY, lw=0.8)
        lower.plot(compared.energy, compared.measured - compared.computed, color=ORANGE)
        lower.set(xlabel="energy transfer (meV)", ylabel="difference")
        upper.set_title(f"R = {compared.residual:.3f}, correlation {compared.correlation:.3f}", fontsize=9.5)
        return save_figure(figure, folder / "compare.png")


def color(name: str, number: int = 0) -> str:
    """The color of a kind of atom; ``number`` chooses one for kinds that have none."""
    return COLORS.get(name, REST[number % len(REST)])


def _halves(n_rows: int, split: float | None, top: float, height: float) -> tuple[Any, Any, list[tuple[float, float]]]:
    """Axes in rows, in two columns where the spectrum has two parts (between and inside molecules)."""
    ranges = [(0.0, split), (split, top)] if split and split < top else [(0.0, top)]
    figure, axes = plt.subplots(n_rows, len(ranges), figsize=(10 if len(ranges) > 1 else 8, height), squeeze=False,
                                sharex="col", layout="constrained")
    for column, (lo, hi) in zip(axes.T, ranges):
        for axis in column:
            axis.set_xlim(lo, hi)
        column[-1].set_xlabel("wavenumber (cm$^{-1}$)")
        upper = column[0].secondary_xaxis("top", functions=(lambda x: x * MEV_PER_CM, lambda e: e / MEV_PER_CM))
        upper.set_xlabel("energy (meV)")
    return figure, axes, ranges


def _shade(axis: Axes, named: dict[str, Any], labels: bool, measured: bool) -> None:
    lo, hi = axis.get_xlim()
    for tint, (name, (a, b, ticks)) in zip(TINTS * len(named), named.items()):
        if b <= lo or a >= hi:
            continue
        axis.axvspan(max(a, lo), min(b, hi), color=tint, lw=0, zorder=0)
        if labels and (min(b, hi) - max(a, lo)) > 0.04 * (hi - lo):
            axis.text((max(a, lo) + min(b, hi)) / 2, 0.985, name, transform=axis.get_xaxis_transform(), ha="center",
                      va="top", fontsize=8.5, color=GRAY)
        if measured:
            for x in ticks:
                if lo <= x <= hi:
                    axis.plot([x, x], [0, 0.05], color="k", lw=1.1, transform=axis.get_xaxis_transform())


def _split(named: dict[str, Any], top: float) -> float | None:
    return 800.0 * (named["librations"][1] / 750.0) if "librations" in named and top > 1000 else None


def _scale(axis: Axes, x: np.ndarray, *curves: np.ndarray) -> None:
    """Set the y axis from zero to above the curves; without the first point, which diffusion may make very large."""
    lo, hi = axis.get_xlim()
    inside = (x >= lo) & (x <= hi) & (x > x[1])
    axis.set_ylim(0, 1.18 * max([float(np.nanmax(c[inside])) for c in curves if inside.any()] + [1e-12]))


def spectra(folder: Path, results: SpectraTables, instrument: Instrument, measured: bool) -> list[Path]:
    """Draw vdos.png, vacf.png and, with hydrogen, neutron.png; their paths.

    measured : mark the measured positions of bands
    """
    with plt.rc_context(STYLE):
        made = [_vdos(folder / "vdos.png", results, measured), _vacf(folder / "vacf.png", results.vacf, results.kinds)]
        if results.hydrogen is not None:
            made.append(_neutron(folder / "neutron.png", results, results.hydrogen, instrument, measured))
    return made


def _vdos(path: Path, results: SpectraTables, measured: bool) -> Path:
    d, names, named = results.vdos, results.kinds, results.windows
    x = d["wavenumber_cm"]
    figure, axes, _ = _halves(2, _split(named, x[-1]), float(x[-1]), 6.4)
    for column, (upper, lower) in enumerate(axes.T):
        upper.plot(x, d["total_modes_per_cm"], color="k", lw=1.0, label="all atoms")
        for k, name in enumerate(names):
            y = d[f"{name}_modes_per_cm"]
            upper.fill_between(x, y, color=color(name, k), alpha=0.3, lw=0)
            upper.plot(x, y, color=color(name, k), label=name)
        if "total_quantum" in d:
            upper.plot(x, d["total_quantum"], color=GREEN, ls="--", lw=1.0, label="all, × βħω/(1 - e$^{-βħω}$)")
        y, error = d["neutron_modes_per_cm"], d["neutron_error"]
        lower.fill_between(x, np.maximum(y - error, 0), y + error, color=GREEN, alpha=0.3, lw=0,
                           label="± standard error")
        lower.plot(x, y, color=GREEN, label="neutron-weighted, σ/m")
        _scale(upper, x, d["total_modes_per_cm"], *([d["total_quantum"]] if "total_quantum" in d else []))
        _scale(lower, x, y + np.nan_to_num(error))
        _shade(upper, named, True, measured)
        _shade(lower, named, False, measured)
        if column == 0:
            upper.set_ylabel("modes per cm$^{-1}$")
            lower.set_ylabel("modes per cm$^{-1}$")
    for axis in axes[:, -1]:
        if len(axes[0]) > 1:  # where ammonia has no bands
            axis.legend(loc="center", bbox_to_anchor=(0.5, 0.65))
        else:
            axis.legend(loc="upper right")
    ticks = ", ticks: measured (literature)" if measured else ""
    figure.suptitle(f"Vibrational density of states, {results.temperature:.0f} K; its integral is the number of modes"
                    f"{ticks}", fontsize=10)
    return save_figure(figure, path)


def _vacf(path: Path, d: dict[str, Any], names: Sequence[str]) -> Path:
    t = d["time_fs"] / 1000
    figure, axes = plt.subplots(len(names), 1, figsize=(8, 1.2 + 2.0 * len(names)), sharex=True, squeeze=False,
                                layout="constrained")
    for k, (name, axis) in enumerate(zip(names, axes[:, 0])):
        error = np.nan_to_num(d[f"{name}_error"])
        axis.fill_between(t, d[name] - error, d[name] + error, color=color(name, k), alpha=0.25, lw=0)
        axis.plot(t, d[name], color=color(name, k), lw=0.9)
        axis.axhline(0, color=GRAY, lw=0.6)
        axis.set(ylabel=f"<v(0)·v(t)>/<v²>  {name}", xlim=(0, t[-1]))
    axes[-1, 0].set_xlabel("time (ps)")
    axes[0, 0].set_title("Velocity autocorrelation; band: standard error", fontsize=9, color=GRAY, loc="right")
    return save_figure(figure, path)


def _neutron(path: Path, results: SpectraTables, hydrogen: HydrogenSpectrum, instrument: Instrument, measured: bool
             ) -> Path:
    d, named, q, e, s = hydrogen.columns, results.windows, hydrogen.q, hydrogen.energy, hydrogen.s
    x = d["energy_meV"] / MEV_PER_CM
    split = _split(named, x[-1])
    figure, axes, _ = _halves(2, split, float(x[-1]), 7.2)
    top = float(np.nanmax(s[:, e > 5]))
    for column, (upper, lower) in enumerate(axes.T):
        image = upper.pcolormesh(e / MEV_PER_CM, q, np.maximum(s, 1e-12), norm=LogNorm(top * 1e-4, top), cmap="magma",
                                 rasterized=True, shading="nearest")
        for angle in instrument.angles:
            upper.plot(x, d[f"q_{angle:g}deg"], color="w", lw=1.3)
            at = int(np.searchsorted(x, np.mean(upper.get_xlim())))
            upper.annotate(f"{angle:g}°", (x[at], d[f"q_{angle:g}deg"][at]), (0, 5), textcoords="offset points",
                           color="w", fontsize=9, ha="center")
        upper.grid(False)
        upper.set_ylim(0, q[-1])
        lower.fill_between(x, d["one_phonon"], d["all"], color=ORANGE, alpha=0.35, lw=0, label="multiphonon")
        lower.plot(x, d["one_phonon"], color=BLUE, lw=1.0, label="one phonon, with Debye-Waller")
        lower.plot(x, d["all"], color="k", label="all orders")
        _scale(lower, x, np.where(x > 40, d["all"], 0))
        _shade(lower, named, True, measured)
        if column == 0:
            upper.set_ylabel("Q (Å$^{-1}$)")
            lower.set_ylabel("S(Q, E) per hydrogen (1/meV)")
    figure.colorbar(image, ax=axes[0, -1], label="S(Q, E) (1/meV)", pad=0.01)
    axes[1, -1].legend(loc="upper center" if split else "upper right", bbox_to_anchor=(0.5, 0.92) if split else None)
    ticks = ", ticks: measured (literature)" if measured else ""
    figure.suptitle(f"Incoherent inelastic neutron scattering of hydrogen, {results.temperature:.0f} K; final energy "
                    f"{instrument.final:g} meV, ΔE/E {100 * instrument.broadening:g} %{ticks}", fontsize=10)
    return save_figure(figure, path)


def structure(folder: Path, averages: StructureAverages, results: StructureTables, probe: str) -> list[Path]:
    """Draw radial.png and, where there is data, bonds, static, bragg, displacements and dynamic.png; their paths.

    probe : whose Debye-Waller factors are drawn
    """
    radial, tables, kinds = averages.radial, results.tables, results.kinds
    with plt.rc_context(STYLE):
        made = [draw_radial(radial.r, radial.g, f"{radial.frames} frames; dashed: neighbors within r",
                            folder / "radial.png", radial.coordination)]
        if "bond_length" in tables:
            made.append(_bonds(folder / "bonds.png", tables, averages.bonds))
        if "static" in tables:
            made.append(_static(folder / "static.png", tables["static"]))
        if "bragg" in tables:
            made.append(_bragg(folder / "bragg.png", tables, kinds, probe))
        if "msd" in tables:
            made.append(_displacements(folder / "displacements.png", tables["msd"], results.numbers, kinds))
        if results.dynamic is not None:
            made.append(_dynamic(folder / "dynamic.png", results.dynamic))
    return made


def _bonds(path: Path, tables: dict[str, Any], bonds: Bonds) -> Path:
    hydrogen = bool(bonds.joint.any())
    figure, axes = plt.subplots(1, 2 + hydrogen, figsize=(7.5 + 3.5 * hydrogen, 3.4), layout="constrained")
    for axis, key, label in ((axes[0], "bond_length", "length (Å)"), (axes[1], "bond_angle", "angle (degrees)")):
        if key not in tables:
            axis.set_axis_off()
            continue
        (_, x), *curves = tables[key].items()
        for k, (name, y) in enumerate(curves):
            shade = (BLUE, ORANGE, GREEN, *REST)[k % 7]
            axis.plot(x, y, color=shade, label=name)
            axis.fill_between(x, y, color=shade, alpha=0.15, lw=0)
        some = np.flatnonzero(np.sum([y for _, y in curves], axis=0) > 0)
        axis.set(xlabel=label, ylabel="density", ylim=(0, None), xlim=(x[max(some[0] - 5, 0)],
                                                                       x[min(some[-1] + 5, len(x) - 1)]))
        axis.legend()
    if hydrogen:
        joint = bonds.joint / bonds.frames
        mesh = axes[2].pcolormesh(bonds.FAR, bonds.BEND, np.ma.masked_equal(joint, 0).T, cmap="viridis",
                                  rasterized=True)
        axes[2].set(xlabel="H···acceptor (Å)", ylabel="donor-H···acceptor (degrees)", title="")
        axes[2].grid(False)
        figure.colorbar(mesh, ax=axes[2], label="pairs per frame and bin")
    return save_figure(figure, path)


def _static(path: Path, d: dict[str, Any]) -> Path:
    q = d["q_1_A"]
    figure, axes = plt.subplots(3, 1, figsize=(7.5, 6.4), sharex=True, layout="constrained")
    for axis, (probe, shade) in zip(axes, (("neutron", GREEN), ("xray", BLUE), ("electron", ORANGE))):
        axis.plot(q, d[probe], color=shade, lw=1.0)
        axis.axhline(1.0, color=GRAY, ls=":", lw=0.8)
        axis.set(ylabel=f"S(q)  {probe.replace('xray', 'x-ray')}", ylim=(0, None), xlim=(0, q[-1]))
    axes[-1].set_xlabel("q (Å$^{-1}$)")
    return save_figure(figure, path)


def _bragg(path: Path, tables: dict[str, Any], kinds: Sequence[str], probe: str) -> Path:
    """Draw the intensities of the three probes, and -ln(I/I_0) against Q² with the isotropic Debye-Waller line."""
    b, t = tables["bragg"], tables["bragg_time"]
    labels = [f"{h}{k}{x}" for h, k, x in zip(b["h"], b["k"], b["l"])]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=(3, 2))
    at = np.arange(len(labels))
    for k, (name, shade) in enumerate((("neutron", GREEN), ("xray", BLUE), ("electron", ORANGE))):
        left.bar(at + 0.27 * (k - 1), b[f"{name}_I"] / b[f"{name}_I"].max(), 0.25, color=shade,
                 label=name.replace("xray", "x-ray"))
    left.set_xticks(at, labels, rotation=60)
    left.set(xlabel="hkl", ylabel="intensity / strongest")
    left.legend()
    ratio = b[f"{probe}_I"] / np.maximum(b[f"{probe}_I0"], 1e-300)
    model = b[f"{probe}_debye_waller"] / np.maximum(b[f"{probe}_I0"], 1e-300)
    strong = b[f"{probe}_I0"] > 1e-3 * b[f"{probe}_I0"].max()
    q_sq = b["q_1_A"] ** 2
    right.plot(q_sq[strong], -np.log(ratio[strong]), "o", color=ORANGE, ms=4, label=f"{probe}, run")
    right.plot(q_sq[strong], -np.log(model[strong]), "x", color="k", ms=5, label="Debye-Waller, <u²> of each kind")
    for k, kind in enumerate(kinds):
        u = float(np.mean(t[f"u_squared_{kind}_A2"]))
        right.plot(np.sort(q_sq), np.sort(q_sq) * u / 3, color=color(kind, k), lw=0.9,
                   label=f"Q²<u²>/3, {kind}: {u:.3f} Å²")
    right.set(xlabel="Q² (Å$^{-2}$)", ylabel="-ln(I/I$_0$)", ylim=(0, None))
    right.legend()
    return save_figure(figure, path)


def _displacements(path: Path, d: dict[str, Any], out: dict[str, Any], kinds: Sequence[str]) -> Path:
    figure, axis = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    t = d["time_fs"] / 1000
    for k, kind in enumerate(kinds):
        known = f"diffusion_{kind}_cm2_s"
        label = f"{kind}: not diffusive, t$^{{{out[f'msd_exponent_{kind}']:.2f}}}$"
        if known in out:
            label = f"{kind}: D = {out[known]:.2g} ± {out[f'diffusion_{kind}_error_cm2_s']:.1g} cm²/s"
        axis.plot(t, d[f"msd_{kind}_A2"], color=color(kind, k), label=label)
    axis.set(xlabel="time (ps)", ylabel="mean-square displacement (Å²)", xlim=(0, t[-1]), ylim=(0, None))
    axis.legend()
    return save_figure(figure, path)


def _dynamic(path: Path, d: dict[str, np.ndarray]) -> Path:
    """Draw S(q, ω) of all atoms, unweighted, up to the energy below which 98 % of it lies."""
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    e, s = d["energy"], np.maximum(d["S"], 1e-300)
    inside = e > 0
    top = float(np.quantile(s[:, inside], 0.998))
    mesh = axis.pcolormesh(d["q"], e[inside], s[:, inside].T, norm=LogNorm(top * 1e-3, top), cmap="magma",
                           rasterized=True, shading="nearest")
    weight = np.cumsum(d["S"][:, inside].sum(axis=0))  # with its sign, so that noise cancels
    ceiling = e[inside][np.argmax(weight >= 0.98 * weight[-1])]
    axis.set(xlabel="q (Å$^{-1}$)", ylabel="energy (meV)", ylim=(0, ceiling))
    axis.grid(False)
    figure.colorbar(mesh, ax=axis, label="S(q, ω) (fs)")
    return save_figure(figure, path)


def draw_radial(r: np.ndarray, g: dict[str, np.ndarray], title: str, path: Path,
                neighbors: dict[str, np.ndarray] | None = None) -> Path:
    """Draw g(r), one panel per pair, as heights of bonded and of other pairs differ too much for one axis; the path.

    neighbors : number of atoms within r of each pair, drawn on a second axis
    """
    figure, axes = plt.subplots(len(g), 1, figsize=(7, 1.2 + 1.6 * len(g)), sharex=True, layout="constrained",
                                squeeze=False)
    for (name, values), axis, color in zip(g.items(), axes[:, 0], (BLUE, ORANGE, GREEN) * len(g)):
        axis.plot(r, values, color=color)
        axis.fill_between(r, values, color=color, alpha=0.12, lw=0)
        axis.axhline(1.0, color=GRAY, ls=":", lw=0.8)
        beyond = values[r > 2.0]
        top = 1.25 * max(float(beyond.max(initial=0.0)), 1.5)
        if values.max() > 2 * top:  # the peak of a bond would flatten everything else
            k = int(np.argmax(values))
            axis.annotate(f"{values[k]:.0f} at {r[k]:.2f} Å", (r[k], top), (18, -12), textcoords="offset points",
                          color=color)
        else:
            top = 1.1 * float(values.max(initial=1.0))
        axis.set(ylabel=f"g(r)  {name}", ylim=(0, top))
        if neighbors is not None:
            other = axis.twinx()
            other.plot(r, neighbors[name], color=GRAY, ls="--", lw=0.9)
            other.set_ylim(0, max(1.2 * float(neighbors[name][r < 0.65 * r[-1]].max(initial=0.0)), 1.0))
            other.set_ylabel("{1} around {0}".format(*name.split("-")), color=GRAY)
            other.grid(False)
            other.spines["right"].set_visible(True)
    axes[-1, 0].set(xlabel="r (Å)", xlim=(0, r[-1]))
    axes[0, 0].set_title(title, fontsize=9, color=GRAY, loc="right")
    return save_figure(figure, path)
