"""Time the kernels on the CPU or a GPU: against the memory's bandwidth, and neighbor lists against other programs'.

    python tools/bench_kernels.py --peers                      # one thread of the CPU
    python tools/bench_kernels.py --backend cuda --peers       # a GPU, 10^3 to 10^7 atoms

Random atoms at the density of liquid ammonia in a periodic cube, cutoffs 4.5 and 6 Å. Rows:

list       what a rank of the engine does: atoms in random order, copies present -> first, neighbor (CSR)
list+copy  the same, and making the periodic copies of this cube with NumPy (CPU)
pairs      rxmdnn.engine.neighbors.pairs: wrap, copies, list, and i, j, S in new arrays
vesin, matscipy-neighbours, nvalchemi : those that are installed (--peers); i, j, S, the last a matrix of j and shifts
others     a kernel of the engine with the arguments of a step that makes a new list, skin 1 Å, atoms in the engine's
           order (space-filling curve); of a step's network, 43 neighbors, l_max 1, 64 scalars, 32 tensors

Times: CPU seconds of the best of several runs, which other work on the machine disturbs least; on a GPU the median
between two events of the device. Our arrays are kept between calls, as in a run, but for ``pairs``. MB are those of a
kernel's arrays, each moved once (a lower bound), and their rate is compared with that of copying a large array.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np
from bench_md import SKIN as SKIN_OF_CRYSTAL
from bench_md import ammonia, potential

from rxmdnn.atoms import Edges
from rxmdnn.backend import Backend, load, make
from rxmdnn.cell import Cell
from rxmdnn.device import Device
from rxmdnn.engine.neighbors import NeighborList, pairs, periodic_copies, spatial_order
from rxmdnn.errors import InputError
from rxmdnn.kernels import CONTRACT, n_chunks
from rxmdnn.models import allegro_kernels

DENSITY = 0.09  # atoms/Å^3
SKIN = 1.0  # Å
CUTOFFS = (4.5, 6.0)  # Å
RESULTS = Path(__file__).parent / "results"
DEFAULT = {"cpu": [1_000, 10_000, 100_000], "cuda": [1_000, 10_000, 131_072, 1_000_000, 10_000_000]}
MOST_KERNELS = 1_000_000  # beyond, the arguments of all kernels at once are too large
MOST_NETWORK = {"cpu": 10_000, "cuda": 1_000_000}
WHOLE = ("list", "list+copy", "pairs", "vesin", "matscipy-neighbours", "nvalchemi")  # rows of whole lists
Work = Callable[[], Any]


# ------------------------------------------------------------------ clocks
class HostClock:
    """CPU time of this process."""

    def __init__(self) -> None:
        self.device = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                            if line.startswith("model name")), platform.machine())
        self.versions = {"numpy": np.__version__, "numba": __import__("numba").__version__}
        source = np.zeros(2**26)
        target = np.empty_like(source)
        self.rate = 2 * source.nbytes / self.seconds(lambda: np.copyto(target, source))

    def seconds(self, work: Work, prepare: Work = lambda: None) -> float:
        times: list[float] = []
        while len(times) < 4 or (len(times) < 40 and sum(times) < 0.3):  # the first compiles and fills buffers
            prepare()
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times[1:])

    def stamp(self) -> float:
        return time.process_time()

    def between(self, start: float, stop: float) -> float:
        return stop - start


class DeviceClock:
    """Events of the device."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.device = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
        self.versions = {"cupy": xp.__version__, "cuda_runtime": xp.cuda.runtime.runtimeGetVersion(),
                         "driver": xp.cuda.runtime.driverGetVersion()}
        source = xp.zeros(2**28)
        target = xp.empty_like(source)
        self.rate = 2 * source.nbytes / self.seconds(lambda: xp.copyto(target, source))

    def seconds(self, work: Work, prepare: Work = lambda: None) -> float:
        times: list[float] = []
        while len(times) < 6 or (len(times) < 33 and sum(times) < 1.0):
            prepare()
            start = self.stamp()
            work()
            times.append(self.between(start, self.stamp()))
        return float(np.median(times[3:]))

    def stamp(self) -> Any:
        event = self.xp.cuda.Event()
        event.record()
        return event

    def between(self, start: Any, stop: Any) -> float:
        stop.synchronize()
        return self.xp.cuda.get_elapsed_time(start, stop) * 1e-3


