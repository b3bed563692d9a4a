"""The one reader of files that hold atoms: structures, frames of a run, labelled data."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import ase.io.formats
import h5py
import numpy as np
from ase import Atoms

from rxmdnn.errors import InputError
from rxmdnn.io.canonical import canonical
from rxmdnn.io.heavy_hydrogen import read_heavy
from rxmdnn.io.labelled_hdf5 import is_labelled_hdf5, read_labelled_hdf5
from rxmdnn.io.lammps_data import is_lammps_data, read_lammps_data
from rxmdnn.io.own_formats import CHECKPOINT_FORMAT, H5MD_FORMAT, RXFF_FORMAT, own_format, read_own
from rxmdnn.io.xyz_trajectory import BlankLineError, frames_of
from rxmdnn.isotopes import ISOTOPES, element_of

LABELLED_HDF5 = "rxmdnn-labels"
OWN = (H5MD_FORMAT, CHECKPOINT_FORMAT, RXFF_FORMAT)
STATE_PERIODICITY = (*OWN, LABELLED_HDF5, "extxyz", "traj", "json", "db", "bundletrajectory",
                     "lammps-dump-text", "gpumd")


class FramesFound(NamedTuple):
    """Frames of a file; whether their periodicity is assumed; whether the file holds more frames than one."""

    atoms: list[Atoms]
    assumed_periodic: bool
    several: bool


def read_atoms(path: str | Path, index: str = ":", format: str | None = None) -> list[Atoms]:
    """The frames of a file of any format, every rank for itself, as ``canonical`` makes them.

    Parameters
    ----------
    index : frames as ASE counts them: ":" are all, "-1" is the last
    format : ASE's name of the format; default: told by content, then by the name of the file

    Raises
    ------
    InputError
        No such file, or one that cannot be read: the message names file and frame.

    Examples
    --------
    >>> read_atoms("input/ammonia/solid_I.cif")[0].get_chemical_formula()
    'H12N4'
    """
    return find_atoms(path, index, format).atoms


def find_atoms(path: str | Path, index: str = ":", format: str | None = None,
               elements: Sequence[str] | None = None) -> FramesFound:
    """As ``read_atoms``, with what a start must know of the file.

    elements : of a model deck; they name the types of a file that names none, an rxff.bin without its side file
    """
    path = Path(path)
    if not path.is_file() and not (path.is_dir() and path.suffix == ".bundle"):
        raise InputError(f"{path}: no such file")
    try:
        format = format or format_of(path)
        read = READERS.get(format)
        if not (read or format in OWN or format in ase.io.formats.ioformats):
            raise InputError(f"{path}: no format is called '{format}'; those of ASE are listed by 'ase info --formats'")
        if format in OWN:
            frames, several = read_own(path, format, index, elements)
        else:
            frames, several = (_chosen(path, read(path), index) if read else
                               _by_ase(path, index, format, elements))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the readers of ASE raise exceptions of any kind
        if isinstance(error, (StopIteration, IndexError)) and index.isdigit():
            raise InputError(f"{path}: no frame {index}, counted from 0") from None
        raise InputError(f"{path}: ASE cannot read it: {str(error) or type(error).__name__}") from None
    assumed = False
    for atoms in frames:
        if format not in STATE_PERIODICITY and not atoms.pbc.any() and np.array(atoms.cell).any(axis=1).all():
            atoms.pbc, assumed = True, True
    return FramesFound(frames, assumed, several)


def format_of(path: Path) -> str:
    """ASE's name of the format of a file, or a key of READERS; by content, then by name."""
    if path.is_file():
        if not path.stat().st_size:
            raise InputError(f"{path}: the file is empty")
        if is_labelled_hdf5(path):
            return LABELLED_HDF5
        if (own := own_format(path)) is not None:
            return own
        if h5py.is_hdf5(path):
            raise InputError(f"{path}: an HDF5 file that is neither a trajectory nor a checkpoint; give frames in "
                             "another format")
        if is_lammps_data(path):
            return "lammps-data"
    try:
        return ase.io.formats.filetype(str(path))
    except ase.io.formats.UnknownFileTypeError:
        if _is_extended_xyz(path):
            return "extxyz"
        raise InputError(f"{path}: the format is not known by content nor name; name it for example x.xyz, x.cif, "
                         "POSCAR") from None


