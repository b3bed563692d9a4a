"""Hours of runs that are killed, stopped, moved to other rank counts and given full disks; a row per piece.

    python tools/soak.py [--minutes 60] [--every 10] [--seed 1] [--out tools/results/soak.csv]

A job runs one of several decks to its end, by `rxmdnn run --until N`, again and again. At a random time one of its
ranks is killed or gets SIGTERM, SIGINT or SIGUSR1; or the disk is full from a random call on (tools/faults.c); or the
run ends at a random earlier step. After each attempt all files open. Then the command is given once more, undisturbed:

- after kills, full disks and ends at a checkpoint of the schedule, on the same number of ranks throughout, all files
  hold the bits of an undisturbed run;
- after stops at other steps, where the list of neighbors is made anew, or on other numbers of ranks from attempt to
  attempt, the positions agree to 1e-6 Å.

Beside the jobs one long run, stopped and continued by signals, is observed: its memory, its open files and its time of
the processor per step. A row holds the counts of its own jobs. With the same seed and table the next jobs follow.
Needs a C compiler.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from faulted import (
    FAST,
    NONE,
    Done,
    Fault,
    environment,
    forked,
    listens,
    preloaded,
    ranks_below,
    ready,
    started,
    warm,
)
from faults import prepare_argon
from left_behind import content, difference, unopened

DECKS = {
    "mdmode 0": "",
    "langevin scr": "ensemble langevin 0.1\nbarostat scr 0.1 0.2\nobserve gr 5\n",
    "mtk": "ensemble nose-hoover 0.1\nbarostat mtk 0.1 0.2\n",
    "strain": "strain_ramp 0.02 0.0 0.0\n",
    "rings": "pimd 4 pimd\nensemble langevin 0.1\npimd_dump 50\n",
}
STEPS, EVERY = 600, 10  # of a run; between two of its checkpoints
CLOSE = 1e-6  # Å, between runs on different numbers of ranks
COUNTED = ("attempts", "killed", "signals", "full", "shorter", "refused", "tracebacks", "unopened", "differ")
COLUMNS = ("seed", "first_job", "jobs", "minutes", "cpu_minutes", *COUNTED, "largest_A", "watched_steps", "memory_MB",
           "open_files", "cpu_us_per_step")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Sent:
    """A signal for one rank of a command, once, after some seconds and once the command is ready for it."""

    def __init__(self, number: int, after: float, chance: random.Random) -> None:
        self.number, self.after, self.chance, self.done = number, after, chance, False

    def __call__(self, process: int, seconds: float) -> None:
        """One look at the command."""
        if self.done or seconds < self.after:
            return
        ranks = ranks_below(process)
        if not ranks or (self.number != signal.SIGKILL and not all(map(listens, ranks))):
            return
        try:
            os.kill(self.chance.choice(ranks), self.number)
        except ProcessLookupError:
            return
        self.done = True


class Job:
    """A deck in a folder, run until its end whatever happens to it."""

    def __init__(self, folder: Path, chance: random.Random, library: Path, count: Counter[str]) -> None:
        self.folder, self.chance, self.library, self.count = folder, chance, library, count
        self.name = chance.choice(list(DECKS))
        self.ranks = chance.choice((1, 1, 1, 1, 1, 2, 0))  # 0: another number in each attempt
        self.torn, self.exact = folder / "torn", self.ranks > 0 and chance.random() < 0.6
        for part in ("whole", "torn"):
            (folder / part).mkdir(parents=True)
            prepare_argon(folder / part, DECKS[self.name])
            if self.name == "mdmode 0":
                deck = folder / part / "rxmd.in"
                deck.write_text(deck.read_text().replace("mdmode 1", "mdmode 0"))

    def run(self) -> float:
        """Run to the end; the largest distance of an atom from that of the undisturbed run, Å. Infinite: no end"""
        log, begin = self.folder / "calls", time.monotonic()
        whole = self._execute(self.folder / "whole", self.ranks or 1, STEPS, Fault("count", log=log))
        if whole.code:
            raise SystemExit(f"{self.name}: the undisturbed run ends with {whole.code}:\n{whole.text}")
        self.seconds, self.calls = time.monotonic() - begin, log.read_text().count("\n")
        for _ in range(self.chance.randint(4, 10) if self.ranks == 1 else self.chance.randint(2, 4)):
            self._attempt()
        done = self._execute(self.torn, self._some_ranks(), STEPS)
        self._look("the last", done, (0,))
        return self._apart() if done.code == 0 else float("inf")

    def _some_ranks(self) -> int:
        return self.ranks or self.chance.randint(1, 3)

    def _execute(self, place: Path, ranks: int, steps: int, fault: Fault = NONE, sent: Sent | None = None) -> Done:
        words = ("run", "--outDir", "out", "--until", str(steps))
        if ranks == 1:
            return forked(place, words, fault, sent)
        return started(place, words, fault, sent, ranks=ranks, library=self.library)

    def _attempt(self) -> None:
        """One run that something happens to."""
        kinds = ["killed", "killed", "full", *(["shorter"] if self.name != "strain" else []),
                 *([] if self.exact else ["signals", "signals"])]
        what, ranks, self.count["attempts"] = self.chance.choice(kinds), self._some_ranks(), self.count["attempts"] + 1
        steps, fault, sent = STEPS, NONE, None
        well: tuple[int, ...] = (0,)
        if what == "full":
            fault, well = Fault("full", self.chance.randint(1, self.calls), self.chance.randrange(ranks)), (0, 2)
        elif what == "shorter":
            steps = self.chance.randrange(EVERY, STEPS, EVERY) if self.exact else self.chance.randint(1, STEPS)
        else:
            number = signal.SIGKILL if what == "killed" else self.chance.choice(SIGNALS)
            sent, well = Sent(number, self.chance.uniform(0.0, 0.5) * self.seconds, self.chance), (0, 5)
        done = self._execute(self.torn, ranks, steps, fault, sent)
        if what == "shorter" or (what == "full" and done.code) or (sent is not None and sent.done):
            self.count[what] += 1
        self._look(f"{what}{f' by {sent.number}' if sent else ''} on {ranks}", done, () if what == "killed" else well)

    def _look(self, what: str, done: Done, well: tuple[int, ...]) -> None:
        """Whether a command has ended as it should, and what it has left. well : exit codes; empty: any"""
        unclean = any(word in done.text for word in ("Traceback", "HDF5-DIAG", "Exception ignored"))
        refused = bool(well) and done.code not in well
        lost = unopened(self.torn)
        for name, bad in (("tracebacks", unclean), ("refused", refused), ("unopened", lost)):
            self.count[name] += bool(bad)
        if unclean or refused or lost:
            print(f"{self.name}: {what}: exit code {done.code}: {lost}\n{done.text[-1500:]}", flush=True)

    def _apart(self) -> float:
        import numpy as np
        from mpi4py import MPI

        from rxmdnn.io.checkpoint import read_checkpoint

        if self.exact and (fault := difference(content(self.folder / "whole"), content(self.torn))):
            print(f"{self.name}: on {self.ranks}: {fault}", flush=True)
            return float("inf")
        ends = (self.folder / part / "out" / "checkpoint.h5" for part in ("whole", "torn"))
        a, b = (read_checkpoint(MPI.COMM_SELF, path) for path in ends)
        x, y = ((s.x + s.image @ s.cell.h)[np.argsort(s.gid)] for s in (a, b))
        return float(np.abs(x - y).max()) if a.step == b.step == STEPS else float("inf")


class Watched:
    """One long run whose memory, open files and time of the processor per step are looked at."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        prepare_argon(folder, DECKS["langevin scr"])
        self.table, self.seen = folder / "out" / "energies.csv", (0.0, 0)
        words = ("--ntime_step", "1000000000", "--checkpoint", "1000", "--fstep", "0", "--h5md", "1000", "--xyz",
                 "10000", "--pstep", "100")
        self.process = subprocess.Popen([sys.executable, "-m", "rxmdnn", "run", "--outDir", "out", *words], cwd=folder,
                                        env=environment(), stdout=subprocess.DEVNULL)

    def go_on(self, seconds: float) -> None:
        """Let it run for a while; it is stopped (SIGSTOP) for the rest."""
        self.process.send_signal(signal.SIGCONT)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGSTOP)

    def look(self) -> tuple[int, float, int, float]:
        """Steps so far; memory, MB; open files; time of the processor per step since the last look, µs."""
        place = Path(f"/proc/{self.process.pid}")
        memory = int((place / "status").read_text().split("VmRSS:")[1].split()[0]) / 1024
        ticks = (place / "stat").read_text().rsplit(")", 1)[1].split()
        cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
        (cpu_before, step_before), self.seen = self.seen, (cpu, step := self._step())
        spent = 1e6 * (cpu - cpu_before) / (step - step_before) if step > step_before else float("nan")
        return step, memory, len(list((place / "fd").iterdir())), spent

    def _step(self) -> int:
        if not self.table.exists():
            return 0
        with self.table.open("rb") as rows:
            rows.seek(max(0, self.table.stat().st_size - 1000))
            last = rows.read().split(b"\n")[-2].split(b",")[0]
        return int(last) if last.isdigit() else 0

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def main() -> int:
    """Run for the time that is asked for; 1 where something went wrong."""
    p = argparse.ArgumentParser("tools/soak.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--minutes", type=float, default=60.0)
    p.add_argument("--every", type=float, default=10.0, help="minutes of a row")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--out", type=Path, help="table to which rows are added")
    a = p.parse_args()
    library = preloaded(__file__, sys.argv[1:])
    ready()
    work, owner = Path(tempfile.mkdtemp(prefix="rxmdnn_soak_", dir=FAST)), os.getpid()
    for k, more in enumerate(DECKS.values()):
        folder = work / f"warm{k}"
        folder.mkdir()
        prepare_argon(folder, more)
        warm(folder, ("run", "--outDir", "out"))
    watched = Watched(work / "long")
    try:
        return _pieces(a, work, library, watched)
    finally:
        if os.getpid() == owner:  # not in a fork, which leaves as a whole process does
            watched.end()
            for folder in (work, library.parent):
                shutil.rmtree(folder, ignore_errors=True)


