"""``rxmdnn label OUT``: label frames with an engine, select frames to label, check labels.

    rxmdnn label OUT --frames FILE --engine gfn1
    rxmdnn label OUT --frames FILE --engine gpaw:functional=LDA,cutoff=300,reach=10,temperature=20000K
    rxmdnn label OUT --frames FILE --engine ase:ase.calculators.emt:EMT      any ASE calculator: ase:MODULE:FACTORY
    rxmdnn label OUT --frames FILE --engine ase:dft.py:make                  FACTORY() of a file returns it
    rxmdnn label OUT --frames FILE --engine 'command:python dft.py {input} {output}'
    rxmdnn label OUT --recipe ammonia                                        frames made here

The words of gpaw: are functional=LDA|PBE|RPBE|revPBE, cutoff= (eV), reach= (Å: number of k-points times axis),
temperature= (of the electrons, as 20000K or 0.1eV; default 0.1eV), dispersion=none|d3bj (none) and bands= (occupation
of the highest band, 1e-6). The label is the free energy of the electrons and its gradient.
The command of command: reads {input}, one frame in extended XYZ, and writes {output}, the same frame with energy= (eV),
a column forces (eV/Å) and, if it likes, stress= (eV/Å³, tension positive); an exit code other than 0 is a failure.
Frames that cannot be labelled, or have a force above 50 eV/Å, are named and left out; the exit code is then 4.
A killed job resumes: run the same command again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.labelling import gpaw_engine, labelling
from rxmdnn.labelling.engines import KNOWN, engine_of
from rxmdnn.labelling.executor import ParslWorkers, Processes
from rxmdnn.labelling.file_tasks import tasks_of_file
from rxmdnn.labelling.gpaw_settings import PREFIX, settings_of

INCOMPLETE = 4  # exit code where frames could not be labelled
RECIPES = ("ammonia",)
SHOWN = 20  # failures that are listed at the end


def main(argv: Sequence[str]) -> int:
    """Label, or with --select, --check or --converge do that instead; the exit code: INCOMPLETE if frames failed."""
    p = argparse.ArgumentParser("rxmdnn label", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("output", type=Path, metavar="OUT", help="extended XYZ file to write or to resume")
    p.add_argument("--engine", default="gfn1", metavar="ENGINE",
                   help=f"{KNOWN} (default: gfn1); gpaw runs in the Python $RXMDNN_GPAW_PYTHON, cp2k by $RXMDNN_CP2K "
                        "(cp2k_shell)")
    p.add_argument("--frames", type=Path, metavar="FILE", help="label the frames of this file, of any format")
    p.add_argument("--recipe", choices=RECIPES, help="label frames made here: ammonia, as suits the engine")
    p.add_argument("--workers", type=int, default=2, help="number of processes, of OMP_NUM_THREADS threads each (1)")
    p.add_argument("--parsl", type=Path, metavar="FILE",
                   help="label on a cluster instead, by the Parsl configuration 'config' of this Python file")
    p.add_argument("--share", type=float, default=1.0, help="fraction of the recipe, e.g. 0.1; same mix of kinds")
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
    check_outputs(a.output)
    if a.select:
        if not a.candidates:
            raise InputError("--select: give the frames to select from with --from")
        from rxmdnn.labelling.committee import select

        print(select(a.select, a.candidates, a.count, a.output, a.spread, a.per_group))
        return 0
    every = read_atoms(a.output) if a.check or a.converge is not None else []
    if a.converge is not None:
        if not 0 <= a.converge < len(every):
            raise InputError(f"--converge {a.converge}: {a.output} has {len(every)} frames, counted from 0")
        table = a.output.with_name(a.output.stem + "_convergence.csv")
        settings = settings_of(a.engine) if a.engine.startswith(PREFIX) else gpaw_engine.REVPBE_D3
        gpaw_engine.convergence(table, every[a.converge], settings)
    elif a.check:
        chosen = every[:: max(1, len(every) // a.check)][: a.check]
        worst = labelling.check_forces(chosen, a.engine, a.output.with_name(a.output.stem + "_check.csv"))
        print(f"{len(chosen)} frames: largest error of the forces along a random direction {worst:.2e} eV/Å")
    else:
        return _label(a)
    return 0


def _label(a: argparse.Namespace) -> int:
    """Label the frames of a file or of a recipe; the exit code."""
    if (a.frames is None) == (a.recipe is None):
        raise InputError(f"label: give the frames: --frames FILE, or --recipe {'|'.join(RECIPES)}" if a.frames is None
                         else "label: give --frames or --recipe, not both")
    if a.workers < 1 or not 0 < a.share <= 1:
        raise InputError("label: --workers must be positive, and --share above 0 and at most 1")
    engine = engine_of(a.engine)
    tasks = tasks_of_file(a.frames) if a.frames else engine.plan(a.share)
    executor = ParslWorkers(a.parsl) if a.parsl else Processes(a.workers)
    with closing(executor):
        failures = labelling.run(a.output, tasks, a.engine, executor)
    count = sum(1 for _ in labelling.finished(a.output))
    print(f"{len(tasks) - len(failures)} of {len(tasks)} {'frames' if a.frames else 'tasks'} labelled; "
          f"{count} in {a.output}")
    if failures:
        told = [f"{tasks[k].name}: not labelled: {reason}" for k, reason in failures.items()]
        print(f"{len(failures)} could not be labelled:", *told[:SHOWN], sep="\n  ")
    return INCOMPLETE if failures else 0
