"""Where arrays live and which kernels act on them: an object that is passed in, never a module global."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT

ORDER = ("cpu",)  # what "auto" tries, best first
NAMES = ("reference", *ORDER)


class Backend:
    """The kernels of one device, as attributes named by ``rxmdnn.kernels.CONTRACT``.

    Attributes
    ----------
    name : str
    xp : module
        NumPy, or what stands for it on the device.
    """

    def __init__(self, name: str, xp: ModuleType, kernels: dict[str, Callable[..., None]]) -> None:
        if missing := sorted(set(CONTRACT) - set(kernels)):
            raise ValueError(f"backend {name} lacks kernels: {', '.join(missing)}")
        self.name, self.xp, self._kernels = name, xp, kernels

    def __getattr__(self, name: str) -> Callable[..., Any]:
        try:
            return self.__dict__["_kernels"][name]
        except KeyError:
            raise AttributeError(f"no kernel is named {name}") from None

    def __repr__(self) -> str:
        return f"Backend({self.name!r})"


def make(name: str = "auto") -> Backend:
    """The backend called ``name``: cpu (Numba), reference (NumPy, slow), or auto (the best here).

    Raises
    ------
    InputError
        If there is no such backend.
    """
    if name != "auto" and name not in NAMES:
        raise InputError(f"backend: {name!r} is unknown; choose one of {', '.join(('auto', *NAMES))}")
    chosen = ORDER[0] if name == "auto" else name
    module = import_module(f"rxmdnn.kernels.{chosen}")
    return Backend(chosen, np, {kernel: getattr(module, kernel) for kernel in CONTRACT})
