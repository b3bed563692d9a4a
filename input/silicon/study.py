"""A pulse on silicon against plain heating at the same absorbed energy: ``python study.py OUT`` (README.md).

Runs the decks pump/ and heat/ with the seeds 1 and 2 in OUT where they have not run yet, ``rxmdnn structure --delays``
on both, and writes OUT/silicon.png and OUT/silicon.json.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np

from rxmdnn import read_energies

matplotlib.use("Agg")
HERE = Path(__file__).parent
SEEDS, RANKS = (1, 2), 2
PULSE = 250.0  # fs, its middle in both decks
KINDS = {"pump": "pulse: surface of electrons at 20,000 K", "heat": "electrons heat the lattice"}
CELLS, ATOMS = ("4", "4", "4"), 512
PEAKS = {"(220)": "220", "(400)": "400"}


def simulate(out: Path, kind: str, cells: tuple[str, ...], peaks: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """The runs of the deck of this kind, and their diffraction."""
    runs = [out / f"{kind}_{seed}" for seed in seeds]
    for seed, folder in zip(seeds, runs):
        if not (folder / "energies.csv").exists():
            subprocess.run(["mpirun", "-np", str(RANKS), "rxmdnn", "run", "--rxmdin", str(HERE / kind / "rxmd.in"),
                            "--outDir", str(folder), "--seed", str(seed)], check=True)
    subprocess.run(["rxmdnn", "structure", *map(str, runs), "--delays", "--t0", str(PULSE), "--before", "50",
                    "--families", "-o", str(out / kind), "--cells", *cells, "--hkl", *peaks, "--probe", "electron"],
                   check=True)


def columns(path: Path) -> dict[str, np.ndarray]:
    with path.open() as f:
        rows = list(csv.reader(line for line in f if not line.startswith("#")))
    return {name: np.array([float(r[k]) for r in rows[1:]]) for k, name in enumerate(rows[0])}


def mean(out: Path, kind: str) -> dict[str, np.ndarray]:
    """The mean over the replicas of the columns of energies.csv."""
    tables = [read_energies(out / f"{kind}_{seed}") for seed in SEEDS]
    names = [n for n in tables[0] if np.issubdtype(np.asarray(tables[0][n]).dtype, np.number)]
    return {name: np.mean([t[name] for t in tables], axis=0) for name in names}


if __name__ == "__main__":
    import matplotlib.pyplot as plt

    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        simulate(out, kind, CELLS, tuple(PEAKS.values()), SEEDS)
    fig, axes = plt.subplots(2, 2, figsize=(9, 6.4), dpi=130, sharex=True)
    numbers: dict[str, dict[str, float]] = {}
    for kind, color in zip(KINDS, ("tab:red", "tab:blue")):
        e = mean(out, kind)
        t, drift = e["time_fs"] - PULSE, (e["conserved_eV"] - e["conserved_eV"][0]) / ATOMS
        axes[0, 0].plot(t, drift * 1e3, color=color, label=KINDS[kind])
        axes[0, 1].plot(t, e["temperature_K"], color=color)
        bragg, moved = (columns(out / kind / f"delays_{name}.csv") for name in ("intensity", "debye_waller"))
        for (name, column), style in zip(PEAKS.items(), ("-", "--")):
            axes[1, 0].plot(bragg["delay_fs"], bragg[f"I_{column}"], style, color=color, label=f"{name}, {kind}")
        msd = 3 * moved["B_start_Si_A2"] / (8 * np.pi**2)
        axes[1, 1].plot(moved["delay_fs"], msd, color=color)
        before, after = (t > -200) & (t < -75), t > 75
        numbers[kind] = {
            "drift_before_eV_per_atom_ps": 1e3 * float(np.polyfit(t[before], drift[before], 1)[0]),
            "drift_after_eV_per_atom_ps": 1e3 * float(np.polyfit(t[after], drift[after], 1)[0]),
            "last_fs": float(t[-1]), "temperature_last_K": float(e["temperature_K"][-1]), "msd_last_A2": float(msd[-1]),
            "msd_at_200_fs_A2": float(np.interp(200.0, moved["delay_fs"], msd))}
        for name, column in PEAKS.items():
            found = bragg["delay_fs"][(bragg[f"I_{column}"] < 0.5) & (bragg["delay_fs"] > 0)]
            numbers[kind] |= {f"I_{name}_last": float(bragg[f"I_{column}"][-1]),
                              f"half_of_{name}_fs": float(found[0]) if len(found) else float("nan"),
                              f"temperature_at_half_of_{name}_K": float(np.interp(found[0], t, e["temperature_K"]))
                              if len(found) else float("nan")}
    labels = ("conserved quantity, meV/atom", "temperature of the atoms, K", "intensity I/I0", "displacement <u²>, Å²")
    for ax, label in zip(axes.flat, labels):
        ax.set_ylabel(label)
        ax.axvspan(-25, 25, color="0.9")
    for ax in axes[1]:
        ax.set_xlabel("time after the pulse, fs")
    axes[0, 0].legend(frameon=False, fontsize=8)
    axes[1, 0].legend(frameon=False, fontsize=8)
    fig.tight_layout()
    fig.savefig(out / "silicon.png")
    (out / "silicon.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))
