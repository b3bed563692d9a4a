"""Structures from which a run starts: input.xyz, or any file of atoms, replicated over the ranks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.deck.language import number_of
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.start import Start, check_extent
from rxmdnn.isotopes import ISOTOPES
from rxmdnn.parallel import AgreedError, on_root
from rxmdnn.units import RXMD_TIME

BYTES_PER_ATOM = 1000  # of a start, with what is made of it, at least
CLOSEST = 0.1  # Å: atoms nearer than this overlap


@dataclass
class Structure:
    """What one file states of its atoms, and what it leaves unstated.

    Parameters
    ----------
    names (n,) of str : elements, and D or T for heavy hydrogen
    x (n, 3) float64 Å
    v (n, 3) float64 Å/fs, or None where the file has none
    cell : Cell
    comment : str
    vectors (3,) bool : the file gives a cell vector along this axis; otherwise the axis is open, and the cell has one
        that contains the atoms
    assumed_periodic : the format does not specify periodicity, and the cell is periodic in all directions
    masses (n,) float64 amu, or None where the file states none
    fixed : atoms that the file keeps from moving
    several : the file has more frames
    assumed : what the reader took for granted, ""
    """

    names: np.ndarray
    x: np.ndarray
    v: np.ndarray | None
    cell: Cell
    comment: str = ""
    vectors: np.ndarray = field(default_factory=lambda: np.ones(3, bool))
    assumed_periodic: bool = False
    masses: np.ndarray | None = None
    fixed: int = 0
    several: bool = False
    assumed: str = ""

    def notes(self, path: str | Path) -> list[str]:
        """What a log must say of the file."""
        notes = []
        if self.several:
            notes.append(f"{path} holds several frames; the last one is used: choose one, from 0, by "
                         f"'structure {Path(path).name} nx ny nz frame'")
        if not self.vectors.all():
            axes = " ".join(name for name, given in zip("abc", self.vectors) if not given)
            notes.append(f"{path} has no cell vector along {axes}: non-periodic there")
        if self.assumed_periodic:
            notes.append(f"{path} does not specify periodicity; assuming periodic in all directions: say otherwise by "
                         "a line such as 'pbc T T F'")
        if self.assumed:
            notes.append(f"{path} does not state units; assuming {self.assumed}: otherwise write 'units = real' in its "
                         "first line")
        if self.fixed:
            notes.append(f"{path} fixes {self.fixed} of {len(self.names)} atoms; in this run they move")
        return notes


def read_structure(path: str | Path, angstrom: bool = False, frame: int = -1,
                   elements: Sequence[str] | None = None) -> Structure:
    """The atoms of an input.xyz (cell parameters in line 2, fractional coordinates), or of any file of atoms.

    angstrom : the coordinates of an input.xyz are in Å.
    frame : of a file that holds several, from 0; -1 is the last
    elements : of a model deck, which name the types of a file that names none

    Raises InputError for a file that cannot be read, NaN or infinite coordinates, and atoms that overlap.
    """
    path = Path(path)
    found = _input_xyz(path, angstrom) if is_input_xyz(path) else _of_file(path, frame, elements)
    bad = np.flatnonzero(~np.isfinite(found.x).all(axis=1))
    if len(bad):
        raise InputError(f"{path}: atom {bad[0] + 1} ({found.names[bad[0]]}): NaN or infinite coordinate")
    _apart(path, found)
    return found


def is_input_xyz(path: Path) -> bool:
    """Whether a file is an input.xyz of RXMD: the number of atoms, then six numbers of the cell."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            count, second = file.readline().split(), file.readline().split()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return len(count) > 0 and count[0].isdigit() and len(second) >= 6 and all(map(_is_number, second[:6]))


def _is_number(word: str) -> bool:
    try:
        number_of(word)
    except ValueError:
        return False
    return True


def _input_xyz(path: Path, angstrom: bool) -> Structure:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    n = int(lines[0].split()[0])
    rows = [line.split() for line in lines[2:2 + n]]
    if len(rows) < n:
        raise InputError(f"{path}: expected {n} atoms, found {len(rows)}: file truncated")
    moving = n > 0 and all(len(r) >= 7 and all(map(_is_number, r[4:7])) for r in rows)
    faults = [f"{path}:{k + 3}: expected 'El x y z', found '{lines[k + 2].strip()}'"
              for k, r in enumerate(rows) if len(r) < 4 or not all(map(_is_number, r[1:4]))]
    if faults:
        raise InputError(*faults)
    numbers = np.array([[number_of(w) for w in r[1:7 if moving else 4]] for r in rows], float)
    numbers = numbers.reshape(n, -1)
    try:
        cell = Cell.from_parameters(*(number_of(w) for w in lines[1].split()[:6]))
    except InputError as error:
        raise InputError(f"{path}:2: {error}") from None
    x = numbers[:, :3] if angstrom else cell.cartesian(numbers[:, :3])
    return Structure(np.array([r[0] for r in rows]), x,
                     numbers[:, 3:6] / RXMD_TIME if moving else None, cell, " ".join(lines[0].split()[1:]).strip('"'))


