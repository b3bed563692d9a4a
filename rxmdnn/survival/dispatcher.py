"""Distribution of batches over ranks: rank 0 hands them out and writes their results between its own steps."""

from __future__ import annotations

import time
from pathlib import Path

from mpi4py import MPI
from tqdm import tqdm

from rxmdnn import files
from rxmdnn.survival import results
from rxmdnn.survival.plan import StudyRun

ASK, ANSWER, RESULT = 71, 72, 73  # message tags


class Dispatcher:
    """Rank 0 hands out the batches and writes the results of all ranks; the others ask and report."""

    def __init__(self, comm: MPI.Intracomm, batches: list[list[StudyRun]], folder: Path, bar: tqdm) -> None:
        self.comm, self.batches, self.folder, self.bar = comm, batches, folder, bar
        self._handed_out, self._busy_ranks = 0, comm.size - 1

    def _next_number(self) -> int | None:
        self._handed_out += 1
        return self._handed_out - 1 if self._handed_out <= len(self.batches) else None

    def next(self) -> list[StudyRun] | None:
        """The next batch of this rank; None after the last."""
        if self.comm.rank == 0:
            number = self._next_number()
        else:
            number = self.comm.sendrecv(None, 0, ASK, source=0, recvtag=ANSWER)
        return None if number is None else self.batches[number]

    def report(self, row: str, frames: str) -> None:
        """Write the frames and then the table row of a run that ended; ranks other than 0 send them to rank 0."""
        if self.comm.rank == 0:
            self._write(row, frames)
        else:
            self.comm.send((row, frames), 0, RESULT)

    def _write(self, row: str, frames: str) -> None:
        with files.writing(self.folder):
            if frames:
                files.append(self.folder / results.FRAMES, frames)
            files.append(self.folder / results.CSV, row)
        self.bar.update()

    def poll(self) -> None:
        """On rank 0, receive results and answer requests that have arrived."""
        status = MPI.Status()
        while self.comm.rank == 0 and self._busy_ranks and self.comm.iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
            message = self.comm.recv(source=status.source, tag=status.tag)
            if status.tag == RESULT:
                self._write(*message)
            else:
                number = self._next_number()
                self._busy_ranks -= number is None
                self.comm.send(number, status.source, ANSWER)

    def close(self) -> None:
        """Wait until every rank has finished its last batch."""
        while self.comm.rank == 0 and self._busy_ranks:
            self.poll()
            time.sleep(0.005)
        self.comm.Barrier()
