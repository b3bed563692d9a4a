"""A device without a GPU: the backend of a GPU over the CUDA text built by g++, with arrays as strict as those of CuPy.

An ``Array`` hides its memory. To mix it with an array of NumPy, or to pass it to NumPy or MPI, is a TypeError, as on a
GPU; operations for which the host waits for the device are counted. ``record`` keeps all operations on memory, those of
torch too, and repeats them and nothing else, as a CUDA graph does.
"""

import operator
import os
import sys
from functools import cache
from types import ModuleType

import numpy as np
import pytest
import torch
from mpi4py import MPI
from torch.utils._python_dispatch import TorchDispatchMode

from rxmdnn import backend as backends
from rxmdnn.device import Device
from rxmdnn.errors import InputError
from rxmdnn.kernels import cuda
from tests.kernels.tested import GPU, host_launcher

DEVICES = pytest.mark.parametrize("name", ["host-built", GPU])
NAME = "hostdevice"  # the module of such arrays
FREE, TOTAL = 3 << 30, 4 << 30  # bytes, of the device's memory


class Waits:
    """Number of times that the host has waited for the device."""

    n = 0


class Tape:
    """The operations of a graph, while one is recorded."""

    now: list | None = None


def do(act):
    """The result of ``act()``, which each replay calls again."""
    if Tape.now is not None:
        Tape.now.append(act)
    return act()


def made(make):
    """An array of the result of ``make()``; each replay calls it again and fills the same memory."""
    array = Array(np.asarray(make()))
    if Tape.now is not None:
        Tape.now.append(lambda: np.copyto(array._a, make()))
    return array


class TorchTape(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        given = function(*arguments, **keywords)
        outputs = given if isinstance(given, (tuple, list)) else (given,)
        returns = function._schema.returns
        if all(r.alias_info is not None and not r.alias_info.is_write for r in returns):
            return given  # a view
        fresh = [r.alias_info is None for r in returns]

        def again():
            new = function(*arguments, **keywords)
            for old, value, copied in zip(outputs, new if isinstance(new, (tuple, list)) else (new,), fresh):
                if copied and isinstance(old, torch.Tensor):
                    old.detach().copy_(value)
        Tape.now.append(again)
        return given


def record(work):
    tape, waits = [], Waits.n
    Tape.now = tape
    try:
        with TorchTape():
            work()
    finally:
        Tape.now = None
    if waits != Waits.n:
        raise RuntimeError("the host waits for the device within a graph")

    def replay():
        with torch.no_grad():
            for act in tape:
                act()
    return replay


def inner(x):
    """The array of NumPy in an Array; a number, or an index of both, as it is."""
    if isinstance(x, Array):
        return x._a
    if isinstance(x, tuple):
        return tuple(inner(part) for part in x)
    if isinstance(x, np.ndarray) or (not isinstance(x, (int, float, np.generic, slice)) and x not in (None, Ellipsis)):
        raise TypeError(f"{type(x).__name__} of the host with an array of the device")
    return x


def outer(x):
    return Array(np.asarray(x)) if isinstance(x, (np.ndarray, np.generic)) else x


class Array:
    """As cupy.ndarray; 0-d where a function of NumPy gives a number."""

    __slots__ = ("_a",)
    __array_ufunc__ = None  # numbers of NumPy leave the operation to this class; its arrays meet a TypeError
    __hash__ = None
    direct = False  # whether MPI may see the memory

    def __init__(self, a):
        self._a = a

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    ndim = property(lambda self: self._a.ndim)

    def __len__(self):
        return len(self._a)

    def __array__(self, *_, **__):
        raise TypeError("an array of the device is not converted to NumPy")

    def __getitem__(self, index):
        if any(isinstance(i, Array) and i.dtype == bool for i in (index if isinstance(index, tuple) else (index,))):
            Waits.n += 1
        return outer(self._a[inner(index)])

    def __setitem__(self, index, value):
        do(lambda: self._a.__setitem__(inner(index), inner(value)))

    def __iter__(self):
        raise TypeError("element by element from the device")

    # the device to the host
    def get(self, out=None):
        Waits.n += 1
        if out is None:
            return self._a.copy()
        assert out.shape == self.shape and out.dtype == self.dtype and out.flags.c_contiguous
        out[...] = self._a
        return out

    def set(self, host):
        assert isinstance(host, np.ndarray) and host.shape == self.shape and host.dtype == self.dtype
        assert self._a.flags.c_contiguous
        self._a[...] = host

    @property
    def __cuda_array_interface__(self):
        if not Array.direct:
            raise AttributeError("MPI does not reach the device")
        return {**self._a.__array_interface__, "version": 3}

    # as NumPy's
    def fill(self, value):
        do(lambda: self._a.fill(inner(value)))

    def copy(self):
        return Array(self._a.copy())

    def astype(self, dtype):
        return Array(self._a.astype(dtype))

    def view(self, dtype):
        assert self._a.ctypes.data % np.dtype(dtype).itemsize == 0, "a device reads aligned numbers only"
        return Array(self._a.view(dtype))

    def reshape(self, *shape):
        return Array(self._a.reshape(*shape))

    def transpose(self, *axes):
        return Array(self._a.transpose(*axes))


def _number(kind):
    def convert(self):
        Waits.n += 1
        return kind(self._a)
    return convert


def _reduction(name):
    def reduce(self, axis=None):  # CuPy's have no initial value
        return outer(getattr(self._a, name)(axis=axis))
    return reduce


def _operator(act, swap=False):
    return lambda self, other: made(lambda: act(*((inner(other), self._a) if swap else (self._a, inner(other)))))


def _in_place(act):
    def change(self, other):
        do(lambda: act(self._a, inner(other)))
        return self
    return change


for kind in (int, float, bool):
    setattr(Array, f"__{kind.__name__}__", _number(kind))
Array.__index__ = _number(operator.index)
for name in ("sum", "min", "max", "any", "all", "mean"):
    setattr(Array, name, _reduction(name))
for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lt", "le", "gt",
             "ge", "eq", "ne"):
    act = getattr(operator, f"__{name}__")
    setattr(Array, f"__{name}__", _operator(act))
    setattr(Array, f"__r{name}__", _operator(act, swap=True))
