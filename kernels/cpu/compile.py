"""How the kernels are compiled: in parallel, kept on disk, and never with fast-math.

Numba's store on disk notices changes of a kernel's own file only, so what a kernel inlines is in the file with it.
"""

from numba import njit

kernel = njit(parallel=True, cache=True)
serial = njit(cache=True)
inline = njit(cache=True, inline="always")
