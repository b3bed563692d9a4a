"""Lines of the run deck for the machine: ranks, threads, GPUs and the precision of the network."""

from __future__ import annotations

from rxmdnn.deck.language import Entry, Keyword, Value, not_negative
from rxmdnn.deck.words import PRECISIONS

LEAST_ERROR, MOST_ERROR = 1e-8, 1e-2  # eV/Å, of forces by a table


def _grid(entry: Entry) -> str | None:
    some, every = any(v > 0 for v in entry), all(v > 0 for v in entry)
    return "all three must be above zero, or all three 0 to let rxmdnn choose" if some and not every else None


def _error(x: float) -> str | None:
    return None if LEAST_ERROR <= x <= MOST_ERROR else f"must be from {LEAST_ERROR:g} to {MOST_ERROR:g} eV/Å"


RANKS = (
    Keyword("processors", (Value("vx", "int", 0, check=not_negative), Value("vy", "int", 0, check=not_negative),
                           Value("vz", "int", 0, check=not_negative)),
            "grid of ranks; 0 0 0 lets rxmdnn choose", {"--vprocs": ("vx", "vy", "vz")}, check=_grid, group="device"),
    Keyword("balance", (Value("on", "bool", False),),
            "let the parts of the ranks have unequal widths and equal load, for slabs, droplets and gaps; chosen at "
            "each new neighbor list", group="device"),
)
DEVICE = (
    Keyword("precision", (Value("network", PRECISIONS, "float32",
                                words={"float32": "single precision", "float64": "double precision",
                                       "tf32": "float32, factors of matrix products rounded to 10 bits, on a GPU"}),),
            "precision of the network", group="device"),
    Keyword("table", (Value("force_error", "float", None, unit="eV/Å", check=_error),),
            "Allegro: tabulate what depends on the distance of a pair alone, for speed; the largest error of a force",
            group="device"),
    Keyword("backend", (Value("name", ("auto", "cpu", "cuda", "reference"), "auto",
                              words={"auto": "cuda if CuPy finds a GPU on which a short trial agrees with the CPU, "
                                             "otherwise cpu",
                                     "cpu": "Numba kernels", "reference": "NumPy kernels, slow, for tests",
                                     "cuda": "on a GPU; the ranks of a machine use its GPUs in turn"}),),
            "kernels of the run", group="device"),
    Keyword("mpi", (Value("memory", ("host", "cuda-aware"), "host",
                          words={"host": "through the memory of the host",
                                 "cuda-aware": "from the memory of the device, by an MPI that supports CUDA"}),),
            "path of messages with backend cuda", group="device"),
    Keyword("graphs", (Value("on", "bool", False),),
            "backend cuda: record what repeats between two neighbor lists as a CUDA graph and replay it, for small "
            "systems", group="device"),
    Keyword("threads", (Value("n", "int", 0, check=not_negative,
                              help="0: OMP_NUM_THREADS, or the cores of a machine divided by its ranks; "
                                   "fewer for few atoms"),),
            "threads per rank", group="device"),
)
TIMING = (
    Keyword("verbose", (Value("on", "bool", False),),
            "GPU: synchronize after each part of a step, for timing", group="device"),
)
