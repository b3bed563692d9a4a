"""Runs killed and restarted: the same bits on the same rank count, the same numbers to rounding on any other.

Every ensemble, thermostat, barostat, ramp, minimizer and kind of output, after several kills.
"""

import itertools

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands import run as run_command
from rxmdnn.io.checkpoint import read_checkpoint
from rxmdnn.io.log import read_energies
from tests.runs import killed_at, shared_folder

COMM = MPI.COMM_WORLD
DECK = """time 2.0 40
io_step 0 5
structure start.xyz
checkpoint 10
h5md 10
skin 0.3
"""
MODE = "mdmode {}\ntemperature 60.0 {} 7\n"
NVE = MODE.format(1, 1.0)
CHARGES = "charges Ne 0.5\ncharges Ar -0.5\n"
CASES = {
    "mdmode 0": MODE.format(0, 1.0),
    "mdmode 4": MODE.format(4, 0.98),
    "mdmode 5": MODE.format(5, 1.0),
    "mdmode 7": MODE.format(7, 1.0),
    "mdmode 8": MODE.format(8, 1.0),
    "mdmode 9": MODE.format(9, 1.2),
    "nve": NVE,
    "langevin": NVE + "ensemble langevin 0.1\n",
    "svr": NVE + "ensemble svr 0.1\n",
    "nose-hoover": NVE + "ensemble nose-hoover 0.1\n",
    "langevin scr": NVE + "ensemble langevin 0.1\nbarostat scr 0.1 0.2\nobserve gr 5\nobserve vdos 1 60\n",
    "svr scr full": NVE + "ensemble svr 0.1\nbarostat scr 0.1 0.2 full\nobserve gr 5 8\n",
    "mtk full": NVE + "ensemble nose-hoover 0.1\nbarostat mtk 0.1 0.2 full\nobserve gr 5\n",
    "ramps": NVE + "ensemble langevin 0.1\nbarostat scr 0.1 0.2 axes\ntramp 60 90\npramp 0.1 0.5\n",
    "strain": NVE + "strain_ramp 0.02 0.0 0.01\n",
    "strain mdmode 0": MODE.format(0, 1.0) + "strain_ramp 0.02 0.0 0.01\n",
    "shear langevin": NVE + "ensemble langevin 0.1\nshear_ramp 1.0 0.0 0.0\n",
    "field": NVE + CHARGES + "field sine z 0.02 5\nensemble svr 0.1\n",
    "flagged": NVE + "ensemble svr 0.1\nfidelity flag 5\n",
    "rings": NVE + "pimd 4 pimd\nensemble langevin 0.1\npimd_dump 10\n",
    "rings scr": NVE + "pimd 4 pimd\nensemble svr 0.1\nbarostat scr 0.1 0.2\n",
    "cg": "mdmode 10\nCG_tol 1e-12\n",
    "fire": "mdmode 10\nminimizer fire 1e-9\n",
    "fire full": "mdmode 10\nminimizer fire 1e-9 full 0.1\n",
}
COUNTS = {1: (1,), 2: (2, 1, 2), 3: (3, 1, 2), 4: (4, 1, 3), 8: (5, 8, 2)}  # ranks of all: of the runs in turn


@pytest.fixture
def folder(tmp_path_factory):
    with shared_folder(COMM, tmp_path_factory) as place:
        yield place


def go(folder, out, lines, comm=COMM, *flags):
    if comm.rank == 0:
        (folder / f"{out}.in").write_text(DECK + lines)
    comm.Barrier()
    run_command.main(["--rxmdin", str(folder / f"{out}.in"), "--outDir", str(folder / out), *flags], comm)
    comm.Barrier()
    return folder / out


def same_rows(whole, killed, exact):
    """The rows of energies.csv and the frames of the trajectory."""
    a, b = read_energies(whole), read_energies(killed)
    for name in a.keys() - {"seconds"}:
        if exact:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        else:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-8, atol=1e-9, err_msg=name)
    with h5py.File(whole / "trajectory.h5md", locking=False) as f, h5py.File(killed / "trajectory.h5md",
                                                                             locking=False) as g:
        for name in ("position/step", "position/value", "velocity/value", "box/edges/value"):
            x, y = f["particles/all"][name][:], g["particles/all"][name][:]
            np.testing.assert_array_equal(x, y) if exact else np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_was_killed_three_times_has_the_bits_of_one_that_was_not(folder, name, monkeypatch):
    whole = go(folder, "whole", CASES[name])
    for step in (7, 17, 33):
        with killed_at(monkeypatch, step):
            go(folder, "killed", CASES[name])
    killed = go(folder, "killed", CASES[name])
    a, b = (read_checkpoint(MPI.COMM_SELF, out / "checkpoint.h5") for out in (whole, killed))
    assert a.step == b.step
    for field in ("gid", "x", "v", "f", "image"):
        assert getattr(a, field).tobytes() == getattr(b, field).tobytes(), field
    assert a.cell.h.tobytes() == b.cell.h.tobytes()
    assert repr(a.state) == repr(b.state)
    assert sorted(a.extra) == sorted(b.extra) and all(a.extra[k].tobytes() == b.extra[k].tobytes() for k in a.extra)
    same_rows(whole, killed, exact=True)
    if (whole / "observe.h5").exists():
        with h5py.File(whole / "observe.h5") as f, h5py.File(killed / "observe.h5") as g:
            for group, key in itertools.chain(*([(k, name) for name in f[k]] for k in f)):
                np.testing.assert_array_equal(f[group][key][()], g[group][key][()], err_msg=f"{group} {key}")


@pytest.mark.skipif(COMM.size not in COUNTS or COMM.size == 1, reason="needs several ranks")
@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_restarted_on_other_rank_counts_has_the_same_numbers(folder, name, monkeypatch):
    """Killed at the same steps on changing numbers of ranks, against one rank throughout."""
    alone = COMM.Split(min(COMM.rank, 1), COMM.rank)
    if COMM.rank == 0:
        go(folder, "whole", CASES[name], alone)
    alone.Free()
    COMM.Barrier()
    for count, step in zip(COUNTS[COMM.size], (7, 17, 33)):
        some = COMM.Split(int(COMM.rank >= count), COMM.rank)
        if COMM.rank < count:
            with killed_at(monkeypatch, step):
                go(folder, "killed", CASES[name], some)
        some.Free()
        COMM.Barrier()
    killed = go(folder, "killed", CASES[name])
    a, b = (read_checkpoint(MPI.COMM_SELF, folder / out / "checkpoint.h5") for out in ("whole", "killed"))
    one, other = np.argsort(a.gid), np.argsort(b.gid)
    assert a.step == b.step
    np.testing.assert_allclose(b.cell.h, a.cell.h, rtol=1e-9, atol=1e-9)
    apart = (b.x + b.image @ b.cell.h)[other] - (a.x + a.image @ a.cell.h)[one]
    assert abs(apart).max() < 1e-8
    np.testing.assert_allclose(b.v[other], a.v[one], atol=1e-10)
    same_rows(folder / "whole", killed, exact=False)
