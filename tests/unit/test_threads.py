"""Threads of a rank: what the environment asks for, and no more than pay for its atoms."""

import os
import subprocess
import sys

import pytest

from rxmdnn import threads


@pytest.mark.parametrize(("text", "n"), [("4", 4), (" 3,2", 3), ("", None), ("0", None), ("many", None)])
def test_what_the_environment_asks_for(text, n):
    assert threads.asked_for(text) == n


def test_threads_that_pay():
    assert [threads.that_pay(8, n) for n in (0, 16, 199, 200, 450.5, 1e7)] == [1, 1, 1, 2, 4, 8]


def test_the_command_line_leaves_the_environment_of_the_user(monkeypatch):
    environment = {"OMP_NUM_THREADS": "3"}
    monkeypatch.setattr(threads.os, "environ", environment)
    threads.prepare()
    assert environment == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "passive", "OMPI_MCA_mpi_yield_when_idle": "1"}


@pytest.mark.parametrize(("cells", "line", "more", "n", "note"), [
    (8, "", {"OMP_NUM_THREADS": "3"}, 3, False), (1, "", {"OMP_NUM_THREADS": "3"}, 1, True),
    (1, "threads 2", {"OMP_NUM_THREADS": "3"}, 2, False), (8, "", {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "2"}, 2,
                                                           False)])
def test_threads_of_a_run(tmp_path, cells, line, more, n, note):
    """512 atoms, or one, of an open lattice, in a process with four threads at most."""
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.4 5.0 1 Ar 39.948\n")
    (tmp_path / "input.xyz").write_text('1 "argon"\n5.3 5.3 5.3 90 90 90\nAr 0 0 0\n')
    (tmp_path / "rxmd.in").write_text(f"time 1.0 1\nstructure input.xyz {cells} {cells} {cells}\n{line}\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_NUM", "NUMBA_NUM"))}
    done = subprocess.run([sys.executable, "-m", "rxmdnn", "run"], cwd=tmp_path, capture_output=True, text=True,
                          check=True, env={**environment, "NUMBA_NUM_THREADS": "4", **more})
    assert f"cpu, {n} thread(s) per rank" in done.stdout
    assert ("1 of 3 threads per rank: more do not pay for 1 atoms per rank" in done.stdout) == note
