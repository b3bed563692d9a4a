"""The labels of a frame: under which words and columns energy, forces and stress stand, and whose they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from rxmdnn.io.frame import MODEL

# Spellings that are taken without a line in the deck, in lower case; the first is that of ASE.
SPELLINGS = {"energy": ("energy",), "forces": ("forces", "force"), "stress": ("stress", "virial", "virials")}
KEYS = {"energy": "energy_key", "forces": "forces_key", "stress": "stress_key"}
GIVEN = ("species", "pos", "numbers", "positions")  # columns that are no label
RUN_WORDS = {"kinetic_energy", "time_unit"}  # what frames of a run had before their labels were named model_...
STUDY_WORDS = {"model", "arm", "replica"}  # likewise, frames of a study of times to failure
PROGRAM = "rxmdnn"  # name of the calculators whose results are those of a model


class LabelKeys(NamedTuple):
    """Names of the labels, where they are not ASE's: words of the frame, or columns for the forces.

    A stress whose name holds ``virial`` is -V times the stress, eV, as GPUMD and MACE write it.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None


NO_KEYS = LabelKeys()


class Labels(NamedTuple):
    """energy, eV; forces (n, 3), eV/Å; stress (3, 3), eV/Å³, tension positive, NaN where there is none.

    free_energy : eV, where the frame states that beside another energy, otherwise the energy
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    free_energy: float


def no_stress() -> np.ndarray:
    """(3, 3) NaN: a stress that is not labelled."""
    return np.full((3, 3), np.nan)


def is_by_model(atoms: Atoms) -> bool:
    """Whether a model of this program made the energy and forces of a frame: it is a frame of a run, not labelled."""
    if "engine" in atoms.info:
        return False
    words = set(atoms.info)
    if getattr(atoms.calc, "name", "") == PROGRAM:
        return True
    results = atoms.calc.results if atoms.calc is not None else {}
    named = any(str(name).startswith(MODEL) for name in (*words, *atoms.arrays, *results))
    return named or words >= RUN_WORDS or words >= STUDY_WORDS


def labels_of(atoms: Atoms, keys: LabelKeys = NO_KEYS) -> tuple[Labels | None, list[str]]:
    """The labels of a frame, or None; and what is wrong with them."""
    if is_by_model(atoms):
        return None, ["its energy and forces are those of a model, not labels; label it first: rxmdnn label OUT "
                      "--frames FILE"]
    found: dict[str, np.ndarray] = {}
    wrong = []
    for label, key in zip(SPELLINGS, keys):
        name, value = _find(atoms, label, key)
        if value is None:
            if label != "stress" or key:
                wrong.append(_missing(atoms, label, key))
            continue
        array, fault = _checked(atoms, label, name, value)
        if fault:
            wrong.append(fault)
        elif array is not None:
            found[label] = array
    if wrong:
        return None, wrong
    energy = float(found["energy"])
    free = atoms.calc.results.get("free_energy", energy) if atoms.calc is not None and not keys.energy else energy
    return Labels(energy, found["forces"], found.get("stress", no_stress()), float(free)), []


def is_label(name: str) -> bool:
    """Whether a word or column may be a label, under any of the usual names."""
    words = name.lower().replace("-", "_").split("_")
    return any(w in ("energy", "energies", "forces", "force", "stress", "stresses", "virial", "virials", "totenergy")
               for w in words)


def _find(atoms: Atoms, label: str, key: str | None) -> tuple[str, object]:
    """Name and value of a label; the value is None where there is none."""
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    held = {**(atoms.arrays if label == "forces" else atoms.info), **results}
    if key:
        return key, held.get(key)
    if label in results:
        return label, results[label]
    for spelling in SPELLINGS[label]:
        for name, value in held.items():
            if str(name).lower() == spelling:
                return str(name), value
    return label, None


def _missing(atoms: Atoms, label: str, key: str | None) -> str:
    """The message for a label that is not there, with what is."""
    results = list(atoms.calc.results) if atoms.calc is not None else []
    per_atom = [n for n in results if n in ("forces", "energies", "stresses", "charges", "magmoms")]
    columns = [*("species" if c == "numbers" else "pos" if c == "positions" else c for c in atoms.arrays), *per_atom]
    words = [*(str(w) for w in atoms.info), *(n for n in results if n not in per_atom)]
    held = (f"the file has the columns {' '.join(columns)}"
            + (f" and the words {' '.join(words)}" if words else " and no words"))
    if key:
        return f"no '{key}', which {KEYS[label]} names; {held}"
    stem = label.rstrip("s")
    near = [n for n in (columns if label == "forces" else words) if stem in n.lower() and n not in GIVEN]
    say = f"say '{KEYS[label]} {near[0]}'" if near else f"name it with {KEYS[label]}, or label the frame first"
    return f"no {label}; {held}; {say}"


def _checked(atoms: Atoms, label: str, name: str, value: object) -> tuple[np.ndarray | None, str | None]:
    """The label as numbers in eV and Å, or a fault."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        return None, f"{name} is not a number: {str(value)[:40]!r}"
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "energy": ((), (1,)), "forces": ((len(atoms), 3),), "stress": ((3, 3), (6,), (9,))}
    if not np.isfinite(array).all():
        what = {"energy": "an energy", "forces": "a force", "stress": "a stress"}[label]
        return None, f"{what} is NaN or infinite; remove the frame"
    if array.shape not in shapes[label]:
        return None, f"{name} has the shape {array.shape}, not {' or '.join(map(str, shapes[label]))}"
    if label == "energy":
        return array.reshape(()), None
    if label == "stress":
        if not atoms.pbc.all() or atoms.cell.rank != 3:
            return None, None  # a frame that is open along an axis has no volume
        array = voigt_6_to_full_3x3_stress(array) if array.shape == (6,) else array.reshape(3, 3)
        if "virial" in name.lower():
            array = -array / atoms.get_volume()
    return array, None
