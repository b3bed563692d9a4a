"""Figures of a run and the numbers in them: energies, temperature, pressure, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rxmdnn.analysis.style import BLUE, GRAY, GREEN, ORANGE, save_figure
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.hdf5 import opened
from rxmdnn.io.h5md import HEALED, trajectory_in
from rxmdnn.schema import Item

Table = dict[str, np.ndarray]  # columns of energies.csv


@dataclass(frozen=True)
class Stage:
    """Rows of energies.csv within which the conserved quantity is one curve. name : what the run did; "" : unknown."""

    rows: Table
    name: str

    def figures(self, n: int | None) -> dict[str, Any]:
        """Its numbers. n : as of ``thermodynamics``"""
        named = {"stage": self.name, "from_step": int(self.rows["step"][0])} if self.name else {}
        return named | thermodynamics(self.rows, n)


def stages_of(e: Table, written: Sequence[dict[str, Any]]) -> list[Stage]:
    """The stages of a run, in order.

    e : columns of energies.csv; written : of stages.jsonl. Where that is missing, as from runs of earlier versions, a
    stage begins where the time step changes, a step comes twice, a minimization or a conserved quantity begins or ends.
    """
    step, time = e["step"], e["time_fs"]
    if written:
        first = np.array([stage["step"] for stage in written])
        of = np.maximum(np.searchsorted(first, step, side="right") - 1, 0)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            dt = np.diff(time) / np.diff(step)
        new = np.concatenate([[False, False], ~np.isclose(dt[1:], dt[:-1], rtol=1e-6)])[: len(step)]
        still = e["kinetic_eV"] == 0
        still[:1] = still[:2].all()  # dynamics may begin at rest
        for state in (still, np.isfinite(e.get("conserved_eV", time))):
            new[1:] |= state[1:] != state[:-1]
        of = np.cumsum(new)
    return [Stage({name: column[of == k] for name, column in e.items()}, title(written[k]) if written else "")
            for k in np.unique(of)]


def title(stage: Mapping[str, Any]) -> str:
    """What a run did in a stage of stages.jsonl, in a few words."""
    if stage.get("mdmode", [1])[0] == MINIMIZATION:
        return "minimization"
    mode, (kind, *_) = stage.get("mdmode", [1])[0], stage.get("ensemble", ["nve"])
    barostat = (stage.get("barostat") or [None])[0]
    words = [kind if mode == 1 else f"mdmode {mode}", *([barostat] if barostat else []),
             *([f"{stage['pimd'][1]} of {stage['pimd'][0]} beads"] if stage.get("pimd") else [])]
    return f"{' '.join(words)}, dt {stage.get('time_step', float('nan')):g} fs"


def conserved(e: Table) -> tuple[np.ndarray, str]:
    """The conserved quantity, eV, and its name; the total energy without thermostat, barostat and ring polymer."""
    known = "conserved_eV" in e and np.isfinite(e["conserved_eV"]).all()
    return (e["conserved_eV"], "conserved") if known else (e["etotal_eV"], "total")


def moves(e: Table) -> bool:
    """Whether the atoms move in time: a minimization has no kinetic energy, and conserves nothing."""
    return bool((e["kinetic_eV"] > 0).any())


def thermodynamics(e: Table, n: int | None) -> dict[str, Any]:
    """Drift of the conserved quantity (slope of a line), its deviation from that line; means over the second half.

    Of a minimization the change of the potential energy, and the pressure at its end.

    e : columns of energies.csv, of one stage; n : number of atoms; None without frames: energies are then not per atom
    """
    kept, name = conserved(e)
    time, total = e["time_fs"], kept / (n or 1)
    per = "eV/atom" if n else "eV"
    if not moves(e):
        change = float(e["potential_eV"][-1] - e["potential_eV"][0]) / (n or 1)
        return {"steps": int(e["step"][-1]), f"potential_change_{per}": change,
                "pressure_at_end_GPa": float(e["pressure_GPa"][-1])}
    t, p = (e[name][len(time) // 2:] for name in ("temperature_K", "pressure_GPa"))
    out = {"steps": int(e["step"][-1]), "time_ps": float(time[-1] / 1000),
           "temperature_mean_K": float(t.mean()), "temperature_std_K": float(t.std()),
           "pressure_mean_GPa": float(p.mean())}
    if len(time) > 2 and np.ptp(time) > 0:
        slope, start = np.polyfit(time / 1000, total - total[0], 1)
        out[f"drift_{per}/ps"] = float(slope)
        out[f"{name}_energy_rms_{per}"] = float(np.std(total - total[0] - slope * time / 1000 - start))
        kinetic = e["kinetic_eV"] / (n or 1)
        if np.std(kinetic) > 1e-12 * np.abs(kinetic).max():
            out[f"{name}_over_kinetic_fluctuation"] = float(np.std(total) / np.std(kinetic))
    return out


def stretches(folder: Path, e: Table) -> list[tuple[float, float]]:
    """[(start, end)], ps, of the intervals computed in shorter steps after a failure, from the trajectory."""
    path = trajectory_in(folder)
    if path is None:
        return []
    with opened(path, "an H5MD trajectory") as file:
        steps = file.array(HEALED, Item("int", (None, 2))) if HEALED in file else []
    return [(float(a), float(b)) for a, b in np.interp(steps, e["step"], e["time_fs"] / 1000)]


def _mark(axes: Sequence[Any], healed: list[tuple[float, float]]) -> None:
    for axis in axes:
        for k, (start, end) in enumerate(healed):
            axis.axvspan(start, end, color=GREEN, alpha=0.15, lw=0, label="healed: shorter steps" if not k else None)


def draw_run_energies(e: Table, stages: Sequence[Stage], n: int | None, healed: list[tuple[float, float]],
                      path: Path) -> Path:
    """Draw above the energies since the start, below the conserved quantity of each stage since its start, with drift.

    Stages are separated by lines; minimizations conserve nothing.
    """
    scale, unit = (1000 / n, "meV/atom") if n else (1.0, "eV")
    time = e["time_fs"] / 1000
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 5.4), sharex=True, layout="constrained")
    for column, name, color in (("potential_eV", "potential", BLUE), ("kinetic_eV", "kinetic", ORANGE),
                                ("etotal_eV", "total", GRAY)):
        upper.plot(time, (e[column] - e[column][0]) * scale, color=color, label=name)
    upper.set(ylabel=f"energy - start ({unit})")
    _mark((upper, lower), healed)
    upper.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for stage in stages[1:]:
        for axis in (upper, lower):
            axis.axvline(stage.rows["time_fs"][0] / 1000, color=GRAY, lw=0.8, ls=":")
    moving = [stage for stage in stages if moves(stage.rows)]
    names = {_conserved_of(stage, stage is moving[0], lower, n) for stage in moving}
    if moving:
        lower.legend(loc="best")
    kept = " or ".join(sorted(names)) or "conserved"
    since = "start of stage" if len(stages) > 1 else "energy - start"
    lower.set(xlabel="time (ps)", ylabel=f"{kept} {'- ' if len(stages) > 1 else ''}{since} ({unit})")
    return save_figure(figure, path)


def _conserved_of(stage: Stage, labelled: bool, axis: Any, n: int | None) -> str:
    """Draw the conserved quantity of a stage, with its drift; the name of the quantity."""
    kept, name = conserved(stage.rows)
    time, change = stage.rows["time_fs"] / 1000, (kept - kept[0]) * (1000 / n if n else 1.0)
    axis.plot(time, change, color=GRAY, label=name if labelled else None)
    drift = next((value for key, value in stage.figures(n).items() if key.startswith("drift")), None)
    if drift is not None:
        slope, start = np.polyfit(time, change, 1)
        axis.plot(time, start + slope * time, "--", color=ORANGE,
                  label=f"drift {1000 * drift:.3g} meV/atom/ps" if n else f"drift {drift:.3g} eV/ps")
    return name


def draw_temperature(e: Table, last: Stage, healed: list[tuple[float, float]], path: Path) -> Path:
    """Draw temperature and pressure, with their means over the second half of the last stage."""
    rows = last.rows
    late = slice(len(rows["step"]) // 2, None)
    time, half = e["time_fs"] / 1000, rows["time_fs"][late][[0, -1]] / 1000
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 4.8), sharex=True, layout="constrained")
    upper.plot(time, e["temperature_K"], color=ORANGE)
    mean, spread = rows["temperature_K"][late].mean(), rows["temperature_K"][late].std()
    upper.plot(half, [mean, mean], color=GRAY, ls="--",
               label=f"second half: {mean:.1f} K, standard deviation {spread:.1f} K")
    upper.set(ylabel="temperature (K)")
    _mark((upper,), healed)
    upper.legend(loc="best")
    p = rows["pressure_GPa"][late].mean()
    lower.plot(time, e["pressure_GPa"], color=BLUE)
    lower.plot(half, [p, p], color=GRAY, ls="--", label=f"second half: {p:.3g} GPa")
    lower.set(xlabel="time (ps)", ylabel="pressure (GPa)")
    lower.legend(loc="best")
    return save_figure(figure, path)
