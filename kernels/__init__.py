"""Kernels: loops over arrays on one device.

``CONTRACT`` lists every kernel once. ``reference`` (NumPy, slow and simple: the reference of the tests) and ``cpu``
(Numba) implement all of it. A kernel takes arrays and numbers, outputs last; it allocates nothing and returns None.
The result is the same to the bit for any number of threads: sums go over fixed blocks of ``CHUNK`` items into
``partial`` arrays, which the caller adds up, and sorts are stable.

Arrays are C-contiguous. Row numbers of atoms are int32; numbers of edges are int64.
"""

from __future__ import annotations

from dataclasses import dataclass

CHUNK = 4096  # items in one partial sum


def n_chunks(n: int) -> int:
    """Number of partial sums over n items."""
    return -(-n // CHUNK)


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel: ``shape`` is empty for a number; ``role`` is in, out, inout or work (scratch)."""

    name: str
    shape: tuple[str, ...]
    dtype: str
    unit: str
    role: str


@dataclass(frozen=True)
class Kernel:
    """A kernel: ``item`` is the unit of parallel work, ``does`` describes the result."""

    item: str
    does: str
    arguments: tuple[Argument, ...]


def _kernel(item: str, does: str, *arguments: str) -> Kernel:
    """A Kernel whose arguments are given as text, ``role name (shape) dtype unit``."""
    parsed = []
    for text in arguments:
        role, name, rest = text.split(maxsplit=2)
        shape, _, tail = rest[1:].partition(")")
        dtype, _, unit = tail.strip().partition(" ")
        parsed.append(Argument(name, tuple(s.strip() for s in shape.split(",") if s.strip()), dtype, unit, role))
    return Kernel(item, does, tuple(parsed))


_GRID = (
    "in x_sorted (3, n_all) float64 Å",
    "in order (n_all) int32",
    "in cell (n_all) int32",
    "in cell_first (n_cells + 1) int64",
    "in runs (n_runs, 2) int64",
    "in n_owned () int",
    "in reach_sq () float Å^2",
)

CONTRACT: dict[str, Kernel] = {
    # positions -> cells -> lists
    "extent": _kernel(
        "chunk of atoms", "smallest and largest coordinates; NaN where a coordinate is",
        "in x (n, 3) float64 Å", "out low (n_chunks, 3) float64 Å", "out high (n_chunks, 3) float64 Å"),
    "mark_slabs": _kernel(
        "atom", "occupied[a, floor((x_a - origin_a) inv_width_a)] = 1; zeroed by the caller",
        "in x (n, 3) float64 Å", "in origin (3) float64 Å", "in inv_width (3) float64 1/Å",
        "inout occupied (3, n_slabs) uint8"),
    "bin_atoms": _kernel(
        "atom", "cell = (slab[0, kx] ny + slab[1, ky]) nz + slab[2, kz], k_a the slab number of mark_slabs",
        "in x (n, 3) float64 Å", "in origin (3) float64 Å", "in inv_width (3) float64 1/Å",
        "in slab (3, n_slabs) int32", "in shape (3) int64", "out cell (n) int32"),
    "sort_by_key": _kernel(
        "chunk of items", "stable counting sort: order[first[k]:first[k + 1]] are the items of key k, ascending",
        "in key (n) int32", "work work (n_parts, n_keys) int64", "out first (n_keys + 1) int64",
        "out order (n) int32|int64"),
    "sort_segments": _kernel(
        "segment", "sort order[first[k]:first[k + 1]] by gid[order]",
        "in gid (n) int64", "in first (n_segments + 1) int64", "inout order (n) int32"),
    "split_positions": _kernel(
        "atom", "x_sorted[a, k] = x[order[k], a]",
        "in x (n_all, 3) float64 Å", "in order (n_all) int32", "out x_sorted (3, n_all) float64 Å"),
    "count_neighbors": _kernel(
        "atom", "number of rows other than i in the cells cell + runs[:, 0] .. cell + runs[:, 1] with r^2 < reach_sq",
        *_GRID, "out count (n_owned) int64"),
    "fill_neighbors": _kernel(
        "atom", "those rows, run by run in cell order",
        *_GRID, "in first (n_owned + 1) int64", "out neighbor (m_skin) int32"),
    "expand_pairs": _kernel(
        "atom", "i, j = atom of the neighbor's row, S = image[neighbor] + home[i] - home[j]",
        "in first (n_owned + 1) int64", "in neighbor (m_skin) int32", "in atom (n_all) int32",
        "in image (n_all, 3) int32", "in home (n_owned, 3) int32", "out i (m_skin) int32", "out j (m_skin) int32",
        "out S (m_skin, 3) int32"),
    "count_edges": _kernel(
        "atom", "slot = number of the edge among those of its center with r^2 < cutoff_sq, else -1; count = how many",
        "in x (n_all, 3) float64 Å", "in species (n_all) int32", "in cutoff_sq (n_species, n_species) float64 Å^2",
        "in skin_first (n_owned + 1) int64", "in skin_neighbor (m_skin) int32", "out slot (m_skin) int64",
        "out count (n_owned) int64"),
    "fill_edges": _kernel(
        "atom", "the edges with slot >= 0; slot becomes their position in the compact list",
        "in x (n_all, 3) float64 Å", "in skin_first (n_owned + 1) int64", "in skin_neighbor (m_skin) int32",
        "in first (n_owned + 1) int64", "inout slot (m_skin) int64", "out center (m) int32", "out neighbor (m) int32",
        "out r_ij (m, 3) float64 Å"),
    # gradients of pairs -> forces
    "assemble": _kernel(
        "row", "f_i = sum over edges out of i of g - sum over edges into i of g, in a fixed order; a backend that does "
        "not read the reverse index may be given an empty one",
        "in g_ij (m, 3) float64 eV/Å", "in first (n_owned + 1) int64", "in neighbor (m) int32",
        "in reverse_first (n_all + 1) int64", "in reverse (m_skin) int64", "in slot (m_skin) int64",
        "out f (n_all, 3) float64 eV/Å"),
    "virial": _kernel(
        "chunk of edges", "partial sums of -r_ij (x) g_ij",
        "in r_ij (m, 3) float64 Å", "in g_ij (m, 3) float64 eV/Å", "out partial (n_chunks, 3, 3) float64 eV"),
    "lennard_jones": _kernel(
        "atom", "E = 1/2 sum of phi over directed edges, phi = u(r) - u(cutoff), u = 4 eps ((s/r)^12 - (s/r)^6); "
        "phi = 0 beyond the cutoff",
        "in r_ij (m, 3) float64 Å", "in first (n_owned + 1) int64", "in neighbor (m) int32",
        "in species (n_all) int32", "in epsilon (n_species, n_species) float64 eV",
        "in sigma (n_species, n_species) float64 Å", "in cutoff (n_species, n_species) float64 Å",
        "out e_i (n_owned) float64 eV", "out g_ij (m, 3) float64 eV/Å"),
    # copies
    "pack": _kernel(
        "copy", "buffer[k] = x[rows[k]] + shift",
        "in x (n_all, 3) float64 Å", "in rows (n) int64", "in shift (3) float64 Å", "out buffer (n, 3) float64 Å"),
    "unpack_add": _kernel(
        "one", "f[rows[k]] += buffer[k], k ascending; rows may repeat",
        "in buffer (n, 3) float64 eV/Å", "in rows (n) int64", "inout f (n_all, 3) float64 eV/Å"),
    # motion
    "kick": _kernel(
        "atom", "v += scale[species] f; scale = ACCELERATION dt / mass",
        "in f (n_all, 3) float64 eV/Å", "in species (n_all) int32", "in scale (n_species) float64 (Å/fs)/(eV/Å)",
        "inout v (n_owned, 3) float64 Å/fs"),
    "drift": _kernel(
        "atom", "x += dt v, for the rows of v",
        "in v (n_owned, 3) float64 Å/fs", "in dt () float fs", "inout x (n_all, 3) float64 Å"),
    "displacement": _kernel(
        "chunk of atoms", "largest |x - x_ref|^2 of the rows of x_ref; NaN where a coordinate is",
        "in x (n_all, 3) float64 Å", "in x_ref (n_owned, 3) float64 Å", "out partial (n_chunks) float64 Å^2"),
    "kinetic": _kernel(
        "chunk of atoms", "partial sums of mass v (x) v / ACCELERATION by species: twice the kinetic-energy tensor",
        "in v (n_owned, 3) float64 Å/fs", "in species (n_all) int32", "in mass (n_species) float64 amu",
        "out partial (n_chunks, n_species, 3, 3) float64 eV"),
    # random numbers that depend on (seed, stream, step, gid) alone
    "philox": _kernel(
        "block", "Philox4x32-10 (Salmon et al., SC11): four random words of a counter and a key",
        "in counter (n, 4) uint32", "in key (2) uint32", "out word (n, 4) uint32"),
    "gaussian": _kernel(
        "atom", "three normal deviates of (seed, stream, step, gid); 0 <= stream < 2^15, 0 <= step < 2^48",
        "in seed () int", "in stream () int", "in step () int", "in gid (n) int64", "out z (n, 3) float64"),
}
