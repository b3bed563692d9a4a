"""Data files of LAMMPS: box, atoms of the common styles, masses and velocities.

Source of the format: the documentation of LAMMPS, pages read_data and atom_style.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import ase.units
import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from rxmdnn.errors import InputError
from rxmdnn.isotopes import ISOTOPES


class Columns(NamedTuple):
    """Where the columns of one style are: type of the atom, charge (or None), x, and the least number of columns."""

    type: int
    charge: int | None
    x: int
    least: int


STYLES = {
    "atomic": Columns(1, None, 2, 5), "charge": Columns(1, 2, 3, 6), "molecular": Columns(2, None, 3, 6),
    "bond": Columns(2, None, 3, 6), "angle": Columns(2, None, 3, 6), "full": Columns(2, 3, 4, 7),
    "sphere": Columns(1, None, 4, 7), "dipole": Columns(1, 2, 3, 9), "hybrid": Columns(1, None, 2, 5),
}
IMAGES = 3  # further columns, whole numbers: periods of the cell
UNITS = {"metal": (1.0, 1e-3), "real": (1.0, 1.0)}  # Å and Å/fs per unit of length and of velocity
ASSUMED = "assumed"  # word for what the file does not state
MASS_TOLERANCE = 0.05  # amu, between a mass of the file and the standard one of an element
COUNT = re.compile(r"^\s*(\d+)\s+atoms\s*(#.*)?$")
BOX = re.compile(r"^\s*\S+\s+\S+\s+([xyz])lo\s+[xyz]hi")
SECTION = re.compile(r"^([A-Z][A-Za-z/]*(?: [A-Za-z/]+)*)\s*(?:#\s*(\S+).*)?$")


def is_lammps_data(path: str | Path) -> bool:
    """Whether the first lines of a file are those of a LAMMPS data file."""
    with open(path, "rb") as file:
        lines = file.read(4096).decode("utf-8", "replace").splitlines()[1:40]
    return any(map(COUNT.match, lines)) and any(BOX.match(line) or "avec" in line.split() for line in lines)


def read_lammps_data(path: str | Path) -> Atoms:
    """The atoms of a data file, in order of their ids; elements by the comments or labels of types, or by mass.

    The format does not say along which axes the box repeats: ``pbc`` is False. Velocities are Å/ps, or Å/fs where the
    first line holds ``units = real``. Bonds, angles and images are not read.

    Raises
    ------
    InputError
        A file cut short, an unknown style or unit, a type without a mass that tells its element.
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    title, *lines = text.splitlines()
    stated = re.search(r"units\s*=\s*(\w+)", title)
    unit = stated.group(1) if stated else "metal"
    if unit not in UNITS:
        raise InputError(f"{path}:1: units {unit}; known are {', '.join(UNITS)}")
    header, sections, styles = _sections(lines)
    n = next((int(m.group(1)) for m in map(COUNT.match, header) if m), 0)
    if not n:
        raise InputError(f"{path}: no atoms")
    origin, h = _box(path, header)
    labels = {label: k for k, label, *_ in map(str.split, sections.get("Atom Type Labels", (0, []))[1])}
    at, found = sections.get("Atoms", (0, []))
    if labels:
        found = [" ".join(labels.get(word, word) for word in line.split("#")[0].split()) for line in found]
    rows, style = _atoms(path, (at, found), styles.get("Atoms", ""), n)
    order = np.argsort(rows[:, 0], kind="stable")
    rows = rows[order]
    if (np.diff(rows[:, 0]) == 0).any():
        twice = int(rows[:-1, 0][np.diff(rows[:, 0]) == 0][0])
        raise InputError(f"{path}: two atoms have the id {twice}")
    kinds = rows[:, style.type].astype(int)
    symbols, masses = _elements(path, kinds, sections.get("Masses", (0, []))[1], labels)
    atoms = Atoms([symbols[k] for k in kinds], positions=rows[:, style.x:style.x + 3] - origin, cell=h, pbc=False)
    atoms.set_masses([masses[k] for k in kinds])
    atoms.set_array("id", rows[:, 0].astype(np.int64))
    if style.charge is not None:
        atoms.set_initial_charges(rows[:, style.charge])
    if "Velocities" in sections:
        v = _table(path, "Velocities", *sections["Velocities"], n)
        v = v[np.argsort(v[:, 0], kind="stable")]
        if not np.array_equal(v[:, 0], rows[:, 0]):
            raise InputError(f"{path}: Velocities: the ids are not those of Atoms")
        atoms.set_velocities(v[:, 1:4] * UNITS[unit][1] / ase.units.fs)
        if not stated:
            atoms.info[ASSUMED] = "velocities in Å/ps (units metal)"
    return atoms


def _sections(lines: list[str]) -> tuple[list[str], dict[str, tuple[int, list[str]]], dict[str, str]]:
    """The header, {section: (line of the file where it begins, its lines)}, and {section: its style}."""
    heads = [k for k, line in enumerate(lines) if line[:1].isalpha() and SECTION.match(line)]
    header = lines[:heads[0]] if heads else lines
    sections, styles = {}, {}
    for k, stop in zip(heads, [*heads[1:], len(lines)]):
        name, style = SECTION.match(lines[k]).groups()  # type: ignore[union-attr]
        sections[name] = k + 2, [line for line in lines[k + 1:stop] if line.split("#")[0].strip()]
        styles[name] = style or ""
    return header, sections, styles


