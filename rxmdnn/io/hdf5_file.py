"""Changes of an HDF5 file, held in memory and written at once: HDF5 itself never writes to the disk.

HDF5 writes the parts of its structure one by one: a process killed between two of them leaves a file that does not
open, and after a write that fails HDF5 reports errors on its own and crashes when the process ends. Here it writes to
memory, through the driver for Python file objects of h5py. Then the new end of the file is written, to which nothing
points yet, and after it the few changed places of the old part, in an order in which every state between two writes
opens: superblock, indices of chunks from the root down, all else, and last the objects that the caller names.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from rxmdnn import files

PAGE = 1 << 12
SIGNATURE = b"\x89HDF\r\n\x1a\n"
END_AT = {0: 40, 1: 44, 2: 28, 3: 28}  # version of the superblock: where it states the end of the file
TREE = b"TREE"  # begins a node of an index; its level is in byte 5


class HeldFile(io.RawIOBase):
    """A file whose changes are held in memory. Readable, writable, and seekable, as h5py needs.

    Parameters
    ----------
    path : of the file; None: a new, empty one
    """

    def __init__(self, path: Path | None) -> None:
        self.old = os.open(path, os.O_RDONLY) if path is not None else -1
        self.old_end = self.end = _stated_end(self.old) if path is not None else 0
        self.at = 0
        self.pages: dict[int, bytearray] = {}
        self.written: list[tuple[int, int]] = []

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.end}[whence]
        return self.at

    def truncate(self, size: int | None = None) -> int:
        self.end = self.at if size is None else size
        return self.end

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        view[:] = self.content(self.at, len(view))
        self.at += len(view)
        return len(view)

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        done, start = 0, self.at
        while done < len(view):
            page, inside = divmod(start + done, PAGE)
            n = min(PAGE - inside, len(view) - done)
            if page not in self.pages:
                whole = n == PAGE
                self.pages[page] = bytearray(PAGE if whole else self._old(page * PAGE, PAGE))
            self.pages[page][inside:inside + n] = view[done:done + n]
            done += n
        self.written.append((start, start + done))
        self.at, self.end = start + done, max(self.end, start + done)
        return done

    def content(self, start: int, size: int) -> bytes:
        """Bytes of the file with its changes; zeros where nothing was written."""
        out, at = bytearray(), start
        while at < start + size:
            page, inside = divmod(at, PAGE)
            n = min(PAGE - inside, start + size - at)
            out += self.pages[page][inside:inside + n] if page in self.pages else self._old(at, n)
            at += n
        return bytes(out)

    def _old(self, start: int, size: int) -> bytes:
        found = os.pread(self.old, min(size, max(0, self.old_end - start)), start) if self.old >= 0 else b""
        return found.ljust(size, b"\0")

    def changes(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        """(offset, bytes) of the new end, and of the changed places of the old part, neighbors in one piece."""
        spans: list[list[int]] = []
        for start, stop in sorted(self.written):
            if spans and start <= spans[-1][1]:
                spans[-1][1] = max(spans[-1][1], stop)
            else:
                spans.append([start, stop])
        cut = self.old_end
        new = [(max(a, cut), min(b, self.end)) for a, b in spans if b > cut and a < self.end]
        old = [(a, min(b, cut)) for a, b in spans if a < cut]
        return ([(a, self.content(a, b - a)) for a, b in new],
                [(a, self.content(a, b - a)) for a, b in old if self.content(a, b - a) != self._old(a, b - a)])

    def close(self) -> None:
        if self.old >= 0:
            os.close(self.old)
            self.old = -1
        super().close()


def _stated_end(file: int) -> int:
    """The end of an HDF5 file as its superblock states it: what lies behind belongs to a change that was not completed.

    That of the file itself where there is no superblock, or where it states more.
    """
    size, head = os.fstat(file).st_size, os.pread(file, 64, 0)
    if not head.startswith(SIGNATURE) or len(head) < 64 or head[8] not in END_AT:
        return size
    at = END_AT[head[8]]
    return min(size, int.from_bytes(head[at:at + 8], "little"))


class Change:
    """A change of an HDF5 file: ``file`` is changed in memory, ``hold`` ends that, ``extend`` makes room on the disk,
    ``commit`` writes.

    Between ``extend`` and ``commit`` others may write into the new end of the file. Without ``commit`` the file stays
    what it was.

    Parameters
    ----------
    path : Path
    new : whether an empty file of this name becomes an HDF5 file

    Raises OSError.
    """

    def __init__(self, path: str | Path, new: bool = False) -> None:
        self.path = Path(path)
        self.held = HeldFile(None if new else self.path)
        self.last: list[int] = []
        self.shrinks = False  # whether objects named last are written first, and all else in the reverse order
        try:
            self.file = h5py.File(self.held, "w" if new else "r+")
        except BaseException:
            self.held.close()
            raise

    def name_last(self, *objects: h5py.HLObject) -> None:
        """Objects whose own changes, such as their sizes, are written last, in this order."""
        self.last += [h5py.h5o.get_info(item.id).addr for item in objects]

    def hold(self) -> None:
        """Have HDF5 complete its changes in memory."""
        self.file.close()
        self.new, self.changed = self.held.changes()
        self.end, self.old_end = self.held.end, self.held.old_end
        self.held.close()

    def extend(self) -> None:
        """Make room for the new end on the disk and write it. Raises OSError; the file is then what it was."""
        with _opened(self.path) as file:
            before = os.fstat(file).st_size
            try:
                if self.end > before:
                    files.reserve(file, before, self.end)
                for offset, data in self.new:
                    files.write_at(file, offset, data)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file, before)
                raise

    def commit(self) -> None:
        """Write the changes of the old part. Raises OSError; the file is then what it was, if that can be written."""
        with _opened(self.path) as file:
            done: list[tuple[int, bytes]] = []
            try:
                for offset, data in self.in_order():
                    done.append((offset, os.pread(file, len(data), offset)))
                    files.write_at(file, offset, data)
                if self.end < self.old_end:
                    os.ftruncate(file, self.end)
            except OSError:
                with suppress(OSError):
                    for offset, data in reversed(done):
                        files.write_at(file, offset, data)
                raise

    def in_order(self) -> list[tuple[int, bytes]]:
        """(offset, bytes) of the changes of the old part, in the order in which they are written."""
        def rank(change: tuple[int, bytes]) -> tuple[int, int]:
            offset, data = change
            named = [k for k, at in enumerate(self.last) if offset <= at < offset + len(data)]
            if named:
                return 3, max(named)
            if offset == 0:
                return 0, 0
            return (1, -data[5]) if data.startswith(TREE) else (2, 0)

        found = sorted(self.changed, key=rank)
        return found[::-1] if self.shrinks else found

    def abandon(self) -> None:
        """Leave the file what it is."""
        with suppress(Exception):
            self.file.close()
        self.held.close()


@contextmanager
def changing(path: str | Path, new: bool = False, last: str = "/") -> Iterator[h5py.File]:
    """A block that changes an HDF5 file; on success all is written, after an error nothing.

    path, new : as of Change
    last : name of the data set whose size says how much of the others counts: where the file grows its size is written
        last, where it shrinks first
    """
    change = Change(path, new)
    try:
        before = len(change.file[last]) if last in change.file else 0
        yield change.file
        if last in change.file:
            change.name_last(change.file[last])
            change.shrinks = len(change.file[last]) < before
        change.hold()
    except BaseException:
        change.abandon()
        raise
    change.extend()
    change.commit()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        yield file
    finally:
        os.close(file)
