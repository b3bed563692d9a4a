"""Checkpoints: everything a run needs to continue, in one HDF5 file that is either complete or absent.

The atoms of each rank are one segment, in its row order, with a checksum, so that the same number of ranks continues
with the same bits; another number of ranks distributes complete segments and then sends atoms to their owners. The file
is written under a temporary name and renamed; the previous one is kept as checkpoint.prev.h5.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import FIELDS
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.hdf5 import opened
from rxmdnn.io.frame import Frame
from rxmdnn.io.hdf5_file import changing
from rxmdnn.io.ordered import exscan, numbered, replacing, writable, write_blocks
from rxmdnn.io.start import Start
from rxmdnn.parallel import AgreedError, on_root, together
from rxmdnn.schema import Item, parse_json

NAME, PREVIOUS, VERSION = "checkpoint.h5", "checkpoint.prev.h5", 1


def write_checkpoint(frame: Frame, folder: str | Path, state: dict[str, Any] | None = None, deck: str = "") -> Path:
    """Write <folder>/checkpoint.h5, keeping the previous one as checkpoint.prev.h5; its path.

    Parameters
    ----------
    frame : Frame; rows of its atoms keep their order; `extra` is written too
    state : dict of numbers, strings, lists, dicts and NumPy arrays: of thermostats, random numbers, the schedule
    deck : the effective deck

    Raises InputError (full disk, no permission); the existing file is then unchanged.
    """
    comm, atoms, path = frame.comm, frame.atoms, Path(folder) / NAME
    n = atoms.n_owned
    arrays: dict[str, np.ndarray] = {a.name: np.ascontiguousarray(getattr(atoms, a.name)[:n], a.dtype) for a in FIELDS}
    arrays |= {f"extra.{k}": np.ascontiguousarray(v) for k, v in sorted(atoms.extra.items())}
    segments = comm.gather((n, _checksum(arrays)))
    header = json.dumps({
        "version": VERSION, "n_global": frame.n_global, "elements": frame.elements, "masses": frame.masses,
        "cell": frame.cell.h.tolist(), "pbc": frame.cell.pbc.tolist(), "step": frame.step, "time": frame.time,
        "state": _packed(state or {}), "deck": deck, "units": "A fs amu eV K", "ranks": comm.size})
    with replacing(comm, path, path.with_name(PREVIOUS)) as part:
        offsets: dict[str, int] | None = None
        with writable(comm, path):
            if segments is not None:
                offsets = _create(part, arrays, frame.n_global, header, np.array(segments, np.int64))
        offsets = comm.bcast(offsets)
        start = exscan(comm, n)
        write_blocks(comm, part, [(offsets[k] + start * a[:0].itemsize * int(np.prod(a.shape[1:], dtype=int)), a)
                                     for k, a in arrays.items()])
    return path


def _create(path: Path, arrays: dict[str, np.ndarray], n: int, header: str, segments: np.ndarray) -> dict[str, int]:
    with changing(path, new=True) as file:
        file["header"] = header
        file["header_crc32"] = zlib.crc32(header.encode())
        file["segments"] = segments  # (ranks, 2): atoms, crc32 of their rows
        return {k: allocate(file, k, a.dtype, (n, *a.shape[1:])) for k, a in arrays.items()}


def allocate(file: h5py.Group, name: str, dtype: Any, shape: tuple[int, ...]) -> int:
    """Create a contiguous dataset, whose bytes the ranks write themselves; its offset in the file."""
    make = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    make.set_layout(h5py.h5d.CONTIGUOUS)
    make.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    make.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    offset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, make).get_offset()
    return offset if offset is not None else 0


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    crc = 0
    for array in arrays.values():
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return crc


def _packed(value: Any) -> Any:
    """The value in a form that JSON can hold; numbers keep all their bits."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str, "shape": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"dict": {k: _packed(v) for k, v in value.items()}}
    return [_packed(v) for v in value] if isinstance(value, (list, tuple)) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict) and "array" in value:
        if (dtype := np.dtype(value["dtype"])).kind not in "biufc":
            raise ValueError(f"state: an array of type {dtype}")
        return np.array(value["array"], dtype).reshape(value["shape"])
    if isinstance(value, dict):
        return {k: _unpacked(v) for k, v in value["dict"].items()}
    return [_unpacked(v) for v in value] if isinstance(value, list) else value


