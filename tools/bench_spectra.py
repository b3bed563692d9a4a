"""Spectra of a long trajectory timed: ``python tools/bench_spectra.py [--frames 100000] [--atoms 1000] [--ranks 1]``.

A trajectory of atoms that swing at a known frequency is made in a folder that goes away again (60 bytes an atom and
frame); rxmdnn spectra runs on it in processes of its own. A row goes to tools/results/bench_spectra.csv: time, peak
memory of a rank, and where the line was found.
"""

import argparse
import csv
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import h5py
import numpy as np
from mpi4py import MPI

from rxmdnn.analysis.spectra import C_CM
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.io.frame import Frame
from rxmdnn.io.h5md import H5MD

HERE = Path(__file__).parent
MEASURED = """
import atexit, resource
from rxmdnn.__main__ import main
atexit.register(lambda: print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True))
main()
"""
DT, LINE = 2.0, 1000.0  # fs between frames; 1/cm


def trajectory(path: Path, frames: int, atoms: int) -> None:
    """Every atom swings along a direction of its own with LINE, at a phase of its own."""
    rng = np.random.default_rng(1)
    x, way = rng.random((atoms, 3)) * 30, rng.normal(size=(atoms, 3))
    phase, swing = rng.random(atoms) * 2 * np.pi, 2 * np.pi * C_CM * LINE
    species = (np.arange(atoms) % 4 == 0).astype(np.int32)
    start = Atoms.of(np.arange(atoms), species, x)
    H5MD(MPI.COMM_SELF, path).write(Frame(
        MPI.COMM_SELF, start, Cell(np.eye(3) * 30), atoms, ("H", "N"), (1.008, 14.007), 0, 0.0, 0.0, 0.0, 300.0,
        np.zeros((3, 3)), (1, 1, 1)))
    with h5py.File(path, "r+") as file:
        grown = []
        file.visititems(lambda _, item: grown.append(item) if isinstance(item, h5py.Dataset) and item.maxshape
                        and item.maxshape[0] is None else None)
        for item in grown:
            item.resize(frames, axis=0)
        everything = file["particles/all"]
        everything["position/step"][:], everything["position/time"][:] = np.arange(frames), DT * np.arange(frames)
        everything["box/edges/value"][:] = everything["box/run_edges"][:] = np.eye(3) * 30
        for a in range(0, frames, 1000):
            t = DT * np.arange(a, min(a + 1000, frames))
            everything["velocity/value"][a : a + 1000] = np.cos(swing * t[:, None] + phase)[..., None] * way * 1e-3
            everything["position/value"][a : a + 1000] = x


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--frames", type=int, default=100_000)
    p.add_argument("--atoms", type=int, default=1000)
    p.add_argument("--ranks", type=int, default=1)
    p.add_argument("--instrument", help="also the spectrum of this spectrometer, with directions of displacements")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trajectory(folder / "trajectory.h5md", a.frames, a.atoms)
        command = [sys.executable, "-c", MEASURED, "spectra", str(folder / "trajectory.h5md"), "-o",
                   str(folder / "out")]
        if a.instrument:
            command += ["--instrument", a.instrument, "--temperature", "20"]
        if a.ranks > 1:
            command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(a.ranks), *command]
        begin = perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = perf_counter() - begin
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        peak = max(map(int, re.findall(r"^peak (\d+)", done.stdout, re.MULTILINE)))
        with open(folder / "out/vdos.csv", encoding="utf-8") as file:
            names = next(csv.reader(file))
            table = dict(zip(names, np.loadtxt(file, delimiter=",").T))
    found = table["wavenumber_cm"][np.argmax(table["H_modes_per_cm"])]
    git = ["git", "rev-parse", "--short", "HEAD"]
    row = {"frames": a.frames, "atoms": a.atoms, "ranks": a.ranks, "seconds": f"{seconds:.1f}",
           "atom_frames_per_s": f"{a.frames * a.atoms / seconds:.3g}", "peak_bytes_a_rank": peak,
           "line_per_cm": LINE, "found_per_cm": f"{found:.2f}", "machine": platform.machine(),
           "commit": subprocess.run(git, capture_output=True, text=True, cwd=HERE).stdout.strip()}
    print("  ".join(f"{k} {v}" for k, v in row.items()))
    if a.instrument:  # the table is of spectra alone
        return
    results = HERE / "results/bench_spectra.csv"
    new = not results.exists()
    with results.open("a", newline="") as out:
        writer = csv.DictWriter(out, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
