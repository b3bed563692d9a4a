"""Trajectories, read by frames and atoms in bounded memory, for analyses; those of H5MD."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from ase.data import atomic_numbers

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.hdf5 import Group, open_file
from rxmdnn.io.canonical import VELOCITY_UNITS
from rxmdnn.io.folder import numbered_frames
from rxmdnn.io.h5md import RUN_EDGES, TRAJECTORY, read_motions, trajectory_in
from rxmdnn.io.motion import Motion, changes, unlike
from rxmdnn.io.xyz_trajectory import XYZ_TRAJECTORY
from rxmdnn.isotopes import element_of, named_by_mass
from rxmdnn.schema import Item, reading

EVERY = slice(None)
TRAJECTORY_FILE = "an H5MD trajectory of rxmdnn"
HEAVIEST = 1e6  # amu: of heavy particles in tests, and far below what overflows


class Series(ABC):
    """Frames of one trajectory.

    Attributes
    ----------
    path : Path
    names : (n,) of str, elements, and D or T by mass; mass : (n,) float64, amu
    step  : (frames,) int64
    time  : (frames,) float64, fs
    has   : set of the fields of every frame: "x", "v", "image", "excitation"
    stages : [(step, words of rxmdnn.io.motion)]: what moves the atoms from this step on; empty where nothing says so
    """

    path: Path
    names: np.ndarray
    mass: np.ndarray
    step: np.ndarray
    time: np.ndarray
    has: set[str]
    stages: list[tuple[int, Motion]]

    @property
    def motions(self) -> list[Motion]:
        """What moves the atoms, of each stage that the frames belong to."""
        first, last = int(self.step[0]), int(self.step[-1])
        ends = [step for step, _ in self.stages[1:]] + [last + 1]
        return [words for (begin, words), end in zip(self.stages, ends) if begin <= last and end > first]

    @property
    def motion(self) -> Motion:
        """What moves the atoms of the last frame; empty where nothing says so."""
        return self.motions[-1] if self.motions else {}

    def temperature(self) -> float:
        """The mean temperature of the frames that the file states, K; NaN without one."""
        return float("nan")

    @abstractmethod
    def read(self, field: str, frames: Sequence[int] | np.ndarray, atoms: slice = EVERY) -> np.ndarray:
        """(frames, atoms, 3) values of a field: "x" in Å, "v" in Å/fs, "image" in periods; or (frames, atoms):
        "excitation", from 0 to 1."""

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
    """An H5MD file of a run. Rows are given in the orientation of the run, whatever that of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, TRAJECTORY_FILE) as checked:
            self.file = open_file(path)
            every = Group(self.file, checked)
            group = self.group = every.group("particles/all")
            step = group.array("position/step", Item("int", ("frames",)))
            self.rows = np.flatnonzero(step >= 0)
            time = group.of_frames("position/time", Item("float", (None,), finite=False), len(step))
            self.step, self.time = step[self.rows], time[self.rows]
            checked.values("particles/all/position/time", self.time, Item("float"))
            self.mass = group.array("mass", Item("float", ("atoms",), low=0, high=HEAVIEST))
            elements = every.array("parameters/elements", Item("text", (None,)))
            species = group.array("species", Item("int", ("atoms",), low=0, high=len(elements) - 1))
            named = [element_of(elements[k]) for k in species.tolist()]
            if unknown := sorted(set(named) - atomic_numbers.keys()):
                raise checked.fault("parameters/elements", f"{', '.join(unknown)}: not an element")
            self.names = named_by_mass(named, self.mass)
            self.pbc = np.array([b == "periodic" for b in group.group("box").attribute("boundary", Item("text", (3,)))])
            vectors = Item("float", (None, 3, 3))
            self.boxes = group.of_frames("box/edges/value", vectors, len(step))
            self.run_boxes = group.of_frames(RUN_EDGES, vectors, len(step)) if RUN_EDGES in group else self.boxes
            self.stages = read_motions(every)
            names = {"x": "position", "v": "velocity", "image": "image", "excitation": "excitation"}
            self.data = {k: self.entry(f"{name}/value", k) for k, name in names.items() if name in group}
            self.has, self.factor = set(self.data), dict.fromkeys(self.data, 1.0)
            self.turned = not np.array_equal(self.boxes, self.run_boxes)
            if "v" in self.data:
                unit = str(self.data["v"].attrs.get("unit", ""))
                if unit not in VELOCITY_UNITS:
                    raise checked.fault("velocity", f"unknown unit '{unit}'; known are {', '.join(VELOCITY_UNITS)}")
                self.factor["v"] = VELOCITY_UNITS[unit]

    def entry(self, name: str, field: str = "") -> h5py.Dataset:
        """A dataset of all frames and atoms, of particles/all. Raises InputError."""
        row: tuple[int, ...] = () if field == "excitation" else (3,)
        item = Item("int" if field == "image" else "float", (None, "atoms", *row))
        return self.group.frames(name, item, len(self.boxes))

    def read(self, field: str, frames: Sequence[int] | np.ndarray, atoms: slice = EVERY) -> np.ndarray:
        rows, data = self.rows[np.asarray(frames)], self.data[field]
        with reading(self.path, TRAJECTORY_FILE):
            if len(rows) > 1 and (np.diff(rows) == 1).all():
                values = data[int(rows[0]):int(rows[-1]) + 1, atoms]
            else:
                values = np.array([data[int(k), atoms] for k in rows])
        if field == "x":
            self.group.checked.values("position", values, Item("float"))
        if self.turned and values.ndim == 3:
            for value, row in zip(values, rows):
                value[:] = self._as_in_the_run(field, value, int(row))
        return values if self.factor[field] == 1.0 else values * self.factor[field]

    def _as_in_the_run(self, field: str, value: np.ndarray, row: int) -> np.ndarray:
        """(n, 3) rows of one frame of the file in the orientation of the run."""
        standard = Cell(self.run_boxes[row], self.pbc).standard()
        if field == "image":
            return standard.images(value)
        return (value - standard.shift if field == "x" else value) @ standard.turn.T

    def cell(self, frame: int) -> Cell:
        return Cell(self.run_boxes[self.rows[frame]], self.pbc)

    def temperature(self) -> float:
        every, name = Group(self.file, self.group.checked), "observables/temperature/value"
        if name not in every:
            return float("nan")
        return float(np.mean(every.of_frames(name, Item("float", (None,), finite=False), len(self.boxes))[self.rows]))


