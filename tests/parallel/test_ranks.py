"""Run this folder's tests again under mpirun, on several ranks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mpi4py import MPI

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
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