for name in ("iadd", "isub", "imul", "itruediv"):
    setattr(Array, f"__{name}__", _in_place(getattr(operator, name)))
for act in (operator.neg, operator.invert, operator.abs):
    setattr(Array, f"__{act.__name__}__", lambda self, act=act: outer(act(self._a)))


def _make():
    """The functions of CuPy that the engine uses, with CuPy's arguments."""
    xp = ModuleType(NAME)

    def empty(shape, dtype=np.float64):
        a = np.empty(shape, dtype)
        a.fill(np.nan if a.dtype.kind == "f" else 77)  # no test may rely on earlier contents
        return Array(a)

    def flatnonzero(a):
        Waits.n += 1
        return Array(np.flatnonzero(inner(a)))

    def cumsum(a, axis=None, dtype=None, out=None):
        if out is None:
            return made(lambda: np.cumsum(inner(a), axis, dtype))
        do(lambda: np.cumsum(inner(a), axis, dtype, inner(out)))
        return out

    def argsort(a, axis=-1, kind=None):
        assert kind in (None, "stable")
        return Array(np.argsort(inner(a), axis, kind="stable"))

    xp.empty, xp.flatnonzero, xp.cumsum, xp.argsort = empty, flatnonzero, cumsum, argsort
    xp.empty_like = lambda a: empty(a.shape, a.dtype)
    xp.zeros = lambda shape, dtype=np.float64: made(lambda: np.zeros(shape, dtype))
    xp.zeros_like = lambda a: Array(np.zeros_like(inner(a)))
    xp.arange = lambda *ends, dtype=None: Array(np.arange(*ends, dtype=dtype))
    xp.asarray = lambda a, order=None: a if isinstance(a, Array) else Array(np.array(a, order=order or "K"))
    xp.concatenate = lambda arrays, axis=0: Array(np.concatenate([inner(a) for a in arrays], axis))
    for act in (np.floor, np.sqrt, np.where, np.clip, np.searchsorted, np.ascontiguousarray):
        setattr(xp, act.__name__, lambda *a, act=act: outer(act(*map(inner, a))))
    xp.matmul = lambda a, b: made(lambda: np.matmul(inner(a), inner(b)))
    xp.einsum = lambda how, *a: made(lambda: np.einsum(how, *map(inner, a)))
    xp.add = lambda a, b, out: do(lambda: np.add(inner(a), inner(b), out=inner(out)))
    xp.vdot = lambda a, b: outer(np.vdot(inner(a), inner(b)))
    xp.cuda = ModuleType(f"{NAME}.cuda")
    xp.cuda.runtime = ModuleType(f"{NAME}.cuda.runtime")
    xp.cuda.runtime.memGetInfo = lambda: (FREE, TOTAL)
    return xp


XP = sys.modules[NAME] = _make()
Array.__module__ = NAME


class HostBuilt(Device):
    """A Device whose arrays do not offer DLPack, which would open them to MPI."""

    def exported(self, array):
        assert isinstance(array, Array)
        return array._a

    def imported(self, tensor):
        return Array(tensor.numpy())


def find(name: str, direct: bool = False) -> Device:
    """The backend that DEVICES calls ``name``; skips the test where there is no GPU, unless RXMDNN_REQUIRE_GPU=1."""
    if name == "host-built":
        return make(direct=direct)
    if direct:
        pytest.skip("needs an MPI that knows CUDA")
    try:
        return _gpu()
    except InputError as error:
        if os.environ.get("RXMDNN_REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


@cache
def _gpu() -> Device:
    return backends.load("cuda", MPI.COMM_WORLD.rank)


def make(plain: bool = True, direct: bool = False) -> Device:
    """The backend; plain: one thread per item, which is fast on the host."""
    launcher = host_launcher()

    def launch(name, n, *arguments):
        assert not any(isinstance(a, np.ndarray) for a in arguments), f"{name}: an array of the host"
        do(lambda: launcher(name, n, *(a._a if isinstance(a, Array) else a for a in arguments)))

    def synchronize():
        Waits.n += 1

    Array.direct = direct
    return HostBuilt("cuda-host", XP, cuda.Kernels(XP, launch, plain), 1, lambda n: np.empty(n, np.uint8),
                  synchronize, direct, "cpu", record=record)