def open_series(path: str | Path) -> Series:
    """The trajectory in the folder of a run, or in one file.

    Of a folder: trajectory.h5md (of earlier versions trajectory.h5), trajectory.xyz, or numbered extended XYZ files.

    Raises InputError if there is none.
    """
    from rxmdnn.io.xyz_series import XYZSeries  # ASE, only where it is used

    path = Path(path)
    if path.is_dir():
        if (found := trajectory_in(path)) is not None:
            return H5Series(found)
        if (path / XYZ_TRAJECTORY).is_file():
            return XYZSeries(path, [path / XYZ_TRAJECTORY])
        files = numbered_frames(path)
        if not files:
            raise InputError(f"{path}: no trajectory: neither {TRAJECTORY} nor {XYZ_TRAJECTORY} nor numbered .xyz "
                             "files; run with 'h5md 2'")
        return XYZSeries(path, files)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    return H5Series(path) if h5py.is_hdf5(path) else XYZSeries(path, [path])


def with_beads(paths: Sequence[str | Path]) -> list[Path]:
    """The paths, with the folder of each path-integral run replaced by the trajectories of its beads.

    Of a Suzuki-Chin run the even beads: averages over them alone are of fourth order.
    """
    out: list[Path] = []
    for path in map(Path, paths):
        found = {f.stem: f for suffix in (".h5", ".h5md") for f in path.glob(f"bead_*{suffix}")}  # none of a file
        beads = [found[stem] for stem in sorted(found)]
        if beads and any(words.get("motion") == "suzuki-chin" for _, words in H5Series(beads[0]).stages):
            beads = beads[::2]
        out += beads or [path]
    return out


def open_all(paths: Sequence[str | Path], start: float | None = None, stop: float | None = None) -> list[Series]:
    """Several trajectories of the same atoms, their frames within [start, stop] ps. Raises InputError."""
    found = [open_series(p) for p in paths]
    for s in found:
        if len(s.time) == 0:
            raise InputError(f"{s.path}: no frames; the run has not written any yet")
        same_atoms(s, found[0])
        s.select(start, stop)
        _of_one_kind(s, found[0])
    return found


def same_atoms(series: Series, first: Series) -> None:
    """Raises InputError where a trajectory has other atoms than the first one, or in another order."""
    if not np.array_equal(series.names, first.names) or not np.allclose(series.mass, first.mass):
        raise InputError(f"{series.path}: other atoms than {first.path}; analyze each on its own")


def _of_one_kind(s: Series, first: Series) -> None:
    """Raises InputError where averages over the frames, or with those of the first trajectory, mean nothing."""
    if why := changes(s.motions):
        begins = [step for step, _ in s.stages if s.step[0] < step <= s.step[-1]]
        at = float(s.time[int(np.searchsorted(s.step, begins[-1]))]) / 1000 if begins else 0.0
        raise InputError(f"{s.path}: its frames are not of one kind: {why}, the last part from {at:g} ps on; select a "
                         "part with --start and --stop")
    if s is not first and (why := unlike(first.motion, s.motion, (first.temperature(), s.temperature()))):
        raise InputError(f"{first.path} and {s.path} are unlike: {why}; an average over both means nothing: analyze "
                         "each on its own")
