"""The kernels of tables against the piecewise polynomial of SciPy, at and between points, before the first, beyond."""

import numpy as np
import pytest
from scipy.interpolate import BPoly

from rxmdnn.models.allegro_kernels import edge_geometry
from rxmdnn.models.table_kernels import edge_place, table_rows, table_slope

N, WIDTH, CUTOFF, SPAN = 7, 5, 3.0, 1.5
T = [0.0, 0.3, 1.0, 3.0, 4.999, 6.9999, -0.7, -3.0, 2.5]  # the number of the point at which an edge is


def placed(t, n_types=2, l_max=2, has_cut=True):
    """Edges from one center of type 1 to atoms of type 0 at the places t; what edge_place makes of them."""
    m = len(t)
    r = CUTOFF * np.exp((np.array(t) / N - 1) * SPAN)
    u = np.random.default_rng(0).normal(size=(m, 3))
    r_ij = u * (r / np.linalg.norm(u, axis=1))[:, None]
    species = np.array([1] + [0] * m, np.int32)
    types, first = np.arange(n_types), np.array([0, m], np.int64)
    edges = r_ij, first, 0, 1, np.arange(1, m + 1, dtype=np.int32), species, types, types
    inv_cutoff = np.full((n_types, n_types), 1 / CUTOFF)
    row, place, slope = np.empty(m, np.int32), np.empty((m, 2)), np.empty((m, 1))
    radial_slope, y, cut = np.ones((m, 1 + has_cut)), np.empty((m, (l_max + 1) ** 2)), np.empty(m)
    edge_place(*edges, inv_cutoff, np.full((n_types, n_types), N / SPAN), N, 6.0, l_max, row, place, slope,
               radial_slope, y, cut)
    return edges, inv_cutoff, r, row, place, slope, radial_slope, y, cut


@pytest.mark.parametrize("t", [T, T[:1], []])
def test_values_and_slopes_are_those_of_the_polynomials(t):
    table = np.random.default_rng(1).normal(size=(4 * (N + 1) * 3, WIDTH))
    _, _, r, row, place, slope, *_ = placed(t)
    out, d = np.empty((len(t), WIDTH)), np.random.default_rng(2).normal(size=(len(t), WIDTH))
    table_rows(row, place, table, out)
    slope[:] = 0.5
    table_slope(row, place, table, d, slope)
    points = table.reshape(4, N + 1, 3, WIDTH)[2]  # of the pair (1, 0)
    exact = BPoly.from_derivatives(np.arange(N + 1), points)
    derivative = exact.derivative()
    for e, at in enumerate(t):
        value = exact(at) if at >= 0 else points[0, 0] + at * points[0, 1]
        tangent = derivative(at) if at >= 0 else points[0, 1]
        np.testing.assert_allclose(out[e], value, rtol=0, atol=1e-12 * (1 + abs(at)))
        np.testing.assert_allclose(slope[e, 0], 0.5 + d[e] @ tangent * N / SPAN / r[e], rtol=1e-11)


def test_nothing_at_and_beyond_the_cutoff():
    *_, row, place, slope, radial_slope, _, cut = placed([N + 1e-9, N + 1, 6.5])
    assert row.tolist()[:2] == [-1, -1] and row[2] >= 0
    assert cut[:2].tolist() == [0, 0] and radial_slope[:2, 1].tolist() == [0, 0] and cut[2] > 0
    table, out = np.ones((4 * (N + 1) * 3, WIDTH)), np.empty((3, WIDTH))
    table_rows(row, place, table, out)
    table_slope(row, place, table, out, slope)
    assert not out[:2].any() and not slope[:2].any() and out[2].all()


def test_harmonics_and_the_envelope_are_those_without_a_table():
    edges, inv_cutoff, _, *_, radial_slope, y, cut = placed(T, l_max=3)
    m = len(T)
    slopes, y_direct, cut_direct = np.empty((m, 2)), np.empty((m, 16)), np.empty(m)
    edge_geometry(*edges, inv_cutoff, np.ones(1), True, -1, 6.0, 3, np.zeros((2, 2, 3, 1)), slopes, y_direct,
                  np.empty((m, 1)), cut_direct)
    np.testing.assert_array_equal(y, y_direct)
    np.testing.assert_allclose(cut, cut_direct, rtol=1e-13)
    np.testing.assert_allclose(radial_slope[:, 1], slopes[:, 1], rtol=1e-13)
