"""Writing frames of ASE's Atoms to one file, frame by frame where the format allows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import ase.io
import ase.units
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from mpi4py import MPI

from rxmdnn.atoms import Atoms as Rows
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.ase_atoms import cell_of
from rxmdnn.io.canonical import names_of, stated
from rxmdnn.io.checkpoint import NAME, write_checkpoint
from rxmdnn.io.frame import MODEL_ENERGY, MODEL_FORCES, Frame
from rxmdnn.io.h5md import H5MD
from rxmdnn.io.motion import WORDS
from rxmdnn.io.own_formats import CHECKPOINT_FORMAT, H5MD_FORMAT, RXFF_FORMAT
from rxmdnn.io.rxff import write_rxff
from rxmdnn.units import ACCELERATION, KB

# Formats that hold cell vectors; all others hold lengths and angles, or vectors in one orientation.
VECTORS = ("extxyz", "traj", "vasp", "json", "db", "bundletrajectory", "xsf", "aims", "espresso-in", "gen", "gpumd")
NEED_CELL = ("vasp", "lammps-data", "cif", "espresso-in", "xsf")
LAMMPS_SUFFIXES = (".data", ".lammps", ".lmp")
NUMBERED = "numbered"  # extended XYZ, one file per frame


def format_for(out: Path, folder: bool = False, given: str | None = None) -> str:
    """The format of a file to be written, by its name. Raises InputError for a name that says nothing.

    folder : numbered files are to be written there; given : ASE's name of the format
    """
    if folder or out.is_dir():
        return NUMBERED
    if out.name == NAME:
        return CHECKPOINT_FORMAT
    named = {".h5md": H5MD_FORMAT, ".bin": RXFF_FORMAT, ".xyz": "extxyz", ".extxyz": "extxyz",
             **dict.fromkeys(LAMMPS_SUFFIXES, "lammps-data")}
    format = given or named.get(out.suffix.lower())
    if out.suffix.lower() in (".h5", ".hdf5") and given is None:
        raise InputError(f"{out}: name a trajectory .h5md, and a checkpoint {NAME}")
    try:
        format = format or filetype(str(out), read=False)
    except UnknownFileTypeError:
        format = ""
    if format not in (H5MD_FORMAT, RXFF_FORMAT) and (format not in ioformats or not ioformats[format].can_write):
        raise InputError(f"{out}: ASE writes no format of this name; name it for example x.xyz, x.h5md, x.cif, x.data, "
                         "POSCAR, rxff.bin, or give --format")
    return str(format)


class Species:
    """Names and masses of the species of all frames: those of a model deck, or those of the first frame.

    Raises InputError for an element of several masses and for a name that is not among them.
    """

    def __init__(self, deck: tuple[Sequence[str], Sequence[float]] | None = None) -> None:
        self.elements: tuple[str, ...] = tuple(deck[0]) if deck else ()
        self.masses: tuple[float, ...] = tuple(deck[1]) if deck else ()

    def of(self, atoms: Atoms, source: str) -> np.ndarray:
        """(n,) int32 species of the atoms."""
        names, own = names_of(atoms), atoms.get_masses()
        if not self.elements:
            self.elements = tuple(dict.fromkeys(names.tolist()))
            self.masses = tuple(float(own[names == e][0]) for e in self.elements)
        if missing := sorted(set(names.tolist()) - set(self.elements)):
            raise InputError(f"{source}: {' '.join(missing)} is not among {' '.join(self.elements)}")
        species = np.array([self.elements.index(e) for e in names.tolist()], np.int32)
        if atoms.has("masses"):
            off = np.flatnonzero(np.abs(own - np.array(self.masses)[species]) > 1e-6 * own)
            if len(off):
                k = int(off[0])
                raise InputError(f"{source}: atom {k + 1} ({names[k]}) has a mass of {own[k]:g} amu, another one "
                                 f"{self.masses[species[k]]:g}; this format holds one mass per element: write .xyz or "
                                 ".traj")
        return species


def frame_of(atoms: Atoms, species: Species, number: int, interval: float, source: str) -> Frame:
    """A frame for the writers of runs; what the atoms do not state (velocities, forces, energy) is NaN.

    number : for frames without a step; interval : fs, for frames without a time
    """
    kinds, n, cell = species.of(atoms, source), len(atoms), cell_of(atoms, source)
    v = atoms.get_velocities() * ase.units.fs if atoms.has("momenta") else np.full((n, 3), np.nan)
    f = atoms.arrays.get(MODEL_FORCES, np.full((n, 3), np.nan))
    kinetic = 0.5 * float(np.array(species.masses)[kinds] @ (v**2).sum(axis=1)) / ACCELERATION
    rows = Rows.of(np.arange(n), kinds, atoms.positions, v, atoms.arrays.get("image"), f)
    info = {"step": number, "time": number * interval, MODEL_ENERGY: np.nan} | atoms.info
    step, time = (stated(info, word, source) for word in ("step", "time"))
    energy = stated(info, MODEL_ENERGY, source, unknown=True)
    return Frame(MPI.COMM_SELF, rows, cell, n, species.elements, species.masses, int(step), time, energy, kinetic,
                 2 * kinetic / (3 * n * KB), np.full((3, 3), np.nan),
                 motion={k: str(info[k]) for k in WORDS if k in info})


class Sink(Protocol):
    """A file that takes frames, one by one. one : it holds a single frame"""

    one: bool

    def add(self, atoms: Atoms, number: int, source: str) -> None:
        """Write a frame. number : in the source; source : for messages. Raises InputError."""

    def close(self) -> None:
        """Complete the file."""


class FrameSink:
    """H5MD, rxff.bin and checkpoints, by the writers of runs."""

    def __init__(self, path: Path, format: str, species: Species, interval: float) -> None:
        self.path, self.format, self.species, self.interval = path, format, species, interval
        self.one = format != H5MD_FORMAT
        self.trajectory = H5MD(MPI.COMM_SELF, path) if format == H5MD_FORMAT else None

    def add(self, atoms: Atoms, number: int, source: str) -> None:
        frame = frame_of(atoms, self.species, number, self.interval, source)
        if self.trajectory is not None:
            self.trajectory.write(frame)
            return
        frame.atoms.v = np.nan_to_num(frame.atoms.v, nan=0.0)
        if self.format == RXFF_FORMAT:
            write_rxff(frame.comm, self.path, frame.atoms, frame.cell, frame.step, (1, 1, 1), frame.elements,
                       frame.masses)
        else:
            write_checkpoint(frame, self.path.parent, {"begin": frame.step, "forces_known": False})

    def close(self) -> None:
        """Every frame is complete when it is written."""


class XYZSink:
    """Extended XYZ: one file, or a folder of numbered ones, with velocities for ASE (momenta) and OVITO (velo)."""

    def __init__(self, path: Path, numbered: bool) -> None:
        self.path, self.numbered, self.one = path, numbered, False
        self.steps: set[int] = set()
        if numbered:
            path.mkdir(parents=True, exist_ok=True)

    def add(self, atoms: Atoms, number: int, source: str) -> None:
        if atoms.has("momenta"):
            atoms.set_array("velo", atoms.get_velocities() * ase.units.fs)
            atoms.info["velo_unit"] = "A/fs"
        step = int(stated({"step": number} | atoms.info, "step", source))
        if self.numbered and step in self.steps:
            raise InputError(f"{source}: step {step} for the second time; numbered files are named by step: write one "
                             "file, x.xyz")
        self.steps.add(step)
        file = self.path / f"{step:09d}.xyz" if self.numbered else self.path
        _by_ase(file, atoms, "extxyz", source, append=not self.numbered)

    def close(self) -> None:
        """Every frame is complete when it is written."""


class AseSink:
    """Every format that ASE writes; those of several frames at once, but for .traj."""

    def __init__(self, path: Path, format: str) -> None:
        self.path, self.format = path, format
        self.one = ioformats[format].single
        self.frames: list[Atoms] = []
        self.source = ""
        self.traj: Any = ase.io.Trajectory(path, "w") if format == "traj" else None

    def add(self, atoms: Atoms, number: int, source: str) -> None:
        if self.format in NEED_CELL and atoms.cell.rank < 3:
            raise InputError(f"{source}: no cell of three vectors, which this format ({self.format}) needs")
        if self.format not in VECTORS and atoms.cell.rank == 3:
            atoms = in_standard_orientation(atoms)
        self.source = source
        if self.traj is not None:
            self.traj.write(atoms)
        else:
            self.frames.append(atoms)

    def close(self) -> None:
        if self.traj is not None:
            self.traj.close()
            return
        more: dict[str, Any] = {}
        if self.format == "lammps-data":
            more = {"units": "metal", "masses": True, "velocities": self.frames[0].has("momenta")}
        _by_ase(self.path, self.frames[0] if self.one else self.frames, self.format, self.source, **more)


def _by_ase(path: Path, atoms: Atoms | list[Atoms], format: str, source: str, **more: Any) -> None:
    try:
        ase.io.write(path, atoms, format=format, parallel=False, **more)
    except OSError:
        raise
    except Exception as error:  # the writers of ASE raise exceptions of any kind
        raise InputError(f"{source}: ASE cannot write it as {format}: {str(error) or type(error).__name__}") from None


def in_standard_orientation(atoms: Atoms) -> Atoms:
    """The atoms turned, not mirrored, into the right-handed standard orientation of their cell, with their labels."""
    standard = Cell(np.array(atoms.cell), atoms.pbc).standard()
    if standard.same:
        return atoms
    out = atoms.copy()
    out.set_cell(standard.cell.h)
    out.positions = atoms.positions @ standard.turn + standard.shift
    for name in ("momenta", MODEL_FORCES):
        if name in out.arrays:
            out.arrays[name] = atoms.arrays[name] @ standard.turn
    return out


def open_sink(out: Path, path: Path, format: str, species: Species, interval: float) -> Sink:
    """The writer of a file of this format. out : its name; path : the name that it has while it is written."""
    if format in (H5MD_FORMAT, RXFF_FORMAT, CHECKPOINT_FORMAT):
        return FrameSink(path, format, species, interval)
    if format in ("extxyz", NUMBERED):
        return XYZSink(out if format == NUMBERED else path, format == NUMBERED)
    return AseSink(path, format)
