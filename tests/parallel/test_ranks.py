"""Run this folder's tests again under mpirun, on several ranks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.io.log import read_energies
from tests.systems import TRICLINIC, spread_atoms

HERE = Path(__file__).parent
MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="already under mpirun")
@pytest.mark.skipif(MPIRUN is None, reason="no mpirun on this machine")
@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_under_mpirun(ranks):
    files = sorted(str(f) for f in HERE.glob("test_*_parallel.py"))
    done = subprocess.run(
        [str(MPIRUN), "-np", str(ranks), sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files],
        cwd=HERE.parent.parent, env={**os.environ, "NUMBA_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


def mpirun(ranks: int, *words: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([str(MPIRUN), "-np", str(ranks), sys.executable, *words], capture_output=True, text=True,
                          env={**os.environ, "NUMBA_NUM_THREADS": "1"}, timeout=300, **kwargs)


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1 or MPIRUN is None, reason="starts mpirun itself")
def test_one_failing_rank_ends_all():
    """The others wait in a collective call; the job must end with this rank's message, never hang."""
    code = (
        "import sys\nfrom mpi4py import MPI\nfrom rxmdnn.errors import InputError\n"
        "from rxmdnn.parallel import run_to_exit_code\n"
        "def act():\n    if MPI.COMM_WORLD.rank == 1:\n        raise {error}('rank one is out of atoms')\n"
        "    MPI.COMM_WORLD.Barrier()\n"
        "sys.exit(run_to_exit_code(MPI.COMM_WORLD, act))"
    )
    for error, status in (("InputError", 2), ("ValueError", 1), ("MemoryError", 2)):
        done = mpirun(3, "-c", code.format(error=error))
        assert done.returncode == status
        assert "rank 1" in done.stderr and "rank one is out of atoms" in done.stderr
        assert ("Traceback" in done.stderr) == (error == "ValueError")
        assert ("rxmdnn: rank 1: out of memory: " in done.stderr) == (error == "MemoryError")


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1 or MPIRUN is None, reason="starts mpirun itself")
def test_a_run_restarts_on_other_rank_counts(tmp_path):
    x = spread_atoms(TRICLINIC, 40, 2.9)
    lattice = " ".join(map(str, TRICLINIC.h.ravel()))
    (tmp_path / "start.xyz").write_text(
        f'40\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
        + "".join(f"Ar {a} {b} {c}\n" for a, b, c in x))
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.4 6.0 1 Ar 39.95\n")
    (tmp_path / "rxmd.in").write_text(
        "mdmode 1\ntime 2.0 20\ntemperature 60.0 1.0 10\nio_step 20 5\nstructure start.xyz\n")
    totals = {}
    for name, ranks in {"one": (1, 1, 1), "many": (2, 3, 1), "wide": (4, 8, 2)}.items():
        for n in ranks:
            done = mpirun(n, "-m", "rxmdnn", "run", "--outDir", name, cwd=tmp_path)
            assert done.returncode == 0, done.stdout + done.stderr
        totals[name] = read_energies(tmp_path / name)
    for name in ("many", "wide"):
        assert list(totals[name]["step"]) == list(range(0, 61, 5))
        for column in ("etotal_eV", "potential_eV", "temperature_K", "stress_xy_GPa"):
            np.testing.assert_allclose(totals[name][column], totals["one"][column], rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1 or MPIRUN is None, reason="starts mpirun itself")
def test_a_bad_deck_is_one_message_and_exit_code_2(tmp_path):
    (tmp_path / "rxmd.in").write_text("mdmode 1\ntime 2.0 20\ntemprature 60.0 1.0 10\nio_step 20\n")
    done = mpirun(3, "-m", "rxmdnn", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("temprature: unknown keyword; did you mean 'temperature'?") == 1
    assert done.stderr.count("rxmd.in:4: io_step: pstep is missing") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "DAT").exists()


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1 or MPIRUN is None, reason="starts mpirun itself")
@pytest.mark.parametrize(("flags", "code", "said"), [
    ((), 0, "finished at step 20"), (("--dt", "1e3"), 4, "rxmdnn: positions: "),
    (("--mdmode", "10", "--ntime_step", "2"), 4, "NOT converged: step limit reached at step 2"),
    (("--seed", "2"), 2, "seed: now 2, before 1")])
def test_exit_codes_of_a_run(tmp_path, flags, code, said):
    lattice = " ".join(map(str, TRICLINIC.h.ravel()))
    rows = "".join(f"Ar {a} {b} {c}\n" for a, b, c in spread_atoms(TRICLINIC, 40, 2.9))
    (tmp_path / "start.xyz").write_text(f'40\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\n{rows}')
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.4 6.0 1 Ar 39.95\n")
    (tmp_path / "rxmd.in").write_text("mdmode 1\ntime 2.0 20\ntemperature 60.0 1.0 10\nstructure start.xyz\n")
    if "--seed" in flags:
        assert mpirun(1, "-m", "rxmdnn", "run", cwd=tmp_path).returncode == 0
    done = mpirun(2, "-m", "rxmdnn", "run", *flags, cwd=tmp_path)
    assert done.returncode == code and (done.stdout + done.stderr).count(said) == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
