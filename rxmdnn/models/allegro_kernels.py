"""Numba kernels of the Allegro evaluation: geometry, environments and tensor products, forward and backward.

A kernel takes arrays and numbers, outputs last; it allocates little and returns None. Edges are grouped by center; the
edges of center i of the block are first[i0 + i]:first[i0 + i + 1] of all edges, and the same less first[i0] of the
arrays of the block. Features are (edge, component, channel). Sums may be reassociated and fused (never approximated),
always in the same way: the same input gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

jit = njit(cache=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")


@jit
def harmonics(rx, ry, rz, inv_r, l_max, y, e):
    """Row e of y (m, (l_max + 1)²) OUT: the harmonics of the vector, of length 1/inv_r, in the order of e3nn."""
    s3, s5, s15 = math.sqrt(3.0), math.sqrt(5.0), math.sqrt(15.0)
    a3, b3, d3, s7 = math.sqrt(35 / 8), math.sqrt(105.0), math.sqrt(21 / 8), 0.5 * math.sqrt(7.0)
    y[e, 0] = 1
    if l_max >= 1:
        ux, uy, uz = rx * inv_r, ry * inv_r, rz * inv_r
        y[e, 1], y[e, 2], y[e, 3] = s3 * ux, s3 * uy, s3 * uz
        if l_max >= 2:
            xx, yy, zz = ux * ux, uy * uy, uz * uz
            y[e, 4], y[e, 5], y[e, 7] = s15 * ux * uz, s15 * ux * uy, s15 * uy * uz
            y[e, 6], y[e, 8] = s5 * (yy - 0.5 * (xx + zz)), 0.5 * s15 * (zz - xx)
            if l_max >= 3:
                y[e, 9], y[e, 10] = a3 * ux * (3 * zz - xx), b3 * ux * uy * uz
                y[e, 11], y[e, 13] = d3 * ux * (4 * yy - xx - zz), d3 * uz * (4 * yy - xx - zz)
                y[e, 12] = s7 * uy * (2 * yy - 3 * xx - 3 * zz)
                y[e, 14], y[e, 15] = 0.5 * b3 * uy * (zz - xx), a3 * uz * (zz - 3 * xx)


@jit
def edge_geometry(r_ij, first, i0, i1, neighbor, species, center_type, neighbor_type, inv_cutoff, roots, integer_roots,
                  spline_span, p, l_max, matrices, radial_slope, y, pre, cut):
    """Radial basis times envelope, projected by the matrix of the pair of types; its slope; harmonics; the envelope.

    Parameters
    ----------
    r_ij (M, 3) float64, Å, all edges; first (N + 1,) int64; i0, i1: centers of the block; neighbor (M,) int32
    species (n_all,) int32; center_type, neighbor_type (n_elements,) int64: type of an element in the model
    inv_cutoff (T, T) float64, 1/Å; roots (b,) float64; integer_roots: they are 1, 2, ..., b; p: power of the envelope
    spline_span: -1, or the overlap of the b splines that take the place of Bessel functions times envelope
    matrices (T, T, b or b + 2, w): [center][neighbor]; the row b, if any, multiplies the envelope, the row b + 1 one
    radial_slope (m, b or b + 1) OUT d(basis · envelope)/dr, and that of the envelope, 1/Å
    y (m, (l_max + 1)²) OUT; pre (m, w) OUT basis · envelope · matrix; cut (m,) OUT envelope (only with b + 2 rows)
    """
    n_basis, width = roots.shape[0], matrices.shape[3]
    has_cut = matrices.shape[2] > n_basis
    c0, c1, c2 = 0.5 * (p + 1) * (p + 2), p * (p + 2), 0.5 * p * (p + 1)
    start = first[i0]
    for i in range(i0, i1):
        ti = center_type[species[i]]
        for edge in range(first[i], first[i + 1]):
            e = edge - start
            tj = neighbor_type[species[neighbor[edge]]]
            rx, ry, rz = r_ij[edge, 0], r_ij[edge, 1], r_ij[edge, 2]
            r = math.sqrt(rx * rx + ry * ry + rz * rz)
            inv_r = 1.0 / r
            inv = inv_cutoff[ti, tj]
            x = r * inv
            for w in range(width):
                pre[e, w] = 0
            if x < 1.0:
                xp = x ** (p - 1)
                f = 1.0 - x * xp * (c0 - x * (c1 - x * c2))
                df = -xp * (p * c0 - x * ((p + 1) * c1 - x * (p + 2) * c2))
                inv_pi_x, inv_x = 1.0 / (math.pi * x), 1.0 / x
                sin_1, cos_1 = math.sin(math.pi * x), math.cos(math.pi * x)
                sin_n, cos_n = 0.0, 1.0
                spline_width = (spline_span + 1) / n_basis
                for n in range(n_basis):
                    if spline_span >= 0:
                        offset = x - (n - spline_span) / n_basis
                        phase = 2 * math.pi * min(max(offset / spline_width, 0.0), 1.0)
                        bump = 1.0 - math.cos(phase)
                        value = pre.dtype.type(0.25 * bump * bump)
                        radial_slope[e, n] = math.pi * bump * math.sin(phase) / spline_width * inv
                        for w in range(width):
                            pre[e, w] += value * matrices[ti, tj, n, w]
                        continue
                    if integer_roots:
                        sin_n, cos_n = sin_n * cos_1 + cos_n * sin_1, cos_n * cos_1 - sin_n * sin_1
                    else:
                        sin_n, cos_n = math.sin(math.pi * roots[n] * x), math.cos(math.pi * roots[n] * x)
                    s = sin_n * inv_pi_x
                    slope = (roots[n] * cos_n - s) * inv_x
                    radial_slope[e, n] = (slope * f + s * df) * inv
                    value = pre.dtype.type(s * f)
                    for w in range(width):
                        pre[e, w] += value * matrices[ti, tj, n, w]
                if has_cut:
                    cut[e] = f
                    radial_slope[e, n_basis] = df * inv
                    value = pre.dtype.type(f)
                    for w in range(width):
                        pre[e, w] += value * matrices[ti, tj, n_basis, w] + matrices[ti, tj, n_basis + 1, w]
            else:
                for n in range(radial_slope.shape[1]):
                    radial_slope[e, n] = 0
                if has_cut:
                    cut[e] = 0
            harmonics(rx, ry, rz, inv_r, l_max, y, e)


@jit
def edge_gradient(r_ij, first, i0, i1, neighbor, species, center_type, neighbor_type, l_max, matrices, radial_slope,
                  d_pre, d_y, d_cut, factor, g_ij):
    """∂E/∂r_ij from the gradients of the radial projection, of the harmonics and of the envelope.

    Parameters
    ----------
    as edge_geometry; d_pre (m, w), d_y (m, (l_max + 1)²), d_cut (m,) (only with the slope of the envelope): gradients
    factor (T,) float64: eV, of the type of the center
    g_ij (M, 3) float64 OUT eV/Å, the rows of the block
    """
    n_rows, width = radial_slope.shape[1], matrices.shape[3]
    has_cut = matrices.shape[2] > n_rows
    s3, s5, s15 = math.sqrt(3.0), math.sqrt(5.0), math.sqrt(15.0)
    a3, b3, d3, s7 = math.sqrt(35 / 8), math.sqrt(105.0), math.sqrt(21 / 8), 0.5 * math.sqrt(7.0)
    start = first[i0]
    for i in range(i0, i1):
        ti = center_type[species[i]]
        for edge in range(first[i], first[i + 1]):
            e = edge - start
            tj = neighbor_type[species[neighbor[edge]]]
            slope = d_pre.dtype.type(0)
            for n in range(n_rows):
                dot = d_pre.dtype.type(0)
                for w in range(width):
                    dot += matrices[ti, tj, n, w] * d_pre[e, w]
                slope += dot * radial_slope[e, n]
            if has_cut:
                slope += d_cut[e] * radial_slope[e, n_rows - 1]
            rx, ry, rz = r_ij[edge, 0], r_ij[edge, 1], r_ij[edge, 2]
            inv_r = 1.0 / math.sqrt(rx * rx + ry * ry + rz * rz)
            ux, uy, uz = rx * inv_r, ry * inv_r, rz * inv_r
            qx = qy = qz = 0.0
            if l_max >= 1:
                qx, qy, qz = s3 * d_y[e, 1], s3 * d_y[e, 2], s3 * d_y[e, 3]
                if l_max >= 2:
                    q4, q5, q6 = s15 * d_y[e, 4], s15 * d_y[e, 5], s5 * d_y[e, 6]
                    q7, q8 = s15 * d_y[e, 7], s15 * d_y[e, 8]
                    qx += q4 * uz + q5 * uy - (q6 + q8) * ux
                    qy += q5 * ux + 2 * q6 * uy + q7 * uz
                    qz += q4 * ux + q7 * uy + (q8 - q6) * uz
                    if l_max >= 3:
                        xx, yy, zz = ux * ux, uy * uy, uz * uz
                        q9, q10, q11, q12 = a3 * d_y[e, 9], b3 * d_y[e, 10], d3 * d_y[e, 11], s7 * d_y[e, 12]
                        q13, q14, q15 = d3 * d_y[e, 13], 0.5 * b3 * d_y[e, 14], a3 * d_y[e, 15]
                        qx += (q9 * 3 * (zz - xx) + q10 * uy * uz + q11 * (4 * yy - 3 * xx - zz) - q12 * 6 * ux * uy
                               - q13 * 2 * ux * uz - q14 * 2 * ux * uy - q15 * 6 * ux * uz)
                        qy += (q10 * ux * uz + q11 * 8 * ux * uy + q12 * 3 * (2 * yy - xx - zz) + q13 * 8 * uy * uz
                               + q14 * (zz - xx))
                        qz += (q9 * 6 * ux * uz + q10 * ux * uy - q11 * 2 * ux * uz - q12 * 6 * uy * uz
                               + q13 * (4 * yy - xx - 3 * zz) + q14 * 2 * uy * uz + q15 * 3 * (zz - xx))
            along = slope - (ux * qx + uy * qy + uz * qz) * inv_r
            g_ij[edge, 0] = factor[ti] * (along * ux + qx * inv_r)
            g_ij[edge, 1] = factor[ti] * (along * uy + qy * inv_r)
            g_ij[edge, 2] = factor[ti] * (along * uz + qz * inv_r)


@jit
def layer_forward(is_first, l_0, first, i0, i1, species, center_type, norm, l_of_m, m2, pair, term_weight, m1_of_pair,
                  m3_of_pair, y, a, v, b, v_next, s_next):
    """The environment A of each center, its operator B = Σ C W A on features, and V' = B V of its edges.

    Parameters
    ----------
    is_first : V is w_l Y and v[:, :l_0] holds w; otherwise v (m, d_in, U) is the features
    l_0 : a[:, l_0 + l] is the environment weight of irrep l (v and a of the first layer share one array)
    norm (T,) 1/√N̄; l_of_m (D,) int64; m2, pair (t,) int64, term_weight (t, U): terms of B[pair] = Σ_t weight A[m2]
    m1_of_pair, m3_of_pair (q,) int64; y (m, D); a (m, l_0 + R, U)
    b (n, q, U) OUT; v_next (m, d_out, U) OUT (last layer: only scalars); s_next (m, U or 0) OUT its first row
    """
    u_n = term_weight.shape[1]
    d_env, n_pairs, d_in = y.shape[1], m1_of_pair.shape[0], v.shape[1]
    environment = np.empty((d_env, u_n), y.dtype)
    row = np.empty((max(d_in, d_env), u_n), y.dtype)
    start = first[i0]
    for i in range(i0, i1):
        scale = norm[center_type[species[i]]]
        begin, end = first[i] - start, first[i + 1] - start
        environment[:] = 0
        for e in range(begin, end):
            for m in range(d_env):
                y_m, l_m = y[e, m] * scale, l_0 + l_of_m[m]
                for u in range(u_n):
                    environment[m, u] += y_m * a[e, l_m, u]
        operator = b[i - i0]
        operator[:] = 0
        for t in range(m2.shape[0]):
            for u in range(u_n):
                operator[pair[t], u] += term_weight[t, u] * environment[m2[t], u]
        for e in range(begin, end):
            if is_first:
                for m in range(d_env):
                    y_m, l_m = y[e, m], l_of_m[m]
                    for u in range(u_n):
                        row[m, u] = y_m * v[e, l_m, u]
            else:
                row[:d_in] = v[e]
            v_next[e] = 0
            for q in range(n_pairs):
                m1, m3 = m1_of_pair[q], m3_of_pair[q]
                for u in range(u_n):
                    v_next[e, m3, u] += operator[q, u] * row[m1, u]
            for u in range(s_next.shape[1]):
                s_next[e, u] = v_next[e, 0, u]


@jit
def layer_backward(is_first, l_0, first, i0, i1, species, center_type, norm, l_of_m, m2, pair, term_weight, m1_of_pair,
                   m3_of_pair, y, a, v, b, d_v_next, d_v, d_a, d_y):
    """Gradients of layer_forward with respect to V, a and Y from d_v_next, the gradient of V'.

    Parameters
    ----------
    as layer_forward; d_v_next (m, d_out, U)
    d_v OUT like v; d_a OUT like a; d_y (m, D) OUT, added to
    """
    u_n = term_weight.shape[1]
    d_env, n_pairs, d_in = y.shape[1], m1_of_pair.shape[0], v.shape[1]
    d_environment = np.empty((d_env, u_n), y.dtype)
    d_operator = np.empty((n_pairs, u_n), y.dtype)
    row = np.empty((max(d_in, d_env), u_n), y.dtype)
    d_row = np.empty((max(d_in, d_env), u_n), y.dtype)
    start = first[i0]
    for i in range(i0, i1):
        scale = norm[center_type[species[i]]]
        begin, end = first[i] - start, first[i + 1] - start
        operator = b[i - i0]
        d_operator[:] = 0
        for e in range(begin, end):
            if is_first:
                for m in range(d_env):
                    y_m, l_m = y[e, m], l_of_m[m]
                    for u in range(u_n):
                        row[m, u] = y_m * v[e, l_m, u]
            else:
                row[:d_in] = v[e]
            d_row[:] = 0
            for q in range(n_pairs):
                m1, m3 = m1_of_pair[q], m3_of_pair[q]
                for u in range(u_n):
                    g = d_v_next[e, m3, u]
                    d_operator[q, u] += row[m1, u] * g
                    d_row[m1, u] += operator[q, u] * g
            if is_first:
                for l_m in range(l_0):
                    for u in range(u_n):
                        d_v[e, l_m, u] = 0
                for m in range(d_env):
                    y_m, l_m, dot = y[e, m], l_of_m[m], y[e, m] * 0
                    for u in range(u_n):
                        d_v[e, l_m, u] += y_m * d_row[m, u]
                        dot += d_row[m, u] * v[e, l_m, u]
                    d_y[e, m] += dot
            else:
                d_v[e] = d_row[:d_in]
        d_environment[:] = 0
        for t in range(m2.shape[0]):
            for u in range(u_n):
                d_environment[m2[t], u] += term_weight[t, u] * d_operator[pair[t], u]
        for e in range(begin, end):
            for l_m in range(l_0, d_a.shape[1]):
                for u in range(u_n):
                    d_a[e, l_m, u] = 0
            for m in range(d_env):
                y_m, l_m, dot = y[e, m] * scale, l_0 + l_of_m[m], y[e, m] * 0
                for u in range(u_n):
                    d_a[e, l_m, u] += y_m * d_environment[m, u]
                    dot += d_environment[m, u] * a[e, l_m, u]
                d_y[e, m] += dot * scale


@jit
def sum_edges(e_ij, first, i0, i1, species, center_type, factor, shift, e_i):
    """Energies of the centers of the block: e_i = shift + factor Σ_j e_ij, summed in float64.

    Parameters
    ----------
    e_ij (m, 1); factor, shift (T,) float64, eV; e_i (N,) float64 OUT eV, the rows of the block
    """
    start = first[i0]
    for i in range(i0, i1):
        t = center_type[species[i]]
        total = 0.0
        for edge in range(first[i], first[i + 1]):
            total += e_ij[edge - start, 0]
        e_i[i] = shift[t] + factor[t] * total


@jit
def sum_columns(h, begin, first, i0, i1, out):
    """out[i] = Σ_e h[e, begin:] over the edges of the centers of the block, in float64.

    Parameters
    ----------
    h (m, ·); out (N, W) float64 OUT, the rows of the block
    """
    start = first[i0]
    for i in range(i0, i1):
        out[i] = 0.0
        for edge in range(first[i], first[i + 1]):
            for c in range(out.shape[1]):
                out[i, c] += h[edge - start, begin + c]


@jit
def scale_rows(cut, source, begin, width, out, out_begin):
    """out[e, out_begin + c] = cut[e] source[e, begin + c], c < width.

    Parameters
    ----------
    cut (m,); source (m, ·) and out (m, ·) OUT, which may be the same array
    """
    for e in range(cut.shape[0]):
        f, row, row_out = cut[e], source[e, begin : begin + width], out[e, out_begin : out_begin + width]
        for c in range(width):
            row_out[c] = f * row[c]


@jit
def scale_rows_backward(add, cut, source, begin, width, d_out, out_begin, d_source, d_cut):
    """Gradients of scale_rows with respect to source and cut from d_out, the gradient of out.

    Parameters
    ----------
    as scale_rows; add : d_source is added to, otherwise set
    d_source (m, ·) OUT like source; d_cut (m,) OUT, added to
    """
    for e in range(cut.shape[0]):
        f, row, d_row = cut[e], source[e, begin : begin + width], d_out[e, out_begin : out_begin + width]
        d_row_source = d_source[e, begin : begin + width]
        dot = f * 0
        for c in range(width):
            dot += d_row[c] * row[c]
        d_cut[e] += dot
        if add:
            for c in range(width):
                d_row_source[c] += f * d_row[c]
        else:
            for c in range(width):
                d_row_source[c] = f * d_row[c]


@jit
def apply_operator(operator, center, v, m_from, m_to, out):
    """out[e, m_to[q]] += operator[center[e], q] v[e, m_from[q]], channel by channel.

    Parameters
    ----------
    operator (n, q, U); center (m,) int64; v (m, D, U); m_from, m_to (q,) int64; out (m, D', U) OUT, zero before
    """
    for e in range(v.shape[0]):
        i = center[e]
        for q in range(m_from.shape[0]):
            m1, m3 = m_from[q], m_to[q]
            for u in range(v.shape[2]):
                out[e, m3, u] += operator[i, q, u] * v[e, m1, u]


@jit
def collect_operator(v, g, center, m_from, m_to, out):
    """out[center[e], q] += v[e, m_from[q]] g[e, m_to[q]], channel by channel.

    Parameters
    ----------
    v (m, D, U); g (m, D', U); center (m,) int64; m_from, m_to (q,) int64; out (n, q, U) OUT, zero before
    """
    for e in range(v.shape[0]):
        i = center[e]
        for q in range(m_from.shape[0]):
            m1, m3 = m_from[q], m_to[q]
            for u in range(v.shape[2]):
                out[i, q, u] += v[e, m1, u] * g[e, m3, u]


@jit
def weigh_harmonics(w, y, row, l_of_m, out):
    """out[row[e], m] += w[e, l(m)] y[e, m].

    Parameters
    ----------
    w (m, R, U); y (m, D); row (m,) int64: the edge itself, or its center; l_of_m (D,) int64; out (rows, D, U) OUT, zero
    before
    """
    for e in range(w.shape[0]):
        i = row[e]
        for m in range(y.shape[1]):
            y_m, l_m = y[e, m], l_of_m[m]
            for u in range(w.shape[2]):
                out[i, m, u] += y_m * w[e, l_m, u]


@jit
def harmonic_moments(y, g, row, l_of_m, out):
    """out[e, l(m)] += y[e, m] g[row[e], m].

    Parameters
    ----------
    y (m, D); g (rows, D, U); row (m,) int64; l_of_m (D,) int64; out (m, R, U) OUT, zero before
    """
    for e in range(y.shape[0]):
        i = row[e]
        for m in range(y.shape[1]):
            y_m, l_m = y[e, m], l_of_m[m]
            for u in range(g.shape[2]):
                out[e, l_m, u] += y_m * g[i, m, u]


@jit
def channel_products(w, g, row, l_of_m, out):
    """out[e, m] = Σ_u w[e, l(m), u] g[row[e], m, u].

    Parameters
    ----------
    w (m, R, U); g (rows, D, U); row (m,) int64; l_of_m (D,) int64; out (m, D) OUT
    """
    for e in range(w.shape[0]):
        i = row[e]
        for m in range(l_of_m.shape[0]):
            l_m = l_of_m[m]
            total = w[e, l_m, 0] * g[i, m, 0]
            for u in range(1, w.shape[2]):
                total += w[e, l_m, u] * g[i, m, u]
            out[e, m] = total
