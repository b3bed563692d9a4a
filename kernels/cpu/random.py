"""Counter-based random numbers: Philox4x32-10 (J. K. Salmon et al., SC11, doi 10.1145/2063384.2063405)."""

import math

import numpy as np
from numba import prange

from rxmdnn.kernels.cpu.compile import kernel, serial

LOW = np.uint64(0xFFFFFFFF)
WORD = np.uint64(32)
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@serial
def _philox(c0, c1, c2, c3, k0, k1):
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> WORD) ^ c1 ^ k0, p1 & LOW, (p0 >> WORD) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


@serial
def _box_muller(w0, w1, w2, w3):
    """Two normal deviates from two 53-bit uniforms, the first in (0, 1]."""
    u0 = np.float64(((w0 << WORD | w1) >> np.uint64(11)) + np.uint64(1)) * 2.0**-53
    u1 = np.float64((w2 << WORD | w3) >> np.uint64(11)) * 2.0**-53
    r = math.sqrt(-2.0 * math.log(u0))
    return r * math.cos(2.0 * math.pi * u1), r * math.sin(2.0 * math.pi * u1)


@kernel
def philox(counter, key, word):
    for i in prange(len(counter)):
        word[i, 0], word[i, 1], word[i, 2], word[i, 3] = _philox(
            np.uint64(counter[i, 0]), np.uint64(counter[i, 1]), np.uint64(counter[i, 2]), np.uint64(counter[i, 3]),
            np.uint64(key[0]), np.uint64(key[1]))


@kernel
def gaussian(seed, stream, step, gid, z):
    k0, k1 = np.uint64(seed) & LOW, np.uint64(seed) >> WORD
    c2 = np.uint64(step) & LOW
    c3 = (np.uint64(step) >> WORD) << np.uint64(16) | np.uint64(stream) << np.uint64(1)
    for i in prange(len(gid)):
        c0, c1 = np.uint64(gid[i]) & LOW, np.uint64(gid[i]) >> WORD
        w0, w1, w2, w3 = _philox(c0, c1, c2, c3, k0, k1)
        z[i, 0], z[i, 1] = _box_muller(w0, w1, w2, w3)
        w0, w1, w2, w3 = _philox(c0, c1, c2, c3 | np.uint64(1), k0, k1)
        z[i, 2], _ = _box_muller(w0, w1, w2, w3)
