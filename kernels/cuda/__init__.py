"""The kernels of the CONTRACT and of the network in CUDA C++: the .cu files here, compiled by NVRTC through CuPy.

``Kernels`` composes the kernels of the CONTRACT from launches and, in the counting sort, a device-wide scan. It is
given the array module and the launcher, so that the tests run it over the same text built for the host. The CONTRACT
describes the arguments; results are the same to the bit in each run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.kernels import CHUNK
from rxmdnn.units import ACCELERATION

FOLDER = Path(__file__).parent
FILES = ("grid.cu", "search.cu", "edges.cu", "motion.cu", "random.cu", "zbl.cu", "network.cu", "table.cu")
THREADS = 256  # per block; RX_THREADS
MAX_BLOCKS = 1 << 20  # per launch; with more items, each block takes several
MOST_TABLES = 512  # kept on the device
OPTIONS = ("-std=c++17", "--fmad=false", f"-DRX_CHUNK={CHUNK}")
OLDEST = 70  # compute capability: warps with independent threads
ITEMS = {"RX_KERNEL": THREADS, "RX_WARP_KERNEL": THREADS // 32, "RX_BLOCK_KERNEL": 1}  # per block
INSTALL = "install cupy-cuda13x[ctk] (or cupy-cuda12x[ctk] for an older driver), or say backend cpu"


class Entry(NamedTuple):
    """One ``__global__`` function of the text."""

    per_block: int  # items
    cooperates: bool  # whether threads use warp functions, barriers or shared memory
    parameters: tuple[tuple[str, str], ...]  # (type, name); the first is the number of items


def _instances(file: str) -> list[str]:
    """The texts of a file: one per floating-point type if it uses ``real``, else one."""
    text = (FOLDER / file).read_text().replace('#include "rx.cuh"\n', "\n")
    if not re.search(r"\breal\b", text):
        return [text]
    return [re.sub(r"_real\b|_real(?=_of\b)", f"_{name}", re.sub(r"\breal\b", kind, text))
            for name, kind in (("float32", "float"), ("float64", "double"))]


def source() -> str:
    """All files as one text, which is compiled."""
    parts = [(FOLDER / "rx.cuh").read_text()]
    parts += [f'#line 1 "{file}"\n{text}' for file in FILES for text in _instances(file)]
    return "".join(parts)


def _entries() -> dict[str, Entry]:
    found = {}
    pattern = re.compile(r"^(RX_(?:WARP_|BLOCK_)?KERNEL)\((\w+)(?:\)|,\s*)\(([^)]*)\)", re.M)
    for kind, name, text in pattern.findall(source()):
        kind_and_name = [parameter.strip().rsplit(" ", 1) for parameter in text.split(",")]
        parameters = tuple((kind, name) for kind, name in kind_and_name)
        found[name] = Entry(ITEMS[kind], kind != "RX_KERNEL", parameters)
        if kind != "RX_KERNEL":
            found[f"{name}_plain"] = Entry(THREADS, False, parameters)
    return found


ENTRIES = _entries()


class Kernels:
    """The kernels of the CONTRACT over a launcher.

    Parameters
    ----------
    xp : module
        CuPy, or NumPy where the text is built for the host.
    launch : callable
        ``launch(name, n, *arguments)`` runs the kernel called ``name`` over ``n`` items.
    plain : bool
        Use the versions with one thread per item.

    Small tables (masses, cutoffs, shifts, ...) may be NumPy arrays of the host: see ``table``.
    """

    def __init__(self, xp: Any, launch: Callable[..., None], plain: bool = False) -> None:
        self._xp, self._launch, self._plain = xp, launch, plain
        self._descends = xp.zeros(1, np.int64)
        self._tables: dict[tuple[Any, ...], Any] = {}

    def table(self, values: Any) -> Any:
        """A small array of the host as an array of the device. It is kept, so that later steps need no upload."""
        if self._xp is np or not isinstance(values, np.ndarray):
            return values
        key = values.dtype.char, values.shape, values.tobytes()
        kept = self._tables.pop(key, None)
        if kept is None:
            if len(self._tables) >= MOST_TABLES:
                del self._tables[next(iter(self._tables))]  # the least recently used one
            kept = self._xp.asarray(values, order="C")
        self._tables[key] = kept
        return kept

    def tables(self) -> list[Any]:
        """All tables that are kept at present."""
        return list(self._tables.values())

    def run(self, name: str, n: int, *arguments: Any) -> None:
        """Run any kernel of the text over n items."""
        if n:
            self._launch(f"{name}_plain" if self._plain and f"{name}_plain" in ENTRIES else name, n, *arguments)

    def extent(self, x, low, high):
        self.run("extent", len(low), len(x), x, low, high)

    def mark_slabs(self, x, origin, inv_width, occupied):
        self.run("mark_slabs", len(x), x, self.table(origin), self.table(inv_width), occupied.shape[1], occupied)

    def bin_atoms(self, x, origin, inv_width, slab, shape, cell):
        self.run("bin_atoms", len(x), x, self.table(origin), self.table(inv_width), slab, slab.shape[1],
                 self.table(shape), cell)

    def sort_by_key(self, key, work, first, order):
        first.fill(0)
        self.run("count_keys", len(key), key, first)
        self._xp.cumsum(first, out=first)
        work[0] = first[:-1]
        self.run(f"scatter_{order.dtype.name}", len(key), key, work, order)
        self.run(f"sort_keyed_{order.dtype.name}", len(first) - 1, first, order)

    def sort_segments(self, gid, first, order):
        self.run("sort_segments", len(first) - 1, gid, first, order)

    def split_positions(self, x, order, x_sorted):
        self.run("split_positions", len(order), x, order, x_sorted)

    def count_neighbors(self, x_sorted, order, cell, cell_first, runs, n_owned, reach_sq, count):
        self.run("count_neighbors", len(order), x_sorted, order, cell, cell_first, len(runs), self.table(runs),
                 int(n_owned), float(reach_sq), count)

    def fill_neighbors(self, x_sorted, order, cell, cell_first, runs, n_owned, reach_sq, first, neighbor):
        self.run("fill_neighbors", len(order), x_sorted, order, cell, cell_first, len(runs), self.table(runs),
                 int(n_owned), float(reach_sq), first, neighbor)

    def expand_pairs(self, first, neighbor, atom, image, home, i, j, S):
        self.run("expand_pairs", len(home), first, neighbor, atom, image, home, i, j, S)

    def count_edges(self, x, species, cutoff_sq, skin_first, skin_neighbor, slot, count):
        self.run("count_edges", len(count), x, species, len(cutoff_sq), self.table(cutoff_sq), skin_first,
                 skin_neighbor, slot, count)

    def fill_edges(self, x, skin_first, skin_neighbor, first, slot, center, neighbor, r_ij):
        self.run("fill_edges", len(first) - 1, x, skin_first, skin_neighbor, first, slot, center, neighbor, r_ij)

    def assemble(self, g_ij, first, neighbor, reverse_first, reverse, slot, f):
        self.run("assemble", len(f), len(first) - 1, g_ij, first, reverse_first, reverse, slot, f)

    def virial(self, r_ij, g_ij, partial):
        self.run("virial", len(partial), len(r_ij), r_ij, g_ij, partial)

    def lennard_jones(self, r_ij, first, neighbor, species, epsilon, sigma, cutoff, e_i, g_ij):
        self.run("lennard_jones", len(e_i), r_ij, first, neighbor, species, len(epsilon), self.table(epsilon),
                 self.table(sigma), self.table(cutoff), e_i, g_ij)

    def pack(self, x, rows, shift, buffer):
        self.run("pack", len(rows), x, rows, self.table(shift), buffer)

    def unpack_add(self, buffer, rows, f):
        self._descends.fill(0)
        self.run("find_descent", len(rows), rows, self._descends)
        self.run("unpack_add", len(rows), buffer, rows, self._descends, f)

    def kick(self, f, species, scale, v):
        self.run("kick", len(v), f, species, self.table(scale), v)

    def drift(self, v, dt, x):
        self.run("drift", len(v), v, float(dt), x)

    def displacement(self, x, x_ref, partial):
        self.run("displacement", len(partial), len(x_ref), x, x_ref, partial)

    def kinetic(self, v, species, mass, partial):
        self.run("kinetic", len(partial), len(v), v, species, len(mass), self.table(mass), ACCELERATION, partial)

    def philox(self, counter, key, word):
        self.run("philox", len(counter), counter, key, word)

    def gaussian(self, seed, stream, step, gid, z):
        low = 2**32 - 1
        self.run("gaussian", len(gid), seed & low, seed >> 32 & low, step & low, step >> 32 << 16 | stream << 1, gid,
                 z)


def pinned(n: int) -> Any:
    """(max(n, 1),) uint8 in pinned memory of the host, which the device copies from and to fast."""
    import cupyx

    return cupyx.empty_pinned(max(n, 1), np.uint8)


def record(work: Callable[[], None]) -> Callable[[], None]:
    """A function that launches the CUDA graph of all that ``work`` launches on the current, non-default stream.

    Memory that ``work`` allocates comes from a separate pool, so that the graph never writes to memory of others.

    Raises RuntimeError if one of its kernels cannot be part of a graph.
    """
    import cupy

    stream, pool = cupy.cuda.get_current_stream(), cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        try:
            work()
        except BaseException:
            with suppress(RuntimeError):
                stream.end_capture()
            raise
        graph = stream.end_capture()

    def replay(pool: Any = pool) -> None:  # the pool must live as long as the graph
        graph.launch(stream)
    return replay


def load(number: int = 0) -> tuple[Any, Kernels, int]:
    """CuPy, the kernels, and the number of devices.

    Parameters
    ----------
    number : int
        Of the device, modulo the number of devices; it becomes the current one.

    Raises
    ------
    InputError
        If CuPy is missing, or a device that it can use.
    """
    try:
        import cupy
    except ImportError as e:
        raise InputError(f"backend cuda: CuPy cannot be imported ({e}); {INSTALL}") from None
    try:
        # CuPy imports without a driver and fails at first use.
        devices = cupy.cuda.runtime.getDeviceCount()
        cupy.cuda.Device(number % devices).use()
        capability = int(cupy.cuda.Device().compute_capability)
        if capability < OLDEST:
            raise InputError(f"backend cuda: the device has compute capability {capability / 10}, less than "
                             f"{OLDEST / 10}; say backend cpu")
        module = cupy.RawModule(code=source(), options=OPTIONS)
        functions = {name: module.get_function(name) for name in ENTRIES}
    except (RuntimeError, OSError, ImportError, cupy.cuda.compiler.CompileException) as e:
        reason = str(e).strip().split("\n")[0]
        raise InputError(f"backend cuda: no device that CuPy can use ({reason}); say backend cpu") from None

    def launch(name: str, n: int, *arguments: Any) -> None:
        numbers = {int: np.int64, float: np.float64}
        values = [numbers[type(a)](a) if type(a) in numbers else a for a in (n, *arguments)]
        functions[name]((min(-(-n // ENTRIES[name].per_block), MAX_BLOCKS),), (THREADS,), values)

    return cupy, Kernels(cupy, launch), devices
