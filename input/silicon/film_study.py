"""A film of silicon under a pulse: ``python film_study.py OUT`` (README.md).

Runs the deck film/ in OUT/film_1 where it has not run yet, then ``rxmdnn structure --delays``, and writes OUT/film.png
and OUT/film.json.
"""

import json
import sys
from pathlib import Path

import ase.io
import numpy as np
from study import PULSE, columns, simulate

from rxmdnn import read_energies, read_trajectory

CELLS = ("4", "4", "1")  # of the square cells of the surface, a/√2 wide
PEAKS = {"(220)": "200", "(400)": "220"}  # reflections of the crystal in the plane of the film: the same in these cells
ATOMS, LAYERS, OUTER = 256, 16, 4
PARTS = {"upper 4 layers": slice(LAYERS - OUTER, LAYERS), "lower 4 layers": slice(0, OUTER)}


def layers(positions: np.ndarray) -> np.ndarray:
    """Atoms of each layer (LAYERS, n), from the lowest up."""
    return np.argsort(positions[:, 2], kind="stable").reshape(LAYERS, -1)


def displacements(out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times, fs, and mean-square displacements (frames, LAYERS), Å², from the mean positions before the pulse."""
    frames = read_trajectory(out / "film_1")
    x = frames.positions - frames.positions.mean(1, keepdims=True)
    u2 = ((x - x[(frames.time > 100) & (frames.time < 200)].mean(0)) ** 2).sum(2)
    return frames.time, u2[:, layers(frames.positions[0])].mean(2)


def excited(out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Depths of the layers below the highest atom, Å, at the start, and their weights after the pulse."""
    first, after = (ase.io.read(out / f"film_1/{step:09d}.xyz") for step in (0, 400))
    order = layers(first.positions[np.argsort(first.arrays["id"])])
    depth = first.positions[:, 2].max() - first.positions[np.argsort(first.arrays["id"]), 2]
    return depth[order].mean(1), after.arrays["excitation"][np.argsort(after.arrays["id"])][order].mean(1)


if __name__ == "__main__":
    import matplotlib.pyplot as plt

    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    simulate(out, "film", CELLS, tuple(PEAKS.values()), (1,))
    e, bragg = read_energies(out / "film_1"), columns(out / "film/delays_intensity.csv")
    t, drift = e["time_fs"] - PULSE, 1e3 * (e["conserved_eV"] - e["conserved_eV"][0]) / ATOMS  # meV/atom
    time, u2 = displacements(out)
    depth, weight = excited(out)
    after = t > 75
    numbers = {"drift_after_eV_per_atom_ps": float(np.polyfit(t[after], drift[after], 1)[0]),
               "last_fs": float(t[-1]), "temperature_last_K": float(e["temperature_K"][-1]),
               "weight_upper_layer": float(weight[-1]), "weight_lower_layer": float(weight[0]),
               "work_of_light_eV_per_atom": float(e["work_light_eV"][-1]) / ATOMS}
    fig, axes = plt.subplots(2, 2, figsize=(9, 6.4), dpi=130)
    for (name, column), style in zip(PEAKS.items(), ("-", "--")):
        delay, intensity = bragg["delay_fs"], bragg[f"I_{column}"]
        axes[0, 0].plot(delay, intensity, f"k{style}", label=name)
        found = delay[(intensity < 0.5) & (delay > 0)]
        numbers |= {f"half_of_{name}_fs": float(found[0]) if len(found) else float("nan"),
                    f"temperature_at_half_of_{name}_K": float(np.interp(found[0], t, e["temperature_K"]))
                    if len(found) else float("nan"),
                    f"I_{name}_at_200_fs": float(np.interp(200.0, delay, intensity)),
                    f"I_{name}_last": float(intensity[-1])}
    for (name, part), color in zip(PARTS.items(), ("tab:red", "tab:blue")):
        moved = u2[:, part].mean(1)
        axes[0, 1].plot(time - PULSE, moved, color=color, label=name)
        numbers |= {f"msd_at_{at}_fs_{name.split()[0]}_A2": float(np.interp(at, time - PULSE, moved))
                    for at in (-50, 200)}
    axes[1, 0].plot(depth, weight, "ko")
    axes[1, 1].plot(t, drift, "k")
    labels = ("intensity I/I0", "displacement <u²>, Å²", "weight after the pulse", "conserved quantity, meV/atom")
    for ax, label in zip(axes.flat, labels):
        ax.set_ylabel(label)
        ax.set_xlabel("depth below the surface, Å" if ax is axes[1, 0] else "time after the pulse, fs")
    for ax in axes[0]:
        ax.axvspan(-25, 25, color="0.9")
        ax.legend(frameon=False, fontsize=8)
    fig.tight_layout()
    fig.savefig(out / "film.png")
    (out / "film.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))
