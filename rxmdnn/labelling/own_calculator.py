"""Calculators that a user brings: ``ase:MODULE:FACTORY``, any ASE calculator, in its own folder for each process."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator

from rxmdnn.errors import InputError
from rxmdnn.models.ase_factory import calculator_factory

PREFIX = "ase:"
USAGE = "write ase:MODULE:FACTORY, for example ase:ase.calculators.emt:EMT or ase:dft.py:make"
# Along how many axes a frame may repeat, of programs that take other frames for such without a word.
AXES = {"Vasp": (3,), "Espresso": (3,), "Abinit": (3,), "Castep": (3,), "TBLite": (0, 3), "XTB": (0, 3), "ORCA": (0,),
        "Psi4": (0,)}


def own_factory(name: str) -> Callable[[], Calculator]:
    """The function behind ``ase:MODULE:FACTORY``: see ``models.ase_factory``; it is called once for each frame.

    A factory whose calculator is slow to make can keep it (``functools.cache``). Raises InputError.
    """
    with _of_engine(name):
        factory = calculator_factory(name.removeprefix(PREFIX), USAGE)

    def make() -> Calculator:
        with _of_engine(name):
            made = factory()
        _own_folder(made)
        return made

    return make


@contextmanager
def _of_engine(name: str) -> Iterator[None]:
    """A block whose mistakes name the engine."""
    try:
        yield
    except InputError as error:
        raise InputError(*(f"--engine {name}: {fault}" for fault in error.faults)) from None


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="rxmdnn-label-")


def _own_folder(calculator: Any) -> None:
    """Give a calculator that works by files a folder of this process: two workers must not share one."""
    folder = getattr(calculator, "directory", None)
    if folder is None:
        return
    own = Path(_scratch().name) if str(folder) in ("", ".") else Path(folder) / f"worker_{os.getpid()}"
    try:
        calculator.directory = own if isinstance(folder, Path) else str(own)
    except (AttributeError, TypeError, ValueError):  # a fixed folder
        return


def version_of(calculator: Any) -> str:
    """Class, package and version of a calculator, as frames record them."""
    kind = type(calculator)
    return ", ".join([kind.__name__, *_release(kind.__module__.partition(".")[0])])


@cache
def _release(package: str) -> list[str]:
    for distribution in importlib.metadata.packages_distributions().get(package, ()):
        try:
            return [f"{distribution} {importlib.metadata.version(distribution)}"]
        except importlib.metadata.PackageNotFoundError:
            continue
    return []


def settings_of(calculator: Any) -> str:
    """The numbers and words among the parameters of a calculator, as one line."""
    parameters = getattr(calculator, "parameters", None)
    if not isinstance(parameters, dict):
        return "none"
    simple = [f"{k} {v}" for k, v in sorted(parameters.items()) if isinstance(v, (str, int, float, bool))]
    return ", ".join(word for word in simple if len(word) < 80) or "none"
