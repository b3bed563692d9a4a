"""``rxmdnn plot DAT``: figures of a run, and their numbers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import matplotlib.pyplot as plt
import numpy as np

from rxmdnn.analysis.figures import draw_radial
from rxmdnn.analysis.structure import radial
from rxmdnn.analysis.style import BLUE, GRAY, GREEN, ORANGE, STYLE, save_figure
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.io.h5md import HEALED
from rxmdnn.io.log import read_energies
from rxmdnn.io.trajectory import read_frames


def main(argv: Sequence[str]) -> None:
    """Make energies.png, temperature.png and gr.png in a run's folder; print numbers and file names."""
    p = argparse.ArgumentParser("rxmdnn plot", description="Figures of a run: energies, temperature, g(r).")
    p.add_argument("folder", help="the outDir of a run")
    p.add_argument("--json", metavar="F", help="also write the numbers to this file")
    p.add_argument("--rmax", type=float, default=10.0, help="largest distance of g(r), Å, at most half the cell")
    p.add_argument("--frames", type=int, default=50, help="largest number of frames for g(r)")
    a = p.parse_args(argv)
    if a.rmax <= 0 or a.frames < 1:
        raise InputError("plot: --rmax and --frames must be above zero")
    folder = Path(a.folder)
    check_outputs(a.json)
    energies = read_energies(folder)
    frames = list(read_frames(folder, a.frames))
    if not energies and not frames:
        raise InputError(f"{folder}: nothing to plot: no rows in energies.csv and no frames")
    n = len(frames[0].names) if frames else None
    numbers: dict[str, Any] = {"atoms": n, "frames": len(frames)}
    made = []
    with writing(folder):
        with plt.rc_context(STYLE):
            if energies:
                numbers |= thermodynamics(energies, n)
                healed = stretches(folder, energies)
                numbers |= {"healed_ps": [list(ends) for ends in healed]} if healed else {}
                made += [_energies(energies, n, numbers, healed, folder / "energies.png"),
                         _temperature(energies, numbers, healed, folder / "temperature.png")]
            if frames:
                late = frames[len(frames) // 2:]
                r, g = radial(late, a.rmax)
                numbers["highest_peak_A"] = {k: round(float(r[np.argmax(v)]), 4) for k, v in g.items() if v.any()}
                averaged = f"{len(late)} frame{'s' if len(late) != 1 else ''}, the later half of the run"
                made.append(draw_radial(r, g, averaged, folder / "gr.png"))
        if a.json:
            made.append(write_json(a.json, numbers))
    for key, value in numbers.items():
        print(f"{key}: {value:.6g}" if isinstance(value, float) else f"{key}: {value}")
    print("wrote " + " ".join(map(str, made)))


def conserved(e: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """The conserved quantity, eV, and its name; the total energy without thermostat, barostat and ring polymer."""
    return (e["conserved_eV"], "conserved") if "conserved_eV" in e else (e["etotal_eV"], "total")


def thermodynamics(e: dict[str, np.ndarray], n: int | None) -> dict[str, Any]:
    """Drift of the conserved quantity (slope of a line), its deviation from that line; means over the second half.

    e : columns of energies.csv; n : number of atoms; None without frames: energies are then not per atom
    """
    kept, name = conserved(e)
    time, total = e["time_fs"], kept / (n or 1)
    per = "eV/atom" if n else "eV"
    t, p = (e[name][len(time) // 2:] for name in ("temperature_K", "pressure_GPa"))
    out = {"steps": int(e["step"][-1]), "time_ps": float(time[-1] / 1000),
           "temperature_mean_K": float(t.mean()), "temperature_std_K": float(t.std()),
           "pressure_mean_GPa": float(p.mean())}
    if len(time) > 2:
        slope, start = np.polyfit(time / 1000, total - total[0], 1)
        out[f"drift_{per}/ps"] = float(slope)
        out[f"{name}_energy_rms_{per}"] = float(np.std(total - total[0] - slope * time / 1000 - start))
        kinetic = e["kinetic_eV"] / (n or 1)
        out[f"{name}_over_kinetic_fluctuation"] = float(np.std(total) / max(np.std(kinetic), 1e-300))
    return out


def stretches(folder: Path, e: dict[str, np.ndarray]) -> list[tuple[float, float]]:
    """[(start, end)], ps, of the intervals computed in shorter steps after a failure, from the trajectory."""
    path = folder / "trajectory.h5"
    if not path.is_file():
        return []
    with h5py.File(path, "r", locking=False) as file:
        steps = file[HEALED][:] if HEALED in file else []
    return [(float(a), float(b)) for a, b in np.interp(steps, e["step"], e["time_fs"] / 1000)]


def _mark(axes: Sequence[Any], healed: list[tuple[float, float]]) -> None:
    for axis in axes:
        for k, (start, end) in enumerate(healed):
            axis.axvspan(start, end, color=GREEN, alpha=0.15, lw=0, label="healed: shorter steps" if not k else None)


def _energies(e: dict[str, np.ndarray], n: int | None, numbers: dict[str, Any], healed: list[tuple[float, float]],
              path: Path) -> Path:
    """Draw above the energies since the start, below the conserved quantity on its own scale, with its drift."""
    scale, unit = (1000 / n, "meV/atom") if n else (1.0, "eV")
    time = e["time_fs"] / 1000
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 5.4), sharex=True, layout="constrained")
    kept, kept_name = conserved(e)
    for column, name, color in (("potential_eV", "potential", BLUE), ("kinetic_eV", "kinetic", ORANGE),
                                ("etotal_eV", "total", GRAY)):
        upper.plot(time, (e[column] - e[column][0]) * scale, color=color, label=name)
    upper.set(ylabel=f"energy - start ({unit})")
    _mark((upper, lower), healed)
    upper.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    change = (kept - kept[0]) * scale
    lower.plot(time, change, color=GRAY, label=kept_name)
    drift = next((numbers[k] for k in numbers if k.startswith("drift")), None)
    if drift is not None:
        slope, start = np.polyfit(time, change, 1)
        lower.plot(time, start + slope * time, "--", color=ORANGE,
                   label=f"drift {1000 * drift:.3g} meV/atom/ps" if n else f"drift {drift:.3g} eV/ps")
        lower.legend(loc="best")
    lower.set(xlabel="time (ps)", ylabel=f"{kept_name} energy - start ({unit})")
    return save_figure(figure, path)


def _temperature(e: dict[str, np.ndarray], numbers: dict[str, Any], healed: list[tuple[float, float]], path: Path
                 ) -> Path:
    time, half = e["time_fs"] / 1000, e["time_fs"][[len(e["time_fs"]) // 2, -1]] / 1000
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 4.8), sharex=True, layout="constrained")
    upper.plot(time, e["temperature_K"], color=ORANGE)
    mean, spread = numbers["temperature_mean_K"], numbers["temperature_std_K"]
    upper.plot(half, [mean, mean], color=GRAY, ls="--",
               label=f"second half: {mean:.1f} K, standard deviation {spread:.1f} K")
    upper.set(ylabel="temperature (K)")
    _mark((upper,), healed)
    upper.legend(loc="best")
    p = numbers["pressure_mean_GPa"]
    lower.plot(time, e["pressure_GPa"], color=BLUE)
    lower.plot(half, [p, p], color=GRAY, ls="--", label=f"second half: {p:.3g} GPa")
    lower.set(xlabel="time (ps)", ylabel="pressure (GPa)")
    lower.legend(loc="best")
    return save_figure(figure, path)


