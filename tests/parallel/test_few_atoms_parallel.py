"""More ranks than atoms: the run of one rank, or one message. On any rank count."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands import run as run_command
from rxmdnn.errors import FINISHED, InputError
from rxmdnn.io.checkpoint import read_checkpoint
from rxmdnn.io.log import read_energies
from tests.runs import shared_folder

COMM = MPI.COMM_WORLD
CELL = 30.0 * np.eye(3)
ATOMS = {0: [], 1: [[1.0, 1.0, 1.0]], 2: [[1.0, 1.0, 1.0], [1.0, 1.0, 27.0]],
         3: [[1.0, 1.0, 1.0], [1.0, 1.0, 5.0], [15.0, 15.0, 15.0]]}
DECK = """mdmode 1
time 2.0 20
temperature 60.0 1.0 1
random_velocity T
io_step 10 5
h5md 10
xyz 10
structure start.xyz
threads 1
"""


@pytest.mark.parametrize("more", ["", "pimd 2 pimd\nensemble langevin 0.1\n"])
@pytest.mark.parametrize("n", ATOMS)
def test_more_ranks_than_atoms(tmp_path_factory, n, more):
    with shared_folder(COMM, tmp_path_factory) as place:
        if COMM.rank == 0:
            lattice = " ".join(map(str, CELL.ravel()))
            (place / "start.xyz").write_text(
                f'{n}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
                + "".join(f"Ar {x} {y} {z}\n" for x, y, z in ATOMS[n]))
            (place / "rxmdnn.in").write_text("lj 0.0104 3.4 5.0 1 Ar 39.95\n")
            (place / "rxmd.in").write_text(DECK + more)
        COMM.Barrier()

        def go(comm, name, *flags):
            return run_command.main(["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / name), *flags], comm)

        if n == 0:
            with pytest.raises(InputError, match="no atoms"):
                go(COMM, "out")
            return
        assert go(COMM, "out", "--until", "10") == FINISHED and go(COMM, "out", "--until", "20") == FINISHED
        if COMM.rank == 0:
            assert go(MPI.COMM_SELF, "one", "--until", "20") == FINISHED
            one, many = read_energies(place / "one"), read_energies(place / "out")
            for name in ("etotal_eV", "temperature_K", "stress_xx_GPa"):
                np.testing.assert_allclose(many[name], one[name], rtol=1e-9, atol=1e-13)
            a, b = (read_checkpoint(MPI.COMM_SELF, place / name / "checkpoint.h5") for name in ("one", "out"))
            np.testing.assert_allclose(a.x[np.argsort(a.gid)], b.x[np.argsort(b.gid)], rtol=0, atol=1e-9)
        COMM.Barrier()