def _of_file(path: Path, frame: int, elements: Sequence[str] | None) -> Structure:
    from ase.units import fs

    from rxmdnn.io.ase_atoms import cell_of  # ASE, only where it is used
    from rxmdnn.io.canonical import names_of
    from rxmdnn.io.lammps_data import ASSUMED
    from rxmdnn.io.read_atoms import find_atoms

    file = find_atoms(path, str(frame), elements=elements)
    atoms = file.atoms[0]
    if not len(atoms):
        raise InputError(f"{path}: no atoms")
    return Structure(
        names_of(atoms), np.array(atoms.positions), atoms.get_velocities() * fs if atoms.has("momenta") else None,
        cell_of(atoms, str(path)), str(atoms.info.get("comment", "")), np.asarray(np.array(atoms.cell).any(axis=1)),
        file.assumed_periodic, atoms.get_masses() if atoms.has("masses") else None,
        len({i for c in atoms.constraints for i in np.ravel(getattr(c, "index", []))}), file.several and frame == -1,
        str(atoms.info.get(ASSUMED, "")))


def read_charges(path: str | Path, frame: int = -1, elements: Sequence[str] | None = None) -> np.ndarray:
    """(n,) charges, or (n, 9) Born tensors xx xy xz yx ... zz with rows for the displacement, e, of a file of atoms.

    Columns born_charges, initial_charges or charges of extended XYZ, the charges of a LAMMPS data file or of any other
    format of ASE. Atoms are in the order of ``read_structure``; frame, elements : as there

    Raises InputError where the file has no charges.
    """
    path = Path(path)
    if is_input_xyz(path):
        raise InputError(f"{path}: an input.xyz has no charges; give them by element, or in an extended XYZ file")
    from rxmdnn.io.canonical import charges_of
    from rxmdnn.io.read_atoms import find_atoms

    return charges_of(find_atoms(path, str(frame), elements=elements).atoms[0], str(path))


def _apart(path: Path, found: Structure) -> None:
    if np.isfinite(found.x).all():
        check_extent(found.x, found.cell, str(path))
    i, j, images = pairs(backends.make("cpu"), found.x, found.cell, CLOSEST)
    if len(i):
        d = np.linalg.norm(found.x[j] + images @ found.cell.h - found.x[i], axis=1)
        k = int(np.argmin(d))
        raise InputError(f"{path}: atoms {i[k] + 1} ({found.names[i[k]]}) and {j[k] + 1} ({found.names[j[k]]}) are "
                         f"{d[k]:.3f} Å apart; they overlap")


def species_of(names: np.ndarray, elements: Sequence[str], path: str | Path, masses: Sequence[float] | None = None
               ) -> np.ndarray:
    """(n,) names -> (n,) int32 index into `elements`; D and T are also an H of their mass.

    masses : of the elements, amu

    Raises InputError naming file, element and atom.
    """
    index = {e: k for k, e in enumerate(elements)}
    faults = []
    for name in map(str, np.unique(names)):
        if name in index:
            continue
        element, _, low, high = ISOTOPES.get(name, (name, 0.0, 0.0, 0.0))
        if element in index and masses is not None and low < masses[index[element]] < high:
            index[name] = index[element]
            continue
        atom = int(np.argmax(names == name)) + 1
        if element in index:
            faults.append(f"{path}: atom {atom}: {name}, but the elements are {' '.join(elements)}; add {name}, or "
                          f"give {element} the mass of {name}")
        else:
            faults.append(f"{path}: atom {atom}: element {name} is not in the model deck ({' '.join(elements)})")
    if faults:
        raise InputError(*faults)
    return np.array([index[str(e)] for e in names], np.int32)


def other_masses(names: np.ndarray, stated: np.ndarray | None, species: np.ndarray, elements: Sequence[str],
                 masses: Sequence[float] | None) -> str:
    """A note where a file states masses, amu, that differ by more than 1 % from those of the run; otherwise ""."""
    if stated is None or masses is None:
        return ""
    own = np.array(masses)[species]
    differ = np.abs(stated - own) > 0.01 * own
    words = []
    for k in np.unique(species[differ]):
        found = " ".join(f"{m:g}" for m in np.unique(stated[differ & (species == k)]))
        words.append(f"{elements[k]} {masses[k]:g} (in the file: {found})")
    return "the masses are those of the model deck, amu: " + ", ".join(words) if words else ""


