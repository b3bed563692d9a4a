"""Copies of positions and forces on their way while this rank computes: the verbs of Domain without their waiting.

An exchange goes through the hops of the domain's plan one after the other. ``advance`` starts the next hop once the
present one has arrived, and never waits; ``finish`` waits for all. At most one exchange is under way at a time. The
bits are those of ``Domain.copy`` and ``Domain.give_back``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from mpi4py import MPI

from rxmdnn.arrays import Array
from rxmdnn.engine.domain import Domain, Flow


class Exchange(ABC):
    """Messages of all hops, in order, through arrays of the host.

    Parameters
    ----------
    domain : Domain with a plan
    rows : (n_all, 3) float64, what is sent and changed
    """

    def __init__(self, domain: Domain, rows: Array, hops: list[list[Flow]]) -> None:
        self.domain, self.rows = domain, rows
        self._hops, self._next = hops, 0
        self._requests: list[MPI.Request] = []
        self._start()

    @abstractmethod
    def _post(self, hop: list[Flow]) -> list[MPI.Request]:
        """Start the messages of a hop between ranks."""

    @abstractmethod
    def _arrived(self, hop: list[Flow]) -> None:
        """Use what the messages of a hop have brought."""

    @abstractmethod
    def _at_home(self, hop: list[Flow]) -> None:
        """Do a hop between this rank and itself."""

    def _start(self) -> None:
        """Do hops at home until one has messages, and start these."""
        while self._next < len(self._hops) and self.domain.is_at_home(self._hops[self._next]):
            self._at_home(self._hops[self._next])
            self._next += 1
        if self._next < len(self._hops):
            self._requests = self._post(self._hops[self._next])

    def _go_on(self) -> None:
        self._arrived(self._hops[self._next])
        self._next += 1
        self._start()

    def advance(self) -> None:
        """Go on as far as messages have arrived."""
        while self._next < len(self._hops) and MPI.Request.Testall(self._requests):
            self._go_on()

    def finish(self) -> None:
        """Wait for all messages."""
        while self._next < len(self._hops):
            with self.domain.traffic.waiting():
                MPI.Request.Waitall(self._requests)
            self._go_on()


class Copying(Exchange):
    """``Domain.copy`` of positions. Copies that come from this rank itself are there at once.

    rows : (n_all, 3) float64, Å
    """

    def __init__(self, domain: Domain, rows: Array) -> None:
        for hop in domain.flows:  # what a hop between ranks comes before is done again when it has come
            if domain.is_at_home(hop):
                domain.pack_home(hop, rows)
        super().__init__(domain, rows, domain.flows)

    def _at_home(self, hop: list[Flow]) -> None:
        self.domain.pack_home(hop, self.rows)

    def _post(self, hop: list[Flow]) -> list[MPI.Request]:
        comm, x = self.domain.comm, self.rows
        for flow in hop:
            self.domain.backend.pack(x, flow.rows, flow.shift, flow.out)
        return [comm.Irecv(x[flow.start : flow.stop], flow.receive_from, way) for way, flow in enumerate(hop)] + [
            comm.Isend(flow.out, flow.send_to, way) for way, flow in enumerate(hop)]

    def _arrived(self, hop: list[Flow]) -> None:
        """Rows arrive where they belong."""


class GivingBack(Exchange):
    """``Domain.give_back`` of the forces on copies from other ranks, which are known before those on owned atoms.

    rows : (n_all, 3) float64, eV/Å, overwritten; those of copies from other ranks, and of copies of these, are whole
    """

    def __init__(self, domain: Domain, rows: Array) -> None:
        super().__init__(domain, rows, domain.flows[::-1])

    def _at_home(self, hop: list[Flow]) -> None:
        for flow in hop:
            self.domain.backend.unpack_add(self.rows[flow.start : flow.stop], flow.rows, self.rows)

    def _post(self, hop: list[Flow]) -> list[MPI.Request]:
        comm, f = self.domain.comm, self.rows
        return [comm.Irecv(flow.back, flow.send_to, way) for way, flow in enumerate(hop)] + [
            comm.Isend(f[flow.start : flow.stop], flow.receive_from, way) for way, flow in enumerate(hop)]

    def _arrived(self, hop: list[Flow]) -> None:
        for flow in hop:  # rows that a later hop sends on
            self.domain.backend.unpack_add(flow.back, flow.rows, self.rows)

    def add_to(self, f: Array) -> None:
        """Add what has come to the whole forces, in the order of ``Domain.give_back``. f : (n_all, 3), eV/Å."""
        self.finish()
        for hop in self._hops:
            home = self.domain.is_at_home(hop)
            for flow in hop:
                self.domain.backend.unpack_add(f[flow.start : flow.stop] if home else flow.back, flow.rows, f)
