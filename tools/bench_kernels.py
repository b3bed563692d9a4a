"""Time the kernels: on the CPU against vesin, on a GPU against its memory bandwidth.

    .venv/bin/python tools/bench_kernels.py [--atoms N] [--json FILE]
    .venv/bin/python tools/bench_kernels.py --backend cuda [--atoms N ...] [--json FILE] [--plot FILE.png]

On the CPU: per directed edge, in CPU seconds of one thread.

Random atoms at the density of liquid ammonia in a periodic cube, in random order, cutoffs 4.5 and 6 Å.
Rows of the list:

list      what a rank of the engine does: copies present; bin, sort, count, fill -> first, neighbor (CSR)
list+copy the same, and making the periodic copies of this cube with NumPy
pairs     rxmdnn.neighbors.pairs: wrap, copies, list, and i, j, S as vesin gives them, in new arrays
vesin     vesin.NeighborList(full_list=True, n_threads=1).compute(.., "ijS")

The other rows are kernels of a step, on atoms in the engine's order (space-filling curve), with a skin of 1 Å; skin
rows count edges of the skin list. Each figure is the best of several runs; ours keep their buffers between calls, as
in a run, except ``pairs``. CPU seconds, not wall seconds, so that other work on the machine disturbs less.

On a GPU: every kernel with the arguments that the engine gives it, between two device events, the median of 30 runs
after three; bytes are those of its arrays, each moved once (a lower bound), and their rate is compared with that of a
copy of 2 GiB on the same device. ``list`` is the sum of the kernels that make a list from sorted atoms.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np

from rxmdnn.backend import Backend, load, make
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT, n_chunks
from rxmdnn.neighbors import NeighborList, _copies, pairs, spatial_order

DENSITY = 0.09  # atoms/Å^3
SKIN = 1.0  # Å
RESULTS = Path(__file__).parent / "results" / "bench_kernels.csv"


def best(*works: Callable[[], object], repeats: int = 7) -> list[float]:
    """Smallest CPU time of each call, ns; the calls take turns, after a first round that compiles and fills buffers."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, mine in zip(works, times, strict=True):
            start = time.process_time()
            work()
            if turn:
                mine.append(time.process_time() - start)
    return [min(mine) * 1e9 for mine in times]


def copied(cell: Cell, x: np.ndarray, reach: float) -> np.ndarray:
    """Atoms, then the copies around the cell. (n, 3) -> (n_all, 3)."""
    row, image = _copies(cell, cell.fractional(x), reach)
    x_all = x[row]
    x_all[len(x):] += cell.cartesian(image[len(x):].astype(float))
    return x_all


