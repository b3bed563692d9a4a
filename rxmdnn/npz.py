"""Arrays of an .npz file: no object arrays, no code, and no array larger than the file holds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from rxmdnn.schema import MOST_PACKED, Checked, reading

HEADER = 1 << 16  # bytes of the header of an array, at most


def read_npz(path: str | Path, what: str, advice: str = "") -> dict[str, np.ndarray]:
    """The arrays of a file, by name. Raises InputError."""
    with reading(path, what, advice) as checked, zipfile.ZipFile(path) as archive:
        return {info.filename.removesuffix(".npy"): _array(archive, info, checked) for info in archive.infolist()}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, checked: Checked) -> np.ndarray:
    entry = info.filename[:100]
    size = Path(str(archive.filename)).stat().st_size
    if info.compress_size > size or info.file_size > MOST_PACKED * (info.compress_size + 1):
        raise checked.fault(entry, f"declares {info.file_size} bytes, more than the file holds")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise checked.fault(entry, f"an array of format {version[0]}.{version[1]}, which is not read")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=HEADER)
        if dtype.hasobject or dtype.kind not in "biufcSU" or not dtype.itemsize:
            raise checked.fault(entry, f"of type {dtype}, which is not read")
        count = 1
        for n in shape:
            count *= int(n)
        data = file.read()
        if count < 0 or min(shape, default=0) < 0 or len(data) != count * dtype.itemsize:
            raise checked.fault(entry, f"{len(data)} bytes for the shape {shape} of {dtype}: damaged or truncated")
    array = np.frombuffer(bytearray(data), dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