def _is_extended_xyz(path: Path) -> bool:
    """Whether a text begins with a number of atoms and a line of words name=value."""
    with path.open(errors="replace") as lines:
        count, words = lines.readline(200).strip(), lines.readline(10_000)
    return count.isdigit() and ("Lattice=" in words or "Properties=" in words)


def _by_ase(path: Path, index: str, format: str, elements: Sequence[str] | None = None) -> tuple[list[Atoms], bool]:
    """The chosen frames, and whether the file has more than one."""
    single = ase.io.formats.ioformats[format].single
    if format == "extxyz":
        _check_blank_lines(path)
    heavy = read_heavy(path, format)
    more = _names_of_types(path, elements) if format == "lammps-dump-text" else {}
    # The last of several frames is told from the only one by reading two.
    wanted = ":" if heavy or single else "-2:" if index == "-1" else index
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Not in parallel, in which ASE broadcasts over all ranks; and a name may hold "@".
        found: Any = ase.io.read(heavy[0] if heavy else path, wanted, format=format, parallel=False,
                                 do_not_split_by_at_sign=True, **more)
    frames: list[Atoms] = found if isinstance(found, list) else [found]
    if not frames:
        raise InputError(f"{path}: no atoms in it, read as {format}; if it is compressed, unpack it first")
    named = heavy[1] if heavy else [_heavy_in_cif(path, atoms) if format == "cif" else None for atoms in frames]
    if len(named) != len(frames) or any(n is not None and len(n) != len(a) for a, n in zip(frames, named)):
        raise InputError(f"{path}: names D or T, which cannot be told apart from H in this format; write extended XYZ")
    numbers = range(1, len(frames) + 1) if wanted == ":" and len(frames) > 1 else ()
    sources = [f"{path}: frame {k}" for k in numbers] or [str(path)] * len(frames)
    out = [canonical(atoms, source, names) for atoms, source, names in zip(frames, sources, named)]
    return (out, len(out) > 1) if wanted == index else _chosen(path, out, index)


def _check_blank_lines(path: Path) -> None:
    """Raises InputError for a blank line between frames, at which ASE stops without a word."""
    try:
        deque(frames_of(path), maxlen=0)
    except BlankLineError:
        raise
    except InputError:  # what ASE reads or reports itself
        return


def _chosen(path: Path, frames: list[Atoms], index: str) -> tuple[list[Atoms], bool]:
    """The frames of an index, and whether there are more than one. Raises InputError."""
    chosen: Any = ase.io.formats.string2index(index)
    try:
        return frames[chosen] if isinstance(chosen, slice) else [frames[chosen]], len(frames) > 1
    except IndexError:
        raise InputError(f"{path}: no frame {index}: it holds {len(frames)}, counted from 0") from None


def _names_of_types(path: Path, elements: Sequence[str] | None) -> dict[str, Any]:
    """Arguments of ASE's reader of dumps: names of the types, where the dump names no elements. Raises InputError."""
    with path.open(encoding="utf-8", errors="replace") as file:
        columns = next((line.split()[2:] for line in file if line.startswith("ITEM: ATOMS")), [])
    if "element" in columns or "mass" in columns:
        return {}
    if elements is None:
        raise InputError(f"{path}: names no elements, only types; name a model deck, whose elements are the types in "
                         "order, or dump the column 'element'")
    return {"specorder": [element_of(e) for e in elements]}


def _heavy_in_cif(path: Path, atoms: Atoms) -> np.ndarray | None:
    """(n,) names D or T of the atoms of a CIF, whose types ASE reads as H; None without any."""
    from ase.io.cif import parse_cif

    if "spacegroup_kinds" not in atoms.arrays:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blocks = [b for b in parse_cif(str(path)) if b.has_structure()]
    tags = blocks[-1]
    words = tags.get("_atom_site_type_symbol") or tags.get("_atom_site_label") or []
    names = np.array([w if (w := str(word).strip()[:1]) in ISOTOPES and not str(word)[1:2].islower() else ""
                      for word in words], dtype="U2")
    return names[atoms.arrays["spacegroup_kinds"]] if (names != "").any() else None


def _lammps(path: Path) -> list[Atoms]:
    return [canonical(read_lammps_data(path), str(path))]


READERS: dict[str, Callable[[Path], list[Atoms]]] = {"lammps-data": _lammps, LABELLED_HDF5: read_labelled_hdf5}