def start_from_file(comm: MPI.Comm, path: str | Path, elements: tuple[str, ...],
                    copies: tuple[int, int, int] = (1, 1, 1), strain: tuple[float, ...] = (0, 0, 0),
                    shear: tuple[float, ...] = (0, 0, 0), angstrom: bool = False, *, frame: int = -1,
                    pbc: Sequence[bool] | None = None, masses: Sequence[float] | None = None,
                    repeat_velocities: bool = False) -> Start:
    """A share of the replicas of a structure on each rank; rank 0 reads the file (collective).

    Parameters
    ----------
    copies : number of cells along a, b, c; gid = copy * n + row of the file. Copies have no velocities: those of the
        file, repeated, would make all cells move alike.
    strain : a, b, c are stretched by 1 + strain
    shear : degrees, added to alpha, beta, gamma; fractional coordinates stay
    angstrom : the coordinates of an input.xyz are in Å
    frame : of a file that holds several, from 0; -1 is the last
    pbc : the axes along which the structure repeats, or None: as its file says
    masses : of the elements, amu: which of them are D and T
    repeat_velocities : copies have the velocities of the file

    Raises InputError.
    """
    def read() -> tuple[Structure, np.ndarray]:
        found = read_structure(path, angstrom, frame, elements)
        if pbc is not None:
            found = with_pbc(found, pbc, path)
        return found, species_of(found.names, elements, path, masses)

    unit, species = on_root(comm, read)
    if (repeated := ~unit.vectors & (np.array(copies) > 1)).any():
        axes = " ".join(name for name, wrong in zip("abc", repeated) if wrong)
        raise AgreedError(f"{path}: cannot be repeated along {axes}: the file has no cell vector there")
    n, (nx, ny, nz) = len(species), copies
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if (need := n * nx * ny * nz * BYTES_PER_ATOM / comm.size) > room:
        raise AgreedError(f"{path}: {n * nx * ny * nz} atoms take about {need / 2**30:.3g} GiB per rank, and this "
                          f"machine has {room / 2**30:.3g} GiB; repeat the cell less often, or use more ranks")
    start, stop = block(n * nx * ny * nz, comm.size, comm.rank)
    gid = np.arange(start, stop, dtype=np.int64)
    copy, row = np.divmod(gid, n)
    shift = np.stack([copy // (ny * nz), copy // nz % ny, copy % nz], axis=1)
    x = unit.x[row] + unit.cell.cartesian(shift.astype(float))
    cell = Cell(unit.cell.h * np.array(copies)[:, None], unit.cell.pbc)
    if any(strain) or any(shear):
        a, b, c, *angles = cell.parameters
        new = (a * (1 + strain[0]), b * (1 + strain[1]), c * (1 + strain[2]), *(t + d for t, d in zip(angles, shear)))
        s = cell.fractional(x)
        if any(shear):
            # In the standard orientation, but left-handed where the file is: lengths and angles do not say which.
            hand = [1.0, 1.0, float(np.sign(np.linalg.det(cell.h)))]
            turn = cell.inverse @ (Cell.from_parameters(*cell.parameters).h * hand)
            cell = Cell(Cell.from_parameters(*new).h * hand, cell.pbc)
            unit.v = None if unit.v is None else unit.v @ turn
        else:
            cell = Cell(cell.h * (1 + np.array(strain))[:, None], cell.pbc)
        x = cell.cartesian(s)
    notes = unit.notes(path)
    if unit.v is not None and nx * ny * nz > 1 and not repeat_velocities:
        unit.v = None
        notes.append(f"{path}: its velocities are not repeated in {nx * ny * nz} copies, which would move alike")
    if note := other_masses(unit.names, unit.masses, species, elements, masses):
        notes.append(f"{path}: {note}")
    return Start(gid, species[row], x, cell, n * nx * ny * nz, elements,
                 v=None if unit.v is None else unit.v[row], source=str(path), notes=notes).check(comm)


def with_pbc(found: Structure, pbc: Sequence[bool], path: str | Path) -> Structure:
    """The structure, periodic along the axes that a deck names. Raises InputError along an axis without a vector."""
    if (np.array(pbc) & ~found.vectors).any():
        axes = " ".join(name for name, wrong in zip("abc", np.array(pbc) & ~found.vectors) if wrong)
        raise InputError(f"pbc: {path} has no cell vector along {axes}; write F there")
    return replace(found, cell=Cell(found.cell.h, np.array(pbc)), assumed_periodic=False)


def formula(counts: np.ndarray, elements: tuple[str, ...]) -> str:
    """The composition as text, '96 H 32 N'."""
    return " ".join(f"{n} {e}" for n, e in zip(counts, elements))
