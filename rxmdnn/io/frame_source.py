"""Frames of any file of atoms, read one by one where the format allows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import ase.units
from ase import Atoms
from ase.io import Trajectory
from ase.io.formats import string2index

from rxmdnn.errors import InputError
from rxmdnn.io.canonical import canonical
from rxmdnn.io.folder import numbered_frames
from rxmdnn.io.h5md import trajectory_in
from rxmdnn.io.heavy_hydrogen import FORMATS, NAMED
from rxmdnn.io.own_formats import H5MD_FORMAT, H5Frames
from rxmdnn.io.read_atoms import find_atoms, format_of
from rxmdnn.io.structure import is_input_xyz, read_structure
from rxmdnn.io.xyz_trajectory import XYZ_TRAJECTORY, FrameAt, frames_of
from rxmdnn.isotopes import ISOTOPES, element_of, with_heavy_hydrogen

RXMD_INPUT = "rxmd-input"  # an input.xyz


class FrameSource(NamedTuple):
    """Frames of a file or a folder: their number, and the way to each, which raises InputError."""

    path: Path
    frames: int
    read: Callable[[int], Atoms]

    def chosen(self, index: str) -> list[int]:
        """Numbers of frames, as ASE counts them: ":" are all, "0:100:10" every tenth, "-1" the last."""
        try:
            wanted: Any = string2index(index)
        except ValueError:
            wanted = index
        if isinstance(wanted, str):
            raise InputError(f"--frames {index}: expected a number, or from:to:every")
        found = list(range(self.frames))
        try:
            rows = found[wanted] if isinstance(wanted, slice) else [found[wanted]]
        except IndexError:
            rows = []
        if not rows:
            raise InputError(f"{self.path}: no frame {index}: it holds {self.frames}, counted from 0")
        return rows


def open_frames(path: str | Path, elements: Sequence[str] | None = None, format: str | None = None) -> FrameSource:
    """The frames of a file of atoms, or of the folder of a run. Raises InputError.

    Trajectories of H5MD, extended XYZ and .traj are read frame by frame; every other format at once.

    elements : of a model deck; they name the types of an rxff.bin without its side file
    format : ASE's name of the format; default: by content, then by name
    """
    path = Path(path)
    if path.is_dir() and path.suffix != ".bundle":
        found = trajectory_in(path) or (path / XYZ_TRAJECTORY)
        if found.is_file():
            return open_frames(found)
        for suffix in ("xyz", "bin"):
            files = numbered_frames(path, suffix)
            if files:
                return FrameSource(path, len(files), lambda k, files=files: find_atoms(  # type: ignore[misc]
                    files[k], "-1", elements=elements).atoms[0])
        raise InputError(f"{path}: no trajectory of a run")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    format = format or (RXMD_INPUT if path.is_file() and is_input_xyz(path) else format_of(path))
    if format == H5MD_FORMAT:
        frames = H5Frames(path)
        return FrameSource(path, len(frames), frames.__getitem__)
    if format == RXMD_INPUT:
        return FrameSource(path, 1, lambda _: _of_rxmd(path))
    if format == "extxyz":
        at = list(frames_of(path))
        return FrameSource(path, len(at), lambda k: _of_xyz(path, at[k], k))
    if format == "traj":
        return FrameSource(path, _length_of_traj(path), lambda k: find_atoms(path, str(k), format).atoms[0])
    every = find_atoms(path, ":", format, elements).atoms
    return FrameSource(path, len(every), every.__getitem__)


def _length_of_traj(path: Path) -> int:
    try:
        with Trajectory(path) as opened:
            return len(opened)
    except Exception as error:  # as below
        raise InputError(f"{path}: ASE cannot read it: {str(error) or type(error).__name__}") from None


def _of_xyz(path: Path, at: FrameAt, number: int) -> Atoms:
    with open(path, "rb") as file:
        file.seek(at.start)
        text = file.read(at.end - at.start).decode(errors="replace")
    source, heavy = f"{path}: frame {number}", None
    if NAMED.search(text):
        text, names = FORMATS["extxyz"](text)
        heavy = names[0]
    try:
        atoms: Any = ase.io.read(StringIO(text), "0", format="extxyz", parallel=False)
    except Exception as error:  # the readers of ASE raise exceptions of any kind
        raise InputError(f"{source}: ASE cannot read it: {str(error) or type(error).__name__}") from None
    return canonical(atoms, source, heavy)


def _of_rxmd(path: Path) -> Atoms:
    """The atoms of an input.xyz of RXMD."""
    found = read_structure(path)
    atoms = Atoms([element_of(str(e)) for e in found.names], found.x, cell=found.cell.h, pbc=found.cell.pbc)
    if any((found.names == e).any() for e in ISOTOPES):
        atoms.set_masses(with_heavy_hydrogen(atoms.get_masses(), found.names))
    if found.v is not None:
        atoms.set_velocities(found.v / ase.units.fs)
    return atoms
