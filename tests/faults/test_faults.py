"""A sample of the campaign of tools/faults.py: a call fails, or the process dies there, and the work goes on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mpi4py import MPI

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="preloads a library, as Linux does")
@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc) on this machine")
@pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="starts its own processes")
@pytest.mark.parametrize(("scenario", "most"), [("run", 8), ("restart", 6), ("ring", 4), ("study", 4), ("train", 4)])
def test_nothing_is_lost_at_any_call(scenario, most):
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "faults.py"), "--scenario", scenario, "--every", "2",
                           "--most", str(most), "--seed", "5"], capture_output=True, text=True, timeout=900, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(int(line.split(",")[3]) for line in done.stdout.splitlines() if line.startswith(f"{scenario},")) == most
