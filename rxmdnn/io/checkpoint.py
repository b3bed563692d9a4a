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
from rxmdnn.io.frame import Frame
from rxmdnn.io.hdf5_file import changing
from rxmdnn.io.ordered import exscan, replacing, writable, write_blocks
from rxmdnn.io.start import Start
from rxmdnn.parallel import on_root, together

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
        return np.array(value["array"], value["dtype"]).reshape(value["shape"])
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
    advice = f"; move it away to continue from {PREVIOUS}" if path.name == NAME and other.exists() else ""

    def head() -> tuple[dict[str, Any], np.ndarray]:
        try:
            with h5py.File(path, "r", locking=False) as file:
                text = file["header"][()]
                if zlib.crc32(text) != file["header_crc32"][()]:
                    raise InputError(f"{path}: damaged (wrong checksum of the header){advice}")
                return json.loads(text), file["segments"][:]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a complete checkpoint: {_brief(error)}{advice}") from None

    header, segments = on_root(comm, head)
    own = tuple(header["elements"])
    with together(comm):
        if header["version"] > VERSION:
            raise InputError(f"{path}: written by a newer rxmdnn (version {header['version']})")
        if elements is not None and set(own) - set(elements):
            raise InputError(f"{path}: a checkpoint of another system: its elements are {' '.join(own)}, "
                             f"the elements of the model deck are {' '.join(elements)}; use another outDir")
    total = len(segments)
    mine = [k for k in range(total) if k * comm.size // total == comm.rank]
    if total == comm.size:
        mine = [comm.rank]
    starts = np.concatenate([[0], np.cumsum(segments[:, 0])])
    with together(comm):
        try:
            with h5py.File(path, "r", locking=False) as file:
                keys = [a.name for a in FIELDS] + sorted(k for k in file if k.startswith("extra."))
                lo, hi = (int(starts[mine[0]]), int(starts[mine[-1] + 1])) if mine else (0, 0)
                arrays = {k: file[k][lo:hi] for k in keys}
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a complete checkpoint: {_brief(error)}{advice}") from None
        for k in mine:
            part = {name: a[starts[k] - lo:starts[k + 1] - lo] for name, a in arrays.items()}
            if _checksum(part) != segments[k, 1]:
                raise InputError(f"{path}: damaged (wrong checksum of the atoms of rank {k}){advice}")
    species = arrays["species"]
    if elements is not None and own != elements:
        species = np.array([elements.index(e) for e in own], np.int32)[species]
    return Start(arrays["gid"], species, arrays["x"], Cell(np.array(header["cell"]), np.array(header["pbc"])),
                 int(header["n_global"]), elements or own, v=arrays["v"], f=arrays["f"], image=arrays["image"],
                 extra={k[6:]: a for k, a in arrays.items() if k.startswith("extra.")}, step=int(header["step"]),
                 time=float(header["time"]), exact=total == comm.size,
                 state={"masses": dict(zip(own, header["masses"])), **_unpacked(header["state"])},
                 source=str(path))


def _brief(error: Exception) -> str:
    return str(error).strip("'\"").splitlines()[0]
