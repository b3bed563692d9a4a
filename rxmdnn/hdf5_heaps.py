"""The heaps in which HDF5 keeps texts: a damaged one can have HDF5 read the same place for ever.

HDF5 goes from object to object of a heap by their sizes (H5HG__cache_heap_deserialize, HDF5 2.0); free space of size 0
leads back to itself. Format: HDF5 File Format Specification 3.0, III.E, "Disk Format: Level 1E - Global Heap".
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

SIGNATURE = b"GCOL"
HEAD = 16  # bytes of the head of a heap, and of that of an object in it
SMALLEST = 4096  # bytes of a heap
WHOLE = 64 << 20  # bytes of a file that is looked through whole
BEGIN = 1 << 20  # bytes of a larger one that are


def check_heaps(path: str | Path) -> None:
    """Raise OSError where a heap of a file has an object that ends nowhere. Larger files: where they begin."""
    size = os.stat(path).st_size
    if size < HEAD:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end, at = size if size <= WHOLE else BEGIN, -1
        while (at := data.find(SIGNATURE, at + 1, end)) >= 0:
            if (fault := _fault(data, at, size)) >= 0:
                raise OSError(f"a damaged heap of texts at byte {fault}")


def _fault(data: mmap.mmap, heap: int, size: int) -> int:
    """Where the object begins whose size leads nowhere; -1 without one, and for other bytes that look like a heap."""
    length = int.from_bytes(data[heap + 8 : heap + HEAD], "little")
    if data[heap + 4 : heap + 8] != b"\1\0\0\0" or not SMALLEST <= length <= size - heap:
        return -1
    at, end = heap + HEAD, heap + length
    while at + HEAD <= end:
        number, n = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + HEAD], "little")
        taken = HEAD + (n + 7) // 8 * 8 if number else n
        if taken < 1 or at + taken > end:
            return at
        at += taken
    return -1
