"""Model files of a run, and potentials from what a Python program gives: files, or a Potential that it made itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.backend import Backend
from rxmdnn.deck.models import ModelLine
from rxmdnn.deck.run import RunDeck
from rxmdnn.deck.words import PRECISIONS
from rxmdnn.errors import InputError
from rxmdnn.isotopes import standard_mass
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture
from rxmdnn.parallel import on_root, together
from rxmdnn.run.device import backend_of
from rxmdnn.run.trial import Case

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from rxmdnn.models.allegro_network import PairNetwork

Files: TypeAlias = str | Path | Sequence[str | Path]
Model: TypeAlias = Files | Potential


def with_native_copies(comm: MPI.Comm, run: RunDeck) -> RunDeck:
    """The run with its deployed models converted to native files in its folder, and a note of each. All ranks call it.

    One rank converts, once: a copy that is there already is taken. Raises InputError with the faults of all lines.
    """
    def convert() -> list[tuple[ModelLine, str]]:
        lines, faults = [], []
        for line in (*run.models, *run.observers):
            try:
                lines.append(_with_native_copy(line, run.folder))
            except InputError as error:
                faults += [line.fault(text) for text in error.faults]
        if faults:
            raise InputError(*faults)
        return lines

    lines = on_root(comm, convert)
    found, n = [line for line, _ in lines], len(run.models)
    return replace(run, models=found[:n], observers=found[n:], notes=[*run.notes, *(note for _, note in lines if note)])


def _with_native_copy(line: ModelLine, folder: Path) -> tuple[ModelLine, str]:
    """A line of the model deck with its native copy, and a note for the log."""
    if line.kind != "allegro":
        return line, ""
    from rxmdnn.models.native_copy import native_copy  # torch, only where a network runs

    found = native_copy(line.parameters["file"], folder)
    return (line, "") if found is None else (replace(line, native=found[0]), found[1])


def names_files(model: Model) -> TypeIs[Files]:
    """Whether a model is given by the path of its file, or by several, and not as a Potential."""
    return isinstance(model, (str, Path, Sequence))


def load_networks(model: Files) -> tuple[list[tuple[Path, PairNetwork]], tuple[str, ...]]:
    """(path, network) of the files that a program names, and the elements that all know, in the order of the first.

    Raises InputError where no file is named, one is missing or not a model, or they have no element in common.
    """
    from rxmdnn.models.model_file import load_model

    paths = [Path(model)] if isinstance(model, (str, Path)) else [Path(p) for p in model]
    faults = [f"{path}: no such model file" for path in paths if not path.is_file()]
    if faults or not paths:
        raise InputError(*(faults or ["model: no file is named"]))
    networks = [(path, load_model(path)) for path in paths]
    known = [network.config.elements for _, network in networks]
    shared = tuple(e for e in known[0] if all(e in other for other in known))
    if not shared:
        raise InputError(f"{', '.join(map(str, paths))}: the models have no element in common")
    return networks, shared


def load_potential(comm: MPI.Comm, model: Model, precision: str = "float32",
                   backend: str | Backend = "auto") -> tuple[Potential, Backend]:
    """The potential of a model file, of several (a committee of equal weights), or the one given, and its backend.

    All ranks call it. A potential that is given runs where it was made: on the CPU unless ``backend`` is a Backend.

    Raises
    ------
    InputError
        No such file, a file that is not a model, an unknown precision or backend.
    """
    if not names_files(model):
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
        networks, elements = load_networks(model)

    def on(there: Backend) -> Potential:
        from rxmdnn.models.allegro import Allegro  # torch, only where a network runs

        members = [Allegro(network, elements, precision, str(path), backend=there)
                   for path, network in networks]
        return members[0] if len(members) == 1 else Mixture(members)

    if isinstance(backend, str):
        masses = np.array([standard_mass(e) for e in elements])
        backend = backend_of(comm, backend, Case(masses, precision, on))
    with together(comm):
        potential = on(backend)
    return potential, backend
