"""The command ``rxmdnn``: one table of subcommands. This is the only place that names the world communicator."""

from __future__ import annotations

import os
import sys
from importlib import import_module

# One rank is one worker: threads of libraries are given out by the deck, not taken by each rank.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Open MPI's ranks spin while they wait. Where something else wants the core, yielding it made a run 14 times faster;
# where nothing does, it costs next to nothing.
os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")

COMMANDS = {  # name: (module, function, whether it runs on several ranks, help)
    "run": ("rxmdnn.run", "main", True, "run a deck: rxmdnn run [--rxmdin rxmd.in] [--outDir DAT] [flags]"),
    "check": ("rxmdnn.check", "main", False, "read and check a deck, print the effective one, run nothing"),
    "help": ("rxmdnn.check", "help_main", False, "the decks' keywords, or one of them: rxmdnn help [KEYWORD]"),
    "geninit": ("rxmdnn.geninit", "main", False, "make a start (rxff.bin) from a unit cell or any structure file"),
    "label": ("rxmdnn.train.label_command", "main", False, "label frames with a quantum engine; choose frames"),
    "train": ("rxmdnn.train.command", "main", True, "train an Allegro model: rxmdnn train train.in"),
    "evaluate": ("rxmdnn.train.evaluate", "main", False, "a model's errors on labelled frames, and their tail"),
    "sharpness": ("rxmdnn.train.sharpness", "main", True, "how steeply the loss rises around a model's weights"),
    "fidelity": ("rxmdnn.fidelity.command", "main", False, "what watches a run: fit (a model), calibrate (a run)"),
    "tfail": ("rxmdnn.fidelity.time_to_failure", "main", True, "times to failure: tfail.in; tfail report, forecast"),
    "import-model": ("rxmdnn.models.import_nequip", "main", False, "a native model from a nequip-allegro one"),
    "spectra": ("rxmdnn.analysis.spectra_command", "main", True, "vibrational and neutron spectra of trajectories"),
    "structure": ("rxmdnn.analysis.structure_command", "main", True,
                  "g(r), diffraction, bonds, displacements, diffusion of trajectories"),
    "driver": ("rxmdnn.driver", "main", True, "serve forces to i-PI over its socket"),
    "plot": ("rxmdnn.plot", "main", False, "pictures of a run: energies, temperature, g(r)"),
}


def usage() -> str:
    lines = [f"  {name:<14s}{text}" for name, (_, _, _, text) in COMMANDS.items()]
    return "\n".join(["rxmdnn: neural-network quantum molecular dynamics", "",
                      "usage: [mpirun -np N] rxmdnn COMMAND ...", "", *lines, "",
                      "rxmdnn COMMAND --help says more; --version prints the version."])


def main() -> int:
    """Run the command named in sys.argv; every rank returns its exit code."""
    from mpi4py import MPI

    from rxmdnn import __version__
    from rxmdnn.deck import near
    from rxmdnn.errors import InputError
    from rxmdnn.io.ordered import Hdf5Failure
    from rxmdnn.parallel import AgreedError, run_to_exit_code

    comm = MPI.COMM_WORLD
    name, *argv = sys.argv[1:] or ["--help"]

    def act() -> int | None:
        if name in ("-h", "--help"):
            if comm.rank == 0:
                print(usage())
            return 0
        if name == "--version":
            if comm.rank == 0:
                print(f"rxmdnn {__version__}")
            return 0
        if name not in COMMANDS:
            raise AgreedError(f"{name}: unknown command{near(name, list(COMMANDS))}; rxmdnn --help lists them")
        module, function, parallel, _ = COMMANDS[name]
        if comm.size > 1 and not parallel:
            raise AgreedError(f"{name}: runs on one rank; start it without mpirun")
        try:
            command = getattr(import_module(module), function)
        except ImportError as error:
            raise InputError(f"{name}: a package is missing: {error}") from error
        return command(argv, comm) if parallel else command(argv)

    return Hdf5Failure.leave(run_to_exit_code(comm, act))


if __name__ == "__main__":
    sys.exit(main())
