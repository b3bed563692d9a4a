"""``rxmdnn structure RUN... --delays``: diffraction, displacements and temperature of pumped replicas."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mpi4py import MPI

from rxmdnn.analysis.pump_probe import DelayAxis
from rxmdnn.analysis.pump_probe_experiment import Experiment, Options
from rxmdnn.analysis.pump_probe_frames import open_replicas
from rxmdnn.analysis.pump_probe_tables import PumpProbeTables, conclude
from rxmdnn.analysis.pump_probe_zero import time_zero
from rxmdnn.commands.arguments import out_folder, positive, tell
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.parallel import AgreedError, on_root, together

ONLY_HERE: dict[str, Any] = {  # options, and their defaults
    "t0": None, "response": 0.0, "bin": 0.0, "before": 0.0, "families": False, "line": [], "plane": [],
    "powder": "debye", "qmin": 0.5, "damping": None, "slabs": None, "species": [],
    "where": ""}


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Add the options of --delays."""
    g = p.add_argument_group("pump and probe", "with --delays the runs are replicas of one pumped experiment (the same "
                             "deck, other seeds), with frames at the same times; results are functions of the delay")
    g.add_argument("--delays", action="store_true", help="I(hkl, t)/I0, diffuse scattering, S(Q, t), G(r, t), "
                   "Debye-Waller factors and temperatures against the delay")
    g.add_argument("--t0", type=float, metavar="FS", help="time zero in the time of the run (default: the center of "
                   "the first pulse, where the run has one)")
    g.add_argument("--before", type=float, default=0.0, metavar="FS", help="the reference are the frames earlier than "
                   "this before time zero")
    g.add_argument("--response", type=float, default=0.0, metavar="FS", help="full width at half maximum of the "
                   "Gaussian response of the instrument")
    g.add_argument("--bin", type=float, default=0.0, metavar="FS", help="width of the bins of delay")
    g.add_argument("--families", action="store_true", help="average reflections over the equivalents of the lattice")
    g.add_argument("--line", nargs=2, action="append", default=[], metavar="HKL", help="map along a line of reciprocal "
                   "space, as 000 800; may be repeated")
    g.add_argument("--plane", nargs=3, action="append", default=[], metavar="HKL", help="map on a plane: the origin "
                   "and the ends of two sides, as 000 400 040; may be repeated")
    g.add_argument("--powder", choices=("debye", "direct", "none"), default="debye", help="S(Q) by Debye's equation up "
                   "to --rmax, or by direct sums over the wave vectors of the cell")
    g.add_argument("--qmin", type=float, default=0.5, metavar="1/A", help="smallest Q of S(Q) and of the transform to "
                   "G(r); the largest is --qmax")
    g.add_argument("--damping", type=float, metavar="A2", help="exp(-DAMPING Q²) as the window of the transform "
                   "(default: that of Lorch)")
    g.add_argument("--slabs", nargs=2, metavar=("N", "AXIS"), help="temperature of N slabs along a, b or c")
    g.add_argument("--where", default="", metavar="CONDITION", help="also the temperature of the atoms that meet it, "
                   "as 'excitation > 0.5'")
    g.add_argument("--species", nargs="+", default=[], metavar="EL", help="let only these kinds of atoms scatter")


def misplaced(a: argparse.Namespace) -> list[str]:
    """Faults for options that do nothing without --delays."""
    return [f"structure: --{name}: needs --delays" for name, default in ONLY_HERE.items()
            if getattr(a, name) != default]


def main(a: argparse.Namespace, comm: MPI.Comm) -> None:
    """Write delays.h5, tables as CSV and figures; print the numbers."""
    options = check(a)
    on_root(comm, lambda: check_outputs(a.json, folders=[out_folder(a)]))
    with together(comm):
        replicas = open_replicas(a.run, a.start, a.stop)
        zero, origin = time_zero(replicas, a.t0)
        axis = DelayAxis.of(replicas[0].series.time, zero, a.response, a.bin, a.before)
        experiment = Experiment.of(replicas, options, axis)
    experiment.measure(comm, replicas, not sys.stderr.isatty())

    def conclude_and_report() -> None:
        results = conclude(experiment)
        results.numbers |= {"time_zero_fs": zero, "time_zero_from": origin}
        report(experiment, results, a)

    on_root(comm, conclude_and_report)


def check(a: argparse.Namespace) -> Options:
    """The options; raises AgreedError, with all of them, for values that cannot be used."""
    faults: list[str] = []
    positive(faults, "structure", a, "rmax", "qmax", "damping")
    faults += [f"structure: --{name}: must not be negative" for name in ("response", "bin", "before", "qmin")
               if not getattr(a, name) >= 0]
    if not a.qmin < a.qmax:
        faults.append("structure: --qmin: must be below --qmax")
    if a.dynamic:
        faults.append("structure: --dynamic: not with --delays; S(q, ω) needs a system that does not change")
    if a.frames is not None:
        faults.append("structure: --frames: not with --delays, which reads all frames; choose them by --start and "
                      "--stop, and average them by --bin")
    slabs, axis = 0, "c"
    if a.slabs:
        axis = a.slabs[1]
        slabs = int(a.slabs[0]) if a.slabs[0].isdigit() else 0
        if slabs < 1 or axis not in ("a", "b", "c"):
            faults.append("structure: --slabs: expected a number above zero and a, b or c, found "
                          f"'{' '.join(a.slabs)}'")
    if (a.hkl or a.line or a.plane) and not a.cells:
        faults.append("structure: --hkl, --line and --plane count in unit cells; state how many the run holds as "
                      "--cells NX NY NZ")
    if faults:
        raise AgreedError(*faults)
    return Options(a.probe, a.isotope, a.species, a.cells, a.hkl, a.line, a.plane, a.families, a.powder, a.qmin, a.qmax,
                   a.rmax, a.damping, slabs, axis, a.where)


def report(experiment: Experiment, results: PumpProbeTables, a: argparse.Namespace) -> None:
    """Write files and figures and print the numbers, on one rank."""
    from rxmdnn.analysis import pump_probe_figures as figures

    folder = out_folder(a)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        made = [*results.write(folder), *figures.draw(folder, experiment, results)]
        if a.json:
            made.append(write_json(a.json, results.numbers | {"notes": results.notes}))
    tell(results.numbers, results.notes, made)
