"""`rxmdnn driver` against a small server written here. Runs on any rank count."""

import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.cell import Cell
from rxmdnn.commands import driver as driver_command
from rxmdnn.errors import InputError
from rxmdnn.run import ipi as driver
from tests.runs import shared_folder
from tests.systems import TRICLINIC, argon, engine, share, spread_atoms

COMM = MPI.COMM_WORLD
N = 40
DECK = "time 1.0 1\ntemperature 0 1.0 1\nio_step 0 1\nstructure start.xyz\nskin 0.6\n"


@pytest.fixture
def folder(tmp_path_factory):
    with shared_folder(COMM, tmp_path_factory, "lj 0.0104 3.4 6.0 1 Ar 39.95\n", ("Ar",)) as place:
        if COMM.rank == 0:
            (place / "rxmd.in").write_text(DECK)
        COMM.Barrier()
        yield place


class Server(threading.Thread):
    """Sends cells and positions (Å), keeps what comes back (eV, Å)."""

    def __init__(self, listener, questions, n_atoms=N):
        super().__init__(daemon=True)
        self.listener, self.questions, self.n_atoms, self.answers, self.words = listener, questions, n_atoms, [], []
        self.start()

    def run(self):
        line, _ = self.listener.accept()
        line.settimeout(60)

        def take(n):
            got = b""
            while len(got) < n:
                try:
                    part = line.recv(n - len(got))
                except OSError:
                    part = b""
                if not part:
                    return got
                got += part
            return got

        def ask(word):
            line.sendall(word.ljust(12).encode())

        def status():
            ask("STATUS")
            self.words.append(take(12).decode().strip())

        status()
        ask("INIT")
        line.sendall(np.array([0, 3], "<i4").tobytes() + b"abc")
        for h, x in self.questions:
            status()
            ask("POSDATA")
            line.sendall((h.T / driver.BOHR).astype("<f8").tobytes() + np.linalg.inv(h.T / driver.BOHR).tobytes()
                         + np.array([self.n_atoms], "<i4").tobytes() + (x / driver.BOHR).astype("<f8").tobytes())
            status()
            if not self.words[-1]:
                return
            ask("GETFORCE")
            word = take(12)
            assert word.strip() == b"FORCEREADY", word
            energy = np.frombuffer(take(8))[0] * driver.HARTREE
            n = int(np.frombuffer(take(4), "<i4")[0])
            f = np.frombuffer(take(24 * n)).reshape(n, 3) * driver.HARTREE / driver.BOHR
            virial = np.frombuffer(take(72)).reshape(3, 3) * driver.HARTREE
            take(int(np.frombuffer(take(4), "<i4")[0]))
            self.answers.append((energy, f, virial))
        ask("EXIT")
        line.close()


def questions():
    """Small moves, a jump by a whole period, a moved cell, a strained one, and a long way."""
    x = spread_atoms(TRICLINIC, N, 2.9)
    rng = np.random.default_rng(4)
    out = [(TRICLINIC.h, x)]
    for _ in range(3):
        x = x + rng.normal(scale=0.02, size=x.shape)
        out.append((TRICLINIC.h, x))
    x = x.copy()
    x[3] += TRICLINIC.h[1] - 2 * TRICLINIC.h[2]
    out.append((TRICLINIC.h, x))
    for by in (np.diag([1.01, 1.0, 0.99]), np.array([[1.0, 0.05, 0.0], [0.0, 1.1, 0.02], [0.0, 0.0, 1.06]])):
        out.append((TRICLINIC.h @ by, x @ by))
    out.append((TRICLINIC.h, x + 17.0))
    return out


def direct(h, x):
    atoms = share(MPI.COMM_SELF, x, np.zeros(N, np.int32))
    forces = engine(MPI.COMM_SELF, Cell(h), argon())
    forces.domain.distribute(atoms)
    forces.compute(atoms)
    f = np.empty((N, 3))
    f[atoms.gid[:N]] = atoms.f[:N]
    return forces.energy(), f, forces.virial()


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_a_server_gets_the_engines_forces(folder, kind, capsys):
    path, flags, server = str(folder / "s"), [], None
    if COMM.rank == 0:
        listener = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        listener.bind(path if kind == "unix" else ("127.0.0.1", 0))
        listener.listen()
        server = Server(listener, questions())
        port = str(listener.getsockname()[1]) if kind == "inet" else ""
        flags = ["--unix", path] if kind == "unix" else ["--host", "127.0.0.1", "--port", port]
    driver_command.main([*COMM.bcast(flags), "--rxmdin", str(folder / "rxmd.in")], COMM)
    if server is None:
        return
    server.join(30)
    assert len(server.answers) == len(questions()) and set(server.words) == {"READY", "HAVEDATA"}
    for (h, x), (energy, f, virial) in zip(questions(), server.answers):
        want = direct(h, x)
        assert energy == pytest.approx(want[0], abs=1e-9)
        assert np.allclose(f, want[1], atol=1e-9) and np.allclose(virial, want[2], atol=1e-8)
    builds = int(capsys.readouterr().out.split("served, ")[1].split()[0])
    assert 3 <= builds < len(questions()) - 1  # the list is kept while atoms stay near
    server.listener.close()


def test_messages(folder):
    def refused(words, flags):
        with pytest.raises(InputError, match=words):
            driver_command.main([*flags, "--rxmdin", str(folder / "rxmd.in")], COMM)

    refused("a port is missing", ["--host", "localhost"])
    refused("no server answers", ["--unix", str(Path(folder) / "none"), "--wait", "0"])
    path = str(folder / "t")
    if COMM.rank == 0:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        Server(listener, [(TRICLINIC.h, np.zeros((3, 3)))], 3)
    COMM.Barrier()
    refused("the server has 3 atoms, the deck's structure 40", ["--unix", path])
    if COMM.rank == 0:
        listener.close()
        os.unlink(path)
