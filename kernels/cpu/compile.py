"""Compilation of the kernels: in parallel, cached on disk, without fast-math.

The cache of Numba notices changes only in the file of a kernel, so a kernel and all that it inlines share a file.
"""

from numba import njit

kernel = njit(parallel=True, cache=True)
serial = njit(cache=True)
inline = njit(cache=True, inline="always")
