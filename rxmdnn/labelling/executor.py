"""Where independent calls run: in processes of this machine, or on a cluster through Parsl.

Nothing that loads MPI is imported here: a worker clears the variables of the launcher first, so that it is no rank.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rxmdnn.errors import InputError

T = TypeVar("T")
LAUNCHERS = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_", "MPI_", "HYDRA_", "I_MPI_")
CALLS_OF_A_PROCESS = 40  # engines leak memory
LOOK = 0.3  # s, between looks at the parent


class LostError(RuntimeError):
    """A call whose process ended, or that raised an exception: the reason."""


class Executor(Protocol):
    """Something that makes calls at the same time.

    Attributes
    ----------
    cpu_s : float, seconds of processors that all calls took, where that is known
    """

    cpu_s: float

    def unordered(self, call: Callable[[T], Any], items: Sequence[T]) -> Iterator[tuple[int, Any]]:
        """(k, call(items[k])) of every item, as they end; a LostError in the place of a result that there is not.

        call : a function of a module, which other processes can import; an InputError ends everything
        """

    def close(self) -> None:
        """End what was started; called once, at the end."""


class Processes:
    """So many processes of this machine at a time; they end with the one that started them, or with ``close``."""

    def __init__(self, workers: int) -> None:
        self.workers, self.cpu_s = workers, 0.0
        self._pool: Any = None
        self._size = 0  # of the pool

    def unordered(self, call: Callable[[T], Any], items: Sequence[T]) -> Iterator[tuple[int, Any]]:
        """As of Executor."""
        if not items:
            return
        size = max(1, min(self.workers, len(items)))
        if size > self._size:  # a process loads libraries for seconds: they are kept for further calls
            self.close()
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            self._pool = multiprocessing.get_context("spawn").Pool(size, _begin, (os.getpid(),), CALLS_OF_A_PROCESS)
            self._size = size
        results = self._pool.imap_unordered(_numbered, [(k, call, item) for k, item in enumerate(items)])
        for k, (made, seconds) in _until_lost(results, len(items)):
            self.cpu_s += seconds
            yield k, made

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
            self._pool, self._size = None, 0


class ParslWorkers:
    """The workers of a Parsl configuration, the name ``config`` of a Python file that the user names."""

    def __init__(self, file: Path) -> None:
        self.cpu_s = 0.0
        self._pool: Any = None
        try:
            import parsl.concurrent  # noqa: F401 - whether it is there
        except ImportError:
            raise InputError("executor: parsl is not installed: pip install parsl, or use processes") from None
        try:
            self.config = runpy.run_path(str(file))["config"]
        except KeyError:
            raise InputError(f"{file}: defines no 'config', a parsl.Config") from None
        except Exception as error:  # of any program
            raise InputError(f"{file}: {type(error).__name__}: {error}") from None

    def unordered(self, call: Callable[[T], Any], items: Sequence[T]) -> Iterator[tuple[int, Any]]:
        """As of Executor. A configuration serves once; the pool is kept until the process ends."""
        from parsl.concurrent import ParslPoolExecutor

        if not items:
            return
        if self._pool is None:
            self._pool = ParslPoolExecutor(config=self.config)
        futures = {self._pool.submit(call, item): k for k, item in enumerate(items)}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except InputError:
                raise
            except Exception as error:  # of the cluster, or of the call
                yield futures[future], LostError(" ".join(f"{type(error).__name__}: {error}".split()))

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown()


def executor_of(name: str, file: Path | None, workers: int) -> Executor:
    """The executor of a deck. Raises InputError for an unknown one, or where it cannot be had."""
    if name == "processes":
        return Processes(workers)
    if name == "parsl" and file is not None:
        return ParslWorkers(file)
    raise InputError("executor: write 'processes', or 'parsl <file>' with a file that defines 'config'"
                     if name == "parsl" else f"executor: {name}: unknown; use processes, or parsl <file>")


def _begin(parent: int) -> None:
    """The first call in a process: it is no rank of a job, and it ends soon after its parent."""
    for name in [name for name in os.environ if name.startswith(LAUNCHERS)]:
        del os.environ[name]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the parent
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: int) -> None:
    # Not prctl(PR_SET_PDEATHSIG): it follows the thread that started the process, and a pool has several.
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


def _numbered(numbered: tuple[int, Callable[[Any], Any], Any]) -> tuple[int, tuple[Any, float]]:
    """The number of a call, its result, and the seconds of processors that it took."""
    k, call, item = numbered
    start = time.process_time()
    try:
        made = call(item)
    except InputError:
        raise
    except Exception as error:
        made = LostError(" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return k, (made, time.process_time() - start)


def _until_lost(results: Any, count: int) -> Iterator[tuple[int, tuple[Any, float]]]:
    """The results as they come; LostError for each call whose process ended, which a pool would wait for forever."""
    pending, workers = set(range(count)), set()
    while pending:
        workers.update(multiprocessing.active_children())
        ended = [worker.exitcode for worker in workers if worker.exitcode]
        if len(ended) >= len(pending):
            for k in sorted(pending):
                yield k, (LostError(f"its process ended (exit code {ended[-1]}; -9 is often a lack of memory)"), 0.0)
            return
        try:
            k, result = results.next(timeout=1.0)
        except multiprocessing.TimeoutError:
            continue
        pending.discard(k)
        yield k, result
