"""The backend: where arrays live and which kernels act on them. It is passed in and never a module global."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT

NAMES = ("reference", "cpu", "cuda")


class Backend:
    """The kernels of one device, as attributes named by ``rxmdnn.kernels.CONTRACT``, and transfers to and from it.

    The arrays of this class are those of NumPy, so transfers do nothing; ``rxmdnn.device.Device`` is the backend of a
    GPU.

    Attributes
    ----------
    name : str
    xp : module
        NumPy, or the module with its functions on the device (CuPy).
    on_device : bool
        True if NumPy cannot reach the arrays.
    devices : int
        Number of devices of this machine; 0 for a backend of the host.
    reads_reverse : callable
        ``reads_reverse()`` is True if ``assemble`` reads the reverse index at present.
    notes : tuple of str
        Lines for the log.
    """

    on_device = False
    devices = 0
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
    def from_host(self, array: Array) -> Array:
        """An array of the host, or one of this backend already, as an array of this backend."""
        return array

    def to_host(self, array: Array) -> np.ndarray:
        """An array of this backend as an array of NumPy."""
        return array

    def table(self, values: np.ndarray) -> Array:
        """A small array of the host, the same in many steps, as an array of this backend."""
        return values

    def synchronize(self) -> None:
        """Wait until the device has finished all its work."""

    # ------------------------------------------------------------------ messages
    def outgoing(self, arrays: Sequence[Array]) -> list[Array]:
        """The buffers that MPI sends, one per array."""
        return list(arrays)

    def incoming(self, arrays: Sequence[Array]) -> list[Array]:
        """The buffers that MPI receives into, one per array. Call it after ``outgoing``."""
        return list(arrays)

    def deliver(self, buffers: Sequence[Array], arrays: Sequence[Array]) -> None:
        """Copy the received ``buffers`` of ``incoming`` to their arrays."""


def load(name: str, number: int = 0, direct: bool = False) -> Backend:
    """The kernels called ``name``: cpu (Numba), cuda (CUDA C++ through CuPy) or reference (NumPy, slow).

    Parameters
    ----------
    number : of the device, for cuda, modulo the number of devices
    direct : MPI reads and writes the memory of the device itself

    Raises
    ------
    InputError
        If the name is unknown, or there is no device for the kernels.
    """
    if name not in NAMES:
        raise InputError(f"backend: {name!r} is unknown; choose one of {', '.join(('auto', *NAMES))}")
    if name == "cuda":
        from rxmdnn.device import load_cuda

        return load_cuda(number, direct)
    module = import_module(f"rxmdnn.kernels.{name}")
    more = {"reads_reverse": module.reads_reverse} if name == "cpu" else {}
    return Backend(name, np, {kernel: getattr(module, kernel) for kernel in CONTRACT}, **more)


def make(name: str = "auto", local_rank: int = 0, ranks: int = 1, direct: bool = False) -> Backend:
    """A backend by its name: cpu, cuda, reference, or auto, which is cpu here (a run may choose cuda: run/trial.py).

    Parameters
    ----------
    local_rank, ranks : number of this rank among the ranks of its machine, which share its devices; how many they are
    direct : MPI reads and writes the memory of the device itself

    Raises
    ------
    InputError
        If this machine does not have such a backend.
    """
    backend = load("cpu" if name == "auto" else name, local_rank, direct)
    if backend.on_device and ranks > backend.devices:
        backend.notes += (f"backend cuda: {ranks} ranks of this machine share {backend.devices} device(s)",)
    return backend
