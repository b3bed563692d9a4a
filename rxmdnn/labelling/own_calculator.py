"""Calculators that a user brings: ``ase:MODULE:FACTORY``, any ASE calculator, in its own folder for each process."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from ase.calculators.calculator import Calculator

from rxmdnn.errors import InputError

PREFIX = "ase:"
USAGE = "write ase:MODULE:FACTORY, for example ase:ase.calculators.emt:EMT or ase:dft.py:make"


def own_factory(name: str) -> Callable[[], Calculator]:
    """The function behind ``ase:MODULE:FACTORY``: it makes the calculator, or says why it cannot.

    Parameters
    ----------
    name : MODULE is importable, from the present folder too, or the path of a .py file; FACTORY is a name in it (a
        function or a class), called without arguments, once for each frame. The code is run as it is: it is the
        user's own. A factory whose calculator is slow to make can keep it (``functools.cache``).

    Raises
    ------
    InputError
        No such module or name, or, when called, a factory that fails or returns no calculator.
    """
    module_name, _, factory_name = name.removeprefix(PREFIX).rpartition(":")
    if not module_name or not factory_name:
        raise InputError(f"--engine {name}: {USAGE}")
    module = _module(module_name, name)
    try:
        factory = attrgetter(factory_name)(module)
    except AttributeError:
        raise InputError(f"--engine {name}: {module_name} has no '{factory_name}'; {USAGE}") from None
    if not callable(factory):
        raise InputError(f"--engine {name}: '{factory_name}' cannot be called; it must be a function or a class that "
                         "returns an ASE calculator")

    def make() -> Calculator:
        try:
            made: Any = factory()
        except Exception as error:  # the user's code raises what it likes
            raise InputError(f"--engine {name}: {factory_name}() failed: {type(error).__name__}: {error}") from None
        if not hasattr(made, "get_property") and not hasattr(made, "get_forces"):
            raise InputError(f"--engine {name}: {factory_name}() returned {type(made).__name__}, not an ASE "
                             "calculator")
        _own_folder(made)
        return made

    return make


def _module(module_name: str, name: str) -> ModuleType:
    """The imported module, or the file. Raises InputError."""
    try:
        if module_name.endswith(".py"):
            path = Path(module_name).resolve()
            if not path.is_file():
                raise InputError(f"--engine {name}: {module_name}: no such file")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec and spec.loader
            module = importlib.util.module_from_spec(spec)
            if str(path.parent) not in sys.path:
                sys.path.append(str(path.parent))  # what the file imports from beside it
            spec.loader.exec_module(module)
            return module
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return importlib.import_module(module_name)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"--engine {name}: {module_name} cannot be imported: {type(error).__name__}: {error}; "
                         f"{USAGE}") from None


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
