"""Torch and the arrays of a device: the same memory, from one pool."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from rxmdnn.arrays import Array
from rxmdnn.device import Device
from rxmdnn.errors import InputError


def tensor(device: Device, array: Array) -> Tensor:
    """A torch tensor on the memory of an array of the device, of the same shape and type."""
    if not array.size:  # without memory there is nothing to share
        return torch.empty(array.shape, dtype=getattr(torch, array.dtype.name), device=device.torch_device)
    return torch.from_dlpack(device.exported(array))


def array(device: Device, tensor: Tensor) -> Array:
    """An array of the device on the memory of a tensor."""
    if not tensor.numel():
        return device.xp.empty(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    return device.imported(tensor)


class Recorder:
    """As rxmdnn.kernels.cuda.record, with memory from the pool of torch.

    All graphs, one after the other, use one pool: with a pool per graph, torch would keep the memory of all of them.
    """

    def __init__(self, number: int) -> None:
        self.number, self.pool = number, torch.cuda.MemPool()

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(pool=self.pool.id, capture_error_mode="thread_local")  # type: ignore[arg-type]
        try:
            work()
        except BaseException:
            with suppress(RuntimeError):
                graph.capture_end()
            with suppress(RuntimeError):  # after a failed capture, torch may still take all memory from the pool
                torch._C._cuda_endAllocateToPool(self.number, self.pool.id)
            raise
        graph.capture_end()
        return graph.replay


def join(device: Device) -> None:
    """Let torch work on the stream of the device, and CuPy allocate from the pool of torch.

    Two pools that both keep freed memory would leave too little to each other.

    Raises InputError if torch cannot use the device.
    """
    if device.torch_device == "cpu":
        return
    if not torch.cuda.is_available():
        raise InputError(f"backend cuda: torch {torch.__version__} cannot use the GPU, which a network needs; "
                         "install a torch built for CUDA, or use backend cpu")
    torch.cuda.set_device(torch.device(device.torch_device))
    torch.cuda.set_stream(torch.cuda.ExternalStream(device.stream))
    if not isinstance(device.record, Recorder):
        device.record = Recorder(torch.cuda.current_device())

    def take(size: int, number: int) -> int:
        stream = torch.cuda.current_stream(number).cuda_stream
        return torch.cuda.caching_allocator_alloc(max(size, 1), number, stream)

    def leave(pointer: int, number: int) -> None:
        torch.cuda.caching_allocator_delete(pointer)

    device.xp.cuda.set_allocator(device.xp.cuda.PythonFunctionAllocator(take, leave).malloc)
    free(device)


def free(device: Device) -> None:
    """Return memory that the pools keep but do not use to the device."""
    if device.torch_device != "cpu":
        torch.cuda.empty_cache()
        device.xp.get_default_memory_pool().free_all_blocks()
