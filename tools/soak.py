"""Hours of runs that are killed, stopped, moved to other rank counts and given full disks; a row per interval.

    python tools/soak.py [--minutes 60] [--every 10] [--seed 1] [--out tools/results/soak.csv]

Each job runs one of several decks to its end, by `rxmdnn run --until N` on a random number of ranks, again and again:
it is killed after a random time, stopped by a signal, or its disk is full from a random call on (tools/faults.c). After
each attempt all files open; the last one ends with exit code 0 and with the numbers of an undisturbed run on one rank.
Beside them one long run is observed: its memory, its open files and its time per step. Rows are added to the table.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from faults import FAST, ROOT, build, prepare_argon  # noqa: E402 - neighbors of this script
from left_behind import unopened  # noqa: E402

DECKS = {
    "mdmode 0": "",
    "langevin scr": "ensemble langevin 0.1\nbarostat scr 0.1 0.2\nobserve gr 5\n",
    "mtk": "ensemble nose-hoover 0.1\nbarostat mtk 0.1 0.2\n",
    "strain": "strain_ramp 0.02 0.0 0.0\n",
    "rings": "pimd 4 pimd\nensemble langevin 0.1\npimd_dump 50\n",
}
STEPS = 600
COLUMNS = ("minutes", "seed", "jobs", "attempts", "killed", "signals", "full", "ended_well", "refused", "tracebacks",
           "unopened", "differ", "largest_A", "memory_MB", "open_files", "us_per_step")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def environment() -> dict[str, str]:
    """Of the commands: one thread, more ranks than cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "OMPI_MCA_mpi_yield_when_idle": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}


def command(ranks: int, *more: str) -> list[str]:
    """``rxmdnn run`` on a number of ranks."""
    own = [sys.executable, "-m", "rxmdnn", "run", "--outDir", "out", *more]
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    return own if ranks == 1 or mpirun is None else [mpirun, "-np", str(ranks), *own]


class Job:
    """A deck in a folder, run until its end whatever happens to it."""

    def __init__(self, folder: Path, name: str, chance: random.Random, library: Path | None,
                 count: Counter[str]) -> None:
        self.folder, self.name, self.chance, self.library, self.count = folder, name, chance, library, count
        for part in ("whole", "torn"):
            (folder / part).mkdir(parents=True)
            prepare_argon(folder / part, DECKS[name])
            if name == "mdmode 0":
                deck = folder / part / "rxmd.in"
                deck.write_text(deck.read_text().replace("mdmode 1", "mdmode 0"))

    def run(self) -> float:
        """Run to the end; the largest distance of an atom from that of the undisturbed run, Å. NaN: nothing to compare
        """
        until = ("--until", str(STEPS))
        subprocess.run(command(1, *until), cwd=self.folder / "whole", env=environment(), stdout=subprocess.DEVNULL,
                       check=True)
        for _ in range(self.chance.randint(2, 5)):
            self._attempt(until)
        code, text = self._watched(command(self.chance.randint(1, 3), *until), environment(), None, 0)
        self._look(code, text, ("0",))
        return self._apart() if code == 0 else float("nan")

    def _attempt(self, until: tuple[str, ...]) -> None:
        """One run that something happens to."""
        given, what, ranks = environment(), self.chance.choice(("kill", "signal", "full")), self.chance.randint(1, 3)
        number = None
        if what == "full" and self.library is not None:
            given |= {"LD_PRELOAD": str(self.library), "RXMDNN_FAULT_FOLDER": str(self.folder / "torn" / "out"),
                      "RXMDNN_FAULT_HOW": "full", "RXMDNN_FAULT_AT": str(self.chance.randint(1, 1500))}
            self.count["full"] += 1
        elif what == "signal":
            number = self.chance.choice(SIGNALS)
            self.count["signals"] += 1
        else:
            number = signal.SIGKILL
            self.count["killed"] += 1
        code, text = self._watched(command(ranks, *until), given, number, self.chance.uniform(0.5, 12.0))
        self._look(code, text, ("0", "2", "5") if number != signal.SIGKILL else ())

    def _watched(self, words: list[str], given: dict[str, str], number: int | None, after: float) -> tuple[int, str]:
        """The exit code of a command and what it said; a signal goes to one of its ranks after some seconds."""
        self.count["attempts"] += 1
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen(words, cwd=self.folder / "torn", env=given, stdout=out, stderr=out, text=True)
            try:
                process.wait(after if number is not None else 600)
            except subprocess.TimeoutExpired:
                ranks = ranks_of(process.pid) or [process.pid]
                os.kill(self.chance.choice(ranks), number or signal.SIGKILL)
                process.wait(600)
            out.seek(0)
            return process.returncode, out.read()

    def _look(self, code: int, text: str, well: tuple[str, ...]) -> None:
        self.count["tracebacks"] += "Traceback" in text
        self.count["unopened"] += bool(unopened(self.folder / "torn"))
        self.count["ended_well"] += code == 0
        # a signal that comes while Python itself starts acts as it does on any process
        bad = bool(well) and str(code) not in well and code > 0 and code < 128
        self.count["refused"] += bad
        if bad or "Traceback" in text:
            print(f"{self.name}: exit code {code}: {text[-1500:]}", flush=True)

    def _apart(self) -> float:
        import numpy as np
        from mpi4py import MPI

        from rxmdnn.io.checkpoint import read_checkpoint

        ends = (self.folder / part / "out" / "checkpoint.h5" for part in ("whole", "torn"))
        a, b = (read_checkpoint(MPI.COMM_SELF, path) for path in ends)
        x, y = ((s.x + s.image @ s.cell.h)[np.argsort(s.gid)] for s in (a, b))
        return float(np.abs(x - y).max()) if a.step == b.step == STEPS else float("inf")


