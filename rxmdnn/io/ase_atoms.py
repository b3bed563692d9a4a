"""ASE's Atoms as this engine's cell, species and start, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ase.units
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import complete_cell
from mpi4py import MPI

from rxmdnn.atoms import CHARGES
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.canonical import charges_of, names_of
from rxmdnn.io.labels import PROGRAM
from rxmdnn.io.ordered import block
from rxmdnn.io.start import Start
from rxmdnn.isotopes import ISOTOPES, standard_mass
from rxmdnn.parallel import AgreedError

if TYPE_CHECKING:
    from ase import Atoms

MARGIN = 1.0  # Å, around the atoms along an axis without a vector


def agree_on_atoms(comm: MPI.Comm, atoms: Atoms, source: str) -> None:
    """Raises InputError on all ranks unless every rank has the same atoms, to the last bit."""
    if comm.size == 1:
        return
    arrays = atoms.numbers, np.array(atoms.pbc), np.array(atoms.cell), atoms.positions, atoms.arrays.get("momenta")
    own = [None if a is None else hashlib.sha256(np.ascontiguousarray(a).tobytes()).digest() for a in arrays]
    every = comm.allgather(own)
    for what, digests in zip(("elements", "periodicity", "cells", "positions", "velocities"), zip(*every, strict=True)):
        if len(set(digests)) > 1:
            raise AgreedError(f"{source}: the ranks have atoms of different {what}; every rank must give the same "
                              "atoms: draw random numbers from one seed, or on one rank and broadcast them")


def agree_on(comm: MPI.Comm, values: object, source: str) -> None:
    """Raises InputError on all ranks unless every rank gives the same values, told by their repr."""
    if comm.size > 1 and len(set(comm.allgather(repr(values)))) > 1:
        raise AgreedError(f"{source}: the ranks give different arguments; every rank must give the same")


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


def species_of_atoms(atoms: Atoms, elements: Sequence[str], source: str = "atoms") -> np.ndarray:
    """(n,) int32 index into ``elements``. Raises InputError for an element that is not among them."""
    index = {name: k for k, name in enumerate(elements)}
    names = _names(atoms, elements)
    for row, name in enumerate(names):
        if name not in index:
            raise InputError(f"{source}: atom {row}: element {name} is not in the model ({' '.join(elements)})")
    return np.array([index[name] for name in names], np.int32)


def _names(atoms: Atoms, elements: Sequence[str]) -> list[str]:
    """Symbols of atoms; hydrogen is named by its mass where D or T are among the elements."""
    return names_of(atoms).tolist() if ISOTOPES.keys() & set(elements) else atoms.get_chemical_symbols()


def with_isotopes(elements: tuple[str, ...], atoms: Atoms) -> tuple[str, ...]:
    """The elements of a model, and D or T where the atoms have hydrogen of several masses."""
    found = set(names_of(atoms).tolist()) & {"H", *ISOTOPES}
    return (*elements, *(name for name in ISOTOPES if name in found)) if len(found) > 1 else elements


def masses_of(atoms: Atoms, elements: Sequence[str], source: str = "atoms") -> tuple[float, ...]:
    """The mass of each element, amu: that of its atoms, or the standard one where there are none.

    Raises InputError for atoms of one element with different masses.
    """
    names, masses, out = np.array(_names(atoms, elements)), atoms.get_masses(), []
    for element in elements:
        own = np.unique(masses[names == element])
        if len(own) > 1:
            raise InputError(f"{source}: atoms of {element} have masses from {own[0]:g} to {own[-1]:g} amu; a run "
                             "has one mass per element")
        out.append(float(own[0]) if len(own) else standard_mass(element))
    return tuple(out)


def start_of(comm: MPI.Comm, atoms: Atoms, elements: Sequence[str], source: str = "atoms", charged: bool = False
             ) -> Start:
    """The start of a run: this rank's share of atoms that every rank gives alike, with their velocities.

    charged : with their charges too, arrays born_charges or initial_charges

    Raises InputError as the functions above, for no atoms, and for constraints, which a run does not know.
    """
    if not len(atoms):
        raise InputError(f"{source}: no atoms")
    if atoms.constraints:
        kinds = ", ".join(dict.fromkeys(type(c).__name__ for c in atoms.constraints))
        raise InputError(f"{source}: constraints ({kinds}) are not supported here; remove them with del "
                         "atoms.constraints, or move the atoms by ASE with a Calculator")
    cell, species = cell_of(atoms, source), species_of_atoms(atoms, elements, source)
    x = np.array(atoms.positions, np.float64)
    v = atoms.get_velocities() * ase.units.fs if atoms.has("momenta") else None
    first, last = block(len(atoms), comm.size, comm.rank)
    extra = {CHARGES: charges_of(atoms, source)[first:last]} if charged else {}
    return Start(np.arange(first, last, dtype=np.int64), species[first:last], x[first:last], cell, len(atoms),
                 tuple(elements), v=None if v is None else v[first:last], extra=extra, source=source)


def with_results(like: Atoms, x: np.ndarray, v: np.ndarray, cell: Cell, energy: float, forces: np.ndarray,
                 stress: np.ndarray) -> Atoms:
    """A copy of ASE atoms at other positions, with results that ``get_potential_energy()`` and the like return.

    x : (n, 3) Å; v : (n, 3) Å/fs; energy : eV; forces : (n, 3) eV/Å
    stress : (3, 3) eV/Å^3, tension positive; kept where ``like`` has three cell vectors
    """
    atoms = like.copy()
    atoms.positions = x
    atoms.set_velocities(v / ase.units.fs)
    of_cell = {}
    if like.cell.rank == 3:
        atoms.set_cell(cell.h, scale_atoms=False)
        of_cell = {"stress": voigt(stress)}
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, **of_cell)
    atoms.calc.name = PROGRAM
    return atoms


def voigt(stress: np.ndarray) -> np.ndarray:
    """The symmetric part of a (3, 3) stress as (6,) in ASE's order xx yy zz yz xz xy."""
    symmetric = 0.5 * (stress + stress.T)
    return symmetric[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
