"""Every call that changes a file fails once, or the process dies there: what is left, and whether the work goes on.

    python tools/faults.py [--scenario run restart ring train study] [--how kill torn ENOSPC EIO full] [--ranks 1 2]
                           [--every 1] [--seed 1] [--rows rows.csv] [--out tools/results/faults.csv]

For each scenario the calls of an undisturbed run are counted (tools/faults.c, preloaded). Then the k-th of them is made
to fail, or the process is killed before it ("kill") or in the middle of its write ("torn"); "full" is a disk that stays
full from this call on. After each:

- the files that are there open and hold complete frames and rows;
- a failed call gives one message and exit code 2, no traceback (or exit code 0, where the call was one that may fail);
- the same command, given again, ends with the bits of the undisturbed run.

On one rank a process that has imported everything is forked for each case; on several ranks mpirun is started. Needs a
C compiler. An interrupted campaign goes on with the cases that --rows does not hold yet.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from faulted import FAST, ROOT, Done, Fault, forked, preloaded, ready, started, warm
from left_behind import content, difference, unopened

HOWS = ("kill", "torn", "ENOSPC", "EIO", "full")
COLUMNS = ("scenario", "ranks", "rank", "how", "k", "call", "file", "code", "fault")

RUN = """mdmode 1
time 2.0 20
temperature 60.0 1.2 5
io_step 10 10
io_type .true. .false. .true. .true.
structure start.xyz
checkpoint 10
h5md 10
xyz 10
skin 0.3
"""
MORE = "ensemble langevin 0.1\nbarostat scr 0.1 0.2\nobserve vdos 1 10\nobserve gr 5\n"
RING = "pimd 4 pimd\nensemble langevin 0.1\npimd_dump 10\n"
TRAIN = """data        set.xyz
elements    N H
split       0.2 0.2
network     1 2 8 4
mlp         8 1 8
r_max       3.5
batch       2 frames
epochs      3
output      out
model       model.safetensors
json        report.json
"""
STUDY = """model         {model} a 1
sizes         16
temperatures  300
replicas      2
start         {cell}
thermostat    svr 50
dt            1.0
cap           0.02
check         5
criteria      finite pair temperature
frames        2 10
batch         32
output        out
"""
CASES = ROOT / "input" / "ammonia"


class Scenario(NamedTuple):
    """A command in a folder. prepare : fills the folder; argv : of rxmdnn; before : of a command that ran earlier"""

    prepare: Callable[[Path], None]
    argv: tuple[str, ...]
    before: tuple[str, ...] = ()


def prepare_argon(folder: Path, more: str) -> None:
    import ase.build
    import ase.io

    atoms = ase.build.bulk("Ar", cubic=True, a=5.4) * (2, 2, 1)
    atoms.symbols[::2] = "Ne"
    atoms.rattle(0.1, seed=1)
    ase.io.write(folder / "start.xyz", atoms, format="extxyz")
    (folder / "rxmdnn.in").write_text("lj 0.0104 3.4 6.0 2 Ar 39.95 Ne 20.18\n")
    (folder / "rxmd.in").write_text(RUN + more)


def _train(folder: Path) -> None:
    import ase.io

    molecules = [a for a in ase.io.read(CASES / "gfn1_xtb.xyz", ":") if len(a) == 4]
    ase.io.write(folder / "set.xyz", molecules[:12], format="extxyz")
    (folder / "train.in").write_text(TRAIN)


def _study(folder: Path) -> None:
    (folder / "tfail.in").write_text(STUDY.format(model=CASES / "ammonia_gfn1.safetensors", cell=CASES / "solid_I.cif"))


UNTIL = ("run", "--outDir", "out", "--until")
SCENARIOS = {
    "run": Scenario(lambda f: prepare_argon(f, MORE), (*UNTIL, "20")),
    "restart": Scenario(lambda f: prepare_argon(f, MORE), (*UNTIL, "20"), (*UNTIL, "10")),
    "ring": Scenario(lambda f: prepare_argon(f, RING), (*UNTIL, "20")),
    "train": Scenario(_train, ("train", "train.in")),
    "study": Scenario(_study, ("tfail", "tfail.in")),
}


# ---------------------------------------------------------------------- one case
class Case(NamedTuple):
    """A fault: at the k-th call of a rank of a scenario on so many ranks."""

    scenario: str
    ranks: int
    rank: int
    how: str
    k: int


Execute = Callable[..., Done]  # of a folder, the arguments of rxmdnn and a Fault


class Ring:
    """A scenario on a number of ranks: its prepared folder, its undisturbed end, and its calls."""

    def __init__(self, name: str, ranks: int, rank: int, work: Path, library: Path) -> None:
        self.name, self.ranks, self.rank, self.work = name, ranks, rank, work
        self.scenario = SCENARIOS[name]
        self.execute: Execute = forked if ranks == 1 else (
            lambda *given: started(*given, ranks=ranks, library=library))
        self.prepared = work / f"{name}_{ranks}_{rank}"
        self.prepared.mkdir(parents=True)
        self.scenario.prepare(self.prepared)
        if ranks == 1:
            warm(self._copy(), self.scenario.argv)
        if self.scenario.before:
            self._well(self.execute(self.prepared, self.scenario.before))
        place, log = self._copy(), work / "calls"
        log.unlink(missing_ok=True)
        self._well(self.execute(place, self.scenario.argv, Fault("count", 0, rank, log)))
        self.whole = content(place)
        self.calls = [line.split(" ", 1) for line in log.read_text().splitlines()]

    def _well(self, done: Done) -> None:
        if done.code:
            raise SystemExit(f"{self.name}: the undisturbed command ends with {done.code}:\n{done.text}")

    def _copy(self) -> Path:
        place = self.work / "case"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.prepared, place)
        return place

    def judge(self, how: str, k: int) -> tuple[int, str]:
        """The exit code of a command with a fault, and what is wrong after it; nothing where all is well."""
        place = self._copy()
        done = self.execute(place, self.scenario.argv, Fault(how, k, self.rank))
        if fault := self._ended(how, done):
            return done.code, fault
        if fault := unopened(place):
            return done.code, fault
        again = self.execute(place, self.scenario.argv)
        if again.code:
            return done.code, f"does not go on: exit code {again.code}: {_last(again.text)}"
        return done.code, difference(self.whole, content(place))

    def _ended(self, how: str, done: Done) -> str:
        """What is wrong with the way a command has ended."""
        for word in ("Traceback", "HDF5-DIAG", "Exception ignored", "Fatal Python"):
            if word in done.text:
                return f"{word}: {_last(done.text)}"
        if how in ("kill", "torn"):
            return "" if done.code else "ended well although it was killed"
        if done.code not in (0, 2):
            return f"exit code {done.code}: {_last(done.text)}"
        said = len(re.findall(r"^rxmdnn: ", done.text, re.M))
        return f"{said} messages" if done.code == 2 and said != 1 else ""

    def cases(self, hows: tuple[str, ...], every: int, chance: random.Random) -> Iterator[Case]:
        """All faults, or one of ``every`` at random."""
        every_case = [Case(self.name, self.ranks, self.rank, how, k) for how in hows
                      for k, (call, _) in enumerate(self.calls, 1) if how != "torn" or call in ("write", "pwrite")]
        if every > 1:
            every_case = chance.sample(every_case, -(-len(every_case) // every))
        yield from every_case


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def main(argv: list[str] | None = None) -> int:
    """Run the cases that are asked for; 1 where one of them went wrong."""
    p = argparse.ArgumentParser("tools/faults.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    p.add_argument("--how", nargs="+", choices=HOWS, default=HOWS)
    p.add_argument("--ranks", nargs="+", type=int, default=[1])
    p.add_argument("--every", type=int, default=1, help="one call of so many, at random")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--most", type=int, default=sys.maxsize, help="cases of each scenario and number of ranks")
    p.add_argument("--rows", type=Path, help="table of all cases, to which an interrupted campaign adds")
    p.add_argument("--out", type=Path, help="table of sums")
    a = p.parse_args(argv)
    library = preloaded(__file__, sys.argv[1:] if argv is None else argv)
    ready()
    work, owner = Path(tempfile.mkdtemp(prefix="rxmdnn_faults_", dir=FAST)), os.getpid()
    try:
        return _campaign(a, work, library)
    finally:
        if os.getpid() == owner:  # not in a fork, which leaves as a whole process does
            for folder in (work, library.parent):
                shutil.rmtree(folder, ignore_errors=True)


def _campaign(a: argparse.Namespace, work: Path, library: Path) -> int:
    rows = _known(a.rows)
    for name in a.scenario:
        for ranks in a.ranks:
            for rank in range(ranks):
                ring, most = Ring(name, ranks, rank, work, library), a.most
                for case in ring.cases(tuple(a.how), a.every, random.Random(f"{a.seed} {name} {ranks} {rank}")):
                    if tuple(map(str, case)) in rows:
                        continue
                    if (most := most - 1) < 0:
                        break
                    call, file = ring.calls[case.k - 1]
                    code, fault = ring.judge(case.how, case.k)
                    row = [*map(str, case), call, Path(file).name, str(code), fault]
                    rows[tuple(row[:5])] = row
                    if fault:
                        print(*row, flush=True)
                    if a.rows:
                        with a.rows.open("a", newline="") as text:
                            csv.writer(text, lineterminator="\n").writerow(row)
                shutil.rmtree(ring.prepared)
    _sums(rows, a)
    return int(any(row[-1] for row in rows.values()))


def _known(path: Path | None) -> dict[tuple[str, ...], list[str]]:
    if path is None:
        return {}
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n")
    with path.open(newline="") as text:
        return {tuple(row[:5]): row for row in list(csv.reader(text))[1:]}


def _sums(rows: dict[tuple[str, ...], list[str]], a: argparse.Namespace) -> None:
    """Print, and write, the number of cases and of faults of each scenario, number of ranks and kind of fault."""
    cases: Counter[tuple[str, str, str]] = Counter()
    wrong: Counter[tuple[str, str, str]] = Counter()
    for scenario, ranks, _, how, *_, fault in rows.values():
        cases[scenario, ranks, how] += 1
        wrong[scenario, ranks, how] += bool(fault)
    table = ["scenario,ranks,how,cases,faults,every,seed",
             *(f"{','.join(key)},{n},{wrong[key]},{a.every},{a.seed}" for key, n in cases.items())]
    print("\n".join(table))
    if a.out:
        a.out.write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    sys.exit(main())
