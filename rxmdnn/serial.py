"""What rxmdnn uses of ``mpi4py.MPI``, for one process: it takes the place of MPI where no MPI library is installed.

Reductions over one rank are the identity, the only other end of a message is nobody (PROC_NULL). Everything works on
one rank as with MPI; several ranks need a library. ``provide`` is called before the first module that imports mpi4py.
"""
# ruff: noqa: N802 - the names of mpi4py

from __future__ import annotations

import copy
import os
import sys
from typing import Any, NoReturn

from rxmdnn.errors import InputError

# What launchers call the number of ranks of a job.
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "MPI_LOCALNRANKS")
IN_PLACE, PROC_NULL, ANY_SOURCE, ANY_TAG, COMM_TYPE_SHARED = object(), -2, -1, -1, 0
SUM, MAX, MIN, LOR, LAND = "sum", "max", "min", "lor", "land"


def provide() -> bool:
    """Put this module in the place of ``mpi4py.MPI`` if MPI cannot be loaded; was it?

    Raises InputError where a launcher has started several ranks.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):  # mpi4py: "cannot load MPI library", or an MPI module built for another one
        if any(os.environ.get(name, "1") not in ("", "0", "1") for name in SIZE_VARIABLES):
            raise InputError("several ranks were started, but no MPI library can be loaded; install the one of the "
                             "launcher, or run 'pip install \".[mpi]\"' in the folder of rxmdnn") from None
        import mpi4py

        sys.modules["mpi4py.MPI"] = mpi4py.MPI = sys.modules[__name__]  # type: ignore[attr-defined]
        return True
    return MPI.__name__ == __name__


class Datatype:
    """A type of rows, which are copied as they are."""

    def Create_contiguous(self, count: int) -> Datatype:
        return self

    def Commit(self) -> Datatype:
        return self

    def Free(self) -> None:
        pass


class Status:
    """Of a message that never comes."""

    source = tag = -1


class Request:
    """A message to or from nobody, which is complete."""

    @staticmethod
    def Waitall(requests: list[Request]) -> None:
        pass


class Comm:
    """A communicator of one rank."""

    rank, size = 0, 1

    def allreduce(self, value: Any, op: Any = SUM) -> Any:
        return copy.copy(value)

    def bcast(self, value: Any, root: int = 0) -> Any:
        return value

    def allgather(self, value: Any) -> list[Any]:
        return [value]

    gather = allgather

    def exscan(self, value: Any) -> None:
        return None

    def Allreduce(self, send: Any, receive: Any, op: Any = SUM) -> None:
        if send is not IN_PLACE:
            receive[...] = send

    Reduce = Alltoall = Allreduce

    def Iallreduce(self, send: Any, receive: Any, op: Any = SUM) -> Request:
        self.Allreduce(send, receive)
        return Request()

    def Alltoallv(self, send: list[Any], receive: list[Any]) -> None:
        receive[0][...] = send[0]

    def Allgatherv(self, send: Any, receive: list[Any]) -> None:
        receive[0][...] = send

    def Bcast(self, values: Any, root: int = 0) -> None:
        pass

    def Barrier(self) -> None:
        pass

    def Split(self, color: int = 0, key: int = 0) -> Comm:
        return self

    def Split_type(self, kind: int) -> Comm:
        return self

    def Free(self) -> None:
        pass

    def Isend(self, values: Any, dest: int, tag: int = 0) -> Request:
        assert dest == PROC_NULL, "one rank sends no message"
        return Request()

    Irecv = Isend

    def send(self, value: Any, dest: int, tag: int = 0) -> NoReturn:
        raise AssertionError("one rank sends no message")

    def recv(self, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> NoReturn:
        raise AssertionError("one rank receives no message")

    def Abort(self, code: int = 1) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


Intracomm = Comm
BYTE, COMM_WORLD, COMM_SELF = Datatype(), Comm(), Comm()


def Finalize() -> None:
    pass
