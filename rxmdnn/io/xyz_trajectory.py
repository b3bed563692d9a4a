"""One extended XYZ file of a whole run, written by all ranks; ASE and OVITO read it.

The rows of a frame are written first and its two header lines last: a run killed between them leaves a last frame
without a header, which readers take as the end of the file, and which is dropped when the run continues.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.io.frame import Frame, text_blocks, xyz_parts
from rxmdnn.io.ordered import writable, write_blocks
from rxmdnn.parallel import on_root

XYZ_TRAJECTORY = "trajectory.xyz"
STEP = re.compile(rb"(?:^|\s)step=(-?\d+)")


class FrameAt(NamedTuple):
    """A complete frame of an extended XYZ file: byte offsets of its start and end, number of atoms, header line."""

    start: int
    end: int
    atoms: int
    header: bytes


class BlankLineError(InputError):
    """A blank line between frames, at which readers stop without a word."""


def frames_of(path: Path) -> Iterator[FrameAt]:
    """The complete frames of a file; a frame that a killed run has not finished ends it. Raises InputError."""
    with open(path, "rb") as text:
        number = 0
        while True:
            start, line = text.tell(), text.readline()
            count = line.strip()
            if not count or count.startswith(b"\0"):
                if line and not count and text.read(1 << 16).strip():
                    raise BlankLineError(f"{path}: a blank line stands before frame {number}, counted from 0, and "
                                         "would end the file; remove it")
                return
            if not count.isdigit():
                raise InputError(f"{path}: frame {number}, byte {start}: expected the number of atoms, found "
                                 f"{line[:30]!r}; other formats are read after 'rxmdnn convert FILE x.xyz'")
            header = text.readline()
            before, last = b"", header
            for _ in range(int(count)):
                before, last = last, text.readline()
            if not last.endswith(b"\n") and (not last or len(last.split()) != len(before.split())):
                return  # the run was killed while it wrote
            yield FrameAt(start, text.tell(), int(count), header)
            number += 1


class XYZTrajectory:
    """A file that grows by one frame per call of ``write``.

    Parameters
    ----------
    comm : MPI communicator
    path : Path
    restart : int, optional
        The step from which a restarted run continues: frames after it are dropped. Without it a new file is made.
    """

    def __init__(self, comm: MPI.Comm, path: str | Path, restart: int | None = None) -> None:
        self.comm, self.path = comm, Path(path)
        self.size, self.last = 0, -1  # of the complete frames: bytes, step of the last one
        if restart is not None:
            self.rewind(restart)

    def write(self, frame: Frame) -> None:
        """Append a frame, unless the file has one of this step or a later one (collective)."""
        if frame.step <= self.last:
            return
        header, parts = xyz_parts(frame)
        head = np.frombuffer(header.encode(), np.uint8)
        if not self.size:
            self._create()
        blocks, end = text_blocks(frame, parts, self.size + len(head))
        write_blocks(self.comm, self.path, blocks)
        write_blocks(self.comm, self.path, [(self.size, head if self.comm.rank == 0 else head[:0])])
        self.size, self.last = end, frame.step

    def rewind(self, step: int) -> None:
        """Drop frames after a step (collective)."""
        self.size, self.last = on_root(self.comm, lambda: self._truncate(step))

    def _create(self) -> None:
        with writable(self.comm, self.path):
            if self.comm.rank == 0:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_bytes(b"")

    def _truncate(self, restart: int) -> tuple[int, int]:
        if not self.path.exists():
            return 0, -1
        size, last = 0, -1
        for frame in frames_of(self.path):
            stated = STEP.search(frame.header)
            if stated is None:
                raise InputError(f"{self.path}: a frame names no step; it cannot be continued: move it away")
            if int(stated[1]) > restart:
                break
            size, last = frame.end, int(stated[1])
        os.truncate(self.path, size)
        return size, last
