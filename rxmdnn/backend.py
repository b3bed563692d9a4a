"""Where arrays live and which kernels act on them: an object that is passed in, never a module global."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT

NAMES = ("reference", "cpu", "cuda")


class Backend:
    """The kernels of one device, as attributes named by ``rxmdnn.kernels.CONTRACT``, and the way to it and back.

    This one's arrays are NumPy's, so every way is free; ``rxmdnn.device.Device`` is the other.

    Attributes
    ----------
    name : str
    xp : module
        NumPy, or what stands for it on the device.
    on_device : bool
        Do arrays live where NumPy cannot reach them?
    reads_reverse : callable
        Does ``assemble`` read the reverse index now?
    notes : tuple of str
        For the log.
    """

    on_device = False
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, xp: Any, kernels: dict[str, Callable[..., None]],
                 reads_reverse: Callable[[], bool] = lambda: True) -> None:
        if missing := sorted(set(CONTRACT) - set(kernels)):
            raise ValueError(f"backend {name} lacks kernels: {', '.join(missing)}")
        self.name, self.xp, self._kernels, self.reads_reverse = name, xp, kernels, reads_reverse

    def __getattr__(self, name: str) -> Callable[..., Any]:
        try:
            return self.__dict__["_kernels"][name]
        except KeyError:
            raise AttributeError(f"no kernel is named {name}") from None

    def __repr__(self) -> str:
        return f"Backend({self.name!r})"

    # ------------------------------------------------------------------ host and device
    def from_host(self, array: Any) -> Any:
        """An array of the host, or one already there, as an array of this backend."""
        return array

    def to_host(self, array: Any) -> np.ndarray:
        """An array of this backend as NumPy's."""
        return array

    def table(self, values: np.ndarray) -> Any:
        """A small array of the host, the same in many steps, beside arrays of this backend."""
        return values

    def settle(self) -> None:
        """Wait until the device has done all it was told."""

    # ------------------------------------------------------------------ messages
    def outgoing(self, arrays: Sequence[Any]) -> list[Any]:
        """What MPI sends of each array."""
        return list(arrays)

    def incoming(self, arrays: Sequence[Any]) -> list[Any]:
        """Where MPI puts what comes for each array. Call it after ``outgoing``."""
        return list(arrays)

    def land(self, buffers: Sequence[Any], arrays: Sequence[Any]) -> None:
        """What came in buffers of ``incoming`` to its arrays."""


def load(name: str, number: int = 0, direct: bool = False) -> Backend:
    """The kernels called ``name``: cpu (Numba), cuda (CUDA C++ through CuPy) or reference (NumPy, slow).

    Parameters
    ----------
    number : of the device, for cuda; modulo how many there are
    direct : MPI takes the device's memory itself

    Raises
    ------
    InputError
        If there are none of that name, or no device for them.
    """
    if name not in NAMES:
        raise InputError(f"backend: {name!r} is unknown; choose one of {', '.join(('auto', *NAMES))}")
    if name == "cuda":
        from rxmdnn.device import load_cuda

        return load_cuda(number, direct)
    module = import_module(f"rxmdnn.kernels.{name}")
    more = {"reads_reverse": module.reads_reverse} if name == "cpu" else {}
    return Backend(name, np, {kernel: getattr(module, kernel) for kernel in CONTRACT}, **more)


def make(name: str = "auto", place: int = 0, ranks: int = 1, direct: bool = False) -> Backend:
    """A backend by its name: cpu, cuda, reference, or auto, which is cpu here (a run may choose cuda: run/trial.py).

    Parameters
    ----------
    place, ranks : this rank among those of its machine, which share out its devices
    direct : MPI takes the device's memory itself

    Raises
    ------
    InputError
        If there is no such backend here.
    """
    backend = load("cpu" if name == "auto" else name, place, direct)
    if backend.on_device and ranks > (devices := backend.devices):  # type: ignore[operator]
        backend.notes += (f"backend cuda: {ranks} ranks of this machine see {devices} device(s)",)
    return backend
