"""One process without an MPI library: the stand-in against MPI, commands in a process that cannot load MPI."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

import rxmdnn
from rxmdnn import serial
from rxmdnn.io.log import read_energies

ROOT = Path(rxmdnn.__file__).parent
INPUT = ROOT.parent / "input"
# 'from mpi4py import MPI' then fails as it does without a library
WITHOUT = "import sys; sys.modules['mpi4py.MPI'] = None; from rxmdnn.__main__ import main; sys.exit(main())"


def run(*argv, code=WITHOUT, **more):
    return subprocess.run([sys.executable, "-c", code, *map(str, argv)], capture_output=True, text=True, check=False,
                          env={**os.environ, **more})


@pytest.mark.parametrize("name", ["methanol", "cuau"])
def test_a_run_without_mpi_has_the_energies_of_one_with_it(name, tmp_path):
    cells = {"cuau": ("1", "1", "1"), "methanol": ()}[name]
    for out, code in (("with", WITHOUT.replace("sys.modules['mpi4py.MPI'] = None;", "")), ("without", WITHOUT)):
        done = run("run", "--rxmdin", INPUT / name / "rxmd.in", "--outDir", tmp_path / out, "--ntime_step", 10,
                   "--pstep", 5, "--structure", INPUT / name / "start.xyz", *cells, code=code)
        assert done.returncode == 0, done.stderr
    one, other = read_energies(tmp_path / "with"), read_energies(tmp_path / "without")
    for column in ("step", "etotal_eV", "temperature_K"):
        np.testing.assert_array_equal(one[column], other[column])


def test_commands_and_python_without_mpi(tmp_path):
    done = run("help", "time")
    assert done.returncode == 0 and "ntime_step" in done.stdout
    done = run("run", "--rxmdin", tmp_path / "none.in")
    assert done.returncode == 2 and "none.in" in done.stderr and "Traceback" not in done.stderr
    done = run(code="import sys; sys.modules['mpi4py.MPI'] = None; import rxmdnn; print(rxmdnn.Calculator.__name__)")
    assert done.stdout == "Calculator\n", done.stderr


@pytest.mark.parametrize("variable", serial.SIZE_VARIABLES)
def test_several_ranks_without_mpi_are_refused_in_one_line(variable):
    done = run("help", "time", **{variable: "2"})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "no MPI library can be loaded; install" in done.stderr


def test_the_stand_in_does_what_mpi_does_on_one_rank():
    results = []
    for mpi in (MPI, serial):
        comm = mpi.COMM_SELF
        total, counts, rows = np.zeros(3), np.zeros(1, np.int64), np.zeros(2)
        comm.Allreduce(np.arange(3.0), total)
        comm.Allreduce(mpi.IN_PLACE, total)
        comm.Alltoall(np.array([2]), counts)
        kind = mpi.BYTE.Create_contiguous(8).Commit()
        comm.Allgatherv(np.array([7.0, 8.0]), [rows, [2]])
        total[1:] += rows
        comm.Alltoallv([np.array([5.0, 6.0]), counts, kind], [rows, counts, kind])
        kind.Free()
        inside = comm.Split(0, 0)
        mpi.Request.Waitall([comm.Irecv(rows, mpi.PROC_NULL, 1), comm.Isend(rows, mpi.PROC_NULL, 1)])
        results.append((total.tolist(), rows.tolist(), comm.allreduce(3, mpi.MAX), comm.allreduce(True, mpi.LOR),
                        comm.allgather("a"), comm.gather(2), comm.bcast((1,)), comm.exscan(4), comm.rank, comm.size,
                        inside.size, comm.Split_type(mpi.COMM_TYPE_SHARED).size))
    assert results[0] == results[1]


def test_the_stand_in_has_every_name_that_rxmdnn_uses():
    """Messages between ranks apart, which one rank does not send."""
    text = "\n".join(p.read_text() for p in ROOT.rglob("*.py") if p.name not in ("serial.py", "dispatcher.py")
                     and p.parts[-2:] != ("commands", "learn.py"))
    names = set(re.findall(r"\bMPI\.(\w+)", text))
    methods = set(re.findall(r"\b(?:comm|groups.inside|across|everyone|machine)\.(\w+)\(", text))
    assert len(names) > 8 and len(methods) > 8
    assert {n for n in names if not hasattr(serial, n)} == set()
    assert {m for m in methods if not hasattr(serial.Comm, m)} == set()
