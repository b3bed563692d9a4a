"""Binning of positions into cells, and sorting by cell."""

import numpy as np
from numba import prange

from rxmdnn.kernels import CHUNK
from rxmdnn.kernels.cpu.compile import kernel, serial


@kernel
def extent(x, low, high):
    for c in prange(len(low)):
        for a in range(3):
            lo = hi = x[c * CHUNK, a]
            for i in range(c * CHUNK + 1, min((c + 1) * CHUNK, len(x))):
                u = x[i, a]
                # The second test keeps a NaN once it occurs.
                if u < lo or u != u:
                    lo = u
                if u > hi or u != u:
                    hi = u
            low[c, a] = lo
            high[c, a] = hi


@kernel
def mark_slabs(x, origin, inv_width, occupied):
    for i in prange(len(x)):
        for a in range(3):
            occupied[a, np.int64((x[i, a] - origin[a]) * inv_width[a])] = 1


@kernel
def bin_atoms(x, origin, inv_width, slab, shape, cell):
    for i in prange(len(x)):
        cx = slab[0, np.int64((x[i, 0] - origin[0]) * inv_width[0])]
        cy = slab[1, np.int64((x[i, 1] - origin[1]) * inv_width[1])]
        cz = slab[2, np.int64((x[i, 2] - origin[2]) * inv_width[2])]
        cell[i] = (cx * shape[1] + cy) * shape[2] + cz


@kernel
def sort_by_key(key, work, first, order):
    """Sort with one count of keys per chunk; a stable sort has one result for any number of chunks."""
    chunks, keys = work.shape
    size = (len(key) + chunks - 1) // chunks
    for c in prange(chunks):
        work[c] = 0
        for i in range(np.uint64(c * size), np.uint64(min((c + 1) * size, len(key)))):
            work[c, np.uint32(key[i])] += 1
    start = np.int64(0)
    for k in range(keys):
        first[k] = start
        for c in range(chunks):
            here = work[c, k]
            work[c, k] = start
            start += here
    first[keys] = start
    for c in prange(chunks):
        for i in range(np.uint64(c * size), np.uint64(min((c + 1) * size, len(key)))):
            k = np.uint32(key[i])
            order[np.uint64(work[c, k])] = i
            work[c, k] += 1


@serial
def _shell_sort(gid, order, a, b):
    """D. L. Shell, CACM 2, 30 (1959), gaps n/2, n/4 .. 1: in place, and linear on sorted input."""
    gap = 1 if b - a <= 32 else (b - a) // 2
    while gap > 0:
        for i in range(a + gap, b):
            row = order[i]
            k = i
            while k - gap >= a and gid[order[k - gap]] > gid[row]:
                order[k] = order[k - gap]
                k -= gap
            order[k] = row
        gap //= 2


@kernel
def sort_segments(gid, first, order):
    for k in prange(len(first) - 1):
        _shell_sort(gid, order, first[k], first[k + 1])


@kernel
def split_positions(x, order, x_sorted):
    for k in prange(len(order)):
        for a in range(3):
            x_sorted[a, k] = x[order[k], a]
