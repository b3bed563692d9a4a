"""Facts about an installation and its machine, for reports of faults; each is read on its own, so that one that fails
is a line of the report and hides no other."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from mpi4py import MPI

import rxmdnn
from rxmdnn.serial import SIZE_VARIABLES

PACKAGES = ("numpy", "numba", "mpi4py", "h5py", "torch", "e3nn", "safetensors", "ase", "scipy", "matplotlib", "plotly",
            "cupy-cuda13x", "cupy-cuda12x", "tblite", "pytorch_optimizer", "lifelines", "phonopy")
VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID",
             "PBS_JOBID")


def facts(comm: MPI.Comm) -> dict[str, str]:
    """{name: text} of this machine; every rank calls it, the answer is that of the first. Never raises."""
    hosts = comm.allgather(platform.node())
    found: dict[str, Callable[[], str]] = {
        "rxmdnn": lambda: f"{rxmdnn.__version__} in {Path(rxmdnn.__file__).parent}",
        "python": lambda: f"{platform.python_version()} in {sys.executable}",
        "system": platform.platform,
        "cores": lambda: f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "memory": _memory,
        "variables": lambda: ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ)
        or "none of " + ", ".join(VARIABLES),
        "packages": _packages,
        "MPI library": _mpi_library,
        "mpirun": _mpirun,
        "ranks": lambda: f"{comm.size} on {len(set(hosts))} machine(s)",
        "kernels": _kernels,
        "GPU": _gpu,
        "inputs": _inputs,
    }
    return {name: _told(tell) for name, tell in found.items()}


def _told(tell: Callable[[], str]) -> str:
    """The text, or why there is none, in a line."""
    try:
        return tell()
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


def _packages() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _memory() -> str:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{pages * size / 2**30:.1f} GiB"


def _mpi_library() -> str:
    version = getattr(MPI, "Get_library_version", None)
    if version is None:
        return "none: one rank only; for several, use that of the machine or pip install 'rxmdnn[mpi]'"
    return version().strip("\0").splitlines()[0].strip()


def _mpirun() -> str:
    beside = Path(sys.executable).with_name("mpirun")  # of an MPI library that was installed with the package
    path = shutil.which("mpirun")
    if beside.exists() and (path is None or Path(path) != beside):
        return f"{beside}, of the MPI library of this Python; on the path: {path or 'none'}"
    if path is None:
        return "not on the path"
    if any(name in os.environ for name in SIZE_VARIABLES):
        return path  # within its own job a launcher may refuse to start
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    return f"{path}: {(done.stdout or done.stderr).strip().splitlines()[0]}"


def _kernels() -> str:
    import rxmdnn.kernels

    return f"{Path(next(iter(rxmdnn.kernels.__path__)))}, {len(rxmdnn.kernels.CONTRACT)} in the contract"


def _gpu() -> str:
    try:
        import cupy
    except ImportError:
        return "none: CuPy is not installed"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"none: CuPy {cupy.__version__} finds no device ({str(error).splitlines()[0][:100]})"
    names = [cupy.cuda.runtime.getDeviceProperties(k)["name"].decode() for k in range(count)]
    return f"{count}: {', '.join(names)}; CuPy {cupy.__version__}"


def _inputs() -> str:
    from rxmdnn.run.examples import inputs

    return str(inputs())
