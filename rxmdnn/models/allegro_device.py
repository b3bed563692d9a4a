"""Kernels of the Allegro evaluation on a device (kernels/cuda/network.cu), as allegro_kernels on the CPU.

A function has the arguments of the function of that name in allegro_kernels, with a ``Block`` for the arrays of the
edges and a ``Product`` for the tables of a layer; all arrays are on the device. Rows beyond the edges of the block are
undefined.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.device import Device


class Block(NamedTuple):
    """Edges [start, start + m) of the whole centers [i0, i0 + n).

    r_ij (m, 3) float64, Å; center, neighbor (m,) int32; first (n + 1,) int64; species (n_all,) int32, of all atoms
    type_of (n_elements,) int64 : type of an element in the model
    """

    r_ij: Array
    center: Array
    neighbor: Array
    first: Array
    species: Array
    type_of: Array
    i0: int
    start: int

    @property
    def n(self) -> int:
        return len(self.first) - 1

    @property
    def m(self) -> int:
        return len(self.center)

    @property
    def centers(self) -> tuple[Any, ...]:
        """The first arguments of the kernels over centers."""
        return self.first, self.start, self.species[self.i0 : self.i0 + self.n], self.type_of

    @property
    def edges(self) -> tuple[Array, ...]:
        """The first arguments of the kernels over edges."""
        return self.center, self.neighbor, self.species, self.type_of


def _listed(device: Device, key: np.ndarray, n_keys: int, *of: np.ndarray) -> tuple[Array, ...]:
    """first (n_keys + 1,) int32, and the arrays ``of`` sorted by key: items of key k are first[k]:first[k + 1]."""
    order = np.argsort(key, kind="stable")
    first = np.concatenate([[0], np.bincount(key, minlength=n_keys).cumsum()])
    arrays = [first.astype(np.int32), *(a[order].astype(np.int32) if a.dtype.kind == "i" else a[order] for a in of)]
    return tuple(device.from_host(np.ascontiguousarray(a)) for a in arrays)


class Product:
    """The terms of a layer, as in allegro_kernels.layer_forward, listed once per order in which the kernels sum them.

    d_env, d_in, d_out : components of the environment, of the features in and of the features out
    """

    def __init__(self, device: Device, table: tuple[np.ndarray, ...], d_env: int, d_in: int, d_out: int) -> None:
        m2, pair, term_weight, m1, m3 = table
        q = np.arange(len(m1))
        self.n_pairs, self.d_env, self.d_out = len(m1), d_env, d_out
        self.m1, self.m3 = (device.from_host(m.astype(np.int32)) for m in (m1, m3))
        self.by_pair = _listed(device, pair, len(m1), m2, term_weight)
        self.by_m2 = _listed(device, m2, d_env, pair, term_weight)
        self.by_m1 = _listed(device, m1, d_in, q, m3)
        self.by_m3 = _listed(device, m3, d_out, q, m1)


class DeviceKernels:
    """The kernels in one precision. dtype : float32 or float64, of the network"""

    def __init__(self, device: Device, dtype: Any) -> None:
        self._device, self._dtype = device, np.dtype(dtype)

    def allocate(self, rows: int, centers: int, n_radial: int, n_environment: int) -> None:
        """Make scratch memory for at most ``rows`` edges, with ``n_radial`` radial numbers each, and ``centers``."""
        empty = self._device.xp.empty
        self._radial, self._slope = empty((rows, n_radial), self._dtype), empty(rows)
        self._environment = empty((centers, n_environment), self._dtype)

    def _run(self, name: str, n: int, *arguments: Any) -> None:
        self._device.launch(f"{name}_{self._dtype.name}", n, *arguments)

    def edge_geometry(self, block, inv_cutoff, roots, integer_roots, spline_span, p, l_max, matrices, radial_slope, y,
                      pre, cut):
        types, _, n_rows, width = matrices.shape
        with_cut = int(n_rows > len(roots))
        self._run("edge_basis", block.m, block.r_ij, *block.edges, types, inv_cutoff, len(roots), roots,
                  spline_span, float(p), l_max, with_cut, self._radial, radial_slope, y, cut)
        self._run("edge_project", block.m, *block.edges, types, n_rows, width, matrices, self._radial, pre)

    def edge_gradient(self, block, l_max, matrices, radial_slope, d_pre, d_y, d_cut, factor, g_ij):
        types, _, n_rows, width = matrices.shape
        with_cut = n_rows - radial_slope.shape[1]
        n_basis = n_rows - 2 * with_cut
        self._run("edge_slope", block.m, *block.edges, types, n_basis, with_cut, width, matrices, radial_slope, d_pre,
                  d_cut, self._slope)
        self._run("edge_gradient", block.m, block.r_ij, block.center, block.species, block.type_of, l_max, self._slope,
                  d_y, factor, g_ij[block.start : block.start + block.m])

    def layer_forward(self, is_first, l_0, block, norm, l_of_m, product, y, a, v, b, v_next, s_next):
        u, q, d_env = a.shape[2], product.n_pairs, product.d_env
        self._run("layer_environment", block.n * d_env * u, l_0, *block.centers, norm, u, d_env, a.shape[1], y, a,
                  self._environment)
        self._run("layer_terms", block.n * q * u, u, q, d_env, *product.by_pair, self._environment, b)
        self._run("layer_apply", block.m, int(is_first), block.center, block.i0, u, d_env, v.shape[1], product.d_out,
                  s_next.shape[1], q, *product.by_m3, y, v, b, v_next, s_next)

    def layer_backward(self, is_first, l_0, block, norm, l_of_m, product, y, a, v, b, d_v_next, d_v, d_a, d_y):
        u, q, d_env = a.shape[2], product.n_pairs, product.d_env
        self._run("layer_apply_backward", block.m, int(is_first), block.center, block.i0, u, d_env, v.shape[1],
                  product.d_out, q, *product.by_m1, y, v, b, d_v_next, d_v, d_y)
        self._run("layer_operator_backward", block.n * q * u, int(is_first), block.first, block.start, u, d_env,
                  v.shape[1], product.d_out, q, product.m1, product.m3, y, v, d_v_next, b)
        self._run("layer_terms", block.n * d_env * u, u, d_env, q, *product.by_m2, b, self._environment)
        self._run("layer_weights_backward", block.m, l_0, block.center, block.i0, block.species, block.type_of, norm, u,
                  d_env, a.shape[1], y, a, self._environment, d_a, d_y)

    def sum_edges(self, e_ij, block, factor, shift, e_i):
        self._run("sum_edges", block.n, *block.centers, e_ij, factor, shift, e_i[block.i0 : block.i0 + block.n])

    def sum_columns(self, h, begin, block, out):
        self._run("sum_columns", block.n, block.first, block.start, h.shape[1], begin, out.shape[1], h,
                  out[block.i0 : block.i0 + block.n])

    def scale_rows(self, cut, source, begin, width, out, out_begin):
        self._run("scale_rows", len(cut) * width, width, cut, source, source.shape[1], begin, out, out.shape[1],
                  out_begin)

    def scale_rows_backward(self, add, cut, source, begin, width, d_out, out_begin, d_source, d_cut):
        self._run("scale_rows_backward", len(cut), int(add), width, cut, source, source.shape[1], begin, d_out,
                  d_out.shape[1], out_begin, d_source, d_cut)


class DeviceTableKernels:
    """As table_kernels, on a device, in one precision. dtype : float32 or float64, of the network"""

    def __init__(self, device: Device, dtype: Any) -> None:
        self._device, self._name = device, np.dtype(dtype).name

    def edge_place(self, block, inv_cutoff, scale, n, p, l_max, row, place, slope, radial_slope, y, cut):
        self._device.launch(f"edge_place_{self._name}", block.m, block.r_ij, *block.edges, len(inv_cutoff), inv_cutoff,
                            scale, n, float(p), l_max, int(radial_slope.shape[1] > 1), row, place, slope, radial_slope,
                            y, cut)

    def table_rows(self, row, place, table, out):
        self._device.launch(f"table_rows_{self._name}", len(row), table.shape[1], row, place, table, out)

    def table_slope(self, row, place, table, d, slope):
        self._device.launch(f"table_slope_{self._name}", len(row), table.shape[1], row, place, table, d, slope)
