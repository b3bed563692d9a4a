"""Every kernel of the CONTRACT in Numba, for the CPU. The CONTRACT describes the arguments."""

from rxmdnn.kernels.cpu.edges import (
    assemble,
    count_edges,
    expand_pairs,
    fill_edges,
    lennard_jones,
    reads_reverse,
    virial,
)
from rxmdnn.kernels.cpu.grid import bin_atoms, extent, mark_slabs, sort_by_key, sort_segments, split_positions
from rxmdnn.kernels.cpu.motion import displacement, drift, kick, kinetic, pack, unpack_add
from rxmdnn.kernels.cpu.random import gaussian, philox
from rxmdnn.kernels.cpu.search import count_neighbors, fill_neighbors

__all__ = [
    "assemble",
    "bin_atoms",
    "count_edges",
    "count_neighbors",
    "displacement",
    "drift",
    "expand_pairs",
    "extent",
    "fill_edges",
    "fill_neighbors",
    "gaussian",
    "kick",
    "kinetic",
    "lennard_jones",
    "mark_slabs",
    "pack",
    "philox",
    "reads_reverse",
    "sort_by_key",
    "sort_segments",
    "split_positions",
    "unpack_add",
    "virial",
]
