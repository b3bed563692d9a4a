"""``rxmdnn label OUT``: label frames with a quantum engine, choose frames that are worth it, check the labels.

The job goes on where it was killed: run the same command again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase.io import read

from rxmdnn.errors import InputError
from rxmdnn.labelling import gpaw_engine as functional
from rxmdnn.labelling import labelling


def main(argv: Sequence[str]) -> None:
    """Label, or with --select, --check or --converge do that instead."""
    p = argparse.ArgumentParser("rxmdnn label", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("output", type=Path, metavar="OUT", help="extended XYZ file to make or to go on with")
    p.add_argument("--engine", choices=sorted(labelling.ENGINES), default="gfn1",
                   help="gpaw runs in the Python that $RXMDNN_GPAW_PYTHON names, cp2k by $RXMDNN_CP2K (cp2k_shell)")
    p.add_argument("--frames", type=Path, metavar="F", help="label the frames of this file, not the ammonia plan")
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    p.add_argument("--share", type=float, default=1.0, help="a smaller set of the plan's mixture, e.g. 0.1")
    p.add_argument("--select", type=Path, nargs="+", metavar="MODEL",
                   help="do not label: write to OUT the frames of --from on which these models disagree most; of one "
                        "model: those that are farthest from its training")
    p.add_argument("--from", type=Path, nargs="+", metavar="FRAMES", dest="candidates",
                   help="trajectories to choose of")
    p.add_argument("--count", type=int, default=50, help="frames to choose")
    p.add_argument("--per-group", type=int, metavar="N", help="at most so many of one trajectory (default: any)")
    p.add_argument("--spread", type=float, nargs=2, metavar=("LOW", "HIGH"),
                   help="what may be chosen (default: 0 to 5 eV/Å of the forces; of one model any distance)")
    p.add_argument("--check", type=int, metavar="N",
                   help="compare the forces of N labelled frames of OUT with differences of energies; table beside OUT")
    p.add_argument("--converge", type=int, metavar="N",
                   help="gpaw: energies and forces of frame N (from 0) of OUT against cutoff and k-points")
    a = p.parse_args(argv)
    if a.select:
        if not a.candidates:
            raise InputError("--select: name the frames to choose of with --from")
        from rxmdnn.labelling.committee import select

        print(select(a.select, a.candidates, a.count, a.output, a.spread, a.per_group))
        return
    every: Any = read(a.output, ":") if a.check or a.converge is not None else []
    if a.converge is not None:
        table = a.output.with_name(a.output.stem + "_convergence.csv")
        functional.convergence(table, every[a.converge])
    elif a.check:
        chosen = every[:: max(1, len(every) // a.check)][: a.check]
        worst = labelling.check_forces(chosen, a.engine, a.output.with_name(a.output.stem + "_check.csv"))
        print(f"{len(chosen)} frames: largest error of the forces along a random direction {worst:.2e} eV/Å")
    else:
        tasks = labelling.given(a.frames) if a.frames else labelling.ENGINES[a.engine].plan(a.share)
        count = labelling.run(a.output, tasks, a.engine, a.workers)
        print(f"{count} frames in {a.output}, {a.output.stat().st_size / 1e6:.1f} MB")
