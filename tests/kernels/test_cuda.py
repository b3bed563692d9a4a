"""The CUDA text: right when the host runs it, compiled for every architecture, shipped, refused where it cannot run.

The oracle tests of test_kernels.py take it as backends of their own (tests/kernels/tested.py).
"""

import ctypes
import ctypes.util
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rxmdnn import backend as backends
from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT, cuda
from tests.kernels.test_kernels import SYSTEMS, record, replay
from tests.kernels.tested import GPU, make
from tests.unit.engine.test_neighbors import CONFORMANCE, brute_force, ours

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
REGISTERS = 64  # four blocks of 256 threads on a multiprocessor
SHARED = 16 * 1024 + 128  # bytes of a block


@pytest.mark.parametrize("case", CONFORMANCE)
@pytest.mark.parametrize("backend", ["cuda-host", "cuda-host-plain", GPU])
def test_conformance(backend, case):
    x, cell, cutoff = CONFORMANCE[case]
    assert ours(x, cell, cutoff, make(backend)) == brute_force(x, cell, cutoff)


@pytest.mark.parametrize("backend", ["cuda-host", GPU])
def test_the_same_bits_from_run_to_run_and_the_edges_of_the_cpu(backend):
    tested, cpu = make(backend), make("cpu")
    for name, before, _ in record(SYSTEMS["301 atoms"](np.random.default_rng(3)), np.random.default_rng(4)):
        one, other, theirs = (replay(getattr(kernels, name), name, before) for kernels in (tested, tested, cpu))
        for argument, a, b, c in zip(CONTRACT[name].arguments, one, other, theirs, strict=True):
            if argument.role != "work":
                np.testing.assert_array_equal(a, b, err_msg=f"{name}: {argument.name}")
            if "edges" in name or "neighbors" in name:
                np.testing.assert_array_equal(a, c, err_msg=f"{name}: {argument.name}")


def nvrtc():
    """NVRTC, from the wheel nvidia-cuda-nvrtc or from the system."""
    found = importlib.util.find_spec("nvidia")
    folders = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    for library in sorted(path for folder in folders for path in folder.glob("*/lib/libnvrtc.so.*")):
        for part in library.parent.glob("libnvrtc-builtins.so*"):
            ctypes.CDLL(str(part), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(library))
    if system := ctypes.util.find_library("nvrtc"):
        return ctypes.CDLL(system)
    pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_every_kernel_without_spills(architecture):
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), cuda.source().encode(), b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture={architecture}", "--ptxas-options=-v", *cuda.OPTIONS]
    failed = library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*(option.encode() for option in options)))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    if failed and "invalid value for --gpu-architecture" in text:
        pytest.skip(f"this NVRTC does not know {architecture}")
    assert not failed, text
    assert "warning" not in text, text
    report = {part.split("'")[0]: part for part in text.split("Compiling entry function '")[1:]}
    assert set(report) == set(cuda.ENTRIES)
    for name, part in report.items():
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in part, f"{name}: {part}"
        registers, shared = re.search(r"Used (\d+) registers", part), re.search(r"(\d+) bytes smem", part)
        assert registers and int(registers[1]) <= REGISTERS, f"{name}: {part}"
        assert not shared or int(shared[1]) <= SHARED, f"{name}: {part}"


def test_the_text_is_shipped(tmp_path):
    pytest.importorskip("setuptools")
    subprocess.run([sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)], cwd=ROOT,
                   check=True, capture_output=True)
    for file in ("rx.cuh", *cuda.FILES):
        assert (tmp_path / "rxmdnn" / "kernels" / "cuda" / file).read_text() == (cuda.FOLDER / file).read_text()


def test_no_sum_depends_on_the_order_of_atomics():
    atomics = re.findall(r"atomic\w+\((.*)", cuda.source())
    assert atomics and all(call.startswith("(uint64*)&") for call in atomics)


def test_a_run_with_cuda_is_refused_in_words():
    with pytest.raises(InputError, match=r"backend cuda: .*say backend cpu"):
        backends.make("cuda")
    assert backends.make("auto").name == "cpu"