def _pieces(a: argparse.Namespace, work: Path, library: Path, watched: Watched) -> int:
    """Rows until the time is over; 1 where something went wrong in one of them."""
    first, bad, end = _next_job(a), 0, time.monotonic() + 60 * a.minutes
    while (begin := time.monotonic()) < end:
        count, largest, jobs, spent = Counter[str](), 0.0, 0, _processor()
        for jobs in _numbers(min(end, begin + 60 * a.every)):
            folder, since = work / "job", time.monotonic()
            apart = Job(folder, random.Random(f"{a.seed} {first + jobs - 1}"), library, count).run()
            largest = max(largest, apart)
            count["differ"] += not apart < CLOSE
            shutil.rmtree(folder)
            watched.go_on(max(1.0, 0.2 * (time.monotonic() - since)))
        step, memory, files, each = watched.look()
        known: dict[str, Any] = {
            "seed": a.seed, "first_job": first, "jobs": jobs, "minutes": f"{(time.monotonic() - begin) / 60:.1f}",
            "cpu_minutes": f"{(_processor() - spent) / 60:.1f}", "largest_A": f"{largest:.2g}", "watched_steps": step,
            "memory_MB": f"{memory:.1f}", "open_files": files, "cpu_us_per_step": f"{each:.0f}"}
        _write(a.out, [known.get(name, count[name]) for name in COLUMNS])
        first, bad = first + jobs, bad + sum(count[name] for name in ("refused", "tracebacks", "unopened", "differ"))
    return int(bad > 0)


def _numbers(end: float) -> Iterator[int]:
    """1, 2, 3 until the time is over; at least one."""
    number = 1
    yield number
    while time.monotonic() < end:
        yield (number := number + 1)


def _processor() -> float:
    """Time of the processor of this process and of those that it has waited for, s."""
    of = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in of)


def _next_job(a: argparse.Namespace) -> int:
    """The number after those of the table's rows of this seed."""
    if a.out is None or not a.out.exists():
        return 0
    with a.out.open(newline="") as text:
        return sum(int(row["jobs"]) for row in csv.DictReader(text) if row["seed"] == str(a.seed))


def _write(path: Path | None, row: list[Any]) -> None:
    """Print a row, and add it to the table."""
    print(*(f"{name}={value}" for name, value in zip(COLUMNS, row)), flush=True)
    if path:
        rows = [row] if path.exists() else [list(COLUMNS), row]
        with path.open("a", newline="") as text:
            csv.writer(text, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
