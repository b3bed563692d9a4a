"""A pulse on a silicon film against plain heating at the same absorbed energy: ``python study.py OUT`` (README.md).

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
CELLS = ("4", "2", "1")
PEAKS = {"(220)": "2_0_0", "(400)": "2_4_0"}  # of the crystal, in the cell of the film


def run(out: Path) -> None:
    """The runs and their diffraction."""
    for kind in KINDS:
        for seed in SEEDS:
            folder = out / f"{kind}_{seed}"
            if not (folder / "energies.csv").exists():
                subprocess.run(["mpirun", "-np", str(RANKS), "rxmdnn", "run", "--rxmdin", str(HERE / kind / "rxmd.in"),
                                "--outDir", str(folder), "--seed", str(seed)], check=True)
        runs = [str(out / f"{kind}_{seed}") for seed in SEEDS]
        subprocess.run(["rxmdnn", "structure", *runs, "--delays", "--t0", str(PULSE), "--before", "50", "-o",
                        str(out / kind), "--cells", *CELLS, "--hkl", "2 0 0", "2 4 0", "--probe", "electron"],
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
    run(out)
    fig, axes = plt.subplots(2, 2, figsize=(9, 6.4), dpi=130, sharex=True)
    numbers: dict[str, dict] = {}
    for kind, color in zip(KINDS, ("tab:red", "tab:blue")):
        e = mean(out, kind)
        t = e["time_fs"] - PULSE
        atoms = e["atoms"][0] if "atoms" in e else float(json.loads((out / "atoms.json").read_text()))
        (axes[0, 0]).plot(t, (e["conserved_eV"] - e["conserved_eV"][0]) / atoms * 1e3, color=color, label=KINDS[kind])
        axes[0, 1].plot(t, e["temperature_K"], color=color)
        bragg, moved = columns(out / kind / "delays_intensity.csv"), columns(out / kind / "delays_debye_waller.csv")
        for (name, column), style in zip(PEAKS.items(), ("-", "--")):
            axes[1, 0].plot(bragg["delay_fs"], bragg[f"I_{column}"], style, color=color, label=f"{name} {kind}")
        msd = next(v for k, v in moved.items() if k.startswith("B_")) / (8 * np.pi**2) * 3
        axes[1, 1].plot(moved["delay_fs"], msd, color=color)
        numbers[kind] = {f"I_{n}_last": float(bragg[f"I_{c}"][-1]) for n, c in PEAKS.items()}
        numbers[kind] |= {"temperature_last_K": float(e["temperature_K"][-1]), "msd_last_A2": float(msd[-1])}
    print(numbers)
