"""Frames of trajectories, checkpoints and rxff.bin as ASE's Atoms, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.units
import numpy as np
from ase import Atoms
from ase.io.formats import string2index
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.hdf5 import Group, is_kind
from rxmdnn.io.checkpoint import read_checkpoint
from rxmdnn.io.frame import MODEL_ENERGY, MODEL_FORCES, SHOWN
from rxmdnn.io.h5md import KJ_MOL, OLD_ENERGY
from rxmdnn.io.rxff import ROW, read_rxff, read_types
from rxmdnn.io.series import H5Series
from rxmdnn.io.start import Start
from rxmdnn.isotopes import ISOTOPES, element_of, with_heavy_hydrogen
from rxmdnn.schema import Item

H5MD_FORMAT, CHECKPOINT_FORMAT, RXFF_FORMAT = "h5md", "checkpoint", "rxff"


def own_format(path: Path) -> str | None:
    """One of these formats by the content of a file; None for others. Raises InputError where it is truncated."""
    if is_kind(path, "header", "segments"):
        return CHECKPOINT_FORMAT
    if is_kind(path, "particles"):
        return H5MD_FORMAT
    return RXFF_FORMAT if _is_rxff(path) else None


def _is_rxff(path: Path) -> bool:
    """Whether the length of the file is what its header says."""
    size = path.stat().st_size
    if size < 72:
        return False
    with open(path, "rb") as file:
        n, *grid = (int(i) for i in np.frombuffer(file.read(16), "<i4"))
        if n < 1 or min(grid) < 1 or int(np.prod(np.array(grid, np.int64))) != n or 4 * (5 + n) + 48 > size:
            return False
        counts = np.frombuffer(file.read(4 * n), "<i4").astype(np.int64)
    return bool(counts.min() >= 0) and size == 4 * (5 + n) + 48 + 8 * ROW * int(counts.sum())


def read_own(path: Path, format: str, index: str, elements: Sequence[str] | None = None) -> tuple[list[Atoms], bool]:
    """The chosen frames, and whether the file has more than one.

    index : frames as ASE counts them; elements : of a model deck, which name the types of an rxff.bin without a side
    file

    Raises InputError for a damaged file, and for a frame that it does not have.
    """
    if format != H5MD_FORMAT:
        made = atoms_of_checkpoint(path) if format == CHECKPOINT_FORMAT else atoms_of_rxff(path, elements)
        return [made], False
    frames = H5Frames(path)
    chosen: Any = string2index(index)
    rows = range(len(frames))[chosen] if isinstance(chosen, slice) else [chosen]
    if not all(-len(frames) <= k < len(frames) for k in rows):
        raise InputError(f"{path}: no frame {index}: it holds {len(frames)}, counted from 0")
    return [frames[k] for k in rows], len(frames) > 1


class H5Frames:
    """The complete frames of a trajectory, by number."""

    def __init__(self, path: Path) -> None:
        self.series = H5Series(path)
        group, n = self.series.group, len(self.series.names)
        self.forces = self.series.entry("force/value") if "force/value" in group else None
        self.ids = group.array("id", Item("int", ("atoms",))) if "id" in group else np.arange(n)
        known, energy = Group(self.series.file, group.checked), "observables/potential_energy/value"
        self.energy = (known.frames(energy, Item("float", (None,)), len(self.series.boxes))
                       if energy in known else None)
        self.shown = {name: self.series.entry(f"{name}/value", "excitation") for name in SHOWN if name in group}
        if self.forces is not None:
            self.force_factor = 1 / KJ_MOL if str(self.forces.attrs.get("unit", "")).startswith("kJ") else 1.0

    def __len__(self) -> int:
        return len(self.series.time)

    def __getitem__(self, k: int) -> Atoms:
        """A frame: velocities as momenta, masses, ``id``, ``image``, model_forces (eV/Å), model_energy (eV), and what
        frames show besides (SHOWN)."""
        s, k = self.series, range(len(self))[k]
        row, cell = int(s.rows[k]), s.cell(k)
        atoms = Atoms([element_of(str(e)) for e in s.names], s.read("x", [k])[0].astype(float), cell=cell.h,
                      pbc=cell.pbc)
        atoms.set_masses(s.mass)
        atoms.set_array("id", self.ids)
        if "v" in s.has and np.isfinite(v := s.read("v", [k])[0].astype(float)).all():  # NaN: not known
            atoms.set_velocities(v / ase.units.fs)
        if "image" in s.has:
            atoms.set_array("image", s.read("image", [k])[0].astype(int))
        if self.forces is not None and np.isfinite(f := self.forces[row] * self.force_factor).all():
            atoms.set_array(MODEL_FORCES, f @ cell.standard().turn.T if s.turned else f)
        for name, data in self.shown.items():
            atoms.set_array(name, data[row].astype(float))
        if self.energy is not None and np.isfinite(self.energy[row]):
            unit = str(self.energy.attrs.get("unit", OLD_ENERGY))
            atoms.info[MODEL_ENERGY] = float(self.energy[row]) / (1.0 if unit == OLD_ENERGY else KJ_MOL)
        step = int(s.step[k])
        atoms.info |= {"step": step, "time": float(s.time[k])}
        atoms.info |= next((words for first, words in reversed(s.stages) if first <= step), {})
        return atoms


def atoms_of_checkpoint(path: Path) -> Atoms:
    """The atoms of a checkpoint, in the order of their ids; masses by the header. Raises InputError."""
    start = read_checkpoint(MPI.COMM_SELF, path)
    atoms = _of_start(start, start.state["masses"])
    atoms.info["time"] = start.time
    if start.f is not None and np.isfinite(start.f).all():  # NaN: not known
        atoms.set_array(MODEL_FORCES, start.f[np.argsort(start.gid)])
    return atoms


def atoms_of_rxff(path: Path, elements: Sequence[str] | None = None) -> Atoms:
    """The atoms of an rxff.bin or a numbered .bin, in the order of their ids. Raises InputError.

    elements : of a model deck; None: as its side file says
    """
    start = read_rxff(MPI.COMM_SELF, path, None if elements is None else tuple(elements))
    types = read_types(path, start.n_global)
    return _of_start(start, {} if types is None else dict(zip(types.elements, types.masses)))


def _of_start(start: Start, masses: dict[str, float]) -> Atoms:
    order = np.argsort(start.gid)
    names = np.array(start.elements)[start.species[order]]
    atoms = Atoms([element_of(str(e)) for e in names], start.x[order], cell=start.cell.h, pbc=start.cell.pbc)
    if masses or np.isin(names, list(ISOTOPES)).any():
        own = with_heavy_hydrogen(atoms.get_masses(), names)
        for name, mass in masses.items():
            own[names == name] = mass
        atoms.set_masses(own)
    atoms.set_array("id", start.gid[order])
    if start.v is not None:
        atoms.set_velocities(start.v[order] / ase.units.fs)
    if start.image is not None:
        atoms.set_array("image", start.image[order].astype(int))
    atoms.info["step"] = start.step
    return atoms
