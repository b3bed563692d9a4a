"""Torch on the arrays of a device: the same memory, out of one pool."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from rxmdnn.device import Device
from rxmdnn.errors import InputError


def tensor(device: Device, array: Any) -> Tensor:
    """The same memory as a torch tensor, of the array's shape and type."""
    if not array.size:  # without memory there is nothing to share
        return torch.empty(array.shape, dtype=getattr(torch, array.dtype.name), device=device.torch_device)
    return torch.from_dlpack(device.exported(array))


def record(work: Callable[[], None]) -> Callable[[], None]:
    """As rxmdnn.kernels.cuda.record, where torch's pool gives the memory."""
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(capture_error_mode="thread_local")
    try:
        work()
    except BaseException:
        with suppress(RuntimeError):
            graph.capture_end()
        raise
    graph.capture_end()
    return graph.replay


def join(device: Device) -> None:
    """Torch works on the device's stream, and CuPy allocates from torch's pool: two pools that keep what they freed
    would starve each other.

    Raises InputError if torch cannot use the device.
    """
    if device.torch_device == "cpu":
        return
    if not torch.cuda.is_available():
        raise InputError(f"backend cuda: torch {torch.__version__} cannot use the GPU, which a network needs; "
                         "install a torch built for CUDA, or say backend cpu")
    torch.cuda.set_device(torch.device(device.torch_device))
    torch.cuda.set_stream(torch.cuda.ExternalStream(device.stream))
    device.record = record

    def take(size: int, number: int) -> int:
        stream = torch.cuda.current_stream(number).cuda_stream
        return torch.cuda.caching_allocator_alloc(max(size, 1), number, stream)

    def leave(pointer: int, number: int) -> None:
        torch.cuda.caching_allocator_delete(pointer)

    device.xp.cuda.set_allocator(device.xp.cuda.PythonFunctionAllocator(take, leave).malloc)
    free(device)


def free(device: Device) -> None:
    """Give memory that is kept but unused back to the device."""
    if device.torch_device != "cpu":
        torch.cuda.empty_cache()
        device.xp.get_default_memory_pool().free_all_blocks()
