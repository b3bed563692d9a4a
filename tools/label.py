"""Label frames of ammonia with a quantum engine: ``python tools/label.py input/ammonia/gfn1_xtb.xyz``.

The job goes on where it was killed. ``--check N`` compares the forces of N labelled frames with differences of
the engine's energies and writes the table beside the set. ``--engine gpaw-revpbe-d3bj`` labels the functional's
frames with GPAW, in the Python that $RXMDNN_GPAW_PYTHON names; ``--converge`` then makes the table of the cutoff and
k-points.
"""

import argparse
import sys
from pathlib import Path

from ase.io import read

from rxmdnn.errors import InputError
from rxmdnn.train import functional, labelling


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("output", type=Path, help="extended XYZ file to make or to go on with")
    p.add_argument("--engine", choices=sorted(labelling.ENGINES), default="gfn1")
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    p.add_argument("--share", type=float, default=1.0, help="make a smaller set of the same mixture, e.g. 0.1")
    p.add_argument("--check", type=int, metavar="N", help="check the forces of N frames instead of labelling")
    p.add_argument("--converge", type=int, metavar="N", help="converge cutoff and k-points of frame N (from 0); GPAW")
    a = p.parse_args()
    try:
        if a.converge is not None:
            functional.convergence(a.output.with_name(a.output.stem + "_convergence.csv"), read(a.output, a.converge))
        elif a.check:
            every = read(a.output, ":")
            chosen = every[:: max(1, len(every) // a.check)][: a.check]
            worst = labelling.check_forces(chosen, a.engine, a.output.with_name(a.output.stem + "_check.csv"))
            print(f"{len(chosen)} frames: largest error of the forces along a random direction {worst:.2e} eV/Å")
        else:
            count = labelling.run(a.output, labelling.ENGINES[a.engine].plan(a.share), a.engine, a.workers)
            print(f"{count} frames in {a.output}, {a.output.stat().st_size / 1e6:.1f} MB")
    except InputError as fault:
        print(fault, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
