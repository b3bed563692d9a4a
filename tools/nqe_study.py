"""Classical and quantum nuclei of ammonia: ``python tools/nqe_study.py FOLDER [--jobs 2] [--steps N]``.

Path integrals of the solid (2 x 1 x 1 cells) against beads, splitting and temperature, and its motion in time; the
liquid (128 atoms, melted from the expanded solid). Runs of the decks in input/ammonia/nqe, their spectra and
structure, FOLDER/kinetic.csv, bands.csv and nqe.png. A killed study goes on when it is run again.
"""

import argparse
import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from rxmdnn.units import KB

RXMDNN = [sys.executable, "-m", "rxmdnn"]
AMMONIA = Path(__file__).resolve().parent.parent / "input/ammonia"
BEADS = (1, 2, 4, 8, 16, 32, 64)
FOURTH = (4, 8, 16)  # beads of Suzuki-Chin's splitting
LADDER = {77: 64, 160: 32, 200: 26}  # K: beads; their product near 5,100 K, so that what is missing is alike
LIQUID, HOT, BEADS_OF_LIQUID = 240, 450, 22  # K
EXPANSION = 0.0709  # of each vector of the solid's cell: the measured density of the liquid at 240 K, 0.682 g/cm^3
HARMONIC = {8: 92.3, 16: 124.8, 32: 144.9, 64: 152.4}  # meV of H at 160 K by beads: the harmonic solid, revPBE-D3(BJ)
HARMONIC_LIMIT = 155.3
MOTIONS = (("classical", "0.5", "classical"), ("trpmd", "C0", "TRPMD, 32 beads"), ("pacmd", "C1", "PACMD, 32 beads"))


def call(folder: Path, name: str, words: list[str]) -> None:
    """One command with its output in FOLDER/name/name.log; what is done already is not done again."""
    here = folder / name
    here.mkdir(parents=True, exist_ok=True)
    if not (here / f"{words[0]}.done").exists():
        with (here / f"{words[0]}.log").open("a") as log:
            subprocess.run([*RXMDNN, *words], stdout=log, stderr=log, check=True)
        (here / f"{words[0]}.done").touch()
        print(f"{name}: {words[0]}", flush=True)


def run(folder: Path, name: str, deck: str, flags: str, start: str | None = None, cells: str = "2 1 1") -> None:
    """A run of the deck, from another's checkpoint where ``start`` names it."""
    here = folder / name
    if start and not (here / "checkpoint.h5").exists():
        here.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / start / "checkpoint.h5", here)
    call(folder, name, ["run", "--rxmdin", str(AMMONIA / "nqe" / deck), "--outDir", str(here), "--structure",
                        str(AMMONIA / "solid_I.cif"), *cells.split(), "--checkpoint", "500", *flags.split()])


def chains(steps: int, slow: int) -> Iterator[list[tuple[str, ...]]]:
    """Runs that follow each other, the longest first: what ``run`` takes after the folder."""
    def sampled(name: str, t: int, p: int, method: str, n: int) -> tuple[str, ...]:
        return (name, "pimd.in", f"--temperature {t} 1.0 1 --pimd {p} {method} --time 0.5 {n} --io_step {n} 5 "
                "--pimd_dump 20")

    def solid(t: int, p: int) -> tuple[str, ...]:
        return sampled(f"pimd_{t}_{p}", t, p, "pimd", steps)

    def liquid(name: str, t: int, p: int, n: int, start: str = "") -> tuple[str, ...]:
        name, deck, flags = sampled(name, t, p, "pimd", n)
        return name, deck, f"{flags} --strain" + 3 * f" {EXPANSION}", start, "2 2 2"

    yield [solid(160, 32), ("trpmd", "trpmd.in", f"--time 0.5 {steps + slow}", "pimd_160_32"),
           ("pacmd", "trpmd.in", f"--pimd 32 pacmd --h5md 8 --time 0.25 {steps + slow // 2}", "pimd_160_32")]
    yield [liquid("melt", HOT, 1, 5000), liquid("liquid_1", LIQUID, 1, 5000 + 8000, "melt"),
           liquid(f"liquid_{BEADS_OF_LIQUID}", LIQUID, BEADS_OF_LIQUID, 5000 + 8000 + 1600, "liquid_1")]
    yield from ([solid(t, p)] for t, p in [(160, 64), *LADDER.items()] if (t, p) != (160, 32))
    yield [solid(160, 1), ("classical", "trpmd.in", f"--pimd 1 rpmd --time 0.5 {steps + 5 * slow // 4}", "pimd_160_1")]
    yield from ([sampled(f"sc_160_{p}", 160, p, "suzuki-chin", steps)] for p in reversed(FOURTH))
    yield from ([solid(160, p)] for p in reversed(BEADS[1:-2]))


