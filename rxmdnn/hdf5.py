"""HDF5 files whose entries are checked before they are read.

An entry is refused before memory is asked for if it declares more than the file holds, if it is in another file
(external links, external storage, virtual datasets), or if it needs a filter that HDF5 would load from a plugin.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.hdf5_heaps import check_heaps
from rxmdnn.schema import MOST_PACKED, Checked, Item, reading

FILTERS = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf: those that h5py has itself
NOT_STORED = "declares {} bytes, of which the file holds {}: damaged or truncated"


class Group:
    """A group of an HDF5 file. within : its name in the file"""

    def __init__(self, group: h5py.Group, checked: Checked, within: str = "") -> None:
        self.raw, self.checked, self.within = group, checked, within

    def _entry(self, name: str) -> str:
        return f"{self.within}/{name}" if self.within else name

    def __contains__(self, name: str) -> bool:
        group = self.raw
        for part in name.split("/"):
            if not isinstance(group, h5py.Group) or not group.id.links.exists(part.encode()):
                return False
            if not isinstance(group.get(part, getlink=True), h5py.HardLink):
                raise self.checked.fault(self._entry(name), "is a link, which is not followed")
            group = group[part]
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def _find(self, name: str, kind: Any, word: str) -> Any:
        if name not in self:
            raise self.checked.fault(self._entry(name), "is missing")
        if not isinstance(found := self.raw[name], kind):
            raise self.checked.fault(self._entry(name), f"is not a {word}")
        return found

    def group(self, name: str) -> Group:
        """A group below this one. Raises InputError."""
        return Group(self._find(name, h5py.Group, "group"), self.checked, self._entry(name))

    def dataset(self, name: str, item: Item | None = None, rows: int | None = None) -> h5py.Dataset:
        """A dataset, of which nothing is read: the file holds what it declares. Raises InputError.

        item : None: of any kind and shape
        rows : so many are used, of which the last may not be stored yet where a run was killed; None: all
        """
        data, entry = self._find(name, h5py.Dataset, "dataset"), self._entry(name)
        plist = data.id.get_create_plist()
        if data.external or data.is_virtual:
            raise self.checked.fault(entry, "is stored in another file, which is not read")
        filters = {plist.get_filter(k)[0] for k in range(plist.get_nfilters())}
        if filters - FILTERS:
            raise self.checked.fault(entry, f"needs the filter {min(filters - FILTERS)} of HDF5, which is not loaded")
        if item is not None:
            self.checked.kind(entry, data.dtype, item)
            self.checked.shape(entry, data.shape, item)
        if data.shape is None or data.dtype.kind not in "biufSO":
            raise self.checked.fault(entry, f"of type {data.dtype}, which is not read")
        stored = data.id.get_storage_size()
        needed = data.nbytes if rows is None or not data.size else data.nbytes // len(data) * min(rows, len(data))
        if needed > stored * (MOST_PACKED if filters else 1):
            raise self.checked.fault(entry, NOT_STORED.format(needed, stored))
        return data

    def frames(self, name: str, item: Item, count: int) -> h5py.Dataset:
        """A dataset whose first ``count`` rows are frames; where a run was killed while it wrote there may be more.

        item : its first size is None. Raises InputError.
        """
        data = self.dataset(name, item, count)
        if len(data) < count:
            raise self.checked.fault(self._entry(name), f"has {len(data)} frames of {count}")
        return data

    def of_frames(self, name: str, item: Item, count: int) -> np.ndarray:
        """The first ``count`` rows of a dataset of frames (see ``frames``), their values checked. Raises InputError."""
        return self.rows(name, self.frames(name, item, count), slice(count), item)

    def array(self, name: str, item: Item) -> Any:
        """The values of a dataset, as ``Checked.value`` gives them. Raises InputError."""
        data = self.dataset(name, item)
        return self.checked.value(self._entry(name), data[()], item)

    def rows(self, name: str, data: h5py.Dataset, which: Any, item: Item) -> np.ndarray:
        """A part of a dataset, its values checked. Raises InputError."""
        values = np.asarray(data[which])
        self.checked.values(self._entry(name), values, item)
        return values

    def attribute(self, name: str, item: Item) -> Any:
        """An attribute of this group. Raises InputError."""
        if name not in self.raw.attrs:
            raise self.checked.fault(self._entry(name), "is missing")
        return self.checked.value(self._entry(name), self.raw.attrs[name], item)


def open_file(path: str | Path) -> h5py.File:
    """A file for reading, without a lock. Raises OSError, also for damage at which HDF5 would never end."""
    check_heaps(path)
    return h5py.File(path, "r", locking=False)


@contextmanager
def opened(path: str | Path, what: str, advice: str = "") -> Iterator[Group]:
    """A file for reading; everything that a damaged one makes HDF5 raise within is one InputError.

    what : what the file should be, as "a checkpoint"; advice : what to do
    """
    with reading(path, what, advice) as checked, open_file(path) as file:
        yield Group(file, checked)


def is_kind(path: str | Path, *names: str) -> bool:
    """Whether an HDF5 file has entries, or attributes, of these names. Raises InputError for a damaged file."""
    if not h5py.is_hdf5(path):
        return False
    try:
        with open_file(path) as file:
            group = Group(file, Checked(path))
            return all(name in group or name in file.attrs for name in names)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
