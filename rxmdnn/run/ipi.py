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

import socket
import time
from collections.abc import Callable

import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.io.start import check_extent
from rxmdnn.parallel import AgreedError, on_root

BOHR, HARTREE = 0.529177210903, 27.211386245988  # Å, eV (CODATA 2018)
HEADER = 12
MOST_TEXT = 1 << 20  # bytes of the text of INIT
PATIENCE = 0.2  # s between tries to connect
UNIX_PREFIX = "/tmp/ipi_"  # where i-PI puts its sockets


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
        """The next n bytes. Raises InputError where the server goes away."""
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
        """The next n numbers of a NumPy type, (n,)."""
        return np.frombuffer(self.take(n * np.dtype(kind).itemsize), kind)

    def say(self, word: str, *arrays: np.ndarray) -> None:
        """Send a header and the numbers that follow it. Raises InputError where the server goes away."""
        try:
            self.socket.sendall(word.ljust(HEADER).encode() + b"".join(a.tobytes() for a in arrays))
        except OSError as error:
            raise InputError(f"driver: {self.name}: the server went away: {error.strerror}") from None

    def request(self, ready: tuple[float, np.ndarray, np.ndarray] | None, n_atoms: int,
                pbc: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Talk until the server wants forces of new positions: h (3, 3) and x (n, 3) in Å; None at the end.

        ready : energy, forces, virial of the positions before (eV, Å), for GETFORCE; pbc : (3,) of the cell
        """
        while True:
            word = self.header()
            if word == "STATUS":
                self.say("READY" if ready is None else "HAVEDATA")
            elif word == "INIT":
                self.take(4)
                length = int(self.numbers("<i4", 1)[0])
                if not 0 <= length <= MOST_TEXT:
                    raise InputError(f"driver: {self.name}: INIT announces a text of {length} bytes; is this an i-PI "
                                     "server?")
                self.take(length)
            elif word == "POSDATA":
                h = self.numbers("<f8", 9).reshape(3, 3).T * BOHR
                self.take(72)
                n = int(self.numbers("<i4", 1)[0])
                if n != n_atoms:
                    raise InputError(f"driver: {self.name}: the server has {n} atoms, the deck's structure {n_atoms}; "
                                     "give both the same structure")
                x = self.numbers("<f8", 3 * n).reshape(n, 3) * BOHR
                if not (np.isfinite(h).all() and np.isfinite(x).all()):
                    raise InputError(f"driver: {self.name}: the server sent NaN or infinite positions or cell; its run "
                                     "has become unstable")
                check_extent(x, Cell(h, pbc), f"driver: {self.name}")
                return np.ascontiguousarray(h), x
            elif word == "GETFORCE" and ready is not None:
                energy, f, virial = ready
                self.say("FORCEREADY", np.array([energy / HARTREE], "<f8"), np.array([len(f)], "<i4"),
                         (f * (BOHR / HARTREE)).astype("<f8"), (virial.T / HARTREE).astype("<f8"), np.array([0], "<i4"))
                ready = None
            elif word == "EXIT":
                return None
            else:
                raise InputError(f"driver: {self.name}: unexpected message '{word}'; is this an i-PI server?")


def serve(system: System, connect: Callable[[], Line]) -> int:
    """Answer a server until it ends; the number of force calls. All ranks of the system call it.

    connect : makes the connection, on rank 0
    """
    line: Line | None = None

    def open_line() -> None:
        nonlocal line
        line = connect()

    on_root(system.comm, open_line)
    served, ready = 0, None
    try:
        while True:
            asked = on_root(system.comm, lambda ready=ready: line.request(  # type: ignore[misc, union-attr]
                ready, system.n_global, system.cell.pbc))
            if asked is None:
                return served
            h, x = asked
            energy, forces, virial, _ = system.compute(Cell(h, system.cell.pbc), x)
            if not np.isfinite(energy):
                raise AgreedError(f"driver: call {served + 1}: the energy is not finite: atoms too close, or far from "
                                  "the model's data; use a smaller time step in the server")
            ready = (energy, forces, virial)
            served += 1
    finally:
        if line is not None:
            line.socket.close()
