"""The backend of a GPU: arrays of CuPy, the CUDA kernels, and pinned memory for the messages of MPI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.backend import Backend
from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT, cuda

Work = Callable[[], None]


class Device(Backend):
    """The backend of one GPU. Its arrays are those of ``xp``; only the methods here move them from and to NumPy.

    Parameters
    ----------
    xp : module
        CuPy, or a substitute in a test.
    kernels : cuda.Kernels over it
    devices : int
        Number of devices of this machine.
    pinned : callable
        ``pinned(n)`` returns a host array of n bytes, uint8, that the device copies from and to fast.
    synchronize : callable
        Waits until the device has finished all its work.
    direct : bool
        MPI reads and writes the memory of the device itself (a CUDA-aware MPI).
    torch_device : str
        The name that torch gives this device.
    stream : int
        Address of the CUDA stream on which all work runs, that of torch too.
    record : callable
        ``record(work)`` calls ``work`` while the device records its kernels instead of running them; it returns a
        function that runs them.

    Memory of CuPy and torch comes from the pool of torch once torch is used (``models/torch_device.py``).
    """

    on_device = True
    record: Callable[[Work], Work]

    def __init__(self, name: str, xp: Any, kernels: cuda.Kernels, devices: int, pinned: Callable[[int], np.ndarray],
                 synchronize: Callable[[], None], direct: bool = False, torch_device: str = "cuda", stream: int = 0,
                 record: Callable[[Work], Work] = cuda.record) -> None:
        super().__init__(name, xp, {kernel: getattr(kernels, kernel) for kernel in CONTRACT})
        self.devices, self.direct, self.torch_device, self.stream = devices, direct, torch_device, stream
        self.record = record
        self._device_kernels, self._pinned, self._synchronize = kernels, pinned, synchronize
        self._staging: dict[tuple[str, int], np.ndarray] = {}

    def from_host(self, array: Array) -> Array:
        return self.xp.asarray(array, order="C") if isinstance(array, np.ndarray) else array

    def to_host(self, array: Array) -> np.ndarray:
        return array if isinstance(array, np.ndarray) else array.get()

    def table(self, values: np.ndarray) -> Array:
        return self._device_kernels.table(values)

    def launch(self, kernel: str, n: int, *arguments: Any) -> None:
        """Run a kernel of kernels/cuda, by its name there, over n items. arguments : device arrays, ints and floats."""
        self._device_kernels.run(kernel, n, *arguments)

    def capture(self, work: Work) -> Work:
        """A function that runs the kernels of ``work`` again, on the same memory, as one CUDA graph.

        ``work`` must have run once before, unchanged, so that nothing is left to compile or to upload.

        Raises RuntimeError if the host waits for the device within ``work``, or if the device refuses.
        """
        replay, tables = self.record(work), self._device_kernels.tables()

        def again(tables: Any = tables) -> None:  # the graph reads the tables, so they must live as long as it
            replay()
        return again

    def synchronize(self) -> None:
        self._synchronize()

    def exported(self, array: Array) -> Any:
        """The memory of an array of this backend as an object that other libraries import by DLPack."""
        return array

    def imported(self, tensor: Any) -> Array:
        """The memory of an object that DLPack exports, as an array of this backend."""
        return self.xp.from_dlpack(tensor)

    def outgoing(self, arrays: Sequence[Array]) -> list[Array]:
        buffers = list(arrays)
        if not self.direct:
            buffers = [self._staged("out", k, array) for k, array in enumerate(arrays)]
            for buffer, array in zip(buffers, arrays, strict=True):
                if len(buffer):
                    array.get(out=buffer)
        self.synchronize()  # earlier copies too, so that the buffers of ``incoming`` are free again
        return buffers

    def incoming(self, arrays: Sequence[Array]) -> list[Array]:
        return list(arrays) if self.direct else [self._staged("in", k, array) for k, array in enumerate(arrays)]

    def deliver(self, buffers: Sequence[Array], arrays: Sequence[Array]) -> None:
        for buffer, array in zip(buffers, arrays, strict=True):
            if buffer is not array and len(buffer):
                array.set(buffer)

    def _staged(self, direction: str, k: int, array: Array) -> np.ndarray:
        """The pinned buffer of the k-th message in a direction ("in", "out"), of the shape and type of ``array``."""
        size = prod(array.shape) * array.dtype.itemsize
        if (direction, k) not in self._staging or len(self._staging[direction, k]) < size:
            self._staging[direction, k] = self._pinned(2 * size)
        return self._staging[direction, k][:size].view(array.dtype).reshape(array.shape)


def load_cuda(number: int, direct: bool) -> Device:
    """The backend on device ``number`` of this machine, modulo the number of devices.

    Raises
    ------
    InputError
        If CuPy is missing, or a device that it can use.
    """
    cupy, kernels, devices = cuda.load(number)
    here = cupy.cuda.Device()
    stream = cupy.cuda.Stream().use()  # the default stream cannot record graphs; the two wait for each other
    made = Device("cuda", cupy, kernels, devices, cuda.pinned, stream.synchronize, direct, f"cuda:{here.id}",
                  stream.ptr)
    made.notes = (
        f"backend cuda: {cupy.cuda.runtime.getDeviceProperties(here.id)['name'].decode()}; timings are host-side and "
        "asynchronous; set 'verbose T' to synchronize",)
    return made


def shortage(backend: Backend, error: BaseException, n_owned: int) -> InputError | None:
    """The error for a user whose device ran out of memory; None if ``error`` is a different error.

    Parameters
    ----------
    error : raised by CuPy or torch
    n_owned : number of atoms of this rank
    """
    if not backend.on_device or "OutOfMemory" not in type(error).__name__:
        return None
    free, total = backend.xp.cuda.runtime.memGetInfo()
    words = str(error).strip().split("\n")[0]
    wanted = total - free + getattr(error, "_size", 0)  # CuPy tells the size of the request, bytes
    fits = int(0.9 * n_owned * min(1.0, total / wanted))
    return InputError(f"backend cuda: the device has {total / 2**30:.0f} GiB, too little for {n_owned} atoms per rank "
                      f"({words}); about {fits} would fit: use more devices, a smaller 'skin', or backend cpu")