def ranks_of(parent: int) -> list[int]:
    """The processes of rxmdnn below a process."""
    found, below = [], {parent}
    for process in sorted(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()):
        try:
            stat = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            if int(stat[1]) in below or process == parent:
                below.add(process)
                if b"rxmdnn" in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                    found.append(process)
        except (OSError, IndexError):
            continue
    return [p for p in found if "mpirun" not in Path(f"/proc/{p}/cmdline").read_text(errors="replace").split("\0")[0]]


class Watched:
    """One long run whose memory, open files and time per step are looked at."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        prepare_argon(folder, DECKS["langevin scr"])
        self.out = folder / "out"
        self.process = subprocess.Popen(command(1, "--ntime_step", "1000000000", "--checkpoint", "1000", "--fstep", "0",
                                                "--h5md", "1000", "--xyz", "1000", "--pstep", "100"),
                                        cwd=folder, env=environment(), stdout=subprocess.DEVNULL)

    def look(self) -> tuple[float, int, float]:
        """Memory, MB; open files; median time per step of the last rows, µs."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
        with (self.out / "energies.csv").open() as text:
            seconds = [float(row["seconds"]) for row in csv.DictReader(text)][-200:]
        return memory, len(os.listdir(f"/proc/{self.process.pid}/fd")), 1e6 * sorted(seconds)[len(seconds) // 2] / 100

    def end(self) -> None:
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
    work, chance, count = Path(tempfile.mkdtemp(prefix="rxmdnn_soak_", dir=FAST)), random.Random(a.seed), Counter[str]()
    library, watched, largest = build(work), Watched(work / "long"), 0.0
    begin, due, jobs = time.monotonic(), a.every, 0
    try:
        while (minutes := (time.monotonic() - begin) / 60) < a.minutes:
            folder = work / f"job{jobs}"
            apart = Job(folder, chance.choice(list(DECKS)), chance, library, count).run()
            jobs += 1
            largest = max(largest, apart) if apart == apart else largest
            count["differ"] += not apart < 1e-6
            shutil.rmtree(folder)
            if (minutes := (time.monotonic() - begin) / 60) >= due or minutes >= a.minutes:
                due += a.every
                _row(a, minutes, jobs, count, largest, watched)
    finally:
        watched.end()
        shutil.rmtree(work, ignore_errors=True)
    return int(any(count[name] for name in ("refused", "tracebacks", "unopened", "differ")))


def _row(a: argparse.Namespace, minutes: float, jobs: int, count: Counter[str], largest: float,
         watched: Watched) -> None:
    """Print, and write, what has happened so far."""
    memory, files, step = watched.look()
    known: dict[str, Any] = {"minutes": f"{minutes:.1f}", "seed": a.seed, "jobs": jobs, "largest_A": f"{largest:.2g}",
                             "memory_MB": f"{memory:.1f}", "open_files": files, "us_per_step": f"{step:.0f}"}
    row = [known.get(name, count[name]) for name in COLUMNS]
    print(*row, flush=True)
    if a.out:
        new = not a.out.exists()
        with a.out.open("a", newline="") as text:
            csv.writer(text, lineterminator="\n").writerows([COLUMNS, row] if new else [row])


if __name__ == "__main__":
    sys.exit(main())