def measure(n: int, cutoff: float) -> list[dict]:
    """All rows of one cutoff."""
    import vesin

    backend, random = make("cpu"), np.random.default_rng(0)
    length = (n / DENSITY) ** (1 / 3)
    cell = Cell(np.eye(3) * length)
    x = random.random((n, 3)) * length
    rows: list[dict] = []

    def row(name: str, item: str, ns: float, count: int) -> None:
        rows.append({"cutoff": cutoff, "atoms": n, "kernel": name, "item": item, "items": count,
                     "ns_per_item": round(ns / count, 3)})

    m = len(pairs(backend, x, cell, cutoff)[0])
    plain = NeighborList(backend, np.array([[cutoff]]), 0.0)
    x_all = copied(cell, x, cutoff)
    peer = vesin.NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    assert len(peer.compute(x, cell.h, True, "ijS")[0]) == m
    compared = {
        "list": lambda: plain._search(x_all, n),
        "list+copy": lambda: plain._search(copied(cell, x, cutoff), n),
        "pairs": lambda: pairs(backend, x, cell, cutoff),
        "vesin": lambda: peer.compute(x, cell.h, True, "ijS"),
    }
    ns = dict(zip(compared, best(*compared.values()), strict=True))
    # Alone it meets less foreign memory traffic: the peer gets the better of the two.
    ns["vesin"] = min(ns["vesin"], *best(compared["vesin"]))
    for name, value in ns.items():
        row(name, "edge", value, m)

    x = x[spatial_order(backend, x, np.arange(n), cutoff + SKIN)]
    x_all = copied(cell, x, cutoff + SKIN)
    n_all = len(x_all)
    species = np.zeros(n_all, np.int32)
    neighbors = NeighborList(backend, np.array([[cutoff]]), SKIN)
    neighbors.build(x_all, species, n)
    m_skin = len(neighbors._neighbor)
    row("list, sorted atoms", "skin edge", *best(lambda: neighbors._search(x_all, n)), m_skin)
    work = neighbors._buffers.take("reverse_work", (8, n_all), np.int64)
    row("reverse index", "skin edge", *best(lambda: backend.sort_by_key(
        neighbors._neighbor, work, neighbors._reverse_first, neighbors._reverse)), m_skin)
    edges = neighbors.edges(x_all, species)
    m = len(edges.center)
    row("refresh+prune", "edge", *best(lambda: neighbors.edges(x_all, species)), m)
    epsilon, sigma, table = np.ones((1, 1)), np.ones((1, 1)), np.full((1, 1), cutoff)
    e_i, g_ij, f = np.empty(n), np.empty((m, 3)), np.empty((n_all, 3))
    row("lennard_jones", "edge", *best(lambda: backend.lennard_jones(
        edges.r_ij, edges.first, edges.neighbor, species, epsilon, sigma, table, e_i, g_ij)), m)
    row("assemble", "edge", *best(lambda: neighbors.assemble(edges, g_ij, f)), m)
    row("virial", "edge", *best(lambda: neighbors.virial(edges, g_ij)), m)

    v, scale, copies = np.zeros((n, 3)), np.ones(1), np.arange(n)[:: n // (n_all - n) + 1].copy()
    buffer = np.empty((len(copies), 3))
    row("pack", "copy", *best(lambda: backend.pack(x_all, copies, np.zeros(3), buffer)), len(copies))
    row("unpack_add", "copy", *best(lambda: backend.unpack_add(buffer, copies, f)), len(copies))
    row("kick", "atom", *best(lambda: backend.kick(f, species, scale, v)), n)
    row("drift", "atom", *best(lambda: backend.drift(v, 0.0, x_all)), n)
    row("displacement", "atom", *best(lambda: neighbors.displacement_sq(x_all)), n)
    row("gaussian", "atom", *best(lambda: backend.gaussian(1, 2, 3, np.arange(n), v)), n)
    row("spatial_order", "atom", *best(lambda: spatial_order(backend, x, np.arange(n), cutoff)), n)
    return rows


class Recorder(Backend):
    """The CPU's kernels, keeping the arguments of the largest call of each."""

    def __init__(self) -> None:
        cpu = make("cpu")
        self.calls: dict[str, list] = {}
        super().__init__("recorder", np, {name: self._recording(name, getattr(cpu, name)) for name in CONTRACT})

    def _recording(self, name: str, kernel: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            if size(arguments) >= size(self.calls.get(name, ())):
                self.calls[name] = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
            kernel(*arguments)
        return call


def size(arguments) -> int:
    """Bytes of the arrays among arguments."""
    return sum(getattr(a, "nbytes", 0) for a in arguments)


def recorded(n: int, cutoff: float) -> tuple[dict[str, list], int]:
    """Arguments of each kernel in a step with a rebuild, atoms in the engine's order; and the number of edges."""
    backend, random = Recorder(), np.random.default_rng(0)
    length = (n / DENSITY) ** (1 / 3)
    cell, gid = Cell(np.eye(3) * length), np.arange(n)
    x = random.random((n, 3)) * length
    x = x[spatial_order(backend, x, gid, cutoff + SKIN)]
    x_all = copied(cell, x, cutoff + SKIN)
    n_all, species = len(x_all), np.zeros(len(x_all), np.int32)
    neighbors = NeighborList(backend, np.array([[cutoff]]), SKIN)
    neighbors.build(x_all, species, n)
    neighbors.displacement_sq(x_all)
    edges = neighbors.edges(x_all, species)
    m, one = len(edges.center), np.ones((1, 1))
    e_i, g_ij, f = np.empty(n), np.empty((m, 3)), np.empty((n_all, 3))
    backend.lennard_jones(edges.r_ij, edges.first, edges.neighbor, species, one, one, one * cutoff, e_i, g_ij)
    neighbors.assemble(edges, g_ij, f)
    neighbors.virial(edges, g_ij)
    copies, v = np.arange(n)[:: n // (n_all - n) + 1].copy(), np.empty((n, 3))
    buffer = np.empty((len(copies), 3))
    backend.pack(x_all, copies, np.zeros(3), buffer)
    backend.unpack_add(buffer, copies, f)
    backend.gaussian(1, 2, 3, gid, v)
    backend.kick(f, species, np.ones(1), v)
    backend.drift(v, 0.0, x_all)
    backend.kinetic(v, species, np.ones(1), np.empty((n_chunks(n), 1, 3, 3)))
    return backend.calls, m


def device_rate(xp) -> float:
    """Bytes a second of a copy on the device, read and written."""
    source = xp.zeros(2**28)
    target = xp.empty_like(source)
    return 2 * source.nbytes / seconds(xp, lambda: xp.copyto(target, source))


def seconds(xp, work: Callable[[], object], prepare: Callable[[], object] = lambda: None, repeats: int = 30) -> float:
    """Median time of a call between two events of the device."""
    times = []
    for turn in range(repeats + 3):
        start, stop = xp.cuda.Event(), xp.cuda.Event()
        prepare()
        start.record()
        work()
        stop.record()
        stop.synchronize()
        if turn >= 3:
            times.append(xp.cuda.get_elapsed_time(start, stop) * 1e-3)
    return float(np.median(times))


LIST = ("extent", "mark_slabs", "bin_atoms", "sort_by_key", "split_positions", "count_neighbors", "fill_neighbors")


def measure_device(backend: Backend, n: int, cutoff: float, rate: float) -> list[dict]:
    """All rows of one size and cutoff."""
    xp, (calls, m) = backend.xp, recorded(n, cutoff)
    rows: list[dict] = []

    def row(name: str, time_s: float, moved: int) -> None:
        rows.append({"cutoff": cutoff, "atoms": n, "edges": m, "kernel": name, "us": round(time_s * 1e6, 2),
                     "MB": round(moved / 1e6, 3), "GB_per_s": round(moved / time_s / 1e9, 1),
                     "of_copy": round(moved / time_s / rate, 3)})

    def time_one(name: str, arguments: list) -> tuple[float, int]:
        roles = [argument.role for argument in CONTRACT[name].arguments]
        there = [xp.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        kept = [(a, a.copy()) for a, role in zip(there, roles, strict=True) if role == "inout"]

        def restore() -> None:
            for changed, original in kept:
                changed[...] = original

        weight = {"in": 1, "out": 1, "inout": 2, "work": 0}
        moved = sum(weight[role] * getattr(a, "nbytes", 0) for a, role in zip(there, roles, strict=True))
        return seconds(xp, lambda: getattr(backend, name)(*there), restore), moved

    total = [0.0, 0]
    for name, arguments in calls.items():
        time_s, moved = time_one(name, arguments)
        row(name if name != "sort_by_key" else "sort_by_key, reverse index", time_s, moved)
        if name == "sort_by_key":  # the largest sort is the reverse index; a list sorts atoms by cell
            _, order, cell, cell_first, *_ = calls["count_neighbors"]
            time_s, moved = time_one(name, [cell, np.empty((1, len(cell_first) - 1), np.int64), cell_first, order])
            row("sort_by_key, cells", time_s, moved)
        if name in LIST:
            total = [total[0] + time_s, total[1] + moved]
    row("list", *total)
    return rows


def bench_device(sizes: list[int]) -> list[dict]:
    """Rows of all sizes, with the device, versions and commit they belong to."""
    backend = load("cuda")
    xp = backend.xp
    device = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, text=True,
                            capture_output=True, check=False).stdout.strip()
    rate = device_rate(xp)
    print(f"{device}: a copy moves {rate / 1e9:.0f} GB/s")
    about = {"device": device, "copy_GB_per_s": round(rate / 1e9, 1), "cupy": xp.__version__,
             "cuda_runtime": xp.cuda.runtime.runtimeGetVersion(), "driver": xp.cuda.runtime.driverGetVersion(),
             "commit": commit}
    rows = []
    for n in sizes:
        for cutoff in (4.5, 6.0):
            for row in measure_device(backend, n, cutoff, rate):
                rows.append(row | about)
                print(f"{n} atoms  {cutoff} Å  {row['kernel']:26s} {row['us']:10.1f} us  {row['MB']:10.2f} MB  "
                      f"{100 * row['of_copy']:5.1f} % of the copy's rate")
    return rows


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def plot(path: Path, rows: list[dict]) -> None:
    """The roofline: rates of the kernels, in the rate of a copy, against the number of atoms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["kernel"] for row in rows):
        mine = [row for row in rows if row["kernel"] == name and row["cutoff"] == 6.0]
        axes.plot([row["atoms"] for row in mine], [row["of_copy"] for row in mine], "o-", label=name)
    axes.axhline(0.6, color="gray", linestyle=":")
    axes.set(xscale="log", xlabel="atoms", ylabel="bytes a second, in those of a copy", title=rows[0]["device"])
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the kernels against vesin, or against a GPU's bandwidth.")
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--atoms", type=int, nargs="+", help="default: 100000 on the CPU, 131072 on a GPU")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--plot", type=Path, help="of a GPU: each kernel's share of the copy's rate against N, 6 Å")
    chosen = parser.parse_args()
    if chosen.backend == "cuda":
        try:
            rows = bench_device(chosen.atoms or [131_072])
        except InputError as e:
            raise SystemExit(str(e)) from None
        write(RESULTS.with_name("bench_kernels_cuda.csv"), rows)
        if chosen.plot:
            plot(chosen.plot, rows)
        if chosen.json:
            chosen.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
        return
    if len(chosen.atoms or ()) > 1:
        parser.error("--backend cpu takes one number of atoms")
    rows = [row for cutoff in (4.5, 6.0) for row in measure((chosen.atoms or [100_000])[0], cutoff)]
    write(RESULTS, rows)
    ratios = {}
    for cutoff in (4.5, 6.0):
        ns = {row["kernel"]: row["ns_per_item"] for row in rows if row["cutoff"] == cutoff}
        items = {row["kernel"]: row["item"] for row in rows}
        for name, value in ns.items():
            print(f"{cutoff} Å  {name:20s} {value:8.2f} ns a {items[name]}")
        for name in ("list", "list+copy", "pairs"):
            ratios[f"{name} {cutoff}"] = round(ns["vesin"] / ns[name], 2)
            print(f"ratio {name.replace(' ', '_')}_{cutoff}A vesin_ijS = {ratios[f'{name} {cutoff}']}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"rows": rows, "speedup_over_vesin": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
