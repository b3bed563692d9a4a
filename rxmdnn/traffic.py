"""What a rank sends to others and how long it waits for them, counted call by call."""
# ruff: noqa: N802 - the names of mpi4py

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any

from mpi4py import MPI

from rxmdnn.arrays import Array

COLLECTIVES = ("allreduce", "Allreduce", "bcast", "Bcast", "allgather", "Allgatherv", "gather", "exscan", "Alltoall",
               "Alltoallv", "Reduce", "Barrier")


@dataclass
class Traffic:
    """Counts of one rank since ``clear``.

    Attributes
    ----------
    messages, bytes : sent from this rank to another one, without those inside collective calls
    collectives : calls in which all ranks take part
    waited : float, s, in collective calls and until messages have come
    """

    messages: int = 0
    bytes: int = 0
    collectives: int = 0
    waited: float = 0.0

    def clear(self) -> None:
        """Count from now on."""
        self.messages, self.bytes, self.collectives, self.waited = 0, 0, 0, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block in which this rank waits for others."""
        start = perf_counter()
        try:
            yield
        finally:
            self.waited += perf_counter() - start


class CountedComm(MPI.Intracomm):
    """A communicator that counts, into ``traffic``, what is sent and waited for through it and its parts."""

    traffic: Traffic

    def Isend(self, buf: Array, dest: int, tag: int = 0) -> MPI.Request:
        if dest != MPI.PROC_NULL:
            self.traffic.messages += 1
            self.traffic.bytes += buf.nbytes
        return super().Isend(buf, dest, tag)

    def Iallreduce(self, sendbuf: Array, recvbuf: Array, op: Any = MPI.SUM) -> MPI.Request:
        self.traffic.collectives += 1
        return super().Iallreduce(sendbuf, recvbuf, op)

    def Split(self, color: int = 0, key: int = 0) -> CountedComm:
        part = CountedComm(super().Split(color, key))
        part.traffic = self.traffic
        return part


def _counted(name: str) -> Callable[..., Any]:
    """The method of a communicator, with its calls counted and timed."""
    call = getattr(MPI.Intracomm, name)

    @wraps(call)
    def method(self: CountedComm, *args: Any, **named: Any) -> Any:
        self.traffic.collectives += 1
        with self.traffic.waiting():
            return call(self, *args, **named)

    return method


for _name in COLLECTIVES:
    setattr(CountedComm, _name, _counted(_name))


def counted(comm: MPI.Comm) -> MPI.Comm:
    """The same ranks with a communicator that counts; ``comm`` itself on one rank, which has nobody to wait for."""
    if comm.size == 1 or isinstance(comm, CountedComm):
        return comm
    counting = CountedComm(comm)
    counting.traffic = Traffic()
    return counting


def traffic_of(comm: MPI.Comm) -> Traffic:
    """The counts of a communicator; counts that stay apart where it does not count."""
    return comm.traffic if isinstance(comm, CountedComm) else Traffic()
