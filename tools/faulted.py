"""Commands of rxmdnn that something happens to: a call that fails, a signal, a death; by a fork or by mpirun.

Used by tools/faults.py and tools/soak.py, which run in a process that has preloaded tools/faults.c (``preloaded``).
"""

from __future__ import annotations

import ctypes
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LONGEST = 1800  # s, of one command, on a machine that may be busy
POLL = 0.005  # s
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where flushing costs nothing


class Done(NamedTuple):
    """A command that has ended: its exit code, negative for a signal, and what it printed."""

    code: int
    text: str


class Fault(NamedTuple):
    """What happens to the calls of a command.

    how : of tools/faults.c; nothing: no fault
    k : at which call; rank : of which rank; log : file of the calls that are counted
    """

    how: str = ""
    k: int = 0
    rank: int = 0
    log: Path | None = None


NONE = Fault()
Watch = Callable[[int, float], None]  # of the process and the seconds since its start, again and again


def build(folder: Path) -> Path | None:
    """The library to preload, made by the C compiler of this machine; None without one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "faults.so"
    source = str(HERE / "faults.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), source, "-ldl"], check=True)
    return library


def environment() -> dict[str, str]:
    """Of the commands: one thread, more ranks than cores, nothing preloaded."""
    given = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue",
             "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
             "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # Open MPI 5
             "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    given.pop("LD_PRELOAD", None)
    known = given.get("PYTHONPATH", "")
    return given if known.split(":")[0] == str(ROOT) else given | {"PYTHONPATH": f"{ROOT}:{known}"}


def preloaded(script: str, words: Sequence[str]) -> Path:
    """The preloaded library. A process without it becomes ``python script words`` with it.

    Raises SystemExit without a C compiler.
    """
    if "faults.so" in os.environ.get("LD_PRELOAD", ""):
        return Path(os.environ["LD_PRELOAD"].split(":")[0])
    library = build(Path(tempfile.mkdtemp(prefix="rxmdnn_faults_", dir=FAST)))
    if library is None:
        print(f"{Path(script).name}: no C compiler (cc) on this machine")
        raise SystemExit(0)
    given = environment() | {"LD_PRELOAD": str(library)}
    os.execve(sys.executable, [sys.executable, str(Path(script).resolve()), *words], given)


def ready() -> None:
    """Import what the commands need, so that forks begin at once; one rank needs no MPI."""
    import mpi4py

    from rxmdnn import serial

    sys.modules["mpi4py.MPI"] = mpi4py.MPI = serial  # type: ignore[attr-defined, assignment]
    for name in ("rxmdnn.commands.run", "rxmdnn.commands.train", "rxmdnn.commands.tfail", "rxmdnn.models.allegro",
                 "rxmdnn.analysis.observe", "rxmdnn.survival.results", "ase.io.extxyz", "matplotlib.pyplot"):
        __import__(name)


def warm(place: Path, argv: Sequence[str]) -> None:
    """Run ``rxmdnn argv`` in this process, so that forks find kernels compiled."""
    from rxmdnn.__main__ import main

    kept, back = sys.argv, Path.cwd()
    with redirect_stdout(io.StringIO()):
        os.chdir(place)
        sys.argv = ["rxmdnn", *argv]
        main()
    sys.argv = kept
    os.chdir(back)
    gc.collect()
    gc.freeze()  # forks that end do not look through all that was imported, which took a second


def forked(place: Path, argv: Sequence[str], fault: Fault = NONE, watch: Watch | None = None) -> Done:
    """``rxmdnn argv`` in a fork of this process, on one rank."""
    said = place.parent / f"{place.name}.out"
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(place)
            handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            if fault.how:
                below, log = str(place).encode(), str(fault.log or "").encode()
                ctypes.CDLL(None).faults_arm(below, fault.how.encode(), ctypes.c_long(fault.k), log)
            sys.argv = ["rxmdnn", *argv]
            from rxmdnn.__main__ import main

            code = main()
        except BaseException:
            import traceback

            traceback.print_exc()
        raise SystemExit(code)
    begin = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        _look_after(child, begin, watch)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Done(code, said.read_text(errors="replace"))


def started(place: Path, argv: Sequence[str], fault: Fault = NONE, watch: Watch | None = None, *, ranks: int,
            library: Path | None = None) -> Done:
    """``mpirun rxmdnn argv``; one rank without mpirun."""
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun") or "mpirun"
    words = [*([mpirun, "-np", str(ranks)] if ranks > 1 else []), sys.executable, "-m", "rxmdnn", *argv]
    given = environment()
    if fault.how:
        given |= {"LD_PRELOAD": str(library), "RXMDNN_FAULT_FOLDER": str(place), "RXMDNN_FAULT_HOW": fault.how,
                  "RXMDNN_FAULT_AT": str(fault.k), "RXMDNN_FAULT_LOG": str(fault.log or "")}
        if ranks > 1:
            given["RXMDNN_FAULT_RANK"] = str(fault.rank)
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(words, cwd=place, env=given, stdout=out, stderr=out)
        while process.poll() is None:
            _look_after(process.pid, begin, watch)
        out.seek(0)
        return Done(process.returncode, out.read().decode(errors="replace"))


def _look_after(process: int, begin: float, watch: Watch | None) -> None:
    """One look at a process that runs."""
    seconds = time.monotonic() - begin
    if seconds > LONGEST:
        os.kill(process, signal.SIGKILL)
    elif watch is not None:
        watch(process, seconds)
    time.sleep(POLL)


def ranks_below(parent: int) -> list[int]:
    """The ranks of a command: processes of Python at or below a process, mpirun left out."""
    found, below = [], {parent}
    for process in sorted(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()):
        try:
            above = int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
            if above in below or process == parent:
                below.add(process)
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                if b"python" in Path(words[0].decode(errors="replace")).name.encode():
                    found.append(process)
        except (OSError, IndexError):
            continue
    return found


def listens(process: int, number: int = signal.SIGUSR1) -> bool:
    """Whether a process has a handler of a signal."""
    try:
        mask = Path(f"/proc/{process}/status").read_text().split("SigCgt:")[1].split()[0]
    except (OSError, IndexError):
        return False
    return bool(int(mask, 16) >> (number - 1) & 1)
