"""Every kernel of the CONTRACT in NumPy, slow and simple: the reference of the tests."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rxmdnn.kernels import CHUNK
from rxmdnn.units import ACCELERATION


def _blocks(n):
    return [slice(k, k + CHUNK) for k in range(0, n, CHUNK)]


def extent(x, low, high):
    for c, block in enumerate(_blocks(len(x))):
        low[c] = x[block].min(axis=0)
        high[c] = x[block].max(axis=0)


def mark_slabs(x, origin, inv_width, occupied):
    for a in range(3):
        occupied[a, np.floor((x[:, a] - origin[a]) * inv_width[a]).astype(int)] = 1


def bin_atoms(x, origin, inv_width, slab, shape, cell):
    cx, cy, cz = (slab[a, np.floor((x[:, a] - origin[a]) * inv_width[a]).astype(int)] for a in range(3))
    cell[:] = (cx * shape[1] + cy) * shape[2] + cz


def sort_by_key(key, work, first, order):
    first[:] = np.searchsorted(np.sort(key), np.arange(len(first)))
    order[:] = np.argsort(key, kind="stable")


def sort_segments(gid, first, order):
    for a, b in pairwise(first):
        order[a:b] = sorted(order[a:b], key=lambda row: gid[row])


def split_positions(x, order, x_sorted):
    x_sorted[:] = x[order].T


def _neighbors(x_sorted, order, cell, cell_first, runs, n_owned, reach_sq):
    x = np.empty((len(cell), 3))
    x[order] = x_sorted.T
    for i in range(n_owned):
        near = [order[cell_first[cell[i] + lo]:cell_first[cell[i] + hi + 1]] for lo, hi in runs]
        row = np.concatenate(near)
        d = x[row] - x[i]
        r_sq = d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2
        yield row[(r_sq < reach_sq) & (row != i)]


def count_neighbors(x_sorted, order, cell, cell_first, runs, n_owned, reach_sq, count):
    for i, row in enumerate(_neighbors(x_sorted, order, cell, cell_first, runs, n_owned, reach_sq)):
        count[i] = len(row)


def fill_neighbors(x_sorted, order, cell, cell_first, runs, n_owned, reach_sq, first, neighbor):
    for i, row in enumerate(_neighbors(x_sorted, order, cell, cell_first, runs, n_owned, reach_sq)):
        neighbor[first[i]:first[i + 1]] = row


def expand_pairs(first, neighbor, atom, image, home, i, j, S):
    i[:] = np.repeat(np.arange(len(home)), np.diff(first))
    j[:] = atom[neighbor]
    S[:] = image[neighbor] + home[i] - home[j]


def count_edges(x, species, cutoff_sq, skin_first, skin_neighbor, slot, count):
    for i in range(len(count)):
        a, b = skin_first[i], skin_first[i + 1]
        j = skin_neighbor[a:b]
        d = x[j] - x[i]
        inside = d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2 < cutoff_sq[species[i], species[j]]
        slot[a:b] = np.where(inside, np.cumsum(inside) - 1, -1)
        count[i] = inside.sum()


def fill_edges(x, skin_first, skin_neighbor, first, slot, center, neighbor, r_ij):
    for i in range(len(first) - 1):
        row = slot[skin_first[i]:skin_first[i + 1]]
        j = skin_neighbor[skin_first[i]:skin_first[i + 1]][row >= 0]
        center[first[i]:first[i + 1]] = i
        neighbor[first[i]:first[i + 1]] = j
        r_ij[first[i]:first[i + 1]] = x[j] - x[i]
        row[row >= 0] += first[i]


def assemble(g_ij, first, neighbor, reverse_first, reverse, slot, f):
    f[:] = 0.0
    for i in range(len(first) - 1):
        for g in g_ij[first[i]:first[i + 1]]:
            f[i] += g
    for i in range(len(f)):
        for edge in slot[reverse[reverse_first[i]:reverse_first[i + 1]]]:
            if edge >= 0:
                f[i] -= g_ij[edge]


def virial(r_ij, g_ij, partial):
    for c, block in enumerate(_blocks(len(r_ij))):
        partial[c] = -r_ij[block].T @ g_ij[block]


def lennard_jones(r_ij, first, neighbor, species, epsilon, sigma, cutoff, e_i, g_ij):
    center = np.repeat(np.arange(len(e_i)), np.diff(first))
    pair = species[center], species[neighbor]
    r_sq = (r_ij ** 2).sum(axis=1)
    s6 = (sigma[pair] ** 2 / r_sq) ** 3
    c6 = (sigma[pair] / cutoff[pair]) ** 6
    inside = r_sq < cutoff[pair] ** 2
    e_i[:] = 0.0
    np.add.at(e_i, center, inside * 0.5 * 4 * epsilon[pair] * (s6 ** 2 - s6 - c6 ** 2 + c6))
    g_ij[:] = (inside * -0.5 * 4 * epsilon[pair] * (12 * s6 ** 2 - 6 * s6) / r_sq)[:, None] * r_ij


def pack(x, rows, shift, buffer):
    buffer[:] = x[rows] + shift


def unpack_add(buffer, rows, f):
    for k, row in enumerate(rows):
        f[row] += buffer[k]


def kick(f, species, scale, v):
    v += f[:len(v)] * scale[species[:len(v)], None]


def drift(v, dt, x):
    x[:len(v)] += v * dt


def displacement(x, x_ref, partial):
    for c, block in enumerate(_blocks(len(x_ref))):
        partial[c] = ((x[:len(x_ref)][block] - x_ref[block]) ** 2).sum(axis=1).max()


def kinetic(v, species, mass, partial):
    for c, block in enumerate(_blocks(len(v))):
        for s, m in enumerate(mass):
            u = v[block][species[:len(v)][block] == s]
            partial[c, s] = m / ACCELERATION * u.T @ u


def philox(counter, key, word):
    """Ten rounds; constants of Random123 (J. K. Salmon et al., SC11, doi 10.1145/2063384.2063405)."""
    low = np.uint64(0xFFFFFFFF)
    c = [counter[:, a].astype(np.uint64) for a in range(4)]
    k = [int(key[0]), int(key[1])]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), p1 & low,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), p0 & low]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    for a in range(4):
        word[:, a] = c[a]


def gaussian(seed, stream, step, gid, z):
    """Box-Muller on 53-bit uniforms: two Philox blocks per atom give four deviates, the fourth unused.

    key = seed (64 bits, low word first); counter = gid low, gid high, step low, (step high, stream, block).
    """
    key = np.array([seed % 2**32, seed // 2**32 % 2**32], np.uint32)
    for block, columns in ((0, slice(0, 2)), (1, slice(2, 3))):
        counter = np.empty((len(gid), 4), np.uint32)
        counter[:, 0] = gid & 0xFFFFFFFF
        counter[:, 1] = gid >> 32
        counter[:, 2] = step % 2**32
        counter[:, 3] = (step // 2**32) * 2**16 + stream * 2 + block
        word = np.empty_like(counter)
        philox(counter, key, word)
        u = [((word[:, 2 * a].astype(np.uint64) << np.uint64(32)) | word[:, 2 * a + 1].astype(np.uint64))
             >> np.uint64(11) for a in (0, 1)]
        r = np.sqrt(-2.0 * np.log((u[0] + np.uint64(1)) * 2.0**-53))
        angle = 2.0 * np.pi * (u[1] * 2.0**-53)
        z[:, columns] = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)[:, :columns.stop - columns.start]
