"""Trajectories of all file formats, read by frames and atoms in bounded memory, for analyses."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError

EVERY = slice(None)
VELOCITY = {"Angstrom fs-1": 1.0, "Angstrom ps-1": 1e-3, "nm ps-1": 1e-2, "A/fs": 1.0, "A/ps": 1e-3}  # to Å/fs
HEAVY = {"D": 2.0141, "T": 3.0160}  # amu; names besides those of elements


class Series(ABC):
    """Frames of one trajectory.

    Attributes
    ----------
    path : Path
    names : (n,) of str; mass : (n,) float64, amu
    step  : (frames,) int64
    time  : (frames,) float64, fs
    has   : set of the fields of every frame: "x", "v", "image"
    """

    path: Path
    names: np.ndarray
    mass: np.ndarray
    step: np.ndarray
    time: np.ndarray
    has: set[str]

    @abstractmethod
    def read(self, field: str, frames: Sequence[int] | np.ndarray, atoms: slice = EVERY) -> np.ndarray:
        """(frames, atoms, 3) values of a field: "x" in Å, "v" in Å/fs, "image" in periods."""

    @abstractmethod
    def cell(self, frame: int) -> Cell:
        """The cell of a frame."""

    def unwrapped(self, frames: Sequence[int] | np.ndarray, atoms: slice = EVERY) -> np.ndarray:
        """(frames, atoms, 3) positions, Å, continuous in time where images were written."""
        x = self.read("x", frames, atoms)
        if "image" in self.has:
            x = x + np.einsum("fai,fij->faj", self.read("image", frames, atoms).astype(float),
                              np.array([self.cell(int(k)).h for k in frames]))
        return x

    def select(self, start: float | None, stop: float | None) -> None:
        """Keep the frames between two times, ps. Raises InputError if none is left."""
        keep = np.ones(len(self.time), bool)
        if start is not None:
            keep &= self.time >= 1000 * start - 1e-6
        if stop is not None:
            keep &= self.time <= 1000 * stop + 1e-6
        if not keep.any():
            span = f"{self.time[0] / 1000:g} to {self.time[-1] / 1000:g} ps" if len(self.time) else "nothing"
            raise InputError(f"{self.path}: no frames between these times; it holds {span}; change --start or --stop")
        self._keep(np.flatnonzero(keep))

    def _keep(self, rows: np.ndarray) -> None:
        self.step, self.time, self.rows = self.step[rows], self.time[rows], self.rows[rows]

    def interval(self) -> float:
        """The time between frames, fs, all equal; an extra last frame at the end of a run is dropped.

        Raises InputError for fewer than two frames and for unequal intervals.
        """
        gaps = np.diff(self.time)
        if len(gaps) > 1 and abs(gaps[-1] - gaps[0]) > 1e-4 * gaps[0] and np.allclose(gaps[:-1], gaps[0], 1e-4):
            self._keep(np.arange(len(self.time) - 1))
            gaps = gaps[:-1]
        if not len(gaps):
            raise InputError(f"{self.path}: a single frame has no dynamics; write frames often, with 'h5md 2'")
        wrong = np.flatnonzero(np.abs(gaps - np.median(gaps)) > 1e-4 * np.median(gaps))
        if len(wrong) or gaps[0] <= 0:
            k = int(wrong[0]) if len(wrong) else 0
            raise InputError(f"{self.path}: frames are not equally spaced: {gaps[k]:g} fs after frame {k} at "
                             f"{self.time[k] / 1000:g} ps, {np.median(gaps):g} fs elsewhere; select a part with "
                             "--start and --stop, or run again with one 'h5md' interval")
        return float(np.mean(gaps))

    rows: np.ndarray  # (frames,) row of the file


class H5Series(Series):
    """The trajectory.h5 of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = h5py.File(path, "r", locking=False)
            group = self.group = self.file["particles/all"]
            step = group["position/step"][:]
            self.rows = np.flatnonzero(step >= 0)
            self.step, self.time = step[self.rows], group["position/time"][:][self.rows]
            species = group["species"][:]
            self.names = np.array(self.file["parameters/elements"].asstr()[:])[species]
            self.mass = group["mass"][:]
            self.pbc = np.array([b in ("periodic", b"periodic") for b in group["box"].attrs["boundary"]])
            self.boxes = group["box/edges/value"][:]
        except (OSError, KeyError) as error:
            raise InputError(f"{path}: not a valid H5MD trajectory: {error}") from None
        names = {"x": "position", "v": "velocity", "image": "image"}
        self.data = {k: group[name]["value"] for k, name in names.items() if name in group}
        self.has = set(self.data)
        self.factor = dict.fromkeys(self.data, 1.0)
        if "v" in self.data:
            unit = str(self.data["v"].attrs.get("unit", ""))
            if unit not in VELOCITY:
                raise InputError(f"{path}: unknown unit of velocity '{unit}'; known are {', '.join(VELOCITY)}")
            self.factor["v"] = VELOCITY[unit]

    def read(self, field: str, frames: Sequence[int] | np.ndarray, atoms: slice = EVERY) -> np.ndarray:
        rows, data = self.rows[np.asarray(frames)], self.data[field]
        if len(rows) > 1 and (np.diff(rows) == 1).all():
            values = data[int(rows[0]):int(rows[-1]) + 1, atoms]
        else:
            values = np.array([data[int(k), atoms] for k in rows])
        return values if self.factor[field] == 1.0 else values * self.factor[field]

    def cell(self, frame: int) -> Cell:
        return Cell(self.boxes[self.rows[frame]], self.pbc)