def _box(path: str | Path, header: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and cell (3, 3), Å."""
    origin, h = np.zeros(3), np.zeros((3, 3))
    try:
        for line in header:
            words = line.split("#")[0].split()
            if BOX.match(line):
                axis = "xyz".index(words[2][0])
                origin[axis], h[axis, axis] = float(words[0]), float(words[1]) - float(words[0])
            elif words[3:] == ["xy", "xz", "yz"]:
                h[1, 0], h[2, 0], h[2, 1] = map(float, words[:3])
            elif words[3:] in (["avec"], ["bvec"], ["cvec"]):
                h["abc".index(words[3][0])] = list(map(float, words[:3]))
            elif words[3:] == ["abc", "origin"]:
                origin[:] = list(map(float, words[:3]))
    except ValueError:
        raise InputError(f"{path}: the box has no numbers: '{line.strip()}'") from None
    if abs(np.linalg.det(h)) < 1e-12 or not np.isfinite(h).all():
        raise InputError(f"{path}: the box has no volume; expected lines such as '0.0 10.0 xlo xhi'")
    return origin, h


def _table(path: str | Path, name: str, first: int, lines: list[str], n: int) -> np.ndarray:
    if len(lines) != n:
        raise InputError(f"{path}: {name}: expected {n} rows, found {len(lines)}")
    try:
        table = np.loadtxt(lines, comments="#", ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: {name}, from line {first} on: {error}") from None
    if not np.isfinite(table).all():
        raise InputError(f"{path}: {name}: a number is NaN or infinite")
    return table


def _atoms(path: str | Path, section: tuple[int, list[str]], style: str, n: int) -> tuple[np.ndarray, Columns]:
    """The table of the atoms and where its columns are."""
    rows = _table(path, "Atoms", *section, n)
    if style:
        if style not in STYLES:
            raise InputError(f"{path}: Atoms: style '{style}'; known are {', '.join(STYLES)}")
        columns = STYLES[style]
        widths = columns.least, columns.least + IMAGES
        if rows.shape[1] not in widths and (style != "hybrid" or rows.shape[1] < columns.least):
            raise InputError(f"{path}: Atoms: style {style} has {widths[0]} or {widths[1]} columns, found "
                             f"{rows.shape[1]}")
        return rows, columns
    whole = (rows == np.rint(rows)).all(axis=0)
    width = rows.shape[1] - (IMAGES if rows.shape[1] >= 5 + IMAGES and whole[-IMAGES:].all() else 0)
    guess = {5: "atomic", 6: "molecular" if whole[2] else "charge", 7: "full"}.get(width)
    if guess is None or not whole[STYLES[guess].type]:
        raise InputError(f"{path}: Atoms: {rows.shape[1]} columns tell no style; write 'Atoms # full' or another one "
                         f"of {', '.join(STYLES)}")
    return rows, STYLES[guess]


def _elements(path: str | Path, kinds: np.ndarray, lines: list[str], labels: dict[str, str]
              ) -> tuple[dict[int, str], dict[int, float]]:
    """{type: symbol} and {type: mass, amu} of the types that atoms have, from the lines of Masses.

    labels : {label: type} as text
    """
    symbols, masses = {}, {}
    for line in lines:
        data, _, comment = line.partition("#")
        try:
            name, mass = data.split()[0], float(data.split()[1])
            kind = int(labels.get(name, name))
        except (ValueError, IndexError):
            raise InputError(f"{path}: Masses: expected '<type> <mass> # <element>', found '{line.strip()}'") from None
        label = next((word for word, k in labels.items() if int(k) == kind), "")
        said = (comment.split() or [label])[0].strip(",;()")
        symbols[kind], masses[kind] = _element(said, mass), mass
    for kind in np.unique(kinds).tolist():
        if kind not in masses:
            raise InputError(f"{path}: no mass of type {kind}; write '{kind} <mass> # <element>' under Masses")
        if not symbols[kind]:
            raise InputError(f"{path}: Masses: no element has the mass {masses[kind]:g} of type {kind}; write "
                             f"'{kind} {masses[kind]:g} # <element>'")
    return symbols, masses


def _element(said: str, mass: float) -> str:
    """The symbol of the element that a comment names, or else of that mass; "" if there is none.

    Names of force fields look like elements in capitals: HO of mass 1.008 is not holmium, CA of 12.011 not calcium.
    """
    heavy = next((element for element, _, low, high in ISOTOPES.values() if low < mass < high), "")
    nearest = int(np.argmin(np.abs(atomic_masses[1:] - mass))) + 1
    by_mass = heavy or (chemical_symbols[nearest] if abs(atomic_masses[nearest] - mass) < MASS_TOLERANCE else "")
    symbol = ISOTOPES[said][0] if said in ISOTOPES else said.capitalize()
    if symbol not in atomic_numbers or symbol == "X":
        return by_mass
    exact = said == symbol or said in ISOTOPES
    return symbol if exact or not by_mass else by_mass