# ------------------------------------------------------------------ whole lists
def copied(cell: Cell, x: np.ndarray, reach: float) -> np.ndarray:
    """Atoms, then the copies around the cell. (n, 3) -> (n_all, 3)."""
    row, image = periodic_copies(cell, cell.fractional(x), reach)
    x_all = x[row]
    x_all[len(x):] += cell.cartesian(image[len(x):].astype(float))
    return x_all


def peers(backend: Backend, cell: Cell, x: np.ndarray, cutoff: float, most: int) -> dict[str, Callable[[], int]]:
    """Other programs' lists; each call gives the number of edges. most : neighbors of an atom"""
    found: dict[str, Callable[[], int]] = {}
    there = backend.from_host(x)
    if find_spec("vesin") and not backend.on_device:
        import vesin

        searcher = vesin.NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
        found["vesin"] = lambda: len(searcher.compute(x, cell.h, True, "ijS")[0])
    if find_spec("matscipy_neighbours"):
        from matscipy_neighbours import neighbour_list

        found["matscipy-neighbours"] = lambda: len(neighbour_list(
            "ijS", positions=there, cell=cell.h, pbc=[True] * 3, cutoff=cutoff)[0])
    if find_spec("nvalchemiops"):
        import torch
        from nvalchemiops.torch.neighbors import neighbor_list

        place = "cuda" if backend.on_device else "cpu"
        torch.set_num_threads(1)
        positions, h = (torch.from_numpy(a).to(place, torch.float32) for a in (x, cell.h[None]))
        periodic = torch.ones((1, 3), dtype=torch.bool, device=place)
        width = -(-most // 16) * 16 + 16
        found["nvalchemi"] = lambda: int(neighbor_list(
            positions, cutoff, cell=h, pbc=periodic, method="cell_list", max_neighbors=width)[1].sum())
    return found


def lists(clock: Any, backend: Backend, n: int, cutoff: float, beside: bool) -> list[dict]:
    """Rows of whole lists of one size and cutoff."""
    length = (n / DENSITY) ** (1 / 3)
    cell, x = Cell(np.eye(3) * length), np.random.default_rng(0).random((n, 3)) * length
    i = backend.to_host(pairs(backend, x, cell, cutoff)[0])
    m, plain = len(i), NeighborList(backend, np.array([[cutoff]]), 0.0)
    x_all = backend.from_host(copied(cell, x, cutoff))
    works: dict[str, Work] = {"list": lambda: plain._search(x_all, n), "pairs": lambda: pairs(backend, x, cell, cutoff)}
    if not backend.on_device:
        works["list+copy"] = lambda: plain._search(copied(cell, x, cutoff), n)
    if beside:
        for name, work in peers(backend, cell, x, cutoff, int(np.bincount(i).max())).items():
            assert abs(work() - m) <= 1e-5 * m, f"{name}: another list"  # float32 may miss a pair at the cutoff
            works[name] = work
    return [row(clock, name, "edge", m, n, cutoff, clock.seconds(work), 0) for name, work in works.items()]


# ------------------------------------------------------------------ kernels of the engine
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


def size(arguments: Any) -> int:
    """Bytes of the arrays among arguments."""
    return sum(getattr(a, "nbytes", 0) for a in arguments)


def recorded(n: int, cutoff: float) -> dict[str, list]:
    """Arguments of each kernel in a step with a new list, atoms in the engine's order."""
    backend, random = Recorder(), np.random.default_rng(0)
    length = (n / DENSITY) ** (1 / 3)
    cell, gid = Cell(np.eye(3) * length), np.arange(n)
    x = random.random((n, 3)) * length
    x = x[spatial_order(backend, x, gid, cutoff + SKIN)]
    x_all = copied(cell, x, cutoff + SKIN)
    n_all, species = len(x_all), np.zeros(len(x_all), np.int32)
    neighbors = NeighborList(backend, np.array([[cutoff]]), SKIN)
    neighbors.build(x_all, n)
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
    return backend.calls


def items(calls: dict[str, list], name: str) -> tuple[str, int]:
    """What a row of a kernel counts: edges of the list, of the cutoff, copies or atoms."""
    shapes = {argument.name: a.shape for argument, a in zip(CONTRACT[name].arguments, calls[name], strict=True)
              if isinstance(a, np.ndarray)}
    for item, key in (("edge", "g_ij"), ("edge", "r_ij"), ("skin edge", "skin_neighbor"), ("skin edge", "neighbor"),
                      ("key", "key")):
        if key in shapes:
            return item, shapes[key][0]
    if "buffer" in shapes:
        return "copy", shapes["buffer"][0]
    return "atom", max(shape[-1] if shape[0] == 3 else shape[0] for shape in shapes.values())


def kernels(clock: Any, backend: Backend, n: int, cutoff: float) -> list[dict]:
    """Rows of the kernels of one size and cutoff, with the arguments of a step."""
    calls, rows = recorded(n, cutoff), []
    _, order, cell, cell_first, *_ = calls["count_neighbors"]
    work = np.empty((1, len(cell_first) - 1), np.int64)
    cases = [(name if name != "sort_by_key" else "sort_by_key, reverse index", name, *items(calls, name), arguments)
             for name, arguments in calls.items()]
    cases.append(("sort_by_key, cells", "sort_by_key", "atom", len(cell), [cell, work, cell_first, order]))
    weight = {"in": 1, "out": 1, "inout": 2, "work": 0}
    for label, name, item, count, arguments in cases:
        roles = [argument.role for argument in CONTRACT[name].arguments]
        there = [backend.from_host(a) if isinstance(a, np.ndarray) else a for a in arguments]
        kept = [(a, a.copy()) for a, role in zip(there, roles, strict=True) if role == "inout"]

        def restore(kept: list = kept) -> None:
            for changed, original in kept:
                changed[...] = original

        moved = sum(weight[role] * getattr(a, "nbytes", 0) for a, role in zip(there, roles, strict=True))
        call = getattr(backend, name)
        taken = clock.seconds(lambda call=call, there=there: call(*there), restore)
        rows.append(row(clock, label, item, count, n, cutoff, taken, moved))
    return rows


# ------------------------------------------------------------------ the network
def network(clock: Any, backend: Backend, n: int) -> list[dict]:
    """Rows of the network's kernels for about n atoms of solid ammonia, and of all that torch does between them."""
    cell, x, species = ammonia(max(1, round((n / 16) ** (1 / 3))))
    model, n = potential("allegro", backend, "float32"), len(x)
    row_of, image = periodic_copies(cell, cell.fractional(x), model.cutoff.max() + SKIN_OF_CRYSTAL)
    x_all = x[row_of] + cell.cartesian(image.astype(float))
    there, kinds = backend.from_host(x_all), backend.from_host(species[row_of])
    neighbors = NeighborList(backend, model.cutoff, SKIN_OF_CRYSTAL)
    neighbors.build(there, n)
    edges: Edges = neighbors.edges(there, kinds)
    m = len(edges.center)
    stamps: defaultdict[str, list] = defaultdict(list)
    moved: defaultdict[str, int] = defaultdict(int)

    def timed(name: str, kernel: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            begin = clock.stamp()
            kernel(*arguments)
            stamps[name].append((begin, clock.stamp()))
            moved[name] += size(arguments) if backend.on_device else 0
        return call

    model.compute(edges, kinds)
    whole = clock.seconds(lambda: model.compute(edges, kinds))
    if isinstance(backend, Device):
        launch = backend.launch
        backend.launch = lambda name, *rest: timed(  # type: ignore[method-assign]
            name.removesuffix("_float32"), lambda *a: launch(name, *a))(*rest)
    else:
        names = [name for name in dir(allegro_kernels) if hasattr(getattr(allegro_kernels, name), "py_func")]
        model._kernels = SimpleNamespace(**{name: timed(name, getattr(allegro_kernels, name)) for name in names})
    model.compute(edges, kinds)
    backend.__dict__.pop("launch", None)
    taken = {name: sum(clock.between(*pair) for pair in marks) for name, marks in stamps.items()}
    taken |= {"matrix products and SiLU": max(whole - sum(taken.values()), 0.0), "all": whole}
    return [row(clock, f"network: {name}", "edge", m, n, model.cutoff.max(), seconds, moved[name])
            for name, seconds in taken.items()]


# ------------------------------------------------------------------ output
def row(clock: Any, name: str, item: str, count: int, n: int, cutoff: float, seconds: float, moved: int) -> dict:
    rate = moved / seconds if seconds > 0 else 0.0
    return {"atoms": n, "cutoff": float(cutoff), "kernel": name, "item": item, "items": count,
            "us": round(seconds * 1e6, 2), "ns_per_item": round(seconds / max(count, 1) * 1e9, 3),
            "MB": round(moved / 1e6, 3), "GB_per_s": round(rate / 1e9, 2), "of_copy": round(rate / clock.rate, 3)}


def show(r: dict) -> None:
    of_copy = f"{r['MB']:10.2f} MB {100 * r['of_copy']:6.1f} % of a copy's rate" if r["MB"] else ""
    print(f"{r['atoms']:9d} atoms {r['cutoff']:4.1f} Å  {r['kernel']:33s} {r['us']:12.1f} us {r['ns_per_item']:9.2f} "
          f"ns a {r['item']:10s}{of_copy}", flush=True)


def plot(path: Path, rows: list[dict]) -> None:
    """Whole lists, ns an edge; the kernels' rates, in that of a copy, against the number of atoms; cutoff 6 Å."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    wide = [r for r in rows if r["cutoff"] == CUTOFFS[-1]]
    styles = ["o-", "s-", "^-", "v--", "D--", "x--"]
    for name in dict.fromkeys(r["kernel"] for r in wide):
        mine = [r for r in wide if r["kernel"] == name]
        atoms = [r["atoms"] for r in mine]
        if name in WHOLE:
            left.plot(atoms, [r["ns_per_item"] for r in mine], styles[WHOLE.index(name)], label=name)
        else:
            turn, color = divmod(len(right.lines), 10)
            right.plot(atoms, [r["of_copy"] for r in mine], ("o-", "^--", "s:")[turn], color=f"C{color}", label=name)
    left.set(xscale="log", yscale="log", xlabel="atoms", ylabel="ns an edge", title="full neighbor lists, 6 Å")
    right.axhline(1.0, color="black", linewidth=0.8)
    right.set(xscale="log", yscale="log", xlabel="atoms", ylabel="bytes a second, in those of a copy",
              title="kernels of a step (above 1: in a cache)")
    left.legend()
    right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(rows[0]["device"])
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--atoms", type=int, nargs="+", help=f"default: {DEFAULT}")
    parser.add_argument("--peers", action="store_true", help="time the lists of other programs that are installed")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--plot", type=Path, help="default: beside the table in tools/results")
    chosen = parser.parse_args()
    try:
        backend = load(chosen.backend)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    clock = DeviceClock(backend.xp) if backend.on_device else HostClock()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, text=True,
                            capture_output=True, check=False).stdout.strip()
    about = {"device": clock.device, "copy_GB_per_s": round(clock.rate / 1e9, 1), **clock.versions, "commit": commit}
    print(f"{clock.device}: a copy moves {clock.rate / 1e9:.1f} GB/s")
    rows: list[dict] = []

    def add(more: list[dict]) -> None:
        for r in more:
            rows.append(r | about)
            show(r)

    for n in chosen.atoms or DEFAULT[chosen.backend]:
        for cutoff in CUTOFFS:
            add(lists(clock, backend, n, cutoff, chosen.peers))
            if n <= MOST_KERNELS:
                add(kernels(clock, backend, n, cutoff))
        if n <= MOST_NETWORK[chosen.backend]:
            add(network(clock, backend, n))
    ratios = {}
    for ours in (r for r in rows if r["kernel"] in WHOLE[:3]):
        for r in rows:
            if r["kernel"] in WHOLE[3:] and (r["atoms"], r["cutoff"]) == (ours["atoms"], ours["cutoff"]):
                name = f"{r['kernel']} / our {ours['kernel']}, {r['atoms']} atoms, {r['cutoff']} Å"
                ratios[name] = round(r["us"] / ours["us"], 2)
                print(f"ratio {name} = {ratios[name]}")
    table = RESULTS / ("bench_kernels.csv" if chosen.backend == "cpu" else "bench_kernels_cuda.csv")
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    plot(chosen.plot or table.with_suffix(".png"), rows)
    print(f"wrote {table} and {chosen.plot or table.with_suffix('.png')}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"rows": rows, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