class XYZSeries(Series):
    """Extended XYZ: frames in one file, or one file per frame. Velocities: ``velo`` (Å/fs), ``vel``, momenta of ASE."""

    FIELDS = ("velo", "vel", "velocities", "momenta")

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        from ase.data import atomic_masses, atomic_numbers

        self.path = path
        self.offsets: list[tuple[Path, int]] = [at for file in files for at in _frames_of(file)]
        if not self.offsets:
            raise InputError(f"{path}: no frames")
        heads = [self._head(*at) for at in self.offsets]
        n = len(self.offsets)
        self.rows = np.arange(n)
        self.step = np.array([int(h.get("step", k)) for k, h in enumerate(heads)])
        timed = all("time" in h for h in heads)
        self.time = np.array([float(h["time"]) for h in heads]) if timed else np.arange(n, dtype=float)
        if timed and str(heads[0].get("time_unit", "fs")) == "ps":
            self.time *= 1000.0
        first = self._table(0)
        self.names = first["species"]
        unknown = sorted(set(self.names.tolist()) - set(atomic_numbers) - set(HEAVY))
        if unknown:
            raise InputError(f"{path}: {', '.join(unknown)}: not an element; name atoms by element, or D for deuterium")
        self.mass = np.array([HEAVY.get(e) or atomic_masses[atomic_numbers[e]] for e in self.names.tolist()])
        self.timed = timed
        self.velocity = next((f for f in self.FIELDS if f in first), None)
        self.has = {"x"} | ({"v"} if self.velocity else set()) | ({"image"} if "image" in first else set())
        self._kept: tuple[int, dict[str, Any]] = (0, first)

    def _head(self, file: Path, offset: int) -> dict[str, Any]:
        from ase.io.extxyz import key_val_str_to_dict

        with open(file, "rb") as text:
            text.seek(offset)
            text.readline()
            return key_val_str_to_dict(text.readline().decode())

    def _table(self, row: int) -> dict[str, Any]:
        """The columns of a frame by name, its cell, and its header."""
        file, offset = self.offsets[row]
        head = self._head(file, offset)
        if "Lattice" not in head:
            raise InputError(f"{file}: frame {row}: no Lattice; an extended XYZ file is needed")
        h = np.asarray(head["Lattice"], float)  # ASE gives it with cell vectors as columns
        out: dict[str, Any] = {"cell": Cell(h.T, np.asarray(head.get("pbc", [True] * 3), bool).ravel()), "head": head}
        words = str(head.get("Properties", "species:S:1:pos:R:3")).split(":")
        with open(file, "rb") as text:
            text.seek(offset)
            n = int(text.readline())
            text.readline()
            lines = [text.readline().split() for _ in range(n)]
        try:
            table = np.array(lines)
            at = 0
            for name, kind, width in zip(words[::3], words[1::3], map(int, words[2::3])):
                block = table[:, at:at + width]
                out[name] = np.char.decode(block[:, 0]) if kind == "S" else block.astype(float)
                at += width
        except (ValueError, IndexError) as error:
            raise InputError(f"{file}: frame {row} is truncated or not valid extended XYZ: {error}") from None
        return out

    def read(self, field: str, frames: Sequence[int] | np.ndarray, atoms: slice = EVERY) -> np.ndarray:
        column = {"x": "pos", "v": self.velocity, "image": "image"}[field]
        out = []
        for k in np.asarray(frames):
            table = self._frame(int(k))
            if column not in table or len(table[column]) != len(self.names):
                raise InputError(f"{self.path}: frame {k} has no '{column}', or other atoms than the first frame")
            out.append(table[column][atoms])
        values = np.array(out)
        if field == "v":
            if self.velocity == "momenta":
                from ase.units import fs

                return values / self.mass[atoms, None] * fs
            unit = str(self._kept[1]["head"].get("velo_unit", "A/fs"))
            if unit not in VELOCITY:
                raise InputError(f"{self.path}: unknown unit of velocity '{unit}'; known are "
                                 f"{', '.join(VELOCITY)}")
            values = values * VELOCITY[unit]
        return values

    def _frame(self, frame: int) -> dict[str, Any]:
        row = int(self.rows[frame])
        if self._kept[0] != row:
            self._kept = row, self._table(row)
        return self._kept[1]

    def cell(self, frame: int) -> Cell:
        return self._frame(frame)["cell"]

    def interval(self) -> float:
        if not self.timed:
            raise InputError(f"{self.path}: frames without time; write time=<fs> in the second line of each frame")
        return super().interval()


