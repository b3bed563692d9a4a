"""The backend whose arrays live on a GPU: CuPy's, filled by the CUDA kernels, with MPI's messages in pinned memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from rxmdnn.backend import Backend
from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT, cuda

Work = Callable[[], None]


class Device(Backend):
    """Arrays of ``xp``, which meet NumPy's only through the methods here.

    Parameters
    ----------
    xp : module
        CuPy, or what stands for it in a test.
    kernels : cuda.Kernels over it
    devices : how many there are on this machine
    pinned : callable
        ``pinned(n)`` is a host array of n bytes, uint8, that the device copies from and to fast.
    settle : callable
        Waits until the device has done all it was told.
    direct : bool
        MPI takes the device's memory itself (a CUDA-aware MPI).
    torch_device : str
        Where torch has such arrays.
    stream : int
        Address of CUDA's stream to which all work goes, torch's too.
    record : callable
        ``record(work)`` calls it, has the device note its kernels instead of running them, and gives what runs them.

    Memory of CuPy and torch comes from torch's pool once torch is used (``models/torch_device.py``).
    """

    on_device = True

    def __init__(self, name: str, xp: Any, kernels: cuda.Kernels, devices: int, pinned: Callable[[int], np.ndarray],
                 settle: Callable[[], None], direct: bool = False, torch_device: str = "cuda", stream: int = 0,
                 record: Callable[[Work], Work] = cuda.record) -> None:
        super().__init__(name, xp, {kernel: getattr(kernels, kernel) for kernel in CONTRACT})
        self.devices, self.direct, self.torch_device, self.stream = devices, direct, torch_device, stream
        self.record = record
        self._kernels_there, self._pinned, self._settle = kernels, pinned, settle
        self._staging: dict[tuple[str, int], np.ndarray] = {}

    def from_host(self, array: Any) -> Any:
        return self.xp.asarray(array, order="C") if isinstance(array, np.ndarray) else array

    def to_host(self, array: Any) -> np.ndarray:
        return array if isinstance(array, np.ndarray) else array.get()

    def table(self, values: np.ndarray) -> Any:
        return self._kernels_there.table(values)

    def launch(self, kernel: str, n: int, *arguments: Any) -> None:
        """A kernel of kernels/cuda by its name there, over n items; arrays of the device, ints and floats."""
        self._kernels_there.run(kernel, n, *arguments)

    def capture(self, work: Work) -> Work:
        """A CUDA graph of what ``work`` has the device do; call it to have that done, on the same memory.

        ``work`` must have run before, as it is, so that nothing is left to compile or to upload.

        Raises RuntimeError if the host would wait for the device within it, or the device refuses.
        """
        replay, tables = self.record(work), self._kernels_there.tables()

        def again(tables: Any = tables) -> None:  # which the graph reads, and so must live as long
            replay()
        return again

    def settle(self) -> None:
        self._settle()

    def exported(self, array: Any) -> Any:
        """The same memory as another library takes it by DLPack."""
        return array

    def imported(self, tensor: Any) -> Any:
        """The same memory as an array of this backend, from what DLPack exports."""
        return self.xp.from_dlpack(tensor)

    def outgoing(self, arrays: Sequence[Any]) -> list[Any]:
        buffers = list(arrays)
        if not self.direct:
            buffers = [self._staged("out", k, array) for k, array in enumerate(arrays)]
            for buffer, array in zip(buffers, arrays, strict=True):
                if len(buffer):
                    array.get(out=buffer)
        self.settle()  # also of what came before: the buffers of ``incoming`` are free again
        return buffers

    def incoming(self, arrays: Sequence[Any]) -> list[Any]:
        return list(arrays) if self.direct else [self._staged("in", k, array) for k, array in enumerate(arrays)]

    def land(self, buffers: Sequence[Any], arrays: Sequence[Any]) -> None:
        for buffer, array in zip(buffers, arrays, strict=True):
            if buffer is not array and len(buffer):
                array.set(buffer)

    def _staged(self, way: str, k: int, array: Any) -> np.ndarray:
        """The pinned buffer of the k-th message of a way, as large as ``array``."""
        size = prod(array.shape) * array.dtype.itemsize
        if (way, k) not in self._staging or len(self._staging[way, k]) < size:
            self._staging[way, k] = self._pinned(2 * size)
        return self._staging[way, k][:size].view(array.dtype).reshape(array.shape)


def load_cuda(number: int, direct: bool) -> Device:
    """The backend on device ``number`` of this machine (modulo how many there are).

    Raises
    ------
    InputError
        If CuPy or a device that it can use is missing.
    """
    cupy, kernels, devices = cuda.load(number)
    here = cupy.cuda.Device()
    stream = cupy.cuda.Stream().use()  # the default one cannot record graphs; this one waits for it, and it for this
    made = Device("cuda", cupy, kernels, devices, cuda.pinned, stream.synchronize, direct, f"cuda:{here.id}",
                  stream.ptr)
    made.notes = (
        f"backend cuda: {cupy.cuda.runtime.getDeviceProperties(here.id)['name'].decode()}; its shares of time by part "
        "are those of the host, which does not wait; 'verbose T' has it wait after each",)
    return made


def shortage(backend: Backend, error: BaseException, n_owned: int) -> InputError | None:
    """What to tell a user whose device ran out of memory; None if ``error`` is another one.

    n_owned : atoms of this rank
    """
    if not backend.on_device or "OutOfMemory" not in type(error).__name__:
        return None
    free, total = backend.xp.cuda.runtime.memGetInfo()
    words = str(error).strip().split("\n")[0]
    wanted = total - free + getattr(error, "_size", 0)  # CuPy tells what it was asked for
    fits = int(0.9 * n_owned * min(1.0, total / wanted))
    return InputError(f"backend cuda: the device's {total / 2**30:.0f} GiB do not hold {n_owned} atoms a rank "
                      f"({words}); about {fits} would fit: use more devices, a smaller 'skin', or backend cpu")
