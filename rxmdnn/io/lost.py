"""What a written file does not hold of the atoms that were written, found by reading it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from rxmdnn.errors import InputError
from rxmdnn.io.canonical import ID_COLUMNS, names_of
from rxmdnn.io.frame import MODEL_ENERGY, MODEL_FORCES
from rxmdnn.io.frame_sink import NUMBERED
from rxmdnn.io.frame_source import open_frames
from rxmdnn.io.own_formats import CHECKPOINT_FORMAT, H5MD_FORMAT, RXFF_FORMAT
from rxmdnn.isotopes import element_of

TOLD_BY_CONTENT = (H5MD_FORMAT, RXFF_FORMAT, CHECKPOINT_FORMAT, NUMBERED)


def lost(atoms: Atoms, out: Path, format: str, elements: Sequence[str] | None = None) -> list[str]:
    """What the first frame of a file lacks of these atoms, in words; empty where it has everything.

    elements : of a model deck. Raises InputError where the file cannot be read again, or has other atoms.
    """
    try:
        copy = open_frames(out, elements, None if format in TOLD_BY_CONTENT else format).read(0)
    except InputError as error:
        raise InputError(f"{out} was written, but cannot be read again: {error}") from None
    same = len(copy) == len(atoms) and sorted(copy.numbers.tolist()) == sorted(atoms.numbers.tolist())
    if not same:
        raise InputError(f"{out} was written, but reads as {copy.symbols} for {atoms.symbols}: this format does not "
                         "hold these atoms")
    found = []
    names, again = names_of(atoms), names_of(copy)
    heavy = names != np.array([element_of(str(e)) for e in names])
    if heavy.any() and sorted(names.tolist()) != sorted(again.tolist()):
        found.append("isotopes (" + " ".join(sorted(set(names[heavy].tolist()))) + ")")
    elif atoms.has("masses") and not np.allclose(np.sort(atoms.get_masses()), np.sort(copy.get_masses()), rtol=1e-4):
        found.append("masses")
    if (atoms.pbc != copy.pbc).any():
        found.append("periodicity (" + " ".join("T" if p else "F" for p in atoms.pbc) + ")")
    if atoms.has("momenta") and not (copy.has("momenta") and _same_speeds(atoms, copy)):
        found.append("velocities")
    if atoms.has("initial_charges") and not copy.has("initial_charges"):
        found.append("charges")
    if atoms.calc is not None and copy.calc is None:
        found.append("labels (energy, forces)")
    if MODEL_FORCES in atoms.arrays and MODEL_FORCES not in copy.arrays:
        found.append("forces of the model")
    if MODEL_ENERGY in atoms.info and MODEL_ENERGY not in copy.info:
        found.append("energy of the model")
    ids, own = (next((x.arrays[c] for c in ID_COLUMNS if c in x.arrays), None) for x in (atoms, copy))
    if ids is not None and (own is None or not np.array_equal(ids, own)):
        found.append("ids" if own is None else f"ids as they were (now {own.min()} to {own.max()})")
    if atoms.constraints and not copy.constraints:
        found.append("constraints")
    if untold := [word for word in ("time", "step") if word in atoms.info and word not in copy.info]:
        found.append(" and ".join(untold))
    return found


def _same_speeds(atoms: Atoms, copy: Atoms) -> bool:
    """Whether the speeds are the same, atom by atom in any order; the orientation may differ."""
    own, again = (np.sort(np.linalg.norm(x.get_velocities(), axis=1)) for x in (atoms, copy))
    return bool(np.allclose(own, again, rtol=1e-3, atol=1e-5 * max(float(own.max(initial=0.0)), 1e-12)))
