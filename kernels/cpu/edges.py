"""Edges inside the cutoff, and sums over edges."""

import numpy as np
from numba import get_num_threads, prange

from rxmdnn.kernels import CHUNK
from rxmdnn.kernels.cpu.compile import kernel, serial


@kernel
def expand_pairs(first, neighbor, atom, image, home, i, j, S):
    for center in prange(len(home)):
        for e in range(np.uint64(first[center]), np.uint64(first[center + 1])):
            row = np.uint32(neighbor[e])
            other = np.uint32(atom[row])
            i[e] = center
            j[e] = other
            S[e, 0] = image[row, 0] + home[center, 0] - home[other, 0]
            S[e, 1] = image[row, 1] + home[center, 1] - home[other, 1]
            S[e, 2] = image[row, 2] + home[center, 2] - home[other, 2]


@kernel
def count_edges(x, species, cutoff_sq, skin_first, skin_neighbor, slot, count):
    for i in prange(len(count)):
        found = np.int64(0)
        for e in range(np.uint64(skin_first[i]), np.uint64(skin_first[i + 1])):
            j = np.uint32(skin_neighbor[e])
            dx = x[j, 0] - x[i, 0]
            dy = x[j, 1] - x[i, 1]
            dz = x[j, 2] - x[i, 2]
            inside = dx * dx + dy * dy + dz * dz < cutoff_sq[species[i], species[j]]
            slot[e] = found if inside else -1
            found += np.int64(inside)
        count[i] = found


@kernel
def fill_edges(x, skin_first, skin_neighbor, first, slot, center, neighbor, r_ij):
    """Fill without a branch on the distance: each candidate is written; the next one overwrites it if it is too far."""
    for i in prange(len(first) - 1):
        at, end = np.uint64(first[i]), np.uint64(first[i + 1])
        for e in range(np.uint64(skin_first[i]), np.uint64(skin_first[i + 1])):
            if at < end:
                j = np.uint32(skin_neighbor[e])
                inside = slot[e] >= 0
                slot[e] = np.int64(at) if inside else -1
                center[at] = i
                neighbor[at] = j
                r_ij[at, 0] = x[j, 0] - x[i, 0]
                r_ij[at, 1] = x[j, 1] - x[i, 1]
                r_ij[at, 2] = x[j, 2] - x[i, 2]
                at += np.uint64(inside)


FEW_THREADS = 4  # a thread that adds to both ends of an edge takes 1/5 of the time of one that gathers (bench_kernels)


def reads_reverse():
    """True if ``assemble`` reads the reverse index, which it does for many threads; the bits are the same."""
    return get_num_threads() > FEW_THREADS


def assemble(g_ij, first, neighbor, reverse_first, reverse, slot, f):
    if reads_reverse():
        _gather(g_ij, first, reverse_first, reverse, slot, f)
    else:
        _scatter(g_ij, first, neighbor, f)


@serial
def _scatter(g_ij, first, neighbor, f):
    f[:] = 0.0
    for i in range(len(first) - 1):
        fx = fy = fz = 0.0
        for e in range(np.uint64(first[i]), np.uint64(first[i + 1])):
            j = np.uint32(neighbor[e])
            gx, gy, gz = g_ij[e, 0], g_ij[e, 1], g_ij[e, 2]
            f[j, 0] -= gx
            f[j, 1] -= gy
            f[j, 2] -= gz
            fx += gx
            fy += gy
            fz += gz
        f[i, 0] += fx
        f[i, 1] += fy
        f[i, 2] += fz


@kernel
def _gather(g_ij, first, reverse_first, reverse, slot, f):
    """Sum in the order of _scatter: edges from centers before i, edges out of i, edges from later centers.

    A skin edge outside the cutoff adds 0 times edge 0: a branch there would be mispredicted every other time.
    """
    n_owned = len(first) - 1 if len(g_ij) else 0
    for i in prange(len(f)):
        fx = fy = fz = 0.0
        k, end = np.uint64(0), np.uint64(0)
        if n_owned:
            k, end = np.uint64(reverse_first[i]), np.uint64(reverse_first[i + 1])
        own = first[i] if i < n_owned else first[n_owned]
        for later in range(2):
            while k < end and (later or slot[np.uint64(reverse[k])] < own):
                e = slot[np.uint64(reverse[k])]
                inside = e >= 0
                p = np.uint64(e) if inside else np.uint64(0)
                gx, gy, gz = g_ij[p, 0], g_ij[p, 1], g_ij[p, 2]
                fx -= gx if inside else 0.0
                fy -= gy if inside else 0.0
                fz -= gz if inside else 0.0
                k += np.uint64(1)
            if i < n_owned and not later:
                ox = oy = oz = 0.0
                for e in range(np.uint64(first[i]), np.uint64(first[i + 1])):
                    ox += g_ij[e, 0]
                    oy += g_ij[e, 1]
                    oz += g_ij[e, 2]
                fx += ox
                fy += oy
                fz += oz
        f[i, 0] = fx
        f[i, 1] = fy
        f[i, 2] = fz


@kernel
def virial(r_ij, g_ij, partial):
    for c in prange(len(partial)):
        xx = xy = xz = yx = yy = yz = zx = zy = zz = 0.0
        for e in range(c * CHUNK, min((c + 1) * CHUNK, len(r_ij))):
            rx, ry, rz = r_ij[e, 0], r_ij[e, 1], r_ij[e, 2]
            gx, gy, gz = g_ij[e, 0], g_ij[e, 1], g_ij[e, 2]
            xx -= rx * gx
            xy -= rx * gy
            xz -= rx * gz
            yx -= ry * gx
            yy -= ry * gy
            yz -= ry * gz
            zx -= rz * gx
            zy -= rz * gy
            zz -= rz * gz
        partial[c, 0, 0], partial[c, 0, 1], partial[c, 0, 2] = xx, xy, xz
        partial[c, 1, 0], partial[c, 1, 1], partial[c, 1, 2] = yx, yy, yz
        partial[c, 2, 0], partial[c, 2, 1], partial[c, 2, 2] = zx, zy, zz


@kernel
def lennard_jones(r_ij, first, neighbor, species, epsilon, sigma, cutoff, e_i, g_ij):
    for i in prange(len(e_i)):
        energy = 0.0
        for e in range(first[i], first[i + 1]):
            s, t = species[i], species[neighbor[e]]
            r_sq = r_ij[e, 0] ** 2 + r_ij[e, 1] ** 2 + r_ij[e, 2] ** 2
            if not r_sq < cutoff[s, t] ** 2:
                g_ij[e] = 0.0
                continue
            inv_sq = 1.0 / r_sq
            s6 = (sigma[s, t] * sigma[s, t] * inv_sq) ** 3
            c6 = (sigma[s, t] / cutoff[s, t]) ** 6
            energy += 2.0 * epsilon[s, t] * (s6 * s6 - s6 - c6 * c6 + c6)
            slope = -2.0 * epsilon[s, t] * (12.0 * s6 * s6 - 6.0 * s6) * inv_sq
            for a in range(3):
                g_ij[e, a] = slope * r_ij[e, a]
        e_i[i] = energy