def find_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint from which to continue, or None."""
    return next((p for p in (Path(folder) / NAME, Path(folder) / PREVIOUS) if p.is_file()), None)


def read_checkpoint(comm: MPI.Comm, path: str | Path, elements: tuple[str, ...] | None = None) -> Start:
    """The atoms and the state of a checkpoint, a share of the rows on each rank (see Start.exact). Collective.

    Parameters
    ----------
    elements : of the model deck; species are numbered in its order

    Raises InputError for a truncated or changed file, and for other elements.
    """
    path = Path(path)
    other = path.with_name(PREVIOUS)
    advice = f"move it away to continue from {PREVIOUS}" if path.name == NAME and other.exists() else ""
    header, segments = on_root(comm, lambda: _head(path, advice))
    own = header["elements"]
    with together(comm):
        if elements is not None and set(own) - set(elements):
            raise InputError(f"{path}: a checkpoint of another system: its elements are {' '.join(own)}, "
                             f"the elements of the model deck are {' '.join(elements)}; use another outDir")
        cell = Cell(header["cell"], header["pbc"])
        state = header["state"]
    total, n = len(segments), int(header["n_global"])
    mine = [k for k in range(total) if k * comm.size // total == comm.rank]
    if total == comm.size:
        mine = [comm.rank]
    with together(comm):
        arrays = _rows(path, advice, n, len(own), segments, mine)
    if not numbered(comm, arrays["gid"], n):
        raise AgreedError(f"{path}: gid: not 0 to {n - 1}, each once{'; ' if advice else ''}{advice}")
    species = arrays["species"]
    if elements is not None and own != elements:
        species = np.array([elements.index(e) for e in own], np.int32)[species]
    return Start(arrays["gid"], species, arrays["x"], cell, n, elements or own, v=arrays["v"], f=arrays["f"],
                 image=arrays["image"], extra={k[6:]: a for k, a in arrays.items() if k.startswith("extra.")},
                 step=header["step"], time=header["time"], exact=total == comm.size,
                 state={"masses": dict(zip(own, header["masses"].tolist())), **state}, source=str(path)).check(comm)


HEADER = {"version": Item("int"), "n_global": Item("int", low=1), "elements": Item("text", ("elements",)),
          "masses": Item("float", ("elements",), low=0), "cell": Item("float", (3, 3)), "pbc": Item("bool", (3,)),
          "step": Item("int", low=0), "time": Item("float"), "state": Item("dict")}
STATE = {"begin": Item("int", low=0, optional=True), "stop": Item("int", low=0, optional=True),
         "forces_known": Item("bool", optional=True),
         **{name: Item("dict", optional=True) for name in ("run", "ensemble", "drives", "fidelity")}}
# Further rules of the rows of atoms; f is NaN where it is not known.
ROWS: dict[str, dict[str, Any]] = {"gid": {"low": 0}, "species": {"low": 0}, "f": {"finite": False}}


def _head(path: Path, advice: str) -> tuple[dict[str, Any], np.ndarray]:
    """The header, its state unpacked, and the segments. Raises InputError."""
    with opened(path, "a complete checkpoint", advice) as file:
        text = file.array("header", Item("text"))
        if zlib.crc32(text.encode()) != file.array("header_crc32", Item("int")):
            raise file.checked.fault("header", "damaged: wrong checksum")
        values = parse_json(text, path, "a complete checkpoint", advice)
        if isinstance(values, dict) and isinstance(version := values.get("version"), int) and version > VERSION:
            raise InputError(f"{path}: written by a newer rxmdnn (version {version})")
        header = file.checked.entries(values, HEADER, "header")
        segments = file.array("segments", Item("int", (None, 2), low=0))
        if not len(segments) or int(segments[:, 0].sum()) != header["n_global"]:
            raise file.checked.fault("segments", f"not of {header['n_global']} atoms")
        header["state"] = {key: _unpacked(value) for key, value in header["state"]["dict"].items()}
        file.checked.entries(header["state"], STATE, "state")
        return header, segments


def _rows(path: Path, advice: str, n: int, elements: int, segments: np.ndarray, mine: list[int]
          ) -> dict[str, np.ndarray]:
    """{name: rows of the segments of this rank}. Raises InputError."""
    starts = np.concatenate([[0], np.cumsum(segments[:, 0])])
    lo, hi = (int(starts[mine[0]]), int(starts[mine[-1] + 1])) if mine else (0, 0)
    with opened(path, "a complete checkpoint", advice) as file:
        rules = {a.name: Item("float" if a.dtype is np.float64 else "int", (n, *a.row), dtype=a.dtype,
                              high={"gid": n - 1, "species": elements - 1}.get(a.name), **ROWS.get(a.name, {}))
                 for a in FIELDS}
        arrays = {}
        for name in [*rules, *sorted(k for k in file if k.startswith("extra."))]:
            data = file.dataset(name, rules.get(name))
            if data.shape[:1] != (n,) or data.dtype.kind not in "iuf":
                raise file.checked.fault(name, f"not numbers in {n} rows, one per atom")
            arrays[name] = np.asarray(data[lo:hi])
        for k in mine:
            part = {name: a[starts[k] - lo:starts[k + 1] - lo] for name, a in arrays.items()}
            if _checksum(part) != segments[k, 1]:
                raise file.checked.fault(f"atoms of rank {k}", "damaged: wrong checksum")
        for name, values in arrays.items():
            file.checked.values(name, values, rules.get(name, Item("float")))
        return arrays
