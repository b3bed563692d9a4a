"""The one place where ASE reads a file, and the cell that its atoms have."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import ase.io
import ase.io.formats
import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError

MARGIN = 1.0  # Å, around the atoms along an axis without a vector


def read_by_ase(path: str | Path, index: str = ":", format: str | None = None) -> list[Atoms]:
    """The frames of a file in any format that ASE reads, every rank for itself.

    Parameters
    ----------
    index : frames as ASE counts them: ":" are all, "-1" is the last
    format : ASE's name of the format; default: ASE finds it by content and name

    Raises
    ------
    InputError
        No such file, or one that ASE cannot read.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not in parallel, in which ASE broadcasts over all ranks; and a name may hold "@".
            found: Any = ase.io.read(path, index, format=format, parallel=False, do_not_split_by_at_sign=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the readers of ASE raise exceptions of any kind
        raise InputError(f"{path}: ASE cannot read it: {str(error) or type(error).__name__}") from None
    return found if isinstance(found, list) else [found]


def states_periodicity(path: str | Path) -> bool:
    """Whether the format of a file that ASE can read says along which axes a structure is periodic."""
    return ase.io.formats.filetype(str(path)) in ("extxyz", "traj", "json", "db", "bundletrajectory")


def cell_of(atoms: Atoms, source: str = "atoms") -> Cell:
    """The cell of ASE atoms, periodic as ``atoms.pbc`` says; an open axis needs no vector.

    Raises InputError for NaN or infinite coordinates, a periodic axis without a vector, and vectors in a plane.
    """
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise InputError(f"{source}: NaN or infinite coordinates of {len(bad)} atom(s), the first of atom {bad[0]} "
                         f"({atoms.symbols[bad[0]]}): {atoms.positions[bad[0]]}")
    given, pbc = np.array(atoms.cell), np.array(atoms.pbc)
    empty = ~given.any(axis=1)
    if (empty & pbc).any():
        axes = " ".join(name for name, missing in zip("abc", empty & pbc) if missing)
        raise InputError(f"{source}: periodic along {axes}, but the cell has no vector there; give the cell three "
                         "vectors, or set pbc to False")
    h = complete_cell(given)
    if empty.any() and len(atoms):
        along = atoms.positions @ h.T  # the added vectors are unit vectors, at right angles to the others
        h[empty] *= np.maximum(np.ptp(along, axis=0)[empty], 0.0)[:, None] + 2 * MARGIN
    return Cell(h, pbc)
