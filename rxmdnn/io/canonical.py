"""What a file states of its atoms under many names, brought to one: the table of names and units of all readers."""

from __future__ import annotations

from typing import Any

import ase.units
import numpy as np
from ase import Atoms

from rxmdnn.errors import InputError
from rxmdnn.isotopes import named_by_mass, with_heavy_hydrogen

VELOCITY_COLUMNS = ("velo", "vel", "velocities", "velocity")  # besides momenta, which ASE reads itself
VELOCITY_UNITS = {"A/fs": 1.0, "Angstrom/fs": 1.0, "Å/fs": 1.0, "Angstrom fs-1": 1.0, "A/ps": 1e-3,
                  "Angstrom/ps": 1e-3, "Angstrom ps-1": 1e-3, "nm/ps": 1e-2, "nm ps-1": 1e-2}  # Å/fs per unit
TIME_UNITS = {"fs": 1.0, "ps": 1e3, "ns": 1e6}  # fs per unit
UNIT_WORDS = ("velo_unit", "velocity_unit", "vel_unit")
ID_COLUMNS = ("id", "ids", "gid")
CHARGE_COLUMNS = ("born_charges", "initial_charges", "charges")  # the first that is there
LARGEST = 2.0**62  # of a step, time or energy
OCCUPIED = 1e-3  # how far the occupancies of a site may be from one


def velocity_unit(info: dict[str, Any], source: str) -> float:
    """Å/fs per unit of the velocities of a frame, by its word velo_unit; Å/fs without one. Raises InputError."""
    unit = next((str(info[word]) for word in UNIT_WORDS if word in info), "A/fs")
    if unit not in VELOCITY_UNITS:
        raise InputError(f"{source}: unknown unit of velocity '{unit}'; known are {', '.join(VELOCITY_UNITS)}")
    return VELOCITY_UNITS[unit]


def time_unit(info: dict[str, Any], source: str) -> float:
    """fs per unit of the time of a frame, by its word time_unit; fs without one. Raises InputError."""
    unit = str(info.get("time_unit", "fs"))
    if unit not in TIME_UNITS:
        raise InputError(f"{source}: unknown unit of time '{unit}'; known are {', '.join(TIME_UNITS)}")
    return TIME_UNITS[unit]


def stated(info: dict[str, Any], word: str, source: str, unknown: bool = False) -> float:
    """The number that a frame states by a word such as step or time. Raises InputError where it is not a number.

    unknown : whether NaN is taken, for what is not known
    """
    try:
        value = float(info[word])
        if abs(value) < LARGEST or (unknown and np.isnan(value)):
            return value
        raise ValueError("out of range")
    except (TypeError, ValueError):
        raise InputError(f"{source}: {word} is not a number: '{str(info[word])[:40]}'") from None


def id_order(ids: np.ndarray, source: str) -> np.ndarray:
    """(n,) rows in the order of their ids. Raises InputError where two atoms have the same id."""
    order = np.argsort(ids, kind="stable")
    same = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(same):
        raise InputError(f"{source}: two atoms have the id {ids[order][same[0]]}; ids must differ")
    return order


def names_of(atoms: Atoms) -> np.ndarray:
    """(n,) names of atoms: symbols of elements, and D or T where a hydrogen has that mass."""
    symbols = atoms.get_chemical_symbols()
    if not atoms.has("masses"):
        return np.array(symbols)
    return named_by_mass(symbols, atoms.get_masses())


def canonical(atoms: Atoms, source: str, heavy: np.ndarray | None = None) -> Atoms:
    """The atoms of one frame with everything the file states where ASE's functions look for it.

    Heavy hydrogen has its mass; velocities are ``get_velocities()``; ``info["time"]`` is in fs; rows are in the order
    of unique ids.

    heavy : (n,) names D or T, "" for all others

    Raises
    ------
    InputError
        A site that no atom, or more than one, occupies in full; an unknown unit of velocity or time; an id given twice;
        a column of velocities that are not numbers.
    """
    _occupied(atoms, source)
    if heavy is not None and (heavy != "").any():
        atoms.set_masses(with_heavy_hydrogen(atoms.get_masses(), heavy))
    column = next((c for c in VELOCITY_COLUMNS if c in atoms.arrays), None)
    if column:
        v = atoms.arrays.pop(column)
        if v.shape != (len(atoms), 3) or v.dtype.kind not in "fi":
            raise InputError(f"{source}: the column '{column}' is not three numbers for each atom")
        atoms.set_velocities(v * velocity_unit(atoms.info, source) / ase.units.fs)
    if "time" in atoms.info and (factor := time_unit(atoms.info, source)) != 1.0:
        atoms.info |= {"time": stated(atoms.info, "time", source) * factor, "time_unit": "fs"}
    for word in UNIT_WORDS:
        atoms.info.pop(word, None)
    ids = next((atoms.arrays[c] for c in ID_COLUMNS if c in atoms.arrays), None)
    if ids is None or ids.ndim != 1 or ids.dtype.kind not in "iu":
        return atoms
    order = id_order(ids, source)
    return atoms if (order == np.arange(len(ids))).all() else _sorted(atoms, order)


def charges_of(atoms: Atoms, source: str) -> np.ndarray:
    """(n,) charges, or (n, 9) Born tensors, e, of a column of CHARGE_COLUMNS. Raises InputError without one."""
    columns = dict(atoms.arrays) | ({"charges": atoms.calc.results["charges"]} if atoms.calc is not None and
                                    "charges" in atoms.calc.results else {})
    name = next((c for c in CHARGE_COLUMNS if c in columns), None)
    if name is None:
        raise InputError(f"{source}: no charges: neither a column {', '.join(CHARGE_COLUMNS)} nor charges of another "
                         "format")
    q = np.asarray(columns[name])
    q = q.reshape(len(q), -1) if q.ndim > 1 else q
    if q.shape[1:] not in ((), (9,)) or q.dtype.kind not in "fi" or not np.isfinite(q).all():
        raise InputError(f"{source}: the column '{name}' is not one number, or nine, for each atom")
    return q.astype(np.float64)


def _sorted(atoms: Atoms, order: np.ndarray) -> Atoms:
    """The atoms in another order, with their labels."""
    calc, out = atoms.calc, atoms[order]
    if calc is not None:
        n = len(order)
        calc.results = {k: v[order] if np.shape(v)[:1] == (n,) and k in ("forces", "energies", "stresses", "charges",
                        "magmoms") else v for k, v in calc.results.items()}
        out.calc = calc
        calc.atoms = out.copy()
    return out


def _occupied(atoms: Atoms, source: str) -> None:
    """Raises InputError where a site is occupied in part, or by several elements."""
    sites = atoms.info.pop("occupancy", None)
    if isinstance(sites, dict):
        for site, shares in sites.items():
            if len(shares) > 1 or abs(sum(shares.values()) - 1) > OCCUPIED:
                held = " ".join(f"{element} {share:g}" for element, share in shares.items())
                raise InputError(f"{source}: site {int(site) + 1} is occupied by {held}; a run needs whole atoms: make "
                                 "an ordered or random supercell first")
    share = atoms.arrays.get("occupancy")
    if share is not None and share.dtype.kind == "f":
        partial = np.flatnonzero((share > OCCUPIED) & (share < 1 - OCCUPIED))
        if len(partial):
            k = int(partial[0])
            raise InputError(f"{source}: atom {k + 1} ({atoms.symbols[k]}) has an occupancy of {share[k]:g}; a run "
                             "needs whole atoms: keep one of each group of alternatives")
