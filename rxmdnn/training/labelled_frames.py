"""Labelled frames from files: reading and checks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.io.ase_atoms import cell_of
from rxmdnn.io.labels import NO_KEYS, LabelKeys, Labels, labels_of, no_stress
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.isotopes import element_of

SHOWN = 10  # faults that are printed
UNITS = {"energy": ("ev",), "force": ("ev/ang", "ev/angstrom", "ev/å", "ev/a"), "length": ("ang", "angstrom", "å", "a"),
         "stress": ("ev/ang^3", "ev/angstrom^3", "ev/å^3", "ev/a^3")}  # values allowed for an info key <name>_unit(s)
ENERGY_UNITS = {"Hartree": 1 / 27.211386, "Rydberg": 1 / 13.605693, "kcal/mol": 23.060548, "kJ/mol": 96.485332,
                "meV": 1000.0}  # units per eV


@dataclass
class LabelledFrame:
    """One labelled configuration.

    Attributes
    ----------
    species (n,)   int64    index into the deck's elements
    x       (n, 3) float64  Å
    cell    (3, 3) float64  rows are cell vectors, Å
    pbc     (3,)   bool
    energy  float           eV
    forces  (n, 3) float64  eV/Å
    group, kind : str       trajectory and kind of the frame; temperature : float, K, or NaN
    engine  str             program and settings of the labels, or ""
    where   str             ``file: frame number``
    stress  (3, 3) float64  eV/Å³, tension positive; NaN if not labelled
    in_time : bool          whether it states a time or step
    free_energy : float     eV, where it states that beside another energy; otherwise the energy, or NaN
    """

    species: np.ndarray
    x: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    energy: float
    forces: np.ndarray
    group: str
    kind: str
    temperature: float
    engine: str
    where: str
    stress: np.ndarray = field(default_factory=no_stress)
    in_time: bool = False
    free_energy: float = np.nan


def read(paths: Sequence[Path], elements: Sequence[str], group: str = "group", kind: str = "kind",
         keys: LabelKeys = NO_KEYS) -> list[LabelledFrame]:
    """All frames of the files, of any format with energies and forces that ``read_atoms`` reads.

    group, kind : words of a frame; keys : names of the labels

    Raises InputError: faults name the file and the frame number (from 1).
    """
    return labelled([(str(path), read_atoms(path)) for path in paths], elements, group, kind, keys)


def labelled(sources: Sequence[tuple[str, Sequence[ase.Atoms]]], elements: Sequence[str], group: str = "group",
             kind: str = "kind", keys: LabelKeys = NO_KEYS) -> list[LabelledFrame]:
    """ASE atoms with energy and forces, each list under the name of its source, as frames; faults as of ``read``."""
    frames: list[LabelledFrame] = []
    faults: dict[str, list[str]] = {}  # what is wrong: where
    seen: dict[str, str] = {}
    for source, structures in sources:
        for number, atoms in enumerate(structures, 1):
            where = f"{source}: frame {number}"
            labels, wrong = labels_of(atoms, keys)
            wrong += _faults(atoms, elements)
            image = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in (
                atoms.numbers, atoms.positions, np.asarray(atoms.cell), atoms.pbc))).hexdigest()
            if image in seen:
                wrong.append(f"the same configuration as {seen[image]}; remove one")
            seen[image] = where
            if not wrong:
                try:
                    frames.append(bare_frame(atoms, elements, where))
                    _add_labels(frames[-1], labels, atoms.info, group, kind)
                except InputError as error:  # of the cell; it names the frame
                    wrong += [fault.removeprefix(f"{where}: ") for fault in error.faults]
            for w in wrong:
                faults.setdefault(w, []).append(where)
    raise_first([*(_at(places, w) for w, places in faults.items()), *_mixed_units(frames)])
    if not frames:
        raise InputError(f"{', '.join(source for source, _ in sources)}: no frames")
    engines = {f.engine: f.where for f in reversed(frames)}
    if len(engines) > 1:
        raise InputError("data: labels of several engines or settings cannot be mixed: " +
                         "; ".join(f"{where}: '{engine}'" for engine, where in engines.items()))
    return frames


def _at(places: Sequence[str], wrong: str) -> str:
    """One line for a fault that frames share."""
    return f"{places[0]}: {wrong}" + (f" (and {len(places) - 1} more frames)" if len(places) > 1 else "")


def raise_first(faults: Sequence[str]) -> None:
    """Raise InputError with the first of the faults, if there are any."""
    if faults:
        more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise InputError(*faults[:SHOWN], *more)


def bare_frame(atoms: ase.Atoms, elements: Sequence[str], where: str) -> LabelledFrame:
    """A frame without labels: energy NaN, forces zero. D and T are hydrogen. An open axis needs no vector.

    Raises InputError, which names the frame, for a cell that cannot be used. ``elements`` must have all species.
    """
    cell = cell_of(atoms, where).h if atoms.pbc.any() else np.array(atoms.cell)
    index = {element_of(name): k for k, name in enumerate(elements)}
    return LabelledFrame(np.array([index[s] for s in atoms.symbols], np.int64), atoms.positions.copy(), cell,
                         atoms.pbc.copy(), np.nan, np.zeros((len(atoms), 3)), where, "all", np.nan, "", where)


def _add_labels(frame: LabelledFrame, labels: Labels | None, info: dict[str, Any], group: str, kind: str) -> None:
    assert labels is not None
    frame.energy, frame.forces, frame.stress, frame.free_energy = labels
    frame.group, frame.kind = str(info.get(group, frame.where)), str(info.get(kind, "all"))
    frame.temperature = temperature_of(info)
    frame.in_time = any(word in info for word in ("time", "time_fs", "step"))
    frame.engine = " ".join(str(info[w]) for w in ("engine", "version", "settings") if w in info)


def temperature_of(info: dict[str, Any]) -> float:
    """The temperature that a frame states, K, also as text with a unit; NaN where it states none.

    >>> temperature_of({"temperature": "300 K"})
    300.0
    """
    value = info.get("temperature")
    if isinstance(value, (int, float, np.integer, np.floating)):
        return float(value)
    number = re.fullmatch(r"\s*([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*K?\s*", str(value))
    return float(number[1]) if number else float("nan")


def _faults(atoms: ase.Atoms, elements: Sequence[str]) -> list[str]:
    wrong = []
    if not len(atoms):
        wrong.append("no atoms; remove the frame")
    if not np.isfinite(atoms.positions).all():
        wrong.append("a position is NaN or infinite; remove the frame")
    unknown = sorted(set(atoms.symbols) - {element_of(e) for e in elements})
    if unknown:
        wrong.append(f"contains {', '.join(unknown)}, not one of the elements {' '.join(elements)}")
    for key, unit in atoms.info.items():
        name = str(key).lower().removesuffix("s").removesuffix("_unit")
        if name in UNITS and str(key).lower() != name and str(unit).lower() not in UNITS[name]:
            wrong.append(f"{key} is {unit}; give labels in eV and Å")
    return wrong


def _mixed_units(frames: Sequence[LabelledFrame]) -> list[str]:
    """Faults of frames whose energy looks like another unit, compared with frames of the same composition."""
    faults = []
    by_composition: dict[tuple[int, ...], list[LabelledFrame]] = {}
    for f in frames:
        by_composition.setdefault(tuple(np.bincount(f.species) / np.gcd.reduce(np.bincount(f.species))), []).append(f)
    for same in by_composition.values():
        energy = np.array([f.energy / len(f.x) for f in same])
        usual = float(np.median(energy))
        for f, e in zip(same, energy):
            for unit, size in ENERGY_UNITS.items():
                if len(same) > 2 and abs(usual) > 0.5 and abs(e / (usual * size) - 1) < 0.02:
                    faults.append(f"{f.where}: energy per atom {e:.4g}, but {usual:.4g} eV for frames of the same "
                                  f"composition: probably in {unit}; give all labels in eV and Å")
    return faults
