"""How the kernels are compiled: in parallel, kept on disk, and never with fast-math."""

from numba import njit

kernel = njit(parallel=True, cache=True)
serial = njit(cache=True)
inline = njit(cache=True, inline="always")
