"""Damaged files for every reader, case by case: python tools/fuzz.py --cases 100000 --seed 1 [--jobs N] [--only NAME].

Child processes take the cases, each within 20 s and 2 GiB; one that ends or hangs is replaced. The same command goes on
where it stopped (<work>/state.json). Files that failed are kept in tests/fuzz/corpus, as long as it is below 1 MB;
``--row`` adds the counts to tools/results/fuzz.csv.
"""

from __future__ import annotations

import argparse
import collections
import csv
import hashlib
import json
import multiprocessing
import os
import queue
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CORPUS, TABLE = ROOT / "tests/fuzz/corpus", ROOT / "tools/results/fuzz.csv"
MOST_CORPUS, SECONDS, MEMORY = 1 << 20, 20, 2 << 30
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where flushing costs nothing
PATIENCE = 1800  # s without a word from a process, which may be starved on a busy machine
BATCH = 200  # cases of a target between two writes of the state
COLUMNS = ("seed", "target", "cases", "read", "refused", "failed", "hangs", "crashes", "seconds")


def main() -> int:
    """Run the cases that are left; 1 if one failed."""
    a = _arguments()
    work = a.work or Path(FAST or tempfile.gettempdir()) / f"rxmdnn_fuzz_{a.seed}"
    work.mkdir(parents=True, exist_ok=True)
    state_file = work / "state.json"
    state: dict[str, Any] = json.loads(state_file.read_text()) if state_file.exists() else {"done": {}, "counts": {}}
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:  # torch and MPI stay out of this process
        names, costs = pool.apply(_prepare, (work,))
    names = [name for name in names if not a.only or name in a.only]
    shares = _shares(a.cases, {name: costs[name] for name in names})
    tasks = [(name, first, min(first + BATCH, shares[name])) for name in names
             for first in range(state["done"].get(name, 0), shares[name], BATCH)]
    tasks.sort(key=lambda task: task[1] / max(1, shares[task[0]]))  # every target advances alike
    failures: dict[str, int] = collections.Counter(state.get("failures", {}))
    for name, stop, counts, faults in _results(context, a.jobs, a.seed, work, tasks):
        total = state["counts"].setdefault(name, {})
        for key, value in counts.items():
            total[key] = total.get(key, 0) + value
        state["done"][name] = max(stop, state["done"].get(name, 0))
        for kind, file, data in faults:
            failures[f"{name}: {kind}"] += 1
            if failures[f"{name}: {kind}"] <= 3:
                print(f"{name}: {kind}", flush=True)
                _keep(name, file, data)
        state["failures"] = dict(failures)
        state_file.write_text(json.dumps(state))
    _report(state["counts"], failures)
    if a.row:
        _add_rows(a.seed, state["counts"])
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("--cases", type=int, default=2000)
    p.add_argument("--seed", default="1")
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--only", nargs="+", metavar="NAME", help="readers; default: all")
    p.add_argument("--work", type=Path, help="folder of the state; default: below the temporary folder, by seed")
    p.add_argument("--row", action="store_true", help="add the counts to tools/results/fuzz.csv")
    return p.parse_args()


def _shares(cases: int, costs: dict[str, float]) -> dict[str, int]:
    """Cases of each target: fewer of slow ones, by the square root of the cost."""
    weights = {name: cost**-0.5 for name, cost in costs.items()}
    return {name: round(cases * weight / sum(weights.values())) for name, weight in weights.items()}


# ---------------------------------------------------------------------- in child processes
def _prepare(work: Path) -> tuple[list[str], dict[str, float]]:
    """Names and costs of the targets; their files are made once, below ``work``."""
    from tests.fuzz import targets

    place = work / "seeds"
    if not place.exists():
        made = Path(tempfile.mkdtemp(dir=work))
        seeds = targets.make_seeds(made)
        for name, files in seeds.items():
            for file, data in files.items():
                path = made / "new" / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        os.replace(made / "new", place)
        shutil.rmtree(made)
    return list(targets.BY_NAME), {t.name: t.cost for t in targets.TARGETS}


