"""Slabs, wires and clusters whose atoms move, from files to energies: any number of ranks gives what one rank gives."""

import ase.build
import ase.io
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands.run import main
from rxmdnn.io.log import read_energies
from tests.runs import shared_folder

COMM = MPI.COMM_WORLD
pytestmark = pytest.mark.skipif(COMM.size > 4, reason="up to 4 ranks will do")
OPEN = {"slab": "T T F", "wire": "F T F", "cluster": "F F F"}
RUNS = {  # lines of the deck; relative agreement of energies
    "constant energy": ("temperature 90 1.0 100000\n", 1e-9),
    "Langevin": ("ensemble langevin 0.2\ntemperature 90 1.0 1\n", 1e-9),
    "rings": ("ensemble langevin 0.2\npimd 4\ntemperature 40 1.0 1\n", 1e-9),
    "FIRE": ("mdmode 10\nminimizer fire 0.001\ntemperature 0 1.0 1\n", 1e-5),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Argon in a long box as a LAMMPS data file, with atoms that leave it by its ends, and the decks."""
    with shared_folder(COMM, tmp_path_factory) as place:
        if COMM.rank == 0:
            atoms = ase.build.bulk("Ar", "fcc", 5.4, cubic=True) * (2, 2, 5)
            atoms.rattle(0.08, seed=2)
            v = np.random.default_rng(1).normal(size=(len(atoms), 3)) * 1.5  # Å/ps
            v[:8, 2] -= 15  # the lowest layers fly away downwards, the highest ones upwards
            v[-8:, 2] += 15
            ase.io.write(place / "argon.data", atoms, format="lammps-data", masses=True, parallel=False)
            rows = [f"{k} {a:.8f} {b:.8f} {c:.8f}" for k, (a, b, c) in enumerate(v, 1)]
            with open(place / "argon.data", "a", encoding="utf-8") as file:
                file.write("\nVelocities\n\n" + "\n".join(rows) + "\n")
            (place / "lj.in").write_text("lj 0.0104 3.4 6.5 1 Ar 39.948\n")
            for name, (lines, _) in RUNS.items():
                for shape, pbc in OPEN.items():
                    (place / f"{name} {shape}.in").write_text(
                        f"time 4.0 150\nmodel lj.in\nstructure argon.data\npbc {pbc}\nseed 3\nio_step 10000 50\n"
                        f"checkpoint 0\nthreads 1\n{lines}")
        COMM.barrier()
        yield place


@pytest.mark.parametrize("shape", OPEN)
@pytest.mark.parametrize("name", RUNS)
def test_any_number_of_ranks_gives_what_one_gives(folder, name, shape):
    deck = f"{name} {shape}"
    codes = [main(["--rxmdin", str(folder / f"{deck}.in"), "--outDir", str(folder / f"{deck} all")], COMM)]
    if COMM.rank == 0:
        codes.append(main(["--rxmdin", str(folder / f"{deck}.in"), "--outDir", str(folder / f"{deck} one")],
                          MPI.COMM_SELF))
    assert COMM.bcast(codes) == [0, 0]
    found, wanted = (read_energies(folder / f"{deck} {ranks}") for ranks in ("all", "one"))
    for column in ("etotal_eV", "potential_eV", "kinetic_eV"):
        assert found[column][-1] == pytest.approx(wanted[column][-1], rel=RUNS[name][1], abs=1e-9)
    z = ase.io.read(sorted((folder / f"{deck} all").glob("0*.xyz"))[-1], parallel=False).positions[:, 2]
    assert name == "FIRE" or np.ptp(z) > 27  # atoms have left the box
