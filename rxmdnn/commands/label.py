"""``rxmdnn label OUT``: label frames with a quantum engine, select frames to label, check labels.

A killed job resumes: run the same command again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.labelling import gpaw_engine, labelling


def main(argv: Sequence[str]) -> None:
    """Label, or with --select, --check or --converge do that instead."""
    p = argparse.ArgumentParser("rxmdnn label", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("output", type=Path, metavar="OUT", help="extended XYZ file to write or to resume")
    p.add_argument("--engine", choices=sorted(labelling.ENGINES), default="gfn1",
                   help="gpaw runs in the Python $RXMDNN_GPAW_PYTHON, cp2k by $RXMDNN_CP2K (cp2k_shell)")
    p.add_argument("--frames", type=Path, metavar="F", help="label the frames of this file instead of the ammonia plan")
    p.add_argument("--workers", type=int, default=2, help="number of processes, with one thread each")
    p.add_argument("--share", type=float, default=1.0, help="fraction of the plan, e.g. 0.1; same mix of kinds")
    p.add_argument("--select", type=Path, nargs="+", metavar="MODEL",
                   help="do not label: write to OUT the frames of --from on which these models disagree most; "
                        "with one model: those farthest from its training set")
    p.add_argument("--from", type=Path, nargs="+", metavar="FRAMES", dest="candidates",
                   help="trajectories to select from")
    p.add_argument("--count", type=int, default=50, help="number of frames to select")
    p.add_argument("--per-group", type=int, metavar="N", help="at most N frames per trajectory (default: no limit)")
    p.add_argument("--spread", type=float, nargs=2, metavar=("LOW", "HIGH"),
                   help="range of scores to select from (default: spread of 0 to 5 eV/Å; one model: any distance)")
    p.add_argument("--check", type=int, metavar="N",
                   help="compare the forces of N labelled frames of OUT with energy differences; writes OUT_check.csv")
    p.add_argument("--converge", type=int, metavar="N",
                   help="gpaw: energy and forces of frame N (from 0) of OUT against cutoff and k-points")
    a = p.parse_args(argv)
    if a.select:
        if not a.candidates:
            raise InputError("--select: give the frames to select from with --from")
        from rxmdnn.labelling.committee import select

        print(select(a.select, a.candidates, a.count, a.output, a.spread, a.per_group))
        return
    every = read_atoms(a.output) if a.check or a.converge is not None else []
    if a.converge is not None:
        table = a.output.with_name(a.output.stem + "_convergence.csv")
        gpaw_engine.convergence(table, every[a.converge])
    elif a.check:
        chosen = every[:: max(1, len(every) // a.check)][: a.check]
        worst = labelling.check_forces(chosen, a.engine, a.output.with_name(a.output.stem + "_check.csv"))
        print(f"{len(chosen)} frames: largest error of the forces along a random direction {worst:.2e} eV/Å")
    else:
        tasks = labelling.tasks_of_file(a.frames) if a.frames else labelling.ENGINES[a.engine].plan(a.share)
        count = labelling.run(a.output, tasks, a.engine, a.workers)
        print(f"{count} frames in {a.output}, {a.output.stat().st_size / 1e6:.1f} MB")
