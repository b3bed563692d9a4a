"""Where arrays live and which kernels act on them: an object that is passed in, never a module global."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT

NAMES = ("reference", "cpu", "cuda")


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


def load(name: str) -> Backend:
    """The kernels called ``name``: cpu (Numba), cuda (CUDA C++ through CuPy) or reference (NumPy, slow).

    Raises
    ------
    InputError
        If there are none of that name, or no device for them.
    """
    if name not in NAMES:
        raise InputError(f"backend: {name!r} is unknown; choose one of {', '.join(('auto', *NAMES))}")
    module = import_module(f"rxmdnn.kernels.{name}")
    xp, kernels = module.load() if name == "cuda" else (np, module)
    return Backend(name, xp, {kernel: getattr(kernels, kernel) for kernel in CONTRACT})


def make(name: str = "auto") -> Backend:
    """The backend of a run: cpu, reference, or auto, which is cpu.

    The kernels of ``cuda`` are complete, but the engine around them still keeps its arrays in NumPy: until it runs on a
    device, auto does not choose cuda, and a run that asks for it is told so.

    Raises
    ------
    InputError
        If there is no such backend here.
    """
    backend = load("cpu" if name == "auto" else name)
    if backend.xp is not np:
        raise InputError(f"backend {name}: its kernels work here, but a run cannot use them yet; say backend cpu")
    return backend