def _child(seed: str, work: Path, inbox: Any, outbox: Any) -> None:
    """Take batches until there is none; each case is told before it begins, so that a crash can be named."""
    from tests.fuzz import targets
    from tests.fuzz.mutate import change, generator

    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    signal.signal(signal.SIGPROF, late)  # time of the processor: the machine may be busy
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    case = Path(tempfile.mkdtemp(dir=work))
    for name, start, stop in iter(inbox.get, None):
        place, target = work / "seeds" / name, targets.BY_NAME[name]
        files = {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
        targets.attempt(target, files, case / "case")  # what is compiled or kept at the first call is not timed
        for number in range(start, stop):
            rng = generator(seed, name, number)
            file = rng.choice(sorted(target.files))
            data = change(files[file], target.files[file], rng, target.repairs.get(file))
            outbox.put(("begins", number, file, data))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                outbox.put(("ends", targets.attempt(target, {**files, file: data}, case / "case"), "", b""))
            except Exception as error:
                signal.setitimer(signal.ITIMER_PROF, 0)
                own = [f for f in traceback.extract_tb(error.__traceback__) if "/rxmdnn/" in f.filename]
                where = f"{Path(own[-1].filename).name}:{own[-1].lineno} " if own else ""
                outbox.put(("hangs" if isinstance(error, TimeoutError) else "failed",
                            f"{where}{type(error).__name__}: {error}"[:200], file, data))
            signal.setitimer(signal.ITIMER_PROF, 0)
        outbox.put(("batch", 0, "", b""))
    shutil.rmtree(case, ignore_errors=True)


# ---------------------------------------------------------------------- here
class _Worker:
    """A child process and what it is doing."""

    def __init__(self, context: Any, seed: str, work: Path) -> None:
        self.context, self.seed, self.work = context, seed, work
        self.start()

    def start(self) -> None:
        """Start a process with empty queues."""
        self.inbox, self.outbox = self.context.SimpleQueue(), self.context.Queue()
        self.process = self.context.Process(target=_child, args=(self.seed, self.work, self.inbox, self.outbox),
                                            daemon=True)
        self.process.start()

    def _processor(self) -> float:
        """Time of the processor of the process so far, s."""
        try:
            words = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def run(self, task: tuple[str, int, int]) -> tuple[dict[str, int], list[tuple[str, str, bytes]]]:
        """Counts of the outcomes of a batch, and its failures: kind, file, bytes."""
        counts: dict[str, int] = collections.Counter()
        faults: list[tuple[str, str, bytes]] = []
        (name, start, stop), began = task, time.monotonic()
        heard, spent = began, self._processor()
        self.inbox.put(task)
        doing: tuple[int, str, bytes] = (start, "", b"")
        while True:
            try:
                word, first, file, data = self.outbox.get(timeout=SECONDS)
                heard, spent = time.monotonic(), self._processor()
            except queue.Empty:
                stuck = self._processor() - spent > 2 * SECONDS  # in a library, where a signal is not heard
                if self.process.is_alive() and not stuck and time.monotonic() - heard < PATIENCE:
                    continue  # loading, or on a busy machine
                word, first, file, data = "crashes", "never ends" if stuck else f"exit code {self.process.exitcode}", \
                    *doing[1:]
            if word == "begins":
                doing = (first, file, data)
            elif word == "ends":
                counts[first] += 1
            elif word == "batch":
                counts["seconds"] = round(time.monotonic() - began)
                return counts, faults
            else:
                counts[word] += 1
                faults.append((str(first), file, data))
            if word == "crashes":
                self.process.kill()
                self.process.join()
                self.start()
                if doing[0] + 1 < stop:
                    self.inbox.put((name, doing[0] + 1, stop))
                else:
                    return counts, faults


def _results(context: Any, jobs: int, seed: str, work: Path, tasks: list[tuple[str, int, int]]
             ) -> Iterator[tuple[str, int, dict[str, int], list[tuple[str, str, bytes]]]]:
    """(target, last case, counts, failures) of each batch, in the order of the tasks."""
    from concurrent.futures import ThreadPoolExecutor

    free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for _ in range(jobs):
        free.put(_Worker(context, seed, work))

    def run(task: tuple[str, int, int]) -> tuple[dict[str, int], list[tuple[str, str, bytes]]]:
        worker = free.get()
        try:
            return worker.run(task)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(jobs) as pool:
        for task, (counts, faults) in zip(tasks, pool.map(run, tasks)):
            yield task[0], task[2], counts, faults
    for _ in range(jobs):
        free.get().inbox.put(None)


def _keep(name: str, file: str, data: bytes) -> None:
    """Keep a file that failed, if there is room."""
    CORPUS.mkdir(exist_ok=True)
    size = sum(path.stat().st_size for path in CORPUS.iterdir())
    if size + len(data) < MOST_CORPUS:
        digest = hashlib.sha256(data).hexdigest()[:12]
        (CORPUS / f"{name}--{file.replace('/', '+')}--{digest}").write_bytes(data)


def _report(counts: dict[str, dict[str, int]], failures: dict[str, int]) -> None:
    words = ("read", "refused", "failed", "hangs", "crashes", "seconds")
    print(f"{'target':<14s}" + "".join(f"{word:>9s}" for word in words))
    for name, of in counts.items():
        print(f"{name:<14s}" + "".join(f"{of.get(word, 0):>9d}" for word in words))
    for kind, n in sorted(failures.items()):
        print(f"{n:>6d}  {kind}")


def _add_rows(seed: str, counts: dict[str, dict[str, int]]) -> None:
    new = not TABLE.exists()
    with TABLE.open("a", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        if new:
            table.writerow(COLUMNS)
        for name, of in counts.items():
            cases = sum(n for word, n in of.items() if word != "seconds")
            table.writerow([seed, name, cases, *(of.get(word, 0) for word in COLUMNS[3:])])


if __name__ == "__main__":
    sys.exit(main())
