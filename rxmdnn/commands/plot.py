"""``rxmdnn plot DAT``: figures of a run, and their numbers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rxmdnn.analysis.driven_figures import draw_electrons, draw_profile
from rxmdnn.analysis.figures import draw_radial
from rxmdnn.analysis.momentum import momentum_figures
from rxmdnn.analysis.run_figures import draw_run_energies, draw_temperature, stages_of, stretches
from rxmdnn.analysis.structure import radial
from rxmdnn.analysis.style import STYLE
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.io.log import COLUMNS, read_energies
from rxmdnn.io.profile import read_profile
from rxmdnn.io.stages import read_stages
from rxmdnn.io.trajectory import read_frames


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
                made += [draw_run_energies(energies, stages, n, healed, folder / "energies.png"),
                         draw_temperature(energies, stages[-1], healed, folder / "temperature.png")]
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
