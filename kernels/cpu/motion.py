"""Copies of atoms, and their motion."""

from numba import prange

from rxmdnn.kernels import CHUNK
from rxmdnn.kernels.cpu.compile import kernel, serial
from rxmdnn.units import ACCELERATION


@kernel
def pack(x, rows, shift, buffer):
    for k in prange(len(rows)):
        for a in range(3):
            buffer[k, a] = x[rows[k], a] + shift[a]


@serial
def unpack_add(buffer, rows, f):
    for k in range(len(rows)):
        for a in range(3):
            f[rows[k], a] += buffer[k, a]


@kernel
def kick(f, species, scale, v):
    for i in prange(len(v)):
        for a in range(3):
            v[i, a] += f[i, a] * scale[species[i]]


@kernel
def drift(v, dt, x):
    for i in prange(len(v)):
        for a in range(3):
            x[i, a] += v[i, a] * dt


@kernel
def displacement(x, x_ref, partial):
    for c in prange(len(partial)):
        largest = 0.0
        for i in range(c * CHUNK, min((c + 1) * CHUNK, len(x_ref))):
            dx = x[i, 0] - x_ref[i, 0]
            dy = x[i, 1] - x_ref[i, 1]
            dz = x[i, 2] - x_ref[i, 2]
            d_sq = dx * dx + dy * dy + dz * dz
            if d_sq > largest or d_sq != d_sq:
                largest = d_sq
        partial[c] = largest


@kernel
def kinetic(v, species, mass, partial):
    for c in prange(len(partial)):
        partial[c] = 0.0
        for i in range(c * CHUNK, min((c + 1) * CHUNK, len(v))):
            s = species[i]
            m = mass[s] / ACCELERATION
            for a in range(3):
                for b in range(3):
                    partial[c, s, a, b] += m * v[i, a] * v[i, b]
