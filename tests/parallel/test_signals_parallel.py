"""Signals on any rank, before the first step too: a checkpoint and exit code 5. On any rank count."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.build
import numpy as np
import pytest
from mpi4py import MPI

import rxmdnn
from rxmdnn.backend import make
from rxmdnn.commands import run as run_command
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.errors import FINISHED, ON_SIGNAL
from rxmdnn.io.checkpoint import read_checkpoint
from rxmdnn.io.log import read_energies
from rxmdnn.models.pair import LennardJones
from rxmdnn.run import job
from tests.parallel.test_ranks import MPIRUN
from tests.runs import MODELS, shared_folder, write_start

COMM = MPI.COMM_WORLD
LAST = COMM.size - 1
DECK = """mdmode 1
time 2.0 {steps}
temperature 60.0 1.0 1
io_step 100 50
structure start.xyz
skin 0.3
"""
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]


@pytest.fixture
def folder(tmp_path_factory):
    with shared_folder(COMM, tmp_path_factory) as place:
        if COMM.rank == 0:
            (place / "rxmd.in").write_text(DECK.format(steps=40))
        COMM.Barrier()
        yield place


def go(folder, *flags):
    code = run_command.main(["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / "out"), *flags], COMM)
    COMM.Barrier()
    return code, read_checkpoint(MPI.COMM_SELF, folder / "out" / "checkpoint.h5")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("flags", [(), ("--ensemble", "langevin", "0.1", "--fidelity", "flag", "5"),
                                   ("--mdmode", "10", "--CG_tol", "1e-12"), ("--pimd", "2", "rpmd")])
def test_a_signal_before_the_first_step_leaves_a_checkpoint_of_the_start(folder, monkeypatch, number, flags):
    read = job.read_start

    def reading(comm, run):
        if comm.rank == LAST:
            os.kill(os.getpid(), number)
        return read(comm, run)

    handlers = [signal.getsignal(n) for n in SIGNALS]
    with monkeypatch.context() as patch:
        patch.setattr(job, "read_start", reading)
        code, first = go(folder, *flags)
    assert code == ON_SIGNAL and first.step == 0
    assert [signal.getsignal(n) for n in SIGNALS] == handlers
    with monkeypatch.context() as patch:
        patch.setattr(job, "read_start", reading)
        code, again = go(folder, *flags)
    assert code == ON_SIGNAL and again.step == 0
    assert go(folder, *flags, "--until", "20")[1].step == 20
    steps = read_energies(folder / "out")["step"].tolist()
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_on_any_rank_stops_all(folder, monkeypatch, number):
    due = Simulation._due

    def warned(self, first=False):
        due(self, first)
        if self.step == 3 and COMM.rank == LAST:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "_due", lambda self, first=False: warned(self, first))
        code, found = go(folder, "--pstep", "1")
    assert code == ON_SIGNAL and found.step in (4, 10)
    assert go(folder, "--until", "40")[0] == FINISHED


def partialmethod_of(function, first):
    """A method that is called with one more argument before its own."""
    return lambda *given, **more: function(first, *given, **more)


class StopError(Exception):
    """Raised by the handler of a user's program."""


def test_a_program_gets_its_signal_after_the_run(tmp_path_factory, monkeypatch):
    place: Path = COMM.bcast(tmp_path_factory.mktemp("api") if COMM.rank == 0 else None)
    potential = LennardJones(make("cpu"), ("Ar",), epsilon=0.0104, sigma=3.4, cutoff=6.0)
    atoms = ase.build.bulk("Ar", cubic=True) * (2, 2, 2)
    due = Simulation._due

    def warned(number, self, first=False):
        due(self, first)
        if self.step == 3 and COMM.rank == LAST:
            os.kill(os.getpid(), number)

    def stop(number, frame):
        raise StopError(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        for asked, error in ((signal.SIGTERM, StopError), (signal.SIGINT, KeyboardInterrupt)):
            out = place / error.__name__
            with monkeypatch.context() as patch:
                patch.setattr(Simulation, "_due", partialmethod_of(warned, asked))
                with pytest.raises(error):
                    rxmdnn.simulate(atoms, potential, 100, temperature=40.0, out=out, comm=COMM)
                with pytest.raises(error):  # too late to stop the run, of which 4 steps are all
                    rxmdnn.simulate(atoms, potential, 4, temperature=40.0, comm=COMM)
            assert 0 < read_checkpoint(MPI.COMM_SELF, out / "checkpoint.h5").step <= 10
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(rxmdnn.simulate(atoms, potential, 10, temperature=40.0, comm=COMM).table["step"]) == 2


@pytest.mark.skipif(COMM.size > 1 or MPIRUN is None, reason="starts mpirun itself")
def test_a_killed_rank_ends_the_job_and_a_stopped_one_goes_on(tmp_path):
    write_start(tmp_path)
    (tmp_path / "rxmdnn.in").write_text(MODELS)
    (tmp_path / "rxmd.in").write_text(DECK.format(steps=10_000_000))
    printed, rows = tmp_path / "printed", tmp_path / "DAT" / "energies.csv"
    with printed.open("w") as log:  # a pipe that nobody reads would stop the run when it is full
        started = subprocess.Popen([str(MPIRUN), "-np", "2", sys.executable, "-m", "rxmdnn", "run", "--pstep", "50"],
                                   cwd=tmp_path, env={**os.environ}, stdout=log, stderr=subprocess.STDOUT)

    def steps(above):
        end = time.monotonic() + 240
        while time.monotonic() < end and started.poll() is None:
            if rows.exists() and (found := rows.read_text().splitlines()[1:]) and int(found[-1].split(",")[0]) > above:
                return int(found[-1].split(",")[0])
            time.sleep(0.05)
        raise AssertionError(f"no step above {above}; exit code {started.poll()}:\n{printed.read_text()[-3000:]}")

    try:
        at = steps(0)
        ranks = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _is_rank(p, tmp_path)]
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGSTOP)
        os.kill(ranks[1], signal.SIGCONT)
        steps(at)
        os.kill(ranks[1], signal.SIGKILL)
        started.wait(timeout=60)
        text = printed.read_text()
        assert started.returncode not in (0, 5) and "signal 9" in text, text[-2000:]
        assert np.isfinite([float(x) for x in rows.read_text().splitlines()[-1].split(",")[:5]]).all()
    finally:
        started.kill()


def _is_rank(process, folder):
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return words[1:4] == [b"-m", b"rxmdnn", b"run"] and (process / "cwd").resolve() == folder.resolve()
    except OSError:
        return False
