"""What a run starts from, whichever file it comes from: structure, rxff.bin, checkpoint, or atoms of a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.parallel import together

FARTHEST = 1e8  # Å: spacing of numbers 1.5e-8 Å
FASTEST = 2997.92458  # Å/fs: speed of light
THINNEST = 0.1  # Å, between faces of a periodic cell: copies within a cutoff of some Å become millions


def check_extent(x: np.ndarray, cell: Cell, source: str) -> None:
    """Raises InputError for positions (n, 3) Å, or a cell, too far out for double precision; and for a flat cell."""
    if not max(np.abs(x).max(initial=0.0), np.abs(cell.h).max()) < FARTHEST:
        raise InputError(f"{source}: positions or cell reach beyond {FARTHEST:g} Å, where the digits of forces are "
                         "lost; move the atoms to the cell, and give lengths in Å")
    thin = cell.widths[cell.pbc].min(initial=1.0)
    if thin < THINNEST:
        raise InputError(f"{source}: the cell is flat: opposite faces are {thin:.3g} Å apart; give lengths in Å")


@dataclass
class Start:
    """A share of the atoms on each rank, not yet sent to their owners, and the state that was stored with them.

    Parameters
    ----------
    gid     (n,)   int64   0 .. n_global - 1
    species (n,)   int32   index into elements
    x       (n, 3) float64 Å
    cell    Cell
    n_global int
    elements tuple of str
    v       (n, 3) float64 Å/fs, or None where the source has none
    f       (n, 3) float64 eV/Å, or None
    image   (n, 3) int32, or None
    extra   {name: (n, ...)} further rows of each atom
    step    int; time float, fs
    state   dict: of thermostats and random numbers, from a checkpoint
    exact   bool: a checkpoint on the rank count that wrote it; rows are those of this rank, in its order
    source  str: for messages
    notes   list of str: for the log
    """

    gid: np.ndarray
    species: np.ndarray
    x: np.ndarray
    cell: Cell
    n_global: int
    elements: tuple[str, ...]
    v: np.ndarray | None = None
    f: np.ndarray | None = None
    image: np.ndarray | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    step: int = 0
    time: float = 0.0
    state: dict[str, Any] = field(default_factory=dict)
    exact: bool = False
    source: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def continued(self) -> bool:
        """True if the outputs of an earlier run are continued."""
        return self.f is not None or self.step > 0

    def check(self, comm: MPI.Comm) -> Start:
        """This start; raises AgreedError where double precision or the cell cannot hold it (collective)."""
        with together(comm):
            check_extent(self.x, self.cell, self.source)
            if self.v is not None and not np.abs(self.v).max(initial=0.0) < FASTEST:
                raise InputError(f"{self.source}: a velocity is above the speed of light, {FASTEST} Å/fs; give Å/fs")
        return self

    def atoms(self) -> Atoms:
        """The share as Atoms, not yet sent to their owners; missing arrays are zero."""
        atoms = Atoms.of(self.gid, self.species, self.x, self.v, self.image, self.f)
        atoms.extra = dict(self.extra)
        return atoms
