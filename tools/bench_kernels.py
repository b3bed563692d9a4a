"""Time the CPU kernels against vesin, per directed edge, in CPU seconds of one thread.

    .venv/bin/python tools/bench_kernels.py [--atoms N] [--json FILE]

Random atoms at the density of liquid ammonia in a periodic cube, in random order, cutoffs 4.5 and 6 Å.
Rows of the list:

list      what a rank of the engine does: copies present; bin, sort, count, fill -> first, neighbor (CSR)
list+copy the same, and making the periodic copies of this cube with NumPy
pairs     rxmdnn.neighbors.pairs: wrap, copies, list, and i, j, S as vesin gives them, in new arrays
vesin     vesin.NeighborList(full_list=True, n_threads=1).compute(.., "ijS")

The other rows are kernels of a step, on atoms in the engine's order (space-filling curve), with a skin of 1 Å; skin
rows count edges of the skin list. Each figure is the best of several runs; ours keep their buffers between calls, as
in a run, except ``pairs``. CPU seconds, not wall seconds, so that other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np
import vesin

from rxmdnn.backend import make
from rxmdnn.cell import Cell
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the CPU kernels against vesin.")
    parser.add_argument("--atoms", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    rows = [row for cutoff in (4.5, 6.0) for row in measure(chosen.atoms, cutoff)]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
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
