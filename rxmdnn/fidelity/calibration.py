"""Limits with a given rate of false alarms for N atoms and S checks, from the tails of a clean run, as a JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.fidelity.criteria import Close, Limits, close_edges
from rxmdnn.fidelity.monitor import Watch
from rxmdnn.fidelity.observed import observed
from rxmdnn.fidelity.observer_models import ObserverModels
from rxmdnn.fidelity.reference import Reference
from rxmdnn.fidelity.tail import TAIL, Tail
from rxmdnn.files import write_json, writing
from rxmdnn.models.interface import Potential
from rxmdnn.schema import Checked, Item, read_json

FORMAT = "rxmdnn-calibration"
OF_PAIRS, OF_ATOMS = ("pair", "bond"), ("force", "latent", "spread")


@dataclass
class Samples:
    """Samples from a clean run, one number per atom and frame, for each kind and species, or pair of species.

    values : {(kind, "N" or "N-H"): list of arrays}; for pairs -ln r of the nearest neighbor (a tail to small r), for
    bonds the longest length, otherwise the value itself
    """

    elements: tuple[str, ...]
    values: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)

    def add(self, close: Close, species: np.ndarray, bonded: np.ndarray, f: np.ndarray,
            latent: np.ndarray | None, spread: np.ndarray | None) -> None:
        """Add one frame. As for ``observed``."""
        for kind, name, values in observed(self.elements, close, species, bonded, f, latent, spread):
            self.values.setdefault((kind, name), []).append(values)

    def tails(self) -> dict[str, dict[str, Tail]]:
        """{kind: {species: Tail}}; bonds and pairs with too few samples are left out. Raises InputError for atoms."""
        out: dict[str, dict[str, Tail]] = {}
        faults: list[str] = []
        for (kind, name), parts in self.values.items():
            values = np.concatenate(parts)
            try:
                tail = Tail.fit(values, f"{kind} {name}")
            except InputError as error:
                faults += error.faults if kind in OF_ATOMS and len(values) else ()
                continue
            out.setdefault(kind, {})[name] = tail
        if faults:
            raise InputError(*faults)
        return out


def sample(system: System, known: Sequence[Reference | None], limits: Limits, samples: Samples,
           observers: Sequence[Potential] = ()) -> None:
    """Add the atoms of a system, all of them on this rank, to the samples. known : as of Watch"""
    seen_by = ObserverModels(system.forces, observers, 1) if observers else None
    atoms, watch, n = system.atoms, Watch(system.forces, known, seen_by), system.n_global
    with watch.open():
        system.forces.compute(atoms)
    edges = system.forces.last[0]
    close = close_edges(edges.center, edges.neighbor, edges.r_ij, float(system.potential.cutoff.max()))
    samples.add(close, atoms.species, limits.bonded, atoms.f[:n], watch.latent(atoms.species[:n]), watch.spread(atoms))


def write(path: Path, tails: dict[str, dict[str, Tail]], about: dict[str, object]) -> None:
    """Write a calibration file. about : further metadata. Raises InputError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": FORMAT, "version": 1, **about,
                          "tails": {k: {n: t.to_dict() for n, t in of.items()} for k, of in tails.items()}})


def read(path: Path) -> dict[str, dict[str, Tail]]:
    """The tails in a calibration file. Raises InputError."""
    what = "a calibration file of 'rxmdnn fidelity calibrate'"
    checked = Checked(path)
    data = checked.entries(read_json(path, what), {"format": Item("text"), "version": Item("int"),
                                                   "tails": Item("dict")})
    if (data["format"], data["version"]) != (FORMAT, 1):
        raise InputError(f"{path}: not {what}: another format or version")
    return {kind: {name: Tail.from_dict(checked.entries(tail, TAIL, f"tails.{kind}.{name}"))
                   for name, tail in checked.value(f"tails.{kind}", names, Item("dict")).items()}
            for kind, names in data["tails"].items()}


def calibrated(limits: Limits, tails: dict[str, dict[str, Tail]], counts: np.ndarray, checks: float,
               alarms: float) -> Limits:
    """``limits`` with levels that normal atoms exceed ``alarms`` times in the whole run, in expectation.

    The rate is divided equally among the tails. The limits of collisions and broken bonds from covalent radii are never
    widened.

    Parameters
    ----------
    counts : (T,) number of atoms of each element; checks : number of checks in the run
    """
    e = limits.elements
    used = [(kind, name) for kind, names in tails.items() for name in names if set(name.split("-")) <= set(e)]
    out = {"closest": limits.closest.copy(), "longest": limits.longest.copy(),
           **{kind: getattr(limits, kind).copy() for kind in OF_ATOMS}}
    bare = Limits.of(e)
    for kind, name in used:
        a, *b = (e.index(element) for element in name.split("-"))
        if counts[a] == 0:
            continue
        level = tails[kind][name].level(alarms / (len(used) * float(counts[a]) * max(checks, 1.0)))
        if kind == "pair":
            out["closest"][a, b[0]] = max(np.exp(-level), bare.closest[a, b[0]])
        elif kind == "bond":
            out["longest"][a, b[0]] = min(max(level, limits.bonded[a, b[0]]), bare.longest[a, b[0]])
        else:
            out[kind][a] = level
    return replace(limits, **out, shortest=out["closest"])
