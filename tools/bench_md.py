"""Whole steps timed: the engine alone, Allegro, and the memory of large systems.

Every case runs in a process of its own, so that its peak memory is its own. Rows go to tools/results/bench_md.csv.

    python tools/bench_md.py                # engine, allegro, memory at 10^3 to 10^5 atoms
    python tools/bench_md.py --large        # also 10^6 atoms with Lennard-Jones, 10^5 with Allegro
    python tools/bench_md.py --backend cuda # on a GPU, 10^3 to 10^6 atoms; rows to tools/results/bench_md_cuda.csv
    python tools/bench_md.py --json F
    python tools/bench_md.py --table 1e-4 [--model F]  # the network without and with a table, rows to bench_table.csv

The last compares the two in turns, in one process on one core, in CPU seconds (medians), for the shape above or a file.

On a GPU the rate is of steps that nobody waits for, between two events of the device; how it shares out among the parts
is measured in as many steps that wait after each part, and peak memory is that of its pools. Rows of small systems come
without and with graphs, which replay what repeats between two lists.
"""

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np
from ase.io import iread
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.models.pair import LennardJones, Null
from rxmdnn.timers import Timers

HERE = Path(__file__).parent
LAMMPS = 2050.0  # atom-steps per core-second of LAMMPS with pair_allegro at 42 neighbors, as measured before building
CUTOFF, NEIGHBORS = 4.4, 42  # Å; solid ammonia has 42 to 43 neighbors there
SKIN = 0.5


def ammonia(repeat: int) -> tuple[Cell, np.ndarray, np.ndarray]:
    unit = next(iread(HERE.parent / "input/ammonia/solid_I.cif")).repeat(repeat)
    return Cell(np.array(unit.cell)), unit.positions, (np.array(unit.get_chemical_symbols()) == "N").astype(np.int32)


