"""Potentials from what a Python program gives: model files, or a Potential that it made itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.backend import Backend
from rxmdnn.errors import InputError
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture
from rxmdnn.parallel import together
from rxmdnn.run.setup import backend_of
from rxmdnn.run.trial import Case

PRECISIONS = ("float32", "float64", "tf32")


def paths_of(model: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that a program names: one, or several. Raises InputError where there are none, or one is missing."""
    paths = [Path(model)] if isinstance(model, (str, Path)) else [Path(p) for p in model]
    faults = [f"{path}: no such model file" for path in paths if not path.is_file()]
    if faults or not paths:
        raise InputError(*(faults or ["model: no file is named"]))
    return paths


def elements_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """The elements that all of the models know, in the order of the first. Raises InputError where there is none."""
    from rxmdnn.models.model_file import load_model

    known = [load_model(path).config.elements for path in paths]
    shared = tuple(e for e in known[0] if all(e in other for other in known))
    if not shared:
        raise InputError(f"{', '.join(map(str, paths))}: the models have no element in common")
    return shared


def load_potential(comm: MPI.Comm, model: str | Path | Sequence[str | Path] | Potential, precision: str = "float32",
                   backend: str | Backend = "auto") -> tuple[Potential, Backend]:
    """The potential of a model file, of several (a committee of equal weights), or the one given, and its backend.

    All ranks call it. A potential that is given runs where it was made: on the CPU unless ``backend`` is a Backend.

    Raises
    ------
    InputError
        No such file, a file that is not a model, an unknown precision or backend.
    """
    if not isinstance(model, (str, Path, Sequence)):
        if not (hasattr(model, "compute") and hasattr(model, "cutoff")):
            raise InputError(f"model: a path, several paths or a Potential is needed, not {type(model).__name__}")
        if isinstance(backend, Backend):
            return model, backend
        if backend not in ("auto", "cpu"):
            raise InputError(f"backend {backend}: a Potential runs where it was made; give the Backend of its making, "
                             "or the path of a model")
        return model, backends.make("cpu")
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r}: must be one of {', '.join(PRECISIONS)}")
    if precision == "tf32" and backend != "cuda" and not (isinstance(backend, Backend) and backend.on_device):
        raise InputError("precision tf32: goes with backend cuda")
    with together(comm):
        paths = paths_of(model)
        elements = elements_of(paths)

    def on(there: Backend) -> Potential:
        from rxmdnn.models.allegro import Allegro  # torch, only where a network runs

        members = [Allegro.load(path, elements, precision, there) for path in paths]
        return members[0] if len(members) == 1 else Mixture(members)

    if isinstance(backend, str):
        masses = np.array([atomic_masses[atomic_numbers[e]] for e in elements])
        backend = backend_of(comm, backend, Case(masses, precision, on))
    with together(comm):
        potential = on(backend)
    return potential, backend
