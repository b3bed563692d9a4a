"""Numba kernels of the tabulated two-body part of Allegro: the place of each edge in a table, values and slopes there.

A table is (pairs of types · (n + 1) · 3, W): three rows per point, which are value, first and second derivative with
respect to t, the number of the point; t = n + scale log(r/cutoff). Between two points stands the quintic polynomial
with these six numbers (Hermite); before the first point the function is linear in t. The slope is that of the same
function, so that energy and forces belong together exactly. Use as the kernels of allegro_kernels.
"""

from __future__ import annotations

import math

import numpy as np

from rxmdnn.models.allegro_kernels import harmonics, jit


@jit
def edge_place(r_ij, first, i0, i1, neighbor, species, center_type, neighbor_type, inv_cutoff, scale, n, p, l_max, row,
               place, slope, radial_slope, y, cut):
    """Rows of each edge in a table of n intervals, its place there, harmonics, and the envelope where it is needed.

    Parameters
    ----------
    as allegro_kernels.edge_geometry; scale (T, T) float64; n : intervals of a pair of types
    row (m,) int32 OUT first row of the edge's interval, -1 at and beyond the cutoff
    place (m, 2) OUT t from the beginning of the interval, negative before the first one; dt/dr, 1/Å
    slope (m, 1) OUT zero; y (m, (l_max + 1)²) OUT
    radial_slope (m, 1 or 2): the column 1, if any, OUT slope of the envelope, 1/Å; cut (m,) OUT the envelope, likewise
    """
    has_cut = radial_slope.shape[1] > 1
    n_types = inv_cutoff.shape[0]
    c0, c1, c2 = 0.5 * (p + 1) * (p + 2), p * (p + 2), 0.5 * p * (p + 1)
    start = first[i0]
    for i in range(i0, i1):
        ti = center_type[species[i]]
        for edge in range(first[i], first[i + 1]):
            e = edge - start
            tj = neighbor_type[species[neighbor[edge]]]
            rx, ry, rz = r_ij[edge, 0], r_ij[edge, 1], r_ij[edge, 2]
            r = math.sqrt(rx * rx + ry * ry + rz * rz)
            inv = inv_cutoff[ti, tj]
            x = r * inv
            slope[e, 0] = 0
            if x < 1.0:
                t = n + scale[ti, tj] * math.log(x)
                k = min(max(int(t), 0), n - 1)
                row[e] = ((ti * n_types + tj) * (n + 1) + k) * 3
                place[e, 0] = t - k
                place[e, 1] = scale[ti, tj] / r
            else:
                row[e] = -1
            if has_cut:
                cut[e] = 0
                radial_slope[e, 1] = 0
                if x < 1.0:
                    xp = x ** (p - 1)
                    cut[e] = 1.0 - x * xp * (c0 - x * (c1 - x * c2))
                    radial_slope[e, 1] = -xp * (p * c0 - x * ((p + 1) * c1 - x * (p + 2) * c2)) * inv
            harmonics(rx, ry, rz, 1.0 / r, l_max, y, e)


@jit
def table_rows(row, place, table, out):
    """out[e] = the polynomials of the edge's interval at its place; zero at and beyond the cutoff.

    Parameters
    ----------
    row (m,), place (m, 2): as edge_place; table (·, W); out (m, W) OUT
    """
    real = table.dtype.type
    for e in range(row.shape[0]):
        k = row[e]
        if k < 0:
            out[e] = 0
            continue
        t = np.float64(place[e, 0])
        late = max(t, 0.0)
        early, t = t - late, late
        s = 1 - t
        tt, ss = t * t, s * s
        # H_0(t) and H_0(1 - t) weigh the values, and so on: 1 = H_0(t) + H_0(1 - t)
        a, b, c = real(ss * s * (1 + 3 * t + 6 * tt)), real(ss * s * t * (1 + 3 * t) + early), real(ss * s * tt / 2)
        x, y, z = real(tt * t * (1 + 3 * s + 6 * ss)), real(-tt * t * s * (1 + 3 * s)), real(tt * t * ss / 2)
        for w in range(out.shape[1]):
            out[e, w] = (a * table[k, w] + b * table[k + 1, w] + c * table[k + 2, w]
                         + x * table[k + 3, w] + y * table[k + 4, w] + z * table[k + 5, w])


@jit
def table_slope(row, place, table, d, slope):
    """slope[e] += Σ_w d[e, w] ∂out[e, w]/∂r, out as table_rows gives it.

    Parameters
    ----------
    as table_rows; d (m, W) gradient of out; slope (m, 1) OUT, added to, 1/Å
    """
    real = table.dtype.type
    for e in range(row.shape[0]):
        k = row[e]
        if k < 0:
            continue
        t = max(np.float64(place[e, 0]), 0.0)
        s = 1 - t
        tt, ss = t * t, s * s
        x = real(30 * tt * ss)  # of the difference of the values, formed first: it is small
        b, c = real(ss * (1 + 2 * t - 15 * tt)), real(ss * t * (2 - 5 * t) / 2)
        y, z = real(tt * (1 + 2 * s - 15 * ss)), real(-tt * s * (2 - 5 * s) / 2)
        total = d.dtype.type(0)
        for w in range(d.shape[1]):
            total += d[e, w] * (x * (table[k + 3, w] - table[k, w]) + b * table[k + 1, w] + c * table[k + 2, w]
                                + y * table[k + 4, w] + z * table[k + 5, w])
        slope[e, 0] += total * place[e, 1]
