"""The backends that the kernel ring tests: what the program offers, and the CUDA text built for the host by g++."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rxmdnn import backend as backends
from rxmdnn.backend import Backend
from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT, cuda

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
TESTED = ("cpu", "cuda-host", "cuda-host-plain", GPU)
ROOT, HEADER = Path(__file__).parents[2], Path(__file__).with_name("host.hpp")
HOST_BLOCKS = 5  # of a launch: every kernel meets more items than threads
TYPES = {"int64": np.int64, "int32": np.int32, "uint32": np.uint32, "uint8": np.uint8, "double": np.float64,
         "float": np.float32}
ELEMENTS = {pointer.format(name): dtype for name, dtype in TYPES.items()
            for pointer in ("in<{}>", "out<{}>", "{}*", "const {}*")}


def make(name: str) -> Backend:
    """A backend by the name of ``backends.load``, or the CUDA text run by the host; all of them take NumPy arrays.

    Skips the test where there is none here; RXMDNN_REQUIRE_GPU=1 makes a missing device a failure.
    """
    if name.startswith("cuda-host"):
        kernels = cuda.Kernels(np, host_launcher(), plain=name.endswith("plain"))
        return Backend(name, np, {kernel: getattr(kernels, kernel) for kernel in CONTRACT})
    if name == "cuda":
        try:
            return staged(backends.load(name))
        except InputError as e:
            if os.environ.get("RXMDNN_REQUIRE_GPU") == "1":
                raise
            pytest.skip(str(e))
    return backends.load(name)


def staged(device: Backend) -> Backend:
    """Kernels of a device that take NumPy arrays: copied there before, back after."""
    def stage(name: str) -> Any:
        def call(*arguments: Any) -> None:
            there = [device.xp.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
            getattr(device, name)(*there)
            for argument, host, copy in zip(CONTRACT[name].arguments, arguments, there, strict=True):
                if argument.role != "in" and isinstance(host, np.ndarray):
                    host[...] = device.xp.asnumpy(copy)
        call.__wrapped__ = getattr(device, name)  # type: ignore[attr-defined]
        return call
    return Backend(device.name, np, {name: stage(name) for name in CONTRACT})


@cache
def host_launcher() -> Any:
    """A launcher for ``cuda.Kernels`` over the text built by g++, which checks the types of what it is given."""
    compiler = shutil.which("g++")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("building the CUDA kernels for the host needs g++ on Linux")
    table = "\n".join(f'    if (!strcmp(name, "{name}")) return host::launch({name}, {int(entry.cooperates)}, blocks, '
                      f"{cuda.THREADS}, arguments);" for name, entry in cuda.ENTRIES.items())
    text = "\n".join(['#include "host.hpp"', cuda.source(),
                      'extern "C" int rx_launch(const char* name, unsigned blocks, void** arguments) {', table,
                      "    return 2;", "}"])
    options = ["-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-fPIC", "-shared", "-Wall",
               "-Wextra", "-Werror", "-U_FORTIFY_SOURCE", f"-I{Path(__file__).parent}",
               *(option for option in cuda.OPTIONS if option.startswith("-D"))]
    # One build for all processes of all tests, as long as nothing of it changes.
    made_of = [text, *options, HEADER.read_text()]
    library = ROOT / "build" / f"kernels_{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            source, made = Path(folder) / "kernels.cpp", Path(folder) / "kernels.so"
            source.write_text(text)
            done = subprocess.run([compiler, *options, str(source), "-o", str(made)], capture_output=True, text=True,
                                  check=False)
            assert done.returncode == 0, done.stderr
            made.replace(library)
    function = ctypes.CDLL(str(library)).rx_launch

    def launch(name: str, n: int, *arguments: Any) -> None:
        entry = cuda.ENTRIES[name]
        values = []
        for (kind, argument), value in zip(entry.parameters, (n, *arguments), strict=True):
            if isinstance(value, np.ndarray):
                good = value.dtype == ELEMENTS[kind] and value.flags.c_contiguous
                values.append(ctypes.c_void_p(value.ctypes.data))
            else:
                good = type(value) is {"int64": int, "double": float}[kind]
                values.append(ctypes.c_longlong(value) if kind == "int64" else ctypes.c_double(value))
            assert good, f"{name}: {argument} is {kind}, not {value!r}"
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        blocks = min(-(-n // entry.per_block), HOST_BLOCKS)
        failed = function(name.encode(), blocks, pointers)
        assert failed == 0, f"{name}: a barrier or warp function that not all of its threads reach"

    return launch