def averages(log: Path) -> dict[str, tuple[float, float]]:
    """Means with errors that a run of ring polymers prints at its end."""
    found = re.findall(r"^ {4}(\S+) +(\S+) \+- (\S+)$", log.read_text(), re.MULTILINE)
    return {name: (float(mean), float(error)) for name, mean, error in found}


def table(folder: Path) -> list[dict[str, Any]]:
    """Kinetic energies, meV an atom, and radii of gyration, Å, of every sampled run; written to kinetic.csv."""
    points = [("pimd", 160, p) for p in BEADS] + [("sc", 160, p) for p in FOURTH]
    points += [("pimd", t, p) for t, p in LADDER.items() if t != 160]
    points += [("liquid", LIQUID, p) for p in (1, BEADS_OF_LIQUID)]
    rows = []
    for kind, t, p in points:
        mean = averages(folder / (f"{kind}_{p}" if kind == "liquid" else f"{kind}_{t}_{p}") / "run.log")
        row: dict[str, Any] = {"phase": "liquid" if kind == "liquid" else "solid",
                               "splitting": "suzuki-chin" if kind == "sc" else "trotter",
                               "temperature_K": t, "beads": p}
        for e in "HN":
            row |= dict(zip((f"K_{e}_meV", f"K_{e}_error"), 1e3 * np.array(mean[f"kinetic_virial_{e}_eV_per_atom"])))
            row[f"gyration_{e}_A"] = mean[f"gyration_{e}_A"][0]
        rows.append(row)
    with (folder / "kinetic.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, str) else f"{v:.5g}" for k, v in row.items()} for row in rows)
    return rows


def bands(folder: Path) -> None:
    """bands.csv: the bands of every motion's spectrum."""
    with (folder / "bands.csv").open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        for k, (name, _, _) in enumerate(MOTIONS):
            with (folder / name / "bands.csv").open() as file:
                rows = list(csv.reader(file))
            writer.writerows([["motion", *rows[0]]] * (k == 0) + [[name, *row] for row in rows[1:]])


def columns(path: Path) -> dict[str, np.ndarray]:
    with path.open() as file:
        names = next(csv.reader(file))
        return dict(zip(names, np.loadtxt(file, delimiter=",").T))


def picture(folder: Path, rows: list[dict[str, Any]]) -> None:
    """nqe.png: kinetic energies, distances, spectra; classical nuclei gray, quantum nuclei in color."""
    fig, ((beads, ladder, bond, solid), (low, high, neutron, liquid)) = plt.subplots(
        2, 4, figsize=(20, 8), constrained_layout=True)
    for splitting, fmt, label in (("trotter", "o", "path integrals"), ("suzuki-chin", "s", "Suzuki-Chin's splitting")):
        at160 = [r for r in rows if r["temperature_K"] == 160 and r["splitting"] == splitting]
        beads.errorbar([r["beads"] for r in at160], [r["K_H_meV"] for r in at160], [r["K_H_error"] for r in at160],
                       fmt=fmt, label=label)
    beads.plot(list(HARMONIC), list(HARMONIC.values()), "k+", ms=10, label="harmonic solid, same beads")
    beads.axhline(HARMONIC_LIMIT, color="k", lw=0.8, ls=":", label="harmonic solid, all beads")
    beads.axhline(1.5e3 * KB * 160, color="0.5", lw=0.8, ls="--", label="classical")
    beads.set(xscale="log", xlabel="beads", ylabel="kinetic energy of H (meV)", ylim=(0, None), title="160 K")
    beads.set_xticks(BEADS, [str(p) for p in BEADS])
    cold = [r for r in rows if LADDER.get(r["temperature_K"]) == r["beads"] and r["splitting"] == "trotter"]
    cold.sort(key=lambda r: r["temperature_K"])
    t = np.array([r["temperature_K"] for r in cold])
    for e, color in (("H", "C0"), ("N", "C1")):
        ladder.errorbar(t, [r[f"K_{e}_meV"] for r in cold], [r[f"K_{e}_error"] for r in cold], fmt="o-", color=color,
                        label=e)
        ladder.errorbar([LIQUID], [rows[-1][f"K_{e}_meV"]], [rows[-1][f"K_{e}_error"]], fmt="D", mfc="w", color=color,
                        label=f"{e}, liquid")
    t = np.append(t, LIQUID)
    ladder.plot(t, 1.5e3 * KB * t, color="0.5", ls="--", label="classical, both")
    ladder.set(xlabel="temperature (K)", ylabel="kinetic energy (meV an atom)", ylim=(0, None),
               title="beads × temperature near 5,100 K")
    for name, color, label in (("pimd_160_1", "0.5", "classical"), ("pimd_160_32", "C0", "32 beads")):
        found = columns(folder / name / "bond_length.csv")
        bond.plot(found["length_A"], found["N-H"], color=color, label=label)
    bond.set(xlabel="N-H (Å)", ylabel="density (1/Å)", xlim=(0.8, 1.3), ylim=(0, None), title="160 K")
    for name, color, label in (("pimd_160_1", "0.5", "classical"), ("pimd_160_32", "C0", "32 beads")):
        found = columns(folder / name / "hydrogen_bonds.csv")
        r = np.unique(found["distance_A"])
        near = [found["per_frame"][(found["distance_A"] == d) & (found["angle_deg"] > 130)].sum() for d in r]
        solid.plot(r, np.array(near) / (np.sum(near) * (r[1] - r[0])), color=color, label=label)
    solid.set(xlabel="H···N (Å), N-H···N above 130 degrees", ylabel="density (1/Å)", ylim=(0, None),
              title="solid, 160 K")
    for name, color, label in (("liquid_1", "0.5", "classical"), (f"liquid_{BEADS_OF_LIQUID}", "C0",
                                                                  f"{BEADS_OF_LIQUID} beads")):
        found = columns(folder / name / "gr.csv")
        liquid.plot(found["r_A"], found["g_N-N"], color=color, label=f"N-N, {label}")
        liquid.plot(found["r_A"], found["g_H-N"] + 2.5, color=color, ls="--", label=f"H-N, {label} (+2.5)")
    liquid.set(xlabel="r (Å)", ylabel="g(r)", xlim=(1.5, 5.0), ylim=(0, 7.0), title=f"liquid, {LIQUID} K")
    for name, color, label in MOTIONS:
        found, seen = (columns(folder / name / f"{kind}.csv") for kind in ("vdos", "neutron"))
        for ax in (low, high):
            ax.plot(found["wavenumber_cm"], found["H_modes_per_cm"], color=color, label=label)
        neutron.plot(seen["energy_meV"], seen["all"], color=color, label=label)
    shown = columns(folder / "classical/vdos.csv")
    for ax, (left, right) in ((low, (0, 800)), (high, (900, 3800))):
        inside = (shown["wavenumber_cm"] >= left) & (shown["wavenumber_cm"] <= right)
        ax.set(xlabel="wavenumber (1/cm)", ylabel="density of states of H (modes cm)", xlim=(left, right),
               ylim=(0, 1.4 * shown["H_modes_per_cm"][inside].max()))
    neutron.set(xlabel="energy transfer (meV)", ylabel="S(Q, E) of H (1/meV)", xlim=(5, 150))
    inside = (seen["energy_meV"] > 8) & (seen["energy_meV"] < 150)
    neutron.set_ylim(0, 1.6 * seen["all"][inside].max())
    for ax in (beads, ladder, bond, solid, low, high, neutron, liquid):
        ax.legend(frameon=False)
    fig.savefig(folder / "nqe.png", dpi=150)


def all_of(folder: Path, chain: list) -> None:
    for one in chain:
        run(folder, *one)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path)
    p.add_argument("--jobs", type=int, default=2, help="runs beside each other, of one thread each")
    p.add_argument("--steps", type=int, default=4000, help="of 0.5 fs, of each sampled run")
    p.add_argument("--slow", type=int, default=10000, help="of TRPMD; 5/4 as many of classical motion, half as many "
                   "of half the length of partially adiabatic centroid dynamics")
    a = p.parse_args()
    after = [(name, ["spectra", str(a.folder / name), "--quantum", "--temperature", "160", "--measured"])
             for name, _, _ in MOTIONS]
    after += [(name, ["structure", str(a.folder / name), "--start", start, "--qmax", "0"])
              for name, start in (("pimd_160_1", "0.2"), ("pimd_160_32", "0.2"), ("liquid_1", "3.0"),
                                  (f"liquid_{BEADS_OF_LIQUID}", "6.7"))]
    with ThreadPoolExecutor(a.jobs) as pool:
        list(pool.map(lambda chain: all_of(a.folder, chain), chains(a.steps, a.slow)))
        list(pool.map(lambda words: call(a.folder, *words), after))
    bands(a.folder)
    picture(a.folder, table(a.folder))


if __name__ == "__main__":
    main()
