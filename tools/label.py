"""``rxmdnn label`` as a script: ``python tools/label.py input/ammonia/gfn1_xtb.xyz --recipe ammonia``."""

import sys

if __name__ == "__main__":  # the job's workers import this file
    from mpi4py import MPI

    from rxmdnn.commands.label import main
    from rxmdnn.parallel import run_to_exit_code

    sys.exit(run_to_exit_code(MPI.COMM_SELF, lambda: main(sys.argv[1:])))