def simple_cubic(n: int) -> tuple[Cell, np.ndarray, np.ndarray]:
    """Argon-like: a simple cubic grid at the density of the liquid, 0.0213 atoms per Å^3."""
    k = round(n ** (1 / 3))
    a = 0.0213 ** (-1 / 3)
    x = a * np.stack(np.meshgrid(*[np.arange(k)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return Cell(np.eye(3) * a * k), x, np.zeros(k**3, np.int32)


def potential(name: str, backend: backends.Backend, precision: str):
    if name == "null":
        return Null(("H", "N"), CUTOFF)
    if name == "lj":
        return LennardJones(backend, ("Ar",), 0.0104, 3.4, 8.5)
    from rxmdnn.models.allegro import Allegro

    return Allegro(random_network(), ("H", "N"), precision, backend=backend)


def random_network():
    """An Allegro network of the usual shape with random weights."""
    from rxmdnn.models.allegro import AllegroConfig, AllegroNetwork

    return AllegroNetwork(AllegroConfig(("H", "N"), CUTOFF, l_max=1, n_layers=2, n_scalar=64, n_tensor=32,
                                        average_neighbors=NEIGHBORS))


class Recording:
    """A potential that keeps the edges and the species of its last call."""

    def __init__(self, potential) -> None:
        self.potential, self.elements, self.cutoff = potential, potential.elements, potential.cutoff

    def compute(self, edges, species):
        self.edges, self.species = edges, species
        return self.potential.compute(edges, species)


def case(name: str, size: int, steps: int, graphs: bool, where: str, precision: str) -> dict:
    """One timed run in this process. size : crystal cells along an axis for ammonia, atoms for lj."""
    backend, comm, timers = backends.make(where), MPI.COMM_SELF, Timers()
    cell, x, species = simple_cubic(size) if name == "lj" else ammonia(size)
    n, mass = len(x), np.array([39.95]) if name == "lj" else np.array([1.008, 14.007])
    model = potential(name, backend, precision)
    system = System.of(model, cell, species, x, comm=comm, backend=backend, skin=SKIN, timers=timers)
    forces, atoms = system.forces, system.atoms
    if graphs:
        forces.use_graphs(lambda why: sys.exit(f"graphs: {why}"))
    Kinetics(comm, backend, mass, n).draw(atoms, 150.0, seed=1, step=0)
    dt = 2.0 if name == "lj" else 0.5
    forces.compute(atoms)  # compiles
    velocity_verlet(atoms, forces, backend, mass, dt)
    timers.seconds.clear()
    builds = forces.builds

    def move() -> None:
        for _ in range(steps):
            velocity_verlet(atoms, forces, backend, mass, dt)

    start = perf_counter()
    if backend.on_device:
        wall = device_seconds(backend.xp, move)
        builds, timers.synchronize = forces.builds, backend.synchronize
        timers.seconds.clear()
        start = perf_counter()
        move()
    else:
        move()
        wall = perf_counter() - start
    network = timers.seconds["network"]
    share = 1 - network / (perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if backend.on_device:
        free, total = backend.xp.cuda.runtime.memGetInfo()
        peak = total - free
    return {
        "case": name, "graphs": int(graphs), "atoms": n, "edges_per_atom": forces.edges / n, "steps": steps,
        "builds": forces.builds - builds,
        "atom_steps_per_s": n * steps / wall, "ns_per_atom_step": wall / steps / n * 1e9,
        "us_per_edge_network": network / steps / forces.edges * 1e6, "share_not_network": share,
        "peak_bytes": peak,
    }


def in_turns(error: float, file: Path | None, rounds: int = 15) -> list[dict]:
    """Rows of a network without and with a table, with float32 and float64: the same edges in turns, on one core."""
    from rxmdnn.models.allegro import Allegro
    from rxmdnn.models.model_file import load_model

    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    backend = backends.make("cpu")
    cell, x, species = ammonia(3)
    x = x + np.random.default_rng(0).normal(0, 0.05, x.shape)
    network = load_model(file) if file else random_network()
    rows = []
    for precision in ("float32", "float64"):
        both = [Allegro(network, ("H", "N"), precision, str(file or "the shape above"), table=table)
                for table in (None, error)]
        whole = Recording(both[0])
        system = System.of(whole, cell, species, x, comm=MPI.COMM_SELF, backend=backend, skin=SKIN)
        system.forces.compute(system.atoms)
        edges, kinds = whole.edges, whole.species
        seconds: list[list[float]] = [[], []]
        for _ in range(rounds + 2):
            for taken, model in zip(seconds, both, strict=True):
                start = process_time()
                model.compute(edges, kinds)
                taken.append(process_time() - start)
        direct, table = (float(np.median(taken[2:])) for taken in seconds)
        change = np.abs(both[1].compute(edges, kinds)[1].copy() - both[0].compute(edges, kinds)[1]).max()
        print(both[1].notes[0])
        rows.append({
            "model": file.name if file else f"{CUTOFF} A", "precision": precision, "atoms": len(x),
            "edges_per_atom": len(edges.center) / len(x), "rounds": rounds,
            "atom_steps_per_core_second": len(x) / direct, "with_table": len(x) / table,
            "ratio": float(np.median(np.array(seconds[0][2:]) / np.array(seconds[1][2:]))),
            "largest_change_eV_per_A": float(change)})
    return rows


def device_seconds(xp, work) -> float:
    """Time of a call between two events of the device."""
    start, stop = xp.cuda.Event(), xp.cuda.Event()
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return xp.cuda.get_elapsed_time(start, stop) * 1e-3


def device_name() -> str:
    """Of the GPU; ends the program in words where there is none."""
    try:
        xp = backends.load("cuda").xp
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    return xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()


def write_rows(results: Path, rows: list[dict], machine: str) -> None:
    """A table of rows, each with the machine and the commit."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=HERE).stdout.strip()
    with results.open("w", newline="") as file:
        table = csv.DictWriter(file, [*rows[0], "machine", "commit"])
        table.writeheader()
        table.writerows({**row, "machine": machine, "commit": commit} for row in rows)
    print(f"wrote {results.relative_to(Path.cwd()) if results.is_relative_to(Path.cwd()) else results}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "tf32", "float64"), default="float32", help="of the network")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=float, metavar="ERROR", help="largest error of forces, eV/Å")
    parser.add_argument("--model", type=Path, action="append", help="with --table: a model file of H and N")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        name, size, steps, graphs = args.case
        print(json.dumps(case(name, int(size), int(steps), graphs == "1", args.backend, args.precision)))
        return
    if args.table:
        write_rows(HERE / "results/bench_table.csv", [row for file in args.model or [None]
                                                      for row in in_turns(args.table, file)], platform.machine())
        return
    machine = device_name() if args.backend == "cuda" else platform.machine()
    plan = [("null", 10, 200, 0), ("null", 18, 40, 0), ("lj", 8000, 100, 0), ("lj", 64000, 40, 0),
            ("allegro", 4, 20, 0), ("allegro", 8, 4, 0), ("allegro", 12, 2, 0)]
    if args.backend == "cuda":
        plan = [("null", 10, 200, 0), ("null", 40, 100, 0), ("lj", 1000, 1000, 0), ("lj", 1000, 1000, 1),
                ("lj", 8000, 500, 0), ("lj", 8000, 500, 1), ("lj", 64000, 200, 0), ("lj", 1_000_000, 50, 0),
                ("allegro", 2, 200, 0), ("allegro", 2, 200, 1), ("allegro", 4, 100, 0), ("allegro", 4, 100, 1),
                ("allegro", 8, 40, 0), ("allegro", 18, 10, 0), ("allegro", 40, 3, 0)]
    elif args.large:
        plan += [("lj", 1_000_000, 5, 0), ("allegro", 18, 1, 0)]
    rows = []
    for name, *numbers in plan:
        command = [sys.executable, __file__, "--backend", args.backend, "--precision", args.precision, "--case", name,
                   *map(str, numbers)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()),
              flush=True)
    by = {(r["case"], r["atoms"]): r for r in rows if not r["graphs"]}
    for name in ("lj", "allegro"):
        ends = sorted(atoms for kind, atoms in by if kind == name)
        slope = (by[name, ends[-1]]["peak_bytes"] - by[name, ends[0]]["peak_bytes"]) / (ends[-1] - ends[0])
        print(f"{name}: {slope:.0f} bytes an atom between {ends[0]} and {ends[-1]} atoms")
    results = HERE / ("results/bench_md.csv" if args.backend == "cpu" else "results/bench_md_cuda.csv")
    write_rows(results, [{**row, "precision": args.precision} for row in rows], machine)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    best = max(r["atom_steps_per_s"] for r in rows if r["case"] == "allegro")
    if args.backend == "cuda":
        return
    print(f"ratio rxmdnn lammps_pair_allegro(reported {LAMMPS:.0f} atom-steps per core-second) = {best / LAMMPS:.2f}")


if __name__ == "__main__":
    main()
