"""Weak and strong scaling of whole steps: one run on P ranks against P independent runs at once, in turns.

    python tools/bench_scaling.py               # weak: null, lj, allegro on 1, 2, 4, 8 ranks; strong: allegro
    python tools/bench_scaling.py --ranks 1 2 --rounds 9

On a machine whose cores share memory, clock and other users, a rank alone is no fair reference for P ranks. Each round
therefore times, in the same processes and one after the other, P independent runs of the rank's share, the one run of
all of it, and the same that waits for every message (columns with "blocking"); the efficiency is the median over rounds
of the ratio of rates to that of the independent runs. Ranks beyond the number of cores take turns on them: their rates
say nothing (column oversubscribed), while messages, bytes and collective calls, counted by the engine, are those of any
machine. Column load is that of the machine after the row: far above the number of ranks, other jobs took part. Rows go
to tools/results/bench_scaling.csv; ``exascale.py`` is fitted to them.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from time import perf_counter

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np
from bench_md import SKIN, potential
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.system import System
from rxmdnn.timers import Timers
from rxmdnn.traffic import counted

HERE = Path(__file__).parent
RESULTS = HERE / "results/bench_scaling.csv"
PARTS = ("network", "neighbors", "halo", "assembly", "integrate")
MASS = {"lj": np.array([39.95])}
ARGON = 0.0213 ** (-1 / 3)  # Å, of a simple cubic grid at the density of the liquid
TEMPERATURE, DT = 150.0, {"lj": 2.0}


def block(case: str, repeat: tuple[int, int, int]) -> tuple[Cell, np.ndarray, np.ndarray]:
    """Cell, positions and species of so many unit cells: solid ammonia (16 atoms), or 8 x 8 x 8 argon atoms."""
    if case == "lj":
        shape = 8 * np.array(repeat)
        x = ARGON * np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
        return Cell(np.diag(ARGON * shape)), x, np.zeros(len(x), np.int32)
    from ase.io import iread

    unit = next(iread(HERE.parent / "input/ammonia/solid_I.cif", parallel=False)).repeat(repeat)
    return Cell(np.array(unit.cell)), unit.positions, (np.array(unit.get_chemical_symbols()) == "N").astype(np.int32)


def parts_of(ranks: int) -> tuple[int, int, int]:
    """The grid of ranks with the most equal sides."""
    grids = [(a, b, ranks // a // b) for a in range(1, ranks + 1) if ranks % a == 0
             for b in range(1, ranks // a + 1) if ranks // a % b == 0]
    return max(grids, key=lambda g: (-max(g), g))


class Timed:
    """A system that moves, and the time that it takes."""

    def __init__(self, case: str, repeat: tuple[int, int, int], grid: tuple[int, int, int], comm: MPI.Comm,
                 overlap: bool = True) -> None:
        self.backend, self.timers = backends.make("cpu"), Timers()
        cell, x, species = block(case, repeat)
        if case == "allegro":
            import torch

            torch.manual_seed(0)  # the same random weights on every rank
        self.system = System.of(potential(case, self.backend, "float32"), cell, species, x, comm=comm,
                                backend=self.backend, skin=SKIN, grid=grid, timers=self.timers)
        self.system.forces.overlap = overlap
        self.mass, self.dt = MASS.get(case, np.array([1.008, 14.007])), DT.get(case, 0.5)
        Kinetics(comm, self.backend, self.mass, len(x)).draw(self.system.atoms, TEMPERATURE, seed=1, step=0)
        self.system.forces.compute(self.system.atoms)
        self.go(1)
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self.timers.seconds.clear()
        self.system.domain.traffic.clear()
        self.builds, self.seconds, self.steps = self.system.forces.builds, 0.0, 0

    def go(self, steps: int) -> float:
        """Seconds of so many steps."""
        atoms, forces = self.system.atoms, self.system.forces
        start = perf_counter()
        for _ in range(steps):
            velocity_verlet(atoms, forces, self.backend, self.mass, self.dt)
        seconds = perf_counter() - start
        self.seconds, self.steps = getattr(self, "seconds", 0.0) + seconds, getattr(self, "steps", 0) + steps
        return seconds


def worker(kind: str, case: str, repeat: tuple[int, int, int], steps: int, rounds: int) -> dict | None:
    """One row, on all ranks. repeat : unit cells of the whole run"""
    comm = MPI.COMM_WORLD
    grid = parts_of(comm.size)
    a, b, c = (max(1, r // g) for r, g in zip(repeat, grid))
    joint = Timed(case, repeat, grid, counted(comm))
    blocking = Timed(case, repeat, grid, counted(comm), overlap=False)
    alone = Timed(case, (a, b, c), (1, 1, 1), MPI.COMM_SELF)
    n, n_alone = joint.system.n_global, alone.system.n_global
    rates = []
    for k in range(rounds):
        times = {}
        for which in [(joint, blocking, alone), (alone, joint, blocking), (blocking, alone, joint)][k % 3]:
            comm.Barrier()
            seconds = which.go(steps)
            comm.Barrier()
            times[which] = comm.allgather(seconds)
        rates.append((n * steps / max(times[joint]), n * steps / max(times[blocking]),
                      sum(n_alone * steps / t for t in times[alone])))
    together, waiting, apart = np.array(rates).T
    ratio = together / apart
    atoms, traffic, done = joint.system.atoms, joint.system.domain.traffic, joint.steps
    mine = [traffic.messages / done, traffic.bytes / done, traffic.collectives / done, traffic.waited / joint.seconds,
            (atoms.n_all - atoms.n_owned) / max(atoms.n_owned, 1), atoms.n_owned,
            *(joint.timers.seconds[part] / joint.seconds for part in PARTS),
            blocking.system.domain.traffic.waited / blocking.seconds]
    every = np.array(comm.allgather(mine))
    edges = comm.allreduce(joint.system.forces.edges)
    first, last = joint.system.domain.parts
    inner = 1 - comm.allreduce(last - first) / n
    if comm.rank:
        return None
    mean, most = every.mean(axis=0), every.max(axis=0)
    return {"kind": kind, "case": case, "ranks": comm.size, "grid": "x".join(map(str, grid)), "atoms": n,
            "oversubscribed": int(comm.size > (os.cpu_count() or 1)), "steps": steps, "rounds": rounds,
            "edges_per_atom": edges / n, "builds_per_step": (joint.system.forces.builds - joint.builds) / done,
            "atom_steps_per_s": np.median(together), "atom_steps_per_s_copies": np.median(apart),
            "efficiency": np.median(ratio), "efficiency_least": ratio.min(), "efficiency_most": ratio.max(),
            "messages_per_step": most[0], "bytes_per_step": most[1], "collectives_per_step": most[2],
            "efficiency_blocking": np.median(waiting / apart), "gain_by_overlap": np.median(together / waiting),
            "waited": mean[3], "waited_most": most[3], "waited_blocking": mean[-1],
            "share_far_from_others": inner, "copies_per_atom": mean[4], "most_atoms": most[5],
            **{part: mean[6 + k] for k, part in enumerate(PARTS)}}


def messages() -> list[dict] | None:
    """Times of an exchange of two ranks and of a sum over all, s; they give the latency and bandwidth of the model."""
    comm, rows = MPI.COMM_WORLD, []
    other = comm.rank ^ 1
    for size in (0, 8, 1 << 10, 1 << 13, 1 << 16, 1 << 20):
        out, into, times = np.zeros(size, np.uint8), np.zeros(size, np.uint8), []
        for _ in range(200):
            start = perf_counter()
            MPI.Request.Waitall([comm.Irecv(into, other, 0), comm.Isend(out, other, 0)])
            times.append(perf_counter() - start)
        rows.append({"kind": "message", "case": "exchange", "ranks": comm.size, "bytes_per_step": size,
                     "seconds": np.median(times)})
    times = []
    for _ in range(200):
        start = perf_counter()
        comm.allreduce(1, MPI.MAX)
        times.append(perf_counter() - start)
    rows.append({"kind": "message", "case": "allreduce", "ranks": comm.size, "bytes_per_step": 8,
                 "seconds": np.median(times)})
    return None if comm.rank else rows


def launched(ranks: int, *arguments: object) -> list[dict]:
    """The rows of a worker under mpirun."""
    command = ["mpirun", "-n", str(ranks), sys.executable, __file__, "--worker", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    return [{**row, "load": round(os.getloadavg()[0], 1)} for row in (rows if isinstance(rows, list) else [rows])]


def plan(ranks: list[int]) -> list[tuple]:
    """(ranks, kind, case, unit cells along x, y, z, steps of a round)."""
    todo = []
    for case, share, steps in (("null", 5, 60), ("lj", 2, 30), ("allegro", 5, 6)):  # 2,000, 4,096 and 2,000 atoms
        todo += [(p, "weak", case, *(share * g for g in parts_of(p)), steps if p <= 2 or case != "allegro" else 2)
                 for p in ranks]
    for cells in ((4, 2, 2), (4, 4, 4), (8, 4, 4), (8, 8, 8)):  # 256 to 8,192 atoms; 128 per rank on 2 at least
        todo += [(p, "strong", "allegro", *cells, max(4, 6000 // (16 * int(np.prod(cells))))) for p in ranks if p <= 2]
    return todo + [(p, "strong", "allegro", 4, 4, 4, 6) for p in ranks if p > 2]  # to 128 atoms per rank on 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("null", "lj", "allegro"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        kind, case, *numbers = args.worker
        a, b, c, *more = map(int, numbers)
        rows = messages() if kind == "message" else worker(kind, case, (a, b, c), *more)
        if rows:
            print(json.dumps(rows))
        return
    rows = launched(2, "message", "exchange", 0, 0, 0) if max(args.ranks) > 1 else []
    for ranks, kind, case, *numbers in plan(args.ranks):
        if args.only in (None, case):
            rounds = args.rounds if ranks <= (os.cpu_count() or 1) else 2
            rows += launched(ranks, kind, case, *numbers, rounds)
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()),
                  flush=True)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=HERE).stdout.strip()
    names = list(dict.fromkeys(name for row in rows for name in row))
    with args.out.open("w", newline="") as file:
        table = csv.DictWriter(file, [*names, "machine", "commit"])
        table.writeheader()
        table.writerows({**row, "machine": platform.machine(), "commit": commit} for row in rows)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