def _frames_of(file: Path) -> list[tuple[Path, int]]:
    """The file and the byte offset of each complete frame."""
    found: list[tuple[Path, int]] = []
    with open(file, "rb") as text:
        size = os.fstat(text.fileno()).st_size
        while True:
            offset = text.tell()
            line = text.readline()
            if not line.strip():
                return found
            if not line.strip().isdigit():
                raise InputError(f"{file}: byte {offset}: expected the number of atoms, found {line[:30]!r}")
            for _ in range(int(line) + 1):
                text.readline()
            if text.tell() == size and not _complete(file, size):
                return found  # the run was killed while it wrote
            found.append((file, offset))


def _complete(file: Path, size: int) -> bool:
    """True if the last line of the file has its end."""
    with open(file, "rb") as text:
        text.seek(max(size - 1, 0))
        return text.read() == b"\n"


def open_series(path: str | Path) -> Series:
    """The trajectory in the folder of a run (trajectory.h5, or numbered extended XYZ files), or in one file.

    Raises InputError if there is none.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "trajectory.h5").is_file():
            return H5Series(path / "trajectory.h5")
        files = sorted(f for f in path.glob("*.xyz") if f.stem.isdigit())
        if not files:
            raise InputError(f"{path}: no trajectory: neither trajectory.h5 nor numbered .xyz files; run with 'h5md 2'")
        return XYZSeries(path, files)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    return H5Series(path) if h5py.is_hdf5(path) else XYZSeries(path, [path])


def with_beads(paths: Sequence[str | Path]) -> list[Path]:
    """The paths, with the folder of each path-integral run replaced by the trajectories of its beads."""
    out: list[Path] = []
    for path in map(Path, paths):
        out += (sorted(path.glob("bead_*.h5")) if path.is_dir() else []) or [path]
    return out


def open_all(paths: Sequence[str | Path], start: float | None = None, stop: float | None = None) -> list[Series]:
    """Several trajectories of the same atoms, their frames within [start, stop] ps. Raises InputError."""
    found = [open_series(p) for p in paths]
    for s in found:
        if len(s.time) == 0:
            raise InputError(f"{s.path}: no frames; the run has not written any yet")
        if not np.array_equal(s.names, found[0].names) or not np.allclose(s.mass, found[0].mass):
            raise InputError(f"{s.path}: other atoms than {found[0].path}; analyze each on its own")
        s.select(start, stop)
    return found
