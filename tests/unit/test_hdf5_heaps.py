"""A heap of texts whose objects lead nowhere is refused: HDF5 itself would never end."""

import h5py
import numpy as np
import pytest

from rxmdnn.errors import InputError
from rxmdnn.hdf5 import is_kind, opened
from rxmdnn.hdf5_heaps import HEAD, SIGNATURE, check_heaps


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["head"] = "a text"
        file["texts"] = ["of", "several", "lengths"]
        file["numbers"] = np.frombuffer(SIGNATURE * 2000, np.uint8)  # looks like heaps, and is none
    return tmp_path / "a.h5"


def objects(data):
    """Where the objects of the first heap begin."""
    at = data.index(SIGNATURE) + HEAD
    while True:
        yield at
        number, n = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        if not number:
            return
        at += HEAD + (n + 7) // 8 * 8


def test_a_whole_file_is_read(path):
    check_heaps(path)
    with opened(path, "a file") as file:
        assert file.raw.attrs["head"] == "a text" and is_kind(path, "head")


@pytest.mark.parametrize("size", [0, 2**40, 2**64 - 8])
@pytest.mark.parametrize("which", [0, -1])
def test_an_object_that_leads_nowhere(path, which, size):
    data = bytearray(path.read_bytes())
    at = list(objects(data))[which]
    data[at : at + 16] = bytes(8) + size.to_bytes(8, "little")  # free space of this size
    path.write_bytes(data)
    said = f"a.h5: not a file: a damaged heap of texts at byte {at}"
    with pytest.raises(InputError, match=said), opened(path, "a file"):
        pass
    with pytest.raises(InputError, match="a damaged heap"):
        is_kind(path, "head")
