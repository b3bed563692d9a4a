"""The command ``rxmdnn``: one table of subcommands."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from rxmdnn import threads

threads.prepare()

COMMANDS = {  # name: (whether it runs on several ranks, help); its module is commands/<name>.py
    "run": (True, "run a deck: rxmdnn run [--rxmdin rxmd.in] [--outDir DAT] [flags]"),
    "check": (False, "read and check a deck, print the effective one, run nothing"),
    "help": (False, "the decks' keywords, or one of them: rxmdnn help [KEYWORD]"),
    "geninit": (False, "make a start (rxff.bin) from a unit cell or any structure file"),
    "convert": (False, "frames from one format to another: rxmdnn convert IN OUT"),
    "label": (False, "label frames with a quantum engine; choose frames"),
    "train": (True, "train an Allegro model: rxmdnn train train.in"),
    "learn": (True, "repair a model by its own failures: rxmdnn learn learn.in"),
    "evaluate": (False, "errors of a model on labelled frames, and their tail"),
    "sharpness": (True, "how steeply the loss rises around the weights of a model"),
    "fidelity": (False, "what watches a run: fit (a model), calibrate (a run)"),
    "tfail": (True, "times to failure of models: rxmdnn tfail tfail.in"),
    "tfail report": (False, "tables and figures of a study of times to failure"),
    "tfail forecast": (False, "probability that a planned run completes"),
    "tfail certify": (False, "lower bound of that probability, also without failures"),
    "tfail relabel": (False, "true force errors on frames before failures"),
    "import-model": (False, "a native model from a nequip-allegro one"),
    "export-model": (False, "a native model as a file for nequip, and so for LAMMPS and ASE"),
    "spectra": (True, "vibrational and neutron spectra of trajectories"),
    "phonons": (False, "harmonic crystal of a model: bands, density of states, neutron spectrum"),
    "structure": (True, "g(r), diffraction, bonds, displacements, diffusion of trajectories"),
    "polarization": (False, "local polarization, topological charge, loops P(E) of a run"),
    "report": (False, "one page of HTML about a run: rxmdnn report DAT"),
    "cite": (False, "papers of the methods that a run used, as BibTeX"),
    "examples": (False, "copy example inputs: rxmdnn examples [NAME DIR]"),
    "doctor": (True, "versions, MPI, GPU, threads and a short self-test, for reports of faults"),
    "driver": (True, "serve forces to i-PI over its socket"),
    "plot": (False, "pictures of a run: energies, temperature, g(r)"),
}


def usage() -> str:
    lines = [f"  {name:<16s}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["rxmdnn: neural-network quantum molecular dynamics", "",
                      "usage: [mpirun -np N] rxmdnn COMMAND ...", "", *lines, "",
                      "rxmdnn COMMAND --help says more; --version prints the version.", "", *exit_codes(), "",
                      "Several ranks need an MPI library: that of the machine, or pip install \".[mpi]\".",
                      "Where mpirun (Open MPI) refuses root, as in containers: export OMPI_ALLOW_RUN_AS_ROOT=1",
                      "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; where it finds too few slots: mpirun --oversubscribe."])


def exit_codes() -> list[str]:
    """The table of exit codes, as lines."""
    from rxmdnn.errors import EXIT_CODES

    return ["exit codes:", *(f"  {code:<6d}{text}" for code, text in EXIT_CODES.items())]


# What launchers call the number of a rank; before MPI is loaded, which takes half a second.
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


def on_first_rank() -> bool:
    """Whether the launcher, if there is one, calls this the first rank."""
    return all(os.environ.get(variable, "0") == "0" for variable in RANK_VARIABLES)


def answer_at_once(name: str) -> bool:
    """Print the usage or the version where it is asked for, on the first rank; was it?"""
    if name not in ("-h", "--help", "--version"):
        return False
    if on_first_rank():
        from rxmdnn import __version__

        print(f"rxmdnn {__version__}" if name == "--version" else usage())
    return True


def main() -> int:
    """Run the command named in sys.argv; every rank returns its exit code."""
    name, *argv = sys.argv[1:] or ["--help"]
    if answer_at_once(name):
        return 0
    if name != "run":
        return _command(name, argv)
    from rxmdnn.signals import remembered

    with remembered():  # a run that is asked to stop while modules load stops in its own way
        return _command(name, argv)


def _command(name: str, argv: list[str]) -> int:
    """Run a command; its exit code."""
    from rxmdnn.errors import InputError
    from rxmdnn.serial import provide

    try:
        provide()
    except InputError as error:
        if on_first_rank():
            print(f"rxmdnn: {error}", file=sys.stderr)
        return 2
    from rxmdnn.deck.language import near
    from rxmdnn.parallel import AgreedError, run_to_exit_code
    from rxmdnn.world import all_ranks

    comm = all_ranks()
    if argv and f"{name} {argv[0]}" in COMMANDS:
        name, argv = f"{name} {argv[0]}", argv[1:]

    def act() -> int | None:
        if name not in COMMANDS:
            raise AgreedError(f"{name}: unknown command{near(name, list(COMMANDS))}; rxmdnn --help lists them")
        parallel, _ = COMMANDS[name]
        if comm.size > 1 and not parallel:
            raise AgreedError(f"{name}: runs on one rank; start it without mpirun")
        try:
            command = import_module("rxmdnn.commands." + name.replace("-", "_").replace(" ", "_")).main
        except ImportError as error:
            raise InputError(f"{name}: a package is missing: {error}") from error
        return command(argv, comm) if parallel else command(argv)

    return run_to_exit_code(comm, act)


if __name__ == "__main__":
    sys.exit(main())
