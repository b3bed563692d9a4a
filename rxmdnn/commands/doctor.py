"""``rxmdnn doctor``: versions, MPI, GPU, threads and a short self-test, for reports of faults."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from rxmdnn.api import simulate
from rxmdnn.commands.arguments import parse
from rxmdnn.errors import FAILED, FINISHED, InputError
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.run.diagnosis import facts
from rxmdnn.run.examples import inputs

STEPS = 20
LARGEST_CHANGE = 2e-3  # eV per atom, of the total energy of the self-test; a wrong force makes it tens of times larger
LARGEST_SUM = 1e-8  # eV/Å, of all forces


def main(argv: Sequence[str], comm: MPI.Comm = MPI.COMM_SELF) -> int:
    """Print the facts and the result of the self-test; the exit code, 4 if something failed."""
    p = argparse.ArgumentParser("rxmdnn doctor", description="Versions, MPI, GPU and threads of this machine, and a "
                                "short self-test. Exit code 4 if something fails. Put the output into a report of a "
                                "fault; under mpirun it tests the ranks.")
    p.add_argument("--no-test", action="store_true", help="print the facts only")
    a = parse(p, argv, comm)
    told = facts(comm)
    tested = "" if a.no_test else self_test(comm)
    lines = [f"{name:<12s}: {text}" for name, text in told.items()] + ([f"{'self-test':<12s}: {tested}"] * bool(tested))
    if comm.rank == 0:
        print("\n".join(lines))
    return FAILED if any(text.startswith("FAILED") for text in (*told.values(), tested)) else FINISHED


def self_test(comm: MPI.Comm) -> str:
    """Twenty steps of 16 atoms of solid ammonia on all ranks: is energy conserved, is the sum of forces zero?"""
    begin = time.perf_counter()
    try:
        folder = inputs() / "ammonia"
        atoms, table = simulate(read_atoms(folder / "solid_I.cif")[-1], folder / "ammonia_legato.safetensors", STEPS,
                                dt=0.5, temperature=150.0, every=1, precision="float64", comm=comm)
    except InputError as error:
        return f"FAILED: {error}"
    change = float(np.ptp(table["etotal_eV"])) / len(atoms)
    total = float(np.abs(atoms.get_forces().sum(axis=0)).max())
    good = change < LARGEST_CHANGE and total < LARGEST_SUM
    seconds = time.perf_counter() - begin
    return (f"{'passed' if good else 'FAILED'}: {STEPS} steps of {len(atoms)} atoms in {seconds:.1f} s; "
            f"total energy within {change:.1e} eV per atom, sum of forces {total:.1e} eV/Å")
