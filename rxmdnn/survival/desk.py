"""Distribution of batches over ranks: rank 0 hands them out and writes down results between its own steps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.survival import results
from rxmdnn.survival.starts import Run

ASK, TOLD, DONE = 71, 72, 73  # messages


class Desk:
    """Batches are handed out and results taken in by rank 0, between its own steps."""

    def __init__(self, comm: MPI.Intracomm, batches: list[list[Run]], folder: Path, bar: Any) -> None:
        self.comm, self.batches, self.folder, self.bar = comm, batches, folder, bar
        self.given, self.waiting = 0, comm.size - 1

    def _number(self) -> int | None:
        self.given += 1
        return self.given - 1 if self.given <= len(self.batches) else None

    def next(self) -> list[Run] | None:
        """The next batch of this rank; None when there is none."""
        if self.comm.rank == 0:
            number = self._number()
        else:
            number = self.comm.sendrecv(None, 0, ASK, source=0, recvtag=TOLD)
        return None if number is None else self.batches[number]

    def done(self, row: str, frames: str) -> None:
        """A run has ended: its frames, then its row, go to disk."""
        if self.comm.rank == 0:
            self._book(row, frames)
        else:
            self.comm.send((row, frames), 0, DONE)

    def _book(self, row: str, frames: str) -> None:
        try:
            if frames:
                results.append(self.folder / results.FRAMES, frames)
            results.append(self.folder / results.CSV, row)
        except OSError as error:
            raise InputError(f"{error.filename or self.folder}: cannot be written: {error.strerror}; run again to go "
                             "on") from None
        self.bar.update()

    def poll(self) -> None:
        """Rank 0: answer who has asked."""
        status = MPI.Status()
        while self.comm.rank == 0 and self.waiting and self.comm.iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
            message = self.comm.recv(source=status.source, tag=status.tag)
            if status.tag == DONE:
                self._book(*message)
            else:
                number = self._number()
                self.waiting -= number is None
                self.comm.send(number, status.source, TOLD)

    def close(self) -> None:
        """Rank 0 stays until every other rank has been sent home."""
        while self.comm.rank == 0 and self.waiting:
            self.poll()
            time.sleep(0.005)
        self.comm.Barrier()
