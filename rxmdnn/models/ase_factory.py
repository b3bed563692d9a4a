"""Calculators of ASE that a user brings as MODULE:FACTORY, for runs and for labels. The code is run as it is."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from rxmdnn.errors import InputError

USAGE = "write MODULE:FACTORY, for example ase.calculators.emt:EMT or dft.py:make"


def calculator_factory(name: str, usage: str = USAGE) -> Callable[[], Any]:
    """The function behind ``MODULE:FACTORY``: it makes the calculator, or says why it cannot.

    Parameters
    ----------
    name : MODULE is importable, from the present folder too, or the path of a .py file; FACTORY is a name in it (a
        function or a class), called without arguments
    usage : what to write, for messages

    Raises
    ------
    InputError
        No such module or name, or, when called, a factory that fails or returns no calculator.
    """
    module_name, _, factory_name = name.rpartition(":")
    if not module_name or not factory_name:
        raise InputError(usage)
    module = _module(module_name, usage)
    try:
        factory = attrgetter(factory_name)(module)
    except AttributeError:
        raise InputError(f"{module_name} has no '{factory_name}'; {usage}") from None
    if not callable(factory):
        raise InputError(f"'{factory_name}' cannot be called; it must be a function or a class that returns an ASE "
                         "calculator")

    def make() -> Any:
        try:
            made: Any = factory()
        except Exception as error:  # the user's code raises what it likes
            raise InputError(f"{factory_name}() failed: {first_line(error)}") from None
        if not hasattr(made, "get_property") and not hasattr(made, "get_forces"):
            raise InputError(f"{factory_name}() returned {type(made).__name__}, not an ASE calculator")
        return made

    return make


def first_line(error: Exception) -> str:
    """Type and first line of what the code of a user raised."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _module(module_name: str, usage: str) -> ModuleType:
    """The imported module, or the file. Raises InputError."""
    try:
        if module_name.endswith(".py"):
            path = Path(module_name).resolve()
            if not path.is_file():
                raise InputError(f"{module_name}: no such file")
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
        raise InputError(f"{module_name} cannot be imported: {first_line(error)}; {usage}") from None
