"""``rxmdnn plot DAT``: figures of a run, and their numbers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rxmdnn.analysis.driven_figures import draw_electrons, draw_profile
from rxmdnn.analysis.figures import draw_radial
from rxmdnn.analysis.momentum import momentum_figures
from rxmdnn.analysis.structure import radial
from rxmdnn.analysis.style import BLUE, GRAY, GREEN, ORANGE, STYLE, save_figure
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.hdf5 import opened
from rxmdnn.io.h5md import HEALED, trajectory_in
from rxmdnn.io.log import COLUMNS, read_energies
from rxmdnn.io.profile import read_profile
from rxmdnn.io.stages import read_stages
from rxmdnn.io.trajectory import read_frames
from rxmdnn.schema import Item

Table = dict[str, np.ndarray]  # columns of energies.csv


def main(argv: Sequence[str]) -> None:
    """Make energies.png, temperature.png and gr.png in a run's folder; print numbers and file names.

    Of a run with electrons also electrons.png, profile.png where the run wrote profiles, and momentum_X.png of open
    paths.
    """
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
    energies = read_energies(folder, COLUMNS[:7])
    frames, profile = list(read_frames(folder, a.frames)), read_profile(folder)
    if not energies and not frames:
        raise InputError(f"{folder}: nothing to plot: no rows in energies.csv and no frames")
    n = len(frames[0].names) if frames else None
    numbers: dict[str, Any] = {"atoms": n, "frames": len(frames)}
    made = []
    with writing(folder):
        with plt.rc_context(STYLE):
            if energies:
                stages = stages_of(energies, read_stages(folder))
                figures = [stage.figures(n) for stage in stages]
                numbers |= figures[-1] | ({"stages": figures} if len(stages) > 1 else {})
                healed = stretches(folder, energies)
                numbers |= {"healed_ps": [list(ends) for ends in healed]} if healed else {}
                made += [_energies(energies, stages, n, healed, folder / "energies.png"),
                         _temperature(energies, stages[-1], healed, folder / "temperature.png")]
                if np.isfinite(energies.get("Te_K", np.nan)).any():
                    made.append(draw_electrons(energies, folder / "electrons.png"))
                if profile:
                    made.append(draw_profile(profile, folder / "profile.png"))
            if frames:
                first = stages[-1].rows["step"][0] if energies else 0
                ours = [f for f in frames if f.step >= first] or frames[-1:]
                late = ours[len(ours) // 2:]
                r, g = radial(late, a.rmax)
                numbers["highest_peak_A"] = {k: round(float(r[np.argmax(v)]), 4) for k, v in g.items() if v.any()}
                of = "run" if len(ours) == len(frames) else "last stage"
                averaged = f"{len(late)} frame{'s' if len(late) != 1 else ''}, the later half of the {of}"
                made.append(draw_radial(r, g, averaged, folder / "gr.png"))
            made += momentum_figures(folder)
        if a.json:
            made.append(write_json(a.json, numbers))
    _print(numbers)
    print("wrote " + " ".join(map(str, made)))


def _print(numbers: dict[str, Any]) -> None:
    """Print the numbers, a line each; where there are stages, those of each under its number."""
    stages = numbers.get("stages", [])
    for k, stage in enumerate(stages, 1):
        print(f"stage {k}:")
        _print_rows(stage, "  ")
    own = {"stages", *(stages[-1] if stages else ())}
    _print_rows({key: value for key, value in numbers.items() if key not in own})


def _print_rows(numbers: Mapping[str, Any], indent: str = "") -> None:
    for key, value in numbers.items():
        print(f"{indent}{key}: {value:.6g}" if isinstance(value, float) else f"{indent}{key}: {value}")


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


def _energies(e: Table, stages: Sequence[Stage], n: int | None, healed: list[tuple[float, float]], path: Path) -> Path:
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


def _temperature(e: Table, last: Stage, healed: list[tuple[float, float]], path: Path) -> Path:
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
