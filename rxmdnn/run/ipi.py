"""``rxmdnn driver``: forces for i-PI over its socket protocol, computed by all ranks.

i-PI (or ASE's SocketIOCalculator, or any program that speaks the protocol) moves the atoms; this engine is its force
field, as LAMMPS's ``fix ipi`` is. Messages are words of twelve bytes; numbers follow in atomic units, little endian:

    STATUS    -> READY, or HAVEDATA when forces wait to be fetched
    INIT      <- int32 replica, int32 length, text
    POSDATA   <- float64[9] cell (vectors in columns), float64[9] its inverse, int32 n, float64[3n] positions
    GETFORCE  -> FORCEREADY, float64 energy, int32 n, float64[3n] forces, float64[9] virial, int32 length, text
    EXIT
"""

from __future__ import annotations

import argparse
import socket
import time
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.engine.forces import Forces
from rxmdnn.errors import InputError
from rxmdnn.parallel import AgreedError, on_root

BOHR, HARTREE = 0.529177210903, 27.211386245988  # Å, eV (CODATA 2018)
HEADER = 12
PATIENCE = 0.2  # s between tries to connect
UNIX_PREFIX = "/tmp/ipi_"  # where i-PI puts its sockets


class Engine:
    """The atoms of a server, decomposed over the ranks.

    Parameters
    ----------
    forces : Forces; atoms : Atoms at their owners; n_global : int
    """

    def __init__(self, forces: Forces, atoms: Atoms, n_global: int) -> None:
        self.forces, self.atoms, self.n_global = forces, atoms, n_global

    def compute(self, h: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray | None, np.ndarray]:
        """Energy (eV), forces (n, 3) eV/Å in order of gid on rank 0 (None elsewhere), virial (3, 3) eV. Collective.

        The neighbor list of the call before is kept while no atom has moved too far: atoms are found where they were
        plus the periods that were taken off them since.

        h : (3, 3) cell vectors in rows, Å; x : (n, 3) Å, all atoms, the same on every rank
        """
        domain, atoms = self.forces.domain, self.atoms
        to_host, from_host = domain.backend.to_host, domain.backend.from_host
        if not np.array_equal(h, domain.cell.h):
            domain.deform(domain.cell.inverse @ h)
        n = atoms.n_owned
        atoms.x[:n] = from_host(x[to_host(atoms.gid[:n])]) - domain.cell.cartesian(atoms.image.astype(float))
        self.forces.compute(atoms)
        energy, virial, n = self.forces.energy(), self.forces.virial(), atoms.n_owned
        parts = domain.comm.gather((to_host(atoms.gid[:n]).copy(), to_host(atoms.f[:n]).copy()))
        f = None
        if parts is not None:
            f = np.empty((self.n_global, 3))
            for gid, rows in parts:
                f[gid] = rows
        return energy, f, virial


class Line:
    """The connection to the server; rank 0 holds it. Raises InputError if there is no server or it goes away."""

    def __init__(self, unix: str | None, host: str | None, port: int | None, wait: float) -> None:
        path = unix if unix is None or "/" in unix else UNIX_PREFIX + unix
        self.name = path or f"{host}:{port}"
        until = time.monotonic() + wait
        while True:
            self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM)
            try:
                self.socket.connect(path or (host, port))
                return
            except OSError as error:
                self.socket.close()
                if time.monotonic() > until:
                    raise InputError(f"driver: {self.name}: no server answers ({error.strerror or error}); start i-PI "
                                     "first, and give --unix or --host and --port as in its <ffsocket>") from None
                time.sleep(PATIENCE)

    def take(self, n: int) -> bytes:
        """n bytes."""
        parts = []
        while n:
            try:
                part = self.socket.recv(min(n, 1 << 20))
            except OSError as error:
                raise InputError(f"driver: {self.name}: the server went away: {error.strerror}") from None
            if not part:
                raise InputError(f"driver: {self.name}: the server went away in the middle of a message")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def header(self) -> str:
        """The next word; EXIT where the server has closed the connection."""
        try:
            first = self.socket.recv(1)
        except OSError:
            first = b""
        return (first + self.take(HEADER - 1)).decode("ascii", "replace").strip() if first else "EXIT"

    def numbers(self, kind: str, n: int) -> np.ndarray:
        return np.frombuffer(self.take(n * np.dtype(kind).itemsize), kind)

    def say(self, word: str, *arrays: np.ndarray) -> None:
        try:
            self.socket.sendall(word.ljust(HEADER).encode() + b"".join(a.tobytes() for a in arrays))
        except OSError as error:
            raise InputError(f"driver: {self.name}: the server went away: {error.strerror}") from None

    def request(self, ready: tuple[float, np.ndarray, np.ndarray] | None,
                n_atoms: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Talk until the server wants forces of new positions: h (3, 3) and x (n, 3) in Å; None at the end.

        ready : energy, forces, virial of the positions before (eV, Å), for GETFORCE
        """
        while True:
            word = self.header()
            if word == "STATUS":
                self.say("READY" if ready is None else "HAVEDATA")
            elif word == "INIT":
                self.take(4)
                self.take(int(self.numbers("<i4", 1)[0]))
            elif word == "POSDATA":
                h = self.numbers("<f8", 9).reshape(3, 3).T * BOHR
                self.take(72)
                n = int(self.numbers("<i4", 1)[0])
                if n != n_atoms:
                    raise InputError(f"driver: {self.name}: the server has {n} atoms, the deck's structure {n_atoms}; "
                                     "give both the same structure")
                return np.ascontiguousarray(h), self.numbers("<f8", 3 * n).reshape(n, 3) * BOHR
            elif word == "GETFORCE" and ready is not None:
                energy, f, virial = ready
                self.say("FORCEREADY", np.array([energy / HARTREE], "<f8"), np.array([len(f)], "<i4"),
                         (f * (BOHR / HARTREE)).astype("<f8"), (virial.T / HARTREE).astype("<f8"), np.array([0], "<i4"))
                ready = None
            elif word == "EXIT":
                return None
            else:
                raise InputError(f"driver: {self.name}: '{word}' is no message of i-PI's protocol here; is it an i-PI "
                                 "server?")


def serve(comm: MPI.Comm, engine: Engine, a: argparse.Namespace) -> int:
    """Answer a server until it ends; the number of force calls. Collective."""
    line: Any = None

    def connect() -> None:
        nonlocal line
        line = Line(a.unix, a.host, a.port, a.wait)

    on_root(comm, connect)
    served, ready = 0, None
    try:
        while True:
            asked = on_root(comm, lambda ready=ready: line.request(ready, engine.n_global))  # type: ignore[misc]
            if asked is None:
                return served
            energy, f, virial = engine.compute(*asked)
            if not np.isfinite(energy):
                raise AgreedError(f"driver: call {served + 1}: the energy is not finite: atoms too close, or far from "
                                  "the model's data; use a smaller time step in the server")
            ready = (energy, f, virial)
            served += 1
    finally:
        if line is not None:
            line.socket.close()
