"""``rxmdnn structure RUN...``: g(r), bonds, diffraction and displacements of trajectories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from rxmdnn.analysis import scatterers
from rxmdnn.analysis.displacements import Displacements
from rxmdnn.analysis.pump_probe_points import read_hkl
from rxmdnn.analysis.spectra import kinds_of
from rxmdnn.analysis.structure_averages import StructureAverages
from rxmdnn.analysis.structure_tables import StructureTables, conclude
from rxmdnn.commands import structure_delays
from rxmdnn.commands.arguments import out_folder, parse, positive, run_arguments, tell
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.io.motion import analyzed, described
from rxmdnn.io.series import Series, open_all, with_beads
from rxmdnn.parallel import AgreedError, on_root, together

FRAMES = 200


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("rxmdnn structure", description="g(r) and coordination, structure factors and Bragg "
                                "peaks for neutrons, x-rays and electrons, bonds, angles, hydrogen bonds, mean-square "
                                "displacements and diffusion; with --delays, the replicas of a pumped experiment.")
    run_arguments(p)
    p.add_argument("--frames", type=int, help="largest number of frames for g(r), bonds and diffraction (default: "
                   f"{FRAMES})")
    p.add_argument("--rmax", type=float, default=10.0, metavar="A",
                   help="largest distance of g(r), at most half the cell")
    p.add_argument("--qmax", type=float, default=10.0, metavar="1/A",
                   help="largest wave vector of structure factors; 0: none")
    p.add_argument("--cells", type=float, nargs=3, metavar=("NX", "NY", "NZ"), help="unit cells along a, b, c in the "
                   "cell of the run; adds Bragg intensities per unit cell")
    p.add_argument("--hkl", nargs="+", metavar="HKL", help="reflections, as 220,400 or three numbers each (default: "
                   "h >= k >= l >= 0 with h² + k² + l² up to 16)")
    p.add_argument("--probe", choices=scatterers.PROBES, default="electron",
                   help="probe for the decay of intensities in time")
    p.add_argument("--isotope", action="append", default=[], metavar="H=D", help="scatter neutrons as this isotope")
    p.add_argument("--dynamic", action="store_true", help="also the dynamic structure factor S(q, ω), with dynasor")
    p.add_argument("--dynamic-qmax", type=float, default=3.0, metavar="1/A", help="its largest wave vector")
    p.add_argument("--window", type=float, default=1.0, metavar="PS", help="its longest time difference")
    structure_delays.add_arguments(p)
    return p


def main(argv: Sequence[str], comm: MPI.Comm = MPI.COMM_SELF) -> None:
    """Write structure.h5, tables as CSV and figures; print the numbers."""
    a = parse(parser(), argv, comm)
    if a.delays:
        structure_delays.main(a, comm)
        return
    check(a)
    on_root(comm, lambda: check_outputs(a.json, folders=[out_folder(a)]))
    with together(comm):
        beads = with_beads(a.run)
        series = open_all(beads, a.start, a.stop)
        # structure is an average over beads, motion in time is that of the centroids
        centroids = series if len(beads) == len(a.run) else open_all(a.run, a.start, a.stop)
        kinds, index, _ = kinds_of(series[0].names, series[0].mass)
        isotopes = scatterers.replaced(kinds, a.isotope)
        intervals, notes = _intervals(centroids)
        positions = analyzed(series[0].motion)
        notes += [f"{s.path}: averages over {len(s.motions)} stages: {', then '.join(map(described, s.motions))}; "
                  "choose one with --start and --stop" for s in series if len(s.motions) > 1]
        if centroids is not series:
            positions = f"{len(beads)} beads"
            notes.append(f"averages over {len(beads)} beads; displacements in time and --dynamic are those of the "
                         "centroids")
        elif "centroids" in positions:
            notes.append(f"positions are {positions}: g(r), bonds and u² lack the quantum width of the beads; run with "
                         "'pimd_dump N' for their average")
        if a.dynamic and intervals[0] is None:
            raise InputError(f"--dynamic: {notes[0]}")
        averages = StructureAverages.of(series[0], kinds, index, a.rmax, a.qmax,
                                        a.cells and [round(n) for n in a.cells],
                                        a.hkl and read_hkl(a.hkl, "--hkl").round().astype(int).ravel().tolist())
    moved = [Displacements(comm, s, index, len(kinds), dt)
             for s, dt in zip(series, intervals if centroids is series else [None] * len(series))]
    moved_in_time = moved if centroids is series else [
        Displacements(comm, s, index, len(kinds), dt) for s, dt in zip(centroids, intervals)]
    averages.accumulate(comm, series, a.frames or FRAMES, comm.rank > 0 or not sys.stderr.isatty())
    dynamic = dynamics(comm, centroids[0], kinds, index, float(intervals[0] or 1.0), a) if a.dynamic else None
    frames = sum(len(s.time) for s in series)

    def conclude_and_report() -> None:
        results = conclude(averages, moved, moved_in_time, kinds, isotopes, a.probe, frames, dynamic, notes)
        results.numbers["analyzed"] = positions
        report(averages, results, a)

    on_root(comm, conclude_and_report)


def check(a: argparse.Namespace) -> None:
    """Raise AgreedError, with all of them, for values that cannot be used."""
    faults: list[str] = []
    positive(faults, "structure", a, "frames", "rmax", "window", "dynamic_qmax")
    if a.qmax < 0:
        faults.append("structure: --qmax: must not be negative")
    if a.hkl and not a.cells:
        faults.append("structure: --hkl: write three numbers per reflection, and the unit cells of the run as --cells "
                      "NX NY NZ")
    if a.cells and not all(n >= 1 and n == round(n) for n in a.cells):
        faults.append("structure: --cells: must be whole numbers above zero")
    if a.hkl and not np.array_equal(hkl := read_hkl(a.hkl, "--hkl"), hkl.round()):
        faults.append("structure: --hkl: must be whole numbers; others need --delays")
    faults += structure_delays.misplaced(a)
    if faults:
        raise AgreedError(*faults)


def dynamics(comm: MPI.Comm, series: Series, kinds: tuple[str, ...], index: np.ndarray, dt: float,
             a: argparse.Namespace) -> dict[str, np.ndarray]:
    """The dynamic structure factor up to the asked time difference. dt : fs between frames."""
    from rxmdnn.analysis.dynamic import dynamic_structure

    window = min(round(1000 * a.window / dt), len(series.time) - 1)
    with together(comm):
        if window < 4:
            raise InputError(f"structure: --window {a.window:g} ps is {window} frames; write frames more often, or "
                             "use a longer one")
    return dynamic_structure(comm, series, kinds, index, dt, a.dynamic_qmax, window)


def _intervals(series: Sequence[Series]) -> tuple[list[float | None], list[str]]:
    """The time between frames of each trajectory, fs; None, and a note, where frames are not equally spaced."""
    out: list[float | None] = []
    notes = []
    for s in series:
        try:
            out.append(s.interval())
        except InputError as error:
            out.append(None)
            notes.append(f"no displacement in time: {error}")
    return out, notes


def report(averages: StructureAverages, results: StructureTables, a: argparse.Namespace) -> None:
    """Write files and figures and print the numbers, on one rank."""
    from rxmdnn.analysis import figures

    folder = out_folder(a)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        made = [*results.write(folder), *figures.structure(folder, averages, results, a.probe)]
        if a.json:
            made.append(write_json(a.json, results.numbers | {"notes": results.notes}))
    tell(results.numbers, results.notes, made)
